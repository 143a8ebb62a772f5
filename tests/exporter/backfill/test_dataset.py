"""Read a data set of Parquet files, whatever wrote them and wherever they are."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from distributed import Client
from fsspec import AbstractFileSystem
from numpy.typing import NDArray
from pyarrow import feather, parquet

from exporter.backfill import cluster
from exporter.backfill.backfill import Backfill
from exporter.backfill.dataset import Dataset, Part
from exporter.backfill.replay import Row
from ingest.files.columns import Options
from ingest.runtime.errors import PayloadError
from ingest.store import baselines
from ingest.store.selection import Selection
from tests.exporter.backfill.lake import (
    FITTED,
    SETTINGS,
    START,
    Floats,
    Vectors,
    backfill,
    made,
    table,
    write,
)


def every(of: Sequence[object] | Floats) -> NDArray[np.int32]:
    return np.arange(len(of), dtype=np.int32)


def test_rows_of_other_models_are_left_out(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = made(1_200)
    names = np.where(np.arange(1_200) % 3 == 0, "other", "m")
    lists = pa.array([[1.0] if n == "other" else v for n, v in zip(names, vectors, strict=False)])
    path = tmp_path / "both.parquet"
    named = table(vectors[:1_200], times, model_name=pa.array(names).dictionary_encode())
    parquet.write_table(named.set_column(0, "embedding", lists), path, row_group_size=100)
    backfill(client, str(path)).pin(store, Selection(first=5_000))
    np.testing.assert_array_equal(
        baselines.vectors(connection, "m", 1, 8), vectors[:1_200][names == "m"]
    )


def test_folders_of_other_models_are_left_out(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    for name, here in (("other", vectors[:500] + 9), ("team%2Fm", vectors[:500])):
        write(tmp_path / f"model_name={name}", here, made(500))
    filling = Backfill(client, Dataset.open(str(tmp_path), "team/m"), None)
    filling.pin(store, Selection(first=500))
    np.testing.assert_array_equal(baselines.vectors(connection, "team/m", 1, 8), vectors[:500])
    with pytest.raises(PayloadError, match=r"has no folder model_name=\.\.\. of model m$"):
        Dataset.open(str(tmp_path), "m")


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), 8])
@pytest.mark.parametrize("stamp", ["s", "ms", "us", "ns", "float", "int"])
def test_columns_of_every_type_are_read(
    tmp_path: Path, vectors: Vectors, kind: pa.DataType | int, stamp: str
) -> None:
    lists = pa.list_(pa.float32(), kind) if isinstance(kind, int) else kind
    times = np.arange(1_700_000_000, 1_700_000_050, dtype=np.float64)
    column = {
        "float": pa.array(times),
        "int": pa.array(times.astype(np.int64)),
    }.get(stamp) or pa.array(times.astype(np.int64)).cast(pa.timestamp("s")).cast(
        pa.timestamp(stamp)
    )
    path = tmp_path / "one.parquet"
    columns = {"embedding": pa.array(list(vectors[:50]), lists), "made": column}
    parquet.write_table(pa.table(columns), path, row_group_size=20)
    dataset = Dataset.open(str(path), "m", Options(time="made"))
    groups, *_, stamp = dataset.survey(dataset.files[0])
    np.testing.assert_array_equal(np.concatenate(groups), times)
    read = [
        part
        for number, found in enumerate(groups)
        for part in dataset.vectors(Part(dataset.files[0], number, len(found), stamp), every(found))
    ]
    np.testing.assert_array_equal(np.concatenate(read), vectors[:50])


def test_some_vectors_of_a_row_group_are_read(tmp_path: Path) -> None:
    count = 10_000
    numbers = np.arange(count, dtype=np.float32)[:, None]
    path = tmp_path / "long.parquet"
    named = table(
        numbers,
        np.arange(float(count)) + START,
        model_name=pa.array(np.where(np.arange(count) % 2 == 0, "m", "other")),
    )
    parquet.write_table(named, path, row_group_size=count)
    dataset = Dataset.open(str(path), "m")
    part = Part(str(path), 0, 5_000, dataset.survey(str(path)).stamp)
    chosen = np.array([0, 1, 1_023, 1_024, 3_000, 4_999], np.int32)
    for wanted in (chosen, chosen[2:4], chosen[-1:]):
        found = np.concatenate(list(dataset.vectors(part, wanted)))
        np.testing.assert_array_equal(found[:, 0], 2 * wanted)


def test_every_file_system_of_fsspec_can_be_used(
    client: Client, store: str, connection: psycopg.Connection, stream: tuple[Vectors, Floats]
) -> None:
    written = io.BytesIO()
    parquet.write_table(table(*stream), written)
    fsspec.filesystem("memory").pipe("/lake/part.parquet", written.getvalue())
    backfill(client, "memory://lake").pin(store, Selection(first=FITTED))
    assert baselines.versions(connection, "m")[0].source == "memory:///lake: first 1000"


class Signed(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Local files whose paths are URLs with credentials, like those of https."""

    protocol = "signed"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def unstrip_protocol(self, name: str) -> str:
        return name

    def isfile(self, path: str) -> bool:
        return True

    def info(self, path: str) -> dict[str, object]:
        return {"name": path, "type": "file"}

    def open(self, path: str, mode: str) -> object:
        local = Path(path.removeprefix("signed://me:pw@host").partition("?")[0])
        if not local.exists():
            raise FileNotFoundError(f"404, url={path!r}")
        return local.open(mode)


def test_credentials_are_neither_stored_nor_shown(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    fsspec.register_implementation("signed", Signed, clobber=True)
    path = tmp_path / "one.parquet"
    url = f"signed://me:pw@host{path}?sig=SECRET"
    parquet.write_table(table(*stream), path)
    filling = backfill(client, url)
    filling.pin(store, Selection(first=FITTED))
    assert baselines.versions(connection, "m")[0].source == f"signed://host{path}: first 1000"
    path.unlink()
    with pytest.raises(PayloadError) as caught:
        filling.pin(store, Selection(first=FITTED))
    assert str(caught.value) == (
        f"signed://host{path}: FileNotFoundError: 404, url='signed://host{path}'"
    )
    with pytest.raises(PayloadError, match=r"^nowhere://host/x cannot be read: Protocol"):
        Dataset.open("nowhere://me:pw@host/x?sig=SECRET", "m")


GOOD = table(np.ones((200, 2), np.float32), START + np.arange(200.0))
VECTORS: list[object] = [[1.0, 2.0]] * 199
TIMES: list[object] = [START] * 199


def spoiled(name: str, column: Sequence[object]) -> pa.Table:
    return GOOD.set_column(GOOD.schema.get_field_index(name), name, pa.array(column))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            GOOD.drop_columns("timestamp"),
            "has no column 'timestamp' with.*'embedding'.* --time-column",
        ),
        (GOOD.drop_columns("embedding"), "has no column of vectors; its columns are 'timestamp'"),
        (
            spoiled("embedding", [*VECTORS, [1.0]]),
            "row 199 has a vector of 1 components, those of other rows 2",
        ),
        (spoiled("embedding", [[], *VECTORS]), "row 0 has an empty vector"),
        (spoiled("embedding", [*VECTORS, None]), "row 199 has no vector"),
        (spoiled("embedding", [*VECTORS, [0.0, None]]), "row 199 has .* component 1 is null"),
        (
            spoiled("embedding", [*VECTORS, [float("nan"), 1.0]]),
            "row 199 has .* component 0 is missing, NaN",
        ),
        (spoiled("embedding", [*VECTORS, [0.0, 1e300]]), "row 199 has .* component 1 .*float32"),
        (
            spoiled("embedding", ["text"] * 200),
            "row 0 has 'text' where a vector is needed",
        ),
        (
            spoiled("embedding", [["text"]] * 200),
            "row 0 has .* component 0 is 'text'; components must be numbers",
        ),
        (
            spoiled("timestamp", ["today"] * 200),
            "row 0 has a wrong time in column 'timestamp': 'today'",
        ),
        (spoiled("timestamp", [*TIMES, None]), "row 199 has no time in column 'timestamp'"),
        (spoiled("timestamp", [*TIMES, float("nan")]), "row 199 has no time in column 'timestamp'"),
        (
            spoiled("timestamp", [*TIMES, 1.7e12]),
            "row 199 has .*'timestamp': .* looks like milliseconds; --time-unit",
        ),
    ],
)
def test_a_bad_row_is_reported_with_file_and_column(
    client: Client, tmp_path: Path, store: str, bad: pa.Table, message: str
) -> None:
    parquet.write_table(bad, tmp_path / "bad.parquet", row_group_size=70)
    with pytest.raises(PayloadError, match=rf"^/.*/bad\.parquet: {message}"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def replaced(path: Path, vectors: Vectors, times: Floats) -> None:
    parquet.write_table(table(vectors, times), path, row_group_size=170)


def shortened(path: Path, vectors: Vectors, times: Floats) -> None:
    replaced(path, vectors[:10], times[:10])


def of_other_vectors(path: Path, vectors: Vectors, times: Floats) -> None:
    replaced(path, vectors + 1, times)


def of_fewer_components(path: Path, vectors: Vectors, times: Floats) -> None:
    replaced(path, vectors[:, :3], times)


@pytest.mark.parametrize("change", [shortened, of_other_vectors, of_fewer_components])
def test_a_file_that_changes_meanwhile_is_an_error(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, Vectors, Floats], None],
) -> None:
    vectors, times = stream
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    measure = cluster.history

    def changed(*arguments: Any) -> Iterator[tuple[int, list[Row]]]:
        change(Path(lake) / "day=1" / "001.parquet", vectors[1_000:2_000], times[1_000:2_000])
        yield from measure(*arguments)

    monkeypatch.setattr(cluster, "history", changed)
    message = r"001\.parquet: changed while it was read; start again$"
    with pytest.raises(PayloadError, match=message):
        filling.run(store, SETTINGS)
    assert connection.execute("select count(*) from drift_history").fetchone() == (0,)


def test_a_file_that_changes_while_its_vectors_come_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    ones = np.ones((10_000, 1), np.float32)
    parquet.write_table(table(ones, START + np.arange(10_000.0)), path)
    dataset = Dataset.open(str(path), "m")
    times, *_, stamp = dataset.survey(str(path))
    reading = dataset.vectors(Part(str(path), 0, len(times[0]), stamp), every(times[0]))
    next(reading)
    os.utime(path)
    with pytest.raises(PayloadError, match="changed while it was read"):
        list(reading)


def test_a_folder_without_vectors_is_an_error(client: Client, lake: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PayloadError, match=r"empty has no files that end in \.parquet, "):
        Dataset.open(str(tmp_path / "empty"), "m")
    with pytest.raises(PayloadError, match="absent does not exist"):
        Dataset.open(str(tmp_path / "absent"), "m")
    with pytest.raises(PayloadError, match="nowhere://x cannot be read: Protocol not known"):
        Dataset.open("nowhere://x", "m")
    path = tmp_path / "others.parquet"
    others = table(np.ones((9, 2), np.float32), made(9), model_name=pa.array(["other"] * 9))
    parquet.write_table(others, path)
    with pytest.raises(PayloadError, match=r"others\.parquet has no vectors of model m"):
        cluster.survey(client, Dataset.open(str(path), "m"), id)


def test_a_file_that_is_not_parquet_is_named(client: Client, tmp_path: Path, store: str) -> None:
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(PayloadError, match=r"text\.parquet: is not Parquet: it begins"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def records(vectors: Vectors, times: Floats) -> list[dict[str, object]]:
    """Rows of JSON, with times as texts."""
    stamps = [datetime.fromtimestamp(time, UTC).isoformat() for time in times.tolist()]
    return [
        {"embedding": vector, "timestamp": stamp}
        for vector, stamp in zip(vectors.tolist(), stamps, strict=True)
    ]


def as_jsonl(path: Path, vectors: Vectors, times: Floats) -> None:
    lines = "\n".join(map(json.dumps, records(vectors, times)))
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(lines.encode()))


def as_csv(path: Path, vectors: Vectors, times: Floats) -> None:
    pd.DataFrame(records(vectors, times)).to_csv(path.with_suffix(".csv"))


def as_npz(path: Path, vectors: Vectors, times: Floats) -> None:
    np.savez(path.with_suffix(".npz"), vectors=vectors, timestamp=times)


def as_feather(path: Path, vectors: Vectors, times: Floats) -> None:
    feather.write_feather(table(vectors, times), path.with_suffix(".feather"))


def as_wide(path: Path, vectors: Vectors, times: Floats) -> None:
    columns = {f"dim_{n}": vectors[:, n] for n in range(vectors.shape[1])}
    parquet.write_table(pa.table({"timestamp": times, **columns}), path.with_suffix(".parquet"))


@pytest.mark.parametrize("write_file", [as_jsonl, as_csv, as_npz, as_feather, as_wide])
def test_files_of_any_format_are_one_stream(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    write_file: Callable[[Path, Vectors, Floats], None],
) -> None:
    vectors, times = stream
    for number, rows in enumerate(np.array_split(np.arange(1_500), 2)):
        write_file(tmp_path / f"{number}", vectors[rows], times[rows])
    backfill(client, str(tmp_path)).pin(store, Selection(first=FITTED))
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 8), vectors[:FITTED])


def test_rows_that_cannot_be_used_are_left_out_if_the_user_says_so(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    vectors: Vectors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows: list[object] = list(records(vectors[:600], made(600)))
    rows[0] = {"timestamp": "2023-11-14T00:00:00Z", "embedding": [1.0]}
    rows[100] = {"timestamp": "yesterday", "embedding": [1.0] * 8}
    rows[200] = {"embedding": [1.0] * 8}
    rows[300] = {"timestamp": "2023-11-14T00:00:00Z", "embedding": None}
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows[1:] + rows[:1])))
    filling = Backfill(client, Dataset.open(str(path), "m", skips=True), None)
    filling.pin(store, Selection(first=600))
    kept = np.delete(np.arange(600), [0, 100, 200, 300])
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 8), vectors[kept])
    [record] = [each for each in caplog.records if "skipped" in each.message]
    assert record.__dict__["rows"] == 4
    assert record.__dict__["first"].startswith(f"{path}: line 100 has a wrong time")
    with pytest.raises(PayloadError, match=r"m\.jsonl: line 300 has no vector"):
        Backfill(client, Dataset.open(str(path), "m"), None).pin(store, Selection(first=600))


def test_a_column_of_models_may_have_another_name(tmp_path: Path, vectors: Vectors) -> None:
    named = table(vectors[:60], made(60), who=pa.array(["m", "other"] * 30))
    parquet.write_table(named, tmp_path / "v.parquet")
    dataset = Dataset.open(str(tmp_path), "m", Options(model="who"))
    [times] = dataset.survey(dataset.files[0]).times
    np.testing.assert_array_equal(times, made(60)[::2])
