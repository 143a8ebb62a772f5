"""Replay: a file's vectors in batches, at a rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ingest.cli import main
from ingest.files.replay import batches, paced
from ingest.files.rows import Rows
from tests.network import Network, Reply, Shelf

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


def test_ids_and_metadata_of_a_file_are_sent(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    (tmp_path / "m.jsonl").write_text('{"embedding": [1, 2], "id": "a", "text": "x"}\n')
    done = CliRunner().invoke(main, ["replay", str(tmp_path / "m.jsonl"), "--url", network.url])
    assert done.output == "1 vectors stored for model m\n"
    [batch] = shelf.batches
    assert batch.ids == ["a"]
    assert batch.metadata == [b'{"text":"x"}']


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--url", "localhost"], 2, "localhost: must begin with http://"),
        (["--model", "a b"], 1, "model name: 'a b' is not allowed"),
    ],
)
def test_errors_of_the_client_are_one_line_and_an_exit_code(
    tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    np.save(tmp_path / "m.npy", VECTORS)
    done = CliRunner().invoke(main, ["replay", str(tmp_path / "m.npy"), *options])
    assert done.exit_code == code
    assert f"Error: {message}" in done.output


def test_a_refused_batch_is_one_line_and_an_exit_code(tmp_path: Path, network: Network) -> None:
    network.faults = [Reply(401)]
    np.save(tmp_path / "m.npy", VECTORS)
    done = CliRunner().invoke(main, ["replay", str(tmp_path / "m.npy"), "--url", network.url])
    assert done.exit_code == 1
    assert f"Error: {network.url}/embeddings answers 401: not now" in done.output


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
