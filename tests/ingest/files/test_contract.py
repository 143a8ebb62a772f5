"""What every format of files must do. A new format adds a case to ``WRITERS``."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import feather, parquet

from ingest.files.reader import FORMATS
from ingest.files.table import CHUNK
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, TEXTS, VECTORS, whole

Vectors = NDArray[np.float32]
Writer = Callable[[Path, Vectors, list[str], list[str]], None]


def write_npy(path: Path, vectors: Vectors, _ids: list[str], _texts: list[str]) -> None:
    np.save(path, vectors)


def write_npz(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    # An empty list would be an array of numbers.
    columns = {"id": np.array(ids, "U"), "text": np.array(texts, "U")}
    np.savez(path, embedding=vectors, unrelated=np.arange(9), **columns)  # type: ignore[arg-type]


def write_hdf5(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    with h5py.File(path, "w") as file:
        file["embedding"] = vectors
        file.create_dataset("id", data=ids, dtype=h5py.string_dtype(), shape=(len(ids),))
        file.create_dataset("text", data=texts, dtype=h5py.string_dtype(), shape=(len(texts),))


def table(vectors: Vectors, ids: list[str], texts: list[str]) -> pa.Table:
    lists = pa.array(vectors.tolist(), pa.list_(pa.float32()))
    return pa.table({"id": pa.array(ids, pa.string()), "embedding": lists, "text": texts})


def write_parquet(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    parquet.write_table(table(vectors, ids, texts), path, row_group_size=1_300)


def write_feather(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    feather.write_feather(table(vectors, ids, texts), path)


def write_csv(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    rows = zip(ids, vectors.tolist(), texts, strict=True)
    lines = [f'{id_},"{json.dumps(vector)}",{text}' for id_, vector, text in rows]
    path.write_text("\n".join(["id,embedding,text", *lines]))


def write_json(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    rows = zip(ids, vectors.tolist(), texts, strict=True)
    path.write_text(
        "\n".join(
            json.dumps({"id": id_, "embedding": vector, "text": text}) for id_, vector, text in rows
        )
    )


def write_vecs(kind: str) -> Writer:
    def write(path: Path, vectors: Vectors, _ids: list[str], _texts: list[str]) -> None:
        length = np.int32(vectors.shape[1]).tobytes()
        path.write_bytes(b"".join(length + each.astype(kind).tobytes() for each in vectors))

    return write


WRITERS: dict[str, tuple[str, Writer]] = {
    "Parquet": (".parquet", write_parquet),
    "Arrow": (".feather", write_feather),
    "npy": (".npy", write_npy),
    "npz": (".npz", write_npz),
    "HDF5": (".hdf5", write_hdf5),
    "CSV": (".csv", write_csv),
    "JSON": (".jsonl", write_json),
    "fvecs": (".fvecs", write_vecs("<f4")),
    "bvecs": (".bvecs", write_vecs("u1")),
}
BARE = ("npy", "fvecs", "bvecs")
"""Formats that hold vectors only."""
CODECS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


@pytest.fixture(params=list(WRITERS))
def name(request: pytest.FixtureRequest) -> str:
    """Each format."""
    return str(request.param)


def write(name: str, folder: Path, vectors: NDArray[np.floating]) -> Path:
    """Write vectors with ids and texts, where the format has them."""
    count = len(vectors)
    ids = IDS if count == len(IDS) else [f"id {n}" for n in range(count)]
    texts = TEXTS if count == len(TEXTS) else [f"text {n}" for n in range(count)]
    suffix, writer = WRITERS[name]
    path = folder / f"v{suffix}"
    writer(path, vectors.astype(np.float32), ids, texts)
    return path


def test_every_registered_format_has_a_case() -> None:
    assert {each.name for each in FORMATS} == set(WRITERS)


@pytest.mark.parametrize("codec", list(CODECS))
def test_vectors_are_read_as_float32_compressed_or_not(
    name: str, codec: str, tmp_path: Path
) -> None:
    vectors = np.abs(VECTORS).round() if name == "bvecs" else VECTORS
    path = write(name, tmp_path, vectors)
    packed = path.with_name(path.name + codec)
    packed.write_bytes(CODECS[codec](path.read_bytes()))
    rows = whole(packed)
    np.testing.assert_array_equal(rows.vectors, vectors)
    assert rows.vectors.dtype == np.float32
    assert rows.faults == []
    if name not in BARE:
        assert rows.ids == IDS
        assert rows.metadata == [{"text": text} for text in TEXTS]


def test_a_long_file_is_read_in_chunks_whose_rows_stay_together(name: str, tmp_path: Path) -> None:
    vectors = np.arange(5 * CHUNK, dtype=np.float32).reshape(-1, 2) % 200
    rows = whole(write(name, tmp_path, vectors))
    np.testing.assert_array_equal(rows.vectors, vectors)
    if name not in BARE:
        assert rows.ids == [f"id {n}" for n in range(len(vectors))]
        assert rows.metadata[-1] == {"text": f"text {len(vectors) - 1}"}


def test_a_component_that_is_not_finite_is_reported_with_its_row(name: str, tmp_path: Path) -> None:
    if name == "bvecs":
        pytest.skip("bytes are always finite")
    vectors = np.ones((2_500, 2))
    vectors[2_100, 1] = np.inf
    rows = whole(write(name, tmp_path, vectors))
    unit, first = {"CSV": ("line", 2), "JSON": ("line", 1)}.get(name, ("row", 0))
    [fault] = rows.faults
    assert fault.startswith(f"{unit} {2_100 + first} has a vector")
    assert len(rows.vectors) == 2_499


def test_a_file_without_rows_holds_no_vectors(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path, np.empty((0, 2)))
    if not path.read_bytes():
        with pytest.raises(PayloadError, match="is empty"):
            whole(path)
    else:
        assert len(whole(path).vectors) == 0


def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{WRITERS[name][0]}"
    path.touch()
    with pytest.raises(PayloadError, match=f"{path}: is empty"):
        whole(path)


def test_content_of_no_format_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{WRITERS[name][0]}"
    path.write_bytes(b"PK\3\4" + bytes(range(255)))
    with pytest.raises(PayloadError, match=str(path)):
        whole(path)


def test_the_content_decides_and_not_the_suffix(name: str, tmp_path: Path) -> None:
    if name in ("CSV", "fvecs", "bvecs"):
        pytest.skip("nothing in the file tells its format")
    path = write(name, tmp_path, VECTORS)
    for suffix in (".csv", ".npy", ""):
        other = path.rename(tmp_path / f"other{suffix}")
        np.testing.assert_array_equal(whole(other).vectors, VECTORS)
        other.rename(path)


def test_a_suffix_may_have_capitals(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path, np.ones((3, 2)))
    capital = path.rename(path.with_suffix(path.suffix.upper()))
    assert len(whole(capital).vectors) == 3


def test_a_truncated_file_is_refused_or_its_last_row_is_bad(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path, VECTORS)
    content = path.read_bytes()
    for length in range(1, len(content) - 8, 7):
        path.write_bytes(content[:length])
        with contextlib.suppress(PayloadError):
            assert len(whole(path).vectors) < 3


def test_a_damaged_file_raises_no_other_error(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path, VECTORS)
    content = path.read_bytes()
    bad = 0
    for at in range(0, len(content), max(1, len(content) // 500)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0b0110_1001]) + content[at + 1 :])
        try:
            bad += bool(whole(path).faults)
        except PayloadError:
            bad += 1
    assert bad > 0
