"""An image made of a file system, as an archive that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def write(archive: Path, files: Path, images: dict[str, dict[str, Any]]) -> None:
    """Write images that share one file system and differ in their configuration.

    Parameters
    ----------
    archive
        File to write, in the format of ``docker save``.
    files
        The file system as a tar file.
    images
        For each name with tag, what to run, as in ``{"Entrypoint": [...]}``.
    """
    with files.open("rb") as stream:
        layer = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    manifest = []
    with tarfile.open(archive, "w") as written:
        written.add(files, "layer.tar")
        for number, (name, config) in enumerate(images.items()):
            _add(
                written,
                f"{number}.json",
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": config,
                    "rootfs": {"type": "layers", "diff_ids": [layer]},
                },
            )
            manifest.append(
                {"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]}
            )
        _add(written, "manifest.json", manifest)


def _add(written: tarfile.TarFile, name: str, content: Any) -> None:
    data = json.dumps(content).encode()
    header = tarfile.TarInfo(name)
    header.size = len(data)
    written.addfile(header, io.BytesIO(data))
