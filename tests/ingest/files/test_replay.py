"""Replay: the vectors of files in batches, at a rate, whatever interrupts it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from ingest.cli import main
from ingest.files.reader import Rows
from ingest.files.replay import batches, paced
from ingest.files.source import Source
from tests.network import Network, Reply, Shelf

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def replay(place: Path, network: Network, *options: str) -> Result:
    return CliRunner().invoke(main, ["replay", str(place), "--url", network.url, *options])


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def numbered(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"embedding": [n + 1.0, 1.0], **columns} for n in range(count)]


def test_a_file_is_sent_with_the_token_of_a_file(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    np.save(tmp_path / "m.npy", VECTORS)
    (tmp_path / "token").write_text("secret\n")
    done = replay(
        tmp_path / "m.npy", network, "--batch", "3", "--token-file", str(tmp_path / "token")
    )
    assert done.output == "m: 4 vectors stored, 0 duplicates; 0 rows skipped\n"
    assert [len(batch) for batch in shelf.batches] == [3, 1]
    assert {headers["authorization"] for headers in network.requests} == {"Bearer secret"}


def test_ids_times_texts_and_metadata_of_a_file_are_sent(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    row = {"v": [1, 2], "key": 7, "at": 1_700_000_000, "body": "x", "n": 1, "secret": "s"}
    options = ["--id-column", "key", "--time-column", "at", "--text-column", "body"]
    options += ["--drop", "secret"]
    done = replay(jsonl(tmp_path / "m.jsonl", [row]), network, *options)
    assert done.exit_code == 0, done.output
    [batch] = shelf.batches
    assert batch.ids == ["7"]
    assert batch.timestamps == [1_700_000_000.0]
    [metadata] = batch.metadata or []
    assert json.loads(metadata or b"") == {"text": "x", "n": 1, "timestamp": 1_700_000_000.0}


def test_a_column_of_models_splits_the_rows(tmp_path: Path, network: Network, shelf: Shelf) -> None:
    rows = [{"embedding": [n + 1.0], "who": "ab"[n % 2]} for n in range(5)]
    path = jsonl(tmp_path / "m.jsonl", rows)
    done = replay(path, network, "--model-column", "who")
    assert done.output == (
        "a: 3 vectors stored, 0 duplicates; b: 2 vectors stored, 0 duplicates; 0 rows skipped\n"
    )
    assert {b.model_name: b.vectors[:, 0].tolist() for b in shelf.batches} == {
        "a": [1, 3, 5],
        "b": [2, 4],
    }
    assert replay(path, network, "--model-column", "who", "--model", "b").output == (
        "b: 2 vectors stored, 0 duplicates; 0 rows skipped\n"
    )
    assert replay(path, network, "--model", "all").output == (
        "all: 5 vectors stored, 0 duplicates; 0 rows skipped\n"
    )


def test_a_model_is_named_after_the_file_or_folder(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        jsonl(tmp_path / "texts" / name, numbered(1))
    assert replay(tmp_path / "texts", network).output.startswith("texts: 2 vectors stored")
    assert replay(tmp_path / "texts" / "a.jsonl", network).output.startswith("a: 1 vectors stored")
    (tmp_path / "texts" / "a.jsonl").unlink()
    assert replay(tmp_path / "texts", network).output.startswith("texts: 1 vectors stored")


def test_rows_of_several_names_that_go_to_one_model_have_one_dimension(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    rows = [{"embedding": [1.0, 2.0], "model_name": "a"}] * 2
    rows += [{"embedding": [1.0, 2.0, 3.0], "model_name": "b"}]
    done = replay(jsonl(tmp_path / "v.jsonl", rows), network, "--model", "x", "--on-error", "skip")
    assert "line 3 has a vector of 3 components, those of other rows 2" in done.output
    assert [(batch.model_name, len(batch)) for batch in shelf.batches] == [("x", 2)]


def test_files_that_are_left_out_because_of_their_names_are_reported(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    for name in ("x/metadata.json", "y/metadata.json", "y/state.json", "y/a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        jsonl(tmp_path / name, numbered(1))
    (tmp_path / "y" / "metadata.json.gz").write_bytes(
        gzip.compress((tmp_path / "y" / "metadata.json").read_bytes())
    )
    done = replay(tmp_path, network)
    assert done.exit_code == 0
    assert done.stderr == (
        "left out, because files of such names hold no data: metadata.json, metadata.json.gz,"
        " state.json\n"
    )
    assert len(shelf) == 1
    assert replay(tmp_path / "y" / "a.json", network).stderr == ""


@pytest.mark.parametrize("pattern", ["*.jsonl", "a*"])
def test_a_pattern_names_no_model(
    pattern: str, tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        jsonl(tmp_path / name, numbered(1, lang="en"))
    refused = replay(tmp_path / pattern, network)
    assert refused.exit_code == 2
    assert (
        "a.jsonl: nothing names its model, because a pattern has no name; give --model, or"
        " --model-column if a column holds the names\n" in refused.output
    )
    assert len(shelf) == 0
    for option, model in (("--model", "m"), ("--model-column", "lang")):
        done = replay(tmp_path / pattern, network, option, model)
        assert done.output.startswith(f"{'en' if model == 'lang' else 'm'}: ")


BAD = [*numbered(5), '{"embedding": [1]}', "not JSON", *numbered(3)]


@pytest.mark.parametrize("size", ["1", "2", "3", "500"])
def test_the_first_bad_row_ends_a_replay_after_all_rows_before_it(
    size: str, tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    path = jsonl(tmp_path / "m.jsonl", BAD)
    done = replay(path, network, "--batch", size)
    assert done.exit_code == 1
    assert (
        f"Error: {path}: line 6 has a vector of 1 components, those of other rows 2" in done.output
    )
    assert "stopped; m: 5 vectors stored, 0 duplicates; 0 rows skipped" in done.output
    assert len(shelf) == 5


@pytest.mark.parametrize("size", ["1", "2", "3", "500"])
def test_bad_rows_can_be_skipped_and_are_reported(
    size: str, tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    path = jsonl(tmp_path / "m.jsonl", BAD)
    done = replay(path, network, "--batch", size, "--on-error", "skip")
    assert f"skipped: {path}: line 6 has a vector of 1 components" in done.output
    assert f"skipped: {path}: line 7 is not valid JSON" in done.output
    assert done.stdout == "m: 8 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert len(shelf) == 8


@pytest.mark.parametrize("size", ["1", "3", "500"])
def test_a_row_that_the_service_refuses_is_named_as_one_of_the_file(
    size: str, tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    rows = numbered(6)
    rows[2]["timestamp"] = 3e9
    rows[4]["id"] = "a\nb"
    path = jsonl(tmp_path / "m.jsonl", rows)
    done = replay(path, network, "--batch", size)
    assert f"Error: {path}: line 3 has a time that cannot be stored: 3000000000" in done.output
    assert len(shelf) == 2
    shelf.batches.clear()
    done = replay(path, network, "--batch", size, "--on-error", "skip")
    assert done.stdout == "m: 4 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert f"skipped: {path}: line 5 has an id that cannot be stored: 'a\\nb' is not" in done.output


def columns(count: int, start: int = 0) -> dict[str, Any]:
    """One line that holds several rows."""
    return {"embeddings": [[start + n + 1.0, 1.0] for n in range(count)]}


@pytest.mark.parametrize("ids", [True, False])
def test_a_line_that_holds_several_batches_is_sent_whole(
    ids: bool, tmp_path: Path, real: Network, connection: psycopg.Connection
) -> None:
    lines = [columns(7) | {"ids": list("abcdefg")}, columns(5, 7) | {"ids": list("hijkl")}]
    if not ids:
        lines = [columns(7), columns(5, 7)]
    path = jsonl(tmp_path / "m.jsonl", lines)
    done = replay(path, real, "--batch", "2", "--on-error", "skip")
    assert done.output == "m: 12 vectors stored, 0 duplicates; 0 rows skipped\n"
    assert connection.execute(
        "select count(*), count(distinct embedding::text) from embedding"
    ).fetchone() == (12, 12)


@pytest.mark.parametrize("size", ["1", "2", "500"])
def test_each_bad_vector_of_a_line_is_counted_and_reported(
    size: str, tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    first = columns(6)
    first["embeddings"][2:4] = [[1.0], [2.0, 3.0, 4.0]]
    path = jsonl(tmp_path / "m.jsonl", [first, columns(2, 6)])
    done = replay(path, network, "--batch", size, "--on-error", "skip")
    assert done.stdout == "m: 6 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert done.stderr.splitlines() == [
        f"skipped: {path}: line 1 has a vector of {n} components, those of other rows 2"
        for n in (1, 3)
    ]
    shelf.batches.clear()
    done = replay(path, network, "--batch", size)
    assert f"Error: {path}: line 1 has a vector of 1 components" in done.output
    assert [batch.vectors[:, 0].tolist() for batch in shelf.batches] in ([[1], [2]], [[1, 2]])


def test_a_vector_that_the_service_refuses_ends_a_replay_within_its_line(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    path = jsonl(tmp_path / "m.jsonl", [columns(4) | {"ids": ["a", "b", "c\n", "d"]}, columns(1)])
    assert f"Error: {path}: line 1 has an id that" in replay(path, network, "--batch", "4").output
    assert [batch.ids for batch in shelf.batches] == [["a", "b"]]


def test_a_replay_that_is_interrupted_within_a_line_goes_on_there(
    tmp_path: Path, real: Network, connection: psycopg.Connection
) -> None:
    first = columns(9)
    first["embeddings"][3:5] = [[1.0], [2.0]]
    path = jsonl(tmp_path / "m.jsonl", [first, columns(3, 9)])
    options = ["--batch", "2", "--on-error", "skip", "--checkpoint", str(tmp_path / "state")]
    for requests in range(3):
        real.faults = [*[None] * requests, Reply(401)]  # type: ignore[list-item]
        assert replay(path, real, *options).exit_code == 1
    real.faults = []
    done = replay(path, real, *options)
    assert done.stdout == "m: 10 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert connection.execute(
        "select count(*), count(distinct embedding::text) from embedding"
    ).fetchone() == (10, 10)


def test_a_batch_that_is_too_large_for_the_service_is_halved(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    too_large = Reply(413, {}, b'{"detail": "too large"}')
    network.faults = [too_large, too_large]
    done = replay(jsonl(tmp_path / "m.jsonl", numbered(8)), network, "--batch", "8")
    assert done.output == "m: 8 vectors stored, 0 duplicates; 0 rows skipped\n"
    assert [len(batch) for batch in shelf.batches] == [2, 2, 4]


@pytest.mark.parametrize("size", ["1", "7", "60"])
def test_repeated_ids_are_counted_whatever_the_batch(
    size: str, tmp_path: Path, real: Network, connection: psycopg.Connection
) -> None:
    ids = [n // 2 for n in range(60)]
    vectors = [[1.0 + n // 4, 1.0] for n in range(60)]  # the same, then another, for each id
    path = tmp_path / "m.parquet"
    parquet.write_table(pa.table({"embedding": vectors, "id": ids}), path)
    done = replay(path, real, "--batch", size)
    assert done.output == "m: 30 vectors stored, 30 duplicates; 0 rows skipped\n"
    assert connection.execute("select count(*) from embedding").fetchone() == (30,)


@pytest.mark.parametrize("column", ["id", "unknown"])
def test_an_interrupted_replay_goes_on_from_its_checkpoint(
    column: str, tmp_path: Path, real: Network, connection: psycopg.Connection
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for part in range(2):
        rows = [{"embedding": [1.0 + 7 * part + n, 1.0], column: f"{part}-{n}"} for n in range(7)]
        jsonl(folder / f"{part}.jsonl", [*rows[:3], "not JSON", *rows[3:]])
    options = ["--batch", "2", "--on-error", "skip", "--checkpoint", str(tmp_path / "state")]
    unauthorized = Reply(401, {}, b'{"detail": "no"}')
    for requests in range(4):
        real.faults = [*[None] * requests, unauthorized]  # type: ignore[list-item]
        assert replay(folder, real, *options).exit_code == 1
    real.faults = []
    done = replay(folder, real, *options, "--batch", "5")
    assert done.stdout == "texts: 14 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert connection.execute(
        "select count(*), count(distinct embedding::text) from embedding"
    ).fetchone() == (14, 14)
    again = replay(folder, real, *options)
    assert again.stderr.startswith("nothing sent: ")
    assert again.stdout == "texts: 14 vectors stored, 0 duplicates; 2 rows skipped\n"
    assert connection.execute("select count(*) from embedding").fetchone() == (14,)


def test_a_replay_that_was_done_before_says_that_it_sends_nothing(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    jsonl(folder / "0.jsonl", numbered(2))
    state = tmp_path / "state"
    options = ["--model", "m", "--checkpoint", str(state)]
    done = replay(folder, network, *options)
    assert done.output == "m: 2 vectors stored, 0 duplicates; 0 rows skipped\n"
    jsonl(folder / "1.jsonl", numbered(1))
    again = replay(folder, network, *options)
    assert again.exit_code == 0
    assert again.stderr == (
        f"nothing sent: this replay was done before; remove {state} to send everything again,"
        " which stores rows without ids twice\n"
    )
    assert again.stdout == done.stdout
    assert len(shelf) == 2
    state.unlink()
    assert replay(folder, network, *options).output == (
        "m: 3 vectors stored, 0 duplicates; 0 rows skipped\n"
    )


def test_a_batch_whose_answer_was_lost_is_not_stored_twice_by_a_later_run(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    path = jsonl(tmp_path / "m.jsonl", numbered(4))
    options = ["--batch", "2", "--checkpoint", str(tmp_path / "state")]
    network.faults = [None, "lost", Reply(401)]  # type: ignore[list-item]
    assert replay(path, network, *options).exit_code == 1
    assert len(shelf) == 4
    assert replay(path, network, *options).exit_code == 0
    assert len(shelf) == 4


@pytest.mark.parametrize("is_repaired", [True, False], ids=["repaired", "skipped"])
@pytest.mark.parametrize("fault", ["not JSON", "refused by the service"])
def test_a_replay_that_stopped_at_a_bad_row_stores_the_rows_of_its_batch_once(
    fault: str, is_repaired: bool, tmp_path: Path, real: Network, connection: psycopg.Connection
) -> None:
    rows: list[Any] = [row | {"model_name": "ab"[n % 2]} for n, row in enumerate(numbered(20))]
    good = rows[13]
    rows[13] = fault if fault == "not JSON" else good | {"timestamp": 3e9}
    folder = tmp_path / "texts"
    folder.mkdir()
    jsonl(folder / "0.jsonl", [{"embedding": [100.0, 1.0], "model_name": "a"}])
    path = jsonl(folder / "1.jsonl", rows)
    options = ["--batch", "8", "--checkpoint", str(tmp_path / "state")]
    for _ in range(2):
        assert f"Error: {path}: line 14 " in replay(folder, real, *options).output
    if is_repaired:
        rows[13] = good
        jsonl(path, rows)
    done = replay(folder, real, *options, "--on-error", "stop" if is_repaired else "skip")
    stored, skipped = (10, 0) if is_repaired else (9, 1)
    assert done.stdout == (
        f"a: 11 vectors stored, 0 duplicates; b: {stored} vectors stored, 0 duplicates;"
        f" {skipped} rows skipped\n"
    )
    assert connection.execute(
        "select count(*), count(distinct embedding::text) from embedding"
    ).fetchone() == (11 + stored, 11 + stored)


def test_a_replay_whose_stopped_file_is_renamed_sends_all_rows_of_it(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    rows = [*numbered(3), "not JSON"]
    folder = tmp_path / "texts"
    folder.mkdir()
    options = ["--checkpoint", str(tmp_path / "state")]
    path = jsonl(folder / "0.jsonl", rows)
    assert replay(folder, network, *options).exit_code == 1
    path.unlink()
    jsonl(folder / "1.jsonl", numbered(4))
    assert replay(folder, network, *options).exit_code == 0
    assert [batch.vectors[:, 0].tolist() for batch in shelf.batches] == [[1, 2, 3], [1, 2, 3, 4]]


@pytest.mark.parametrize("rest", [["2.jsonl"], []])
def test_a_replay_whose_bad_file_is_removed_goes_on_after_it(
    tmp_path: Path, network: Network, shelf: Shelf, rest: list[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    jsonl(folder / "0.jsonl", numbered(2))
    bad = jsonl(folder / "1.jsonl", ["not JSON"])
    for name in rest:
        jsonl(folder / name, numbered(3))
    options = ["--checkpoint", str(tmp_path / "state")]
    assert replay(folder, network, *options).exit_code == 1
    bad.unlink()
    done = replay(folder, network, *options)
    assert done.exit_code == 0, done.output
    expected = [[1, 2], [1, 2, 3]] if rest else [[1, 2]]
    assert [batch.vectors[:, 0].tolist() for batch in shelf.batches] == expected


def test_a_replay_of_many_files_names_each_a_few_times(
    tmp_path: Path, network: Network, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        jsonl(tmp_path / f"{number:02}.jsonl", numbered(1))
    named = []
    name = Source.name

    def noted(source: Source, file: str) -> str:
        named.append(file)
        return name(source, file)

    monkeypatch.setattr(Source, "name", noted)
    assert replay(tmp_path, network).exit_code == 0
    assert len(shelf) == 20
    assert max(Counter(named).values()) <= 3


def test_a_checkpoint_belongs_to_one_source(tmp_path: Path, network: Network) -> None:
    state = tmp_path / "state"
    options = ["--checkpoint", str(state)]
    assert replay(jsonl(tmp_path / "a.jsonl", numbered(1)), network, *options).exit_code == 0
    done = replay(jsonl(tmp_path / "b.jsonl", numbered(1)), network, *options)
    assert f"Error: {state}: belongs to the replay of " in done.output
    state.write_text("{}")
    done = replay(tmp_path / "b.jsonl", network, *options)
    assert f"Error: {state}: is not a checkpoint of a replay" in done.output


def test_a_checkpoint_that_cannot_be_written_ends_the_replay_before_anything_is_sent(
    tmp_path: Path, network: Network, shelf: Shelf
) -> None:
    place = jsonl(tmp_path / "m.jsonl", numbered(2))
    done = replay(place, network, "--checkpoint", str(place / "state"))
    assert done.exit_code == 2
    assert f"Error: {place / 'state'} cannot be written: Not a directory" in done.output
    assert network.requests == []


def test_files_without_vectors_are_refused(tmp_path: Path, network: Network) -> None:
    (tmp_path / "m.csv").write_text("id,embedding\n")
    done = replay(tmp_path / "m.csv", network)
    assert done.exit_code == 1
    assert "m.csv holds no vectors" in done.output


def test_what_lies_before_a_cut_is_sent(tmp_path: Path, network: Network, shelf: Shelf) -> None:
    (tmp_path / "m.json").write_text(json.dumps(numbered(7))[:-3])
    done = replay(tmp_path / "m.json", network, "--batch", "4")
    assert "m.json: is not valid JSON, or cut off" in done.output
    assert len(shelf) == 6


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--url", "localhost"], 2, "localhost: must begin with http://"),
        (["--model", "a b"], 2, "'a b' is not allowed"),
        (["--vector-column", "x"], 1, "--vector-column 'x': its columns are 'array'"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    tmp_path: Path, network: Network, options: list[str], code: int, message: str
) -> None:
    np.save(tmp_path / "m.npy", VECTORS)
    done = replay(tmp_path / "m.npy", network, *options)
    assert done.exit_code == code
    assert message in done.output


def test_a_refused_batch_is_one_line_and_an_exit_code(tmp_path: Path, network: Network) -> None:
    network.faults = [Reply(401)]
    np.save(tmp_path / "m.npy", VECTORS)
    done = replay(tmp_path / "m.npy", network)
    assert done.exit_code == 1
    assert f"Error: {network.url}/embeddings answers 401: not now" in done.output


def rows(count: int, **columns: Any) -> Rows:
    vectors = np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
    return Rows("m.npy", "row", np.arange(count), np.arange(count), vectors, **columns)


def test_batches_cross_chunks_and_keep_rows_together() -> None:
    blocks = [rows(4, ids=["a", "b", "c", "d"], metadata=[{"n": n} for n in range(4)]), rows(2)]
    parts = list(batches(blocks, 5))
    assert [len(part) for part in parts] == [5, 1]
    assert parts[0].ids == ["a", "b", "c", "d", None]
    assert parts[0].metadata == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}, {}]


def test_an_id_comes_once_in_a_batch() -> None:
    parts = list(batches([rows(5, ids=["a", "b", "a", "a", None])], 5))
    assert [list(part.ids) for part in parts] == [["a", "b"], ["a"], ["a", None]]


def test_a_rate_is_kept_without_drifting() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    times = []
    for _ in paced([rows(4)] * 3, rate=8, sleep=sleep, clock=lambda: now[0]):
        times.append(now[0])
        now[0] += 0.1
    assert times == pytest.approx([0, 0.5, 1.0])
