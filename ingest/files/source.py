"""Find files: one of them, a folder, a pattern, on any file system of fsspec."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import unquote

from fsspec.core import has_magic

from ingest.files.compression import SUFFIXES as COMPRESSED
from ingest.files.remote import answering, filesystem_of, open_file, shown
from ingest.runtime.errors import PayloadError

_READ = 2**20
NOT_DATA = ("dataset_info.json", "state.json", "dataset_dict.json", "metadata.json")
"""Files that Hugging Face's datasets write beside the data, and others do, too."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark name the folder of rows without a value."""


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one place.

    Attributes
    ----------
    filesystem : fsspec.AbstractFileSystem
    url : str
        The place, without credentials.
    files : tuple of str
        Paths in the file system, sorted.
    title : str or None
        Name of the file or folder without suffixes; None for a pattern, which has none.
    left_out : tuple of str
        Paths of files that are named as those beside the data of a data set.
    """

    filesystem: Any
    url: str
    files: tuple[str, ...]
    title: str | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def find(cls, url: str, suffixes: tuple[str, ...]) -> Source:
        """Find the files of a place.

        Parameters
        ----------
        url : str
            A path on this machine or a URL of fsspec: of a file, a folder, or a pattern of them,
            such as ``day=*/part-*.parquet``.
        suffixes : tuple of str
            Those of files in a folder that are read. Of a file that is named, the suffix does not
            matter. Files and folders whose names begin with ``.`` or ``_`` are left out.

        Raises
        ------
        PayloadError
            If there are none, or the place cannot be read.
        """
        try:
            filesystem, root = filesystem_of(url)
            with answering():
                # Brackets may be in a name.
                is_pattern = has_magic(root) and not filesystem.exists(root)
                files, left_out = _found(filesystem, root, is_pattern, suffixes)
                exists = bool(files or left_out) or is_pattern or filesystem.exists(root)
        except OSError as error:
            raise PayloadError(f"{shown(url)} cannot be read: {shown(str(error))}") from error
        if not exists:
            raise PayloadError(f"{shown(url)} does not exist")
        if not files:
            other = f" and are not named {' or '.join(NOT_DATA)}" if left_out else ""
            raise PayloadError(
                f"{shown(url)} has no files that end in {', '.join(suffixes)}{other}"
            )
        title = None if is_pattern else stem(path_of(root))
        return cls(filesystem, shown(filesystem.unstrip_protocol(root)), files, title, left_out)

    def name(self, file: str) -> str:
        """Return the URL of a file, without credentials; on this machine, its path."""
        return shown(self.filesystem.unstrip_protocol(file)).removeprefix("file://")

    @contextmanager
    def open(self, file: str) -> Iterator[IO[bytes]]:
        """Open a file to read. All errors of the file system are OSErrors."""
        with io.BufferedReader(open_file(self.filesystem, file, "rb"), _READ) as stream:
            yield stream


def _found(
    filesystem: Any, root: str, is_pattern: bool, suffixes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths of the files, and of those that are left out because of their names."""
    if filesystem.isfile(root):
        return (root,), ()
    files: set[str] = set()
    below = set() if is_pattern else {*_below(filesystem, root, root, suffixes)}
    for path in filesystem.glob(root) if is_pattern else ():
        if filesystem.isfile(path):
            files.add(path)
        else:
            parent = path.rstrip("/").rpartition("/")[0]
            below.update(_below(filesystem, path, parent, suffixes))
    left_out = {path for path in below - files if plain(last_name(path)) in NOT_DATA}
    return tuple(sorted(files | below - left_out)), tuple(sorted(left_out))


def _below(filesystem: Any, folder: str, base: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the files in a folder whose names from a base on say that they are meant."""
    for path, info in filesystem.find(folder, detail=True).items():
        # Jobs that write a file for each worker leave empty ones.
        if _is_meant(path[len(base) :], suffixes) and info.get("size") != 0:
            yield path


def path_of(file: str) -> str:
    """Return a path without the query of a URL, which may be a signature."""
    return file.partition("?")[0] if "://" in file else file


def partitions(path: str) -> Mapping[str, str | None]:
    """Return the columns that folders name: those of `lang=en/day=1/x.parquet` are lang and day."""
    parts = [part.partition("=") for part in path.split("/")[:-1]]
    return {
        name: None if value == _NULL else unquote(value)
        for name, sign, value in parts
        if name and sign
    }


def last_name(path: str) -> str:
    """Return the last name of a path."""
    return path.rstrip("/").rpartition("/")[2]


def stem(name: str) -> str:
    """Return the name of a file or folder without its suffixes: a/b.jsonl.gz is b."""
    last = last_name(name)
    for suffix in COMPRESSED:
        last = last.removesuffix(suffix)
    return last.rpartition(".")[0] or last


def _is_meant(path: str, suffixes: tuple[str, ...]) -> bool:
    # Programs begin the names of other and of unfinished files so.
    parts = path.split("/")
    if any(part.startswith((".", "_")) for part in parts):
        return False
    return plain(parts[-1]).endswith(suffixes)


def plain(name: str) -> str:
    """Return a file's name in lower case, without the suffix of its compression."""
    lower = name.lower()
    for suffix in COMPRESSED:
        lower = lower.removesuffix(suffix)
    return lower
