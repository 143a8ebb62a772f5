"""Replay: a file's vectors in batches, at a rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ingest.cli import main
from ingest.files.replay import batches, paced
from ingest.files.rows import Rows
from tests.network import Network, Shelf

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_a_file_is_sent_with_the_token_of_a_file(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    np.save(tmp_path / "m.npy", VECTORS)
    (tmp_path / "token").write_text("secret\n")
    options = ["--url", network.url, "--batch", "3", "--token-file", str(tmp_path / "token")]
    done = CliRunner().invoke(main, ["replay", str(tmp_path / "m.npy"), *options])
    assert done.output == "4 vectors stored for model m\n"
    assert [len(batch) for batch in shelf.batches] == [3, 1]
    assert {headers["authorization"] for headers in network.requests} == {"Bearer secret"}


def test_batches_keep_rows_together() -> None:
    rows = Rows(VECTORS, ["a", "b", "c", "d"], [{"n": n} for n in range(4)])
    parts = list(batches([rows, Rows(VECTORS[:1])], 3))
    assert [len(part) for part in parts] == [3, 1, 1]
    assert parts[1].ids == ["d"]
    assert parts[1].metadata == [{"n": 3}]
    assert parts[2].ids == ()


def test_a_rate_is_kept_without_drifting() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    times = []
    for _ in paced([Rows(VECTORS)] * 3, rate=8, sleep=sleep, clock=lambda: now[0]):
        times.append(now[0])
        now[0] += 0.1
    assert times == pytest.approx([0, 0.5, 1.0])
