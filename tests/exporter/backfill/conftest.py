"""Fixtures: a small data lake, and a cluster of two threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from tests.exporter.backfill.lake import Floats, Vectors, made, write


@pytest.fixture(scope="module")
def stream(vectors: Vectors) -> tuple[Vectors, Floats]:
    """Vectors in the order of time, with repeats and with drift at the end."""
    moved = vectors.copy()
    moved[2_500:] += np.float32(1)
    moved[1_800:1_850] = moved[1_700]
    return moved, made()


@pytest.fixture(scope="session", autouse=True)
def dask_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Dask leaves the folder that it shares among its clusters; here it is the session's."""
    with dask.config.set({"temporary-directory": str(tmp_path_factory.mktemp("dask"))}):
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two threads in this process."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as client,
    ):
        yield client


@pytest.fixture
def lake(tmp_path: Path, stream: tuple[Vectors, Floats]) -> str:
    return write(tmp_path / "lake", *stream)
