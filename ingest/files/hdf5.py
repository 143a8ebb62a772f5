"""Read HDF5, as ann-benchmarks and others write it, with h5py."""

from __future__ import annotations

from typing import IO

from ingest.files.table import Arrays, Slices


def open_table(file: IO[bytes]) -> Arrays:
    """Open a file. Its data sets, in groups too, are the columns."""
    import h5py

    found: dict[str, Slices] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[name] = item

    h5py.File(file, "r").visititems(visit)
    return Arrays(found)
