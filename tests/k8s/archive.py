"""An image made of a file system, as an archive that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def write(archive: Path, layers: list[Path], images: dict[str, dict[str, Any]]) -> None:
    """Write images that share one file system and differ in their configuration.

    Parameters
    ----------
    archive
        File to write, in the format of ``docker save``.
    layers
        The file system as tar files, each on top of the one before.
    images
        For each name with tag, what to run, as in ``{"Entrypoint": [...]}``.
    """
    manifest, digests = [], []
    with tarfile.open(archive, "w") as written:
        for layer in layers:
            written.add(layer, layer.name)
            with layer.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            digests.append(f"sha256:{digest}")
        for number, (name, config) in enumerate(images.items()):
            _add(
                written,
                f"{number}.json",
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": config,
                    "rootfs": {"type": "layers", "diff_ids": digests},
                },
            )
            names = [layer.name for layer in layers]
            manifest.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": names})
        _add(written, "manifest.json", manifest)


def _add(written: tarfile.TarFile, name: str, content: Any) -> None:
    data = json.dumps(content).encode()
    header = tarfile.TarInfo(name)
    header.size = len(data)
    written.addfile(header, io.BytesIO(data))
