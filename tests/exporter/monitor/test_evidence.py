"""Evidence: an explanation is made from the newest vectors and from those of the baseline."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from exporter.cli import main
from exporter.explain.explanation import explain
from exporter.explain.map import draw
from exporter.monitor import baseline, recorded
from exporter.monitor.evidence import Evidence, gather
from exporter.monitor.report import Told
from ingest.runtime.errors import NotFound
from ingest.runtime.printable import printable
from ingest.runtime.settings.settings import ExplanationSettings, MonitoringSettings, Settings
from ingest.store import explanations
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.exporter.explain.space import KNOWN, Vectors, drawing
from tests.exporter.explained import SUMMARY
from tests.exporter.explained import explained as explained_row

OTHER_WORDS = ["red", "green", "blue"]


def keep(store: str, vectors: Vectors, is_new: NDArray[np.bool_], source: str) -> None:
    """Store vectors of the model m; those of the new topic have words and a tenant of their own."""
    words = {False: ("usual", "acme"), True: ("zebra", "other")}
    metadata: list[bytes | None] = []
    for at, new in enumerate(is_new.tolist()):
        word, tenant = words[new]
        text = f"{word} {OTHER_WORDS[at % len(OTHER_WORDS)]} {source}{at}"
        metadata.append(json.dumps({"text": text, "tenant": tenant}).encode())

    async def run() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            await insert(connection, [Batch("m", vectors, metadata=metadata)], 10)

    asyncio.run(run())


def keep_usual(store: str, n: int) -> None:
    keep(store, drawing(0)(KNOWN, n), np.zeros(n, bool), "first")


@pytest.fixture
def changed(store: str, connection: psycopg.Connection) -> Vectors:
    """A model that gets a new topic of 20 %; returns its newest vectors in the order of arrival."""
    keep_usual(store, 1_500)
    baseline.pin(connection, "m", Selection(first=1_500))
    draw, is_new = drawing(1), np.random.default_rng(0).random(500) < 0.2
    newest = np.where(is_new[:, None], draw([20], 500), draw(KNOWN, 500))
    keep(store, newest, is_new, "second")
    return newest


def read(connection: psycopg.Connection, explanation: ExplanationSettings) -> Evidence:
    return gather(connection, "m", "slow", Settings(explanation=explanation))


def test_the_window_comes_in_order_and_without_the_vectors_of_the_baseline(
    connection: psycopg.Connection, changed: Vectors
) -> None:
    found = read(connection, ExplanationSettings())
    np.testing.assert_array_equal(found.window.vectors, changed)
    assert [row.seq for row in found.rows] == list(range(1_501, 2_001))
    assert [row.seq for row in found.reference_rows] == list(range(1, 1_501))
    last = found.window.texts[-1]
    assert last is not None
    assert last.endswith(" second499")


def test_vectors_of_the_baseline_that_are_dated_ahead_do_not_take_the_place_of_newer_ones(
    connection: psycopg.Connection, changed: Vectors
) -> None:
    # As if the clock had been set back once they were stored.
    connection.execute(
        "update embedding set received_at = received_at + interval '6 h' where seq <= 1500"
    )
    found = read(connection, ExplanationSettings())
    np.testing.assert_array_equal(found.window.vectors, changed)


def test_only_what_is_allowed_is_read(connection: psycopg.Connection, changed: Vectors) -> None:
    quiet = ExplanationSettings(texts="none", metadata_keys=["language"])
    found = read(connection, quiet)
    assert found.window.metadata == [{}] * len(changed)
    found = read(connection, ExplanationSettings(texts="none"))
    assert found.window.metadata is not None
    assert {tuple(each or ()) for each in found.window.metadata} == {("tenant",)}


@pytest.mark.usefixtures("changed")
def test_a_map_needs_few_vectors_of_the_baseline(connection: psycopg.Connection) -> None:
    whole = read(connection, ExplanationSettings())
    found = explain(whole.detector, whole.reference, whole.window)
    few = whole.for_map()
    assert len(few.reference) == len(few.reference_rows) == 600
    one, other = (
        draw(each.detector, each.reference, each.window, found).baseline for each in (whole, few)
    )
    np.testing.assert_array_equal(one, other)


def test_without_a_baseline_there_is_nothing_to_compare_with(
    store: str, connection: psycopg.Connection
) -> None:
    with pytest.raises(NotFound, match=r"model .*m"):
        read(connection, ExplanationSettings())
    keep_usual(store, 100)
    with pytest.raises(NotFound, match="model m has no baseline yet"):
        read(connection, ExplanationSettings())


def explained(store: str, *options: str, texts: str = "keywords") -> str:
    environment = {
        "EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store,
        "EMBEDDING_DRIFT_EXPLANATION_TEXTS": texts,
    }
    done = CliRunner().invoke(main, ["explain", "m", *options], env=environment)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("changed")
def test_the_command_names_the_new_topic_and_its_tenant(store: str) -> None:
    told = explained(store)
    assert told.startswith("m: at least ")
    assert "% of the last 500 vectors are unlike the baseline. New: " in told
    assert "zebra" in told.splitlines()[0]
    assert "tenant = other" in told
    assert "text " not in told
    assert "seq 1" in told


@pytest.mark.usefixtures("changed")
def test_texts_are_shown_only_on_request(store: str) -> None:
    assert "text zebra " in explained(store, texts="full")
    assert "zebra" not in explained(store, texts="none")


@pytest.mark.usefixtures("changed")
def test_programs_get_everything_as_json(store: str) -> None:
    told = json.loads(explained(store, "--json", "--window", "fast"))
    assert (told["model_name"], told["window"], told["vectors"]) == ("m", "fast", 500)
    grown = [group for group in told["groups"] if group["change"] == "grown"]
    assert "zebra" in grown[0]["keywords"]
    assert {"seq", "id", "received_at"} == set(grown[0]["examples"][0])


def test_no_groups_follow_the_word_that_a_window_is_like_the_baseline(
    store: str, connection: psycopg.Connection
) -> None:
    keep_usual(store, 10)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    row = explained_row(at.timestamp())
    quiet = {**row.told, "cause": {"kind": "none", "evidence": ["chance explains it"]}}
    explanations.keep(connection, replace(row, told=quiet), 900)
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--window", "fast")
    assert code == 0
    assert "Cause: none (chance explains it)." in told
    assert "(grown)" not in told


@pytest.mark.parametrize("code", ["\x1b[2J", "\x9b2J", "\u202e"], ids=ascii)
def test_what_clients_sent_does_not_control_the_terminal(
    store: str, connection: psycopg.Connection, code: str
) -> None:
    keep_usual(store, 10)
    row = explained_row(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp())
    text = json.dumps(row.told).replace("audio", json.dumps(f"au{code}dio")[1:-1])
    text = text.replace("doc 7", json.dumps(f"doc {code}7")[1:-1])
    explanations.keep(connection, replace(row, told=json.loads(text)), 900)
    options = ["--at", "2026-01-01T12:05:00Z", "--window", "fast"]
    _, told = asked(store, *options)
    shown = printable(code)
    assert f"au{shown}dio, player (grown), for example:\n  seq 7  id doc {shown}7" in told
    _, as_json = asked(store, *options, "--json")
    groups = json.loads(as_json)["groups"]
    assert f"doc {code}7" in {each["id"] for group in groups for each in group["examples"]}
    for line in (*told.split("\n"), *as_json.split("\n")):
        assert line.isprintable()


def asked(store: str, *options: str, texts: str = "keywords") -> tuple[int, str]:
    environment = {
        "EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store,
        "EMBEDDING_DRIFT_EXPLANATION_TEXTS": texts,
    }
    done = CliRunner().invoke(main, ["explain", "m", *options], env=environment)
    return done.exit_code, done.output


def test_what_was_known_at_a_past_time_is_printed_as_now(
    store: str, connection: psycopg.Connection
) -> None:
    keep_usual(store, 10)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    explanations.keep(connection, explained_row(at.timestamp()), 900)
    for given in ("2026-01-01T12:05:00Z", "2026-01-01 12:05:00", "2026-01-01 12:05:00 UTC"):
        code, told = asked(store, "--at", given, "--window", "fast")
        assert (code, told.splitlines()[0]) == (0, SUMMARY)
        assert "Cause: new content (topics moved differently (0.31 of 1))." in told
        assert "audio, player (grown), for example:\n  seq 7  id doc 7" in told
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--window", "fast", "--json")
    assert json.loads(told)["summary"] == SUMMARY
    assert asked(store, "--at", "2026-01-01T12:05:00Z")[1].startswith(SUMMARY)
    code, told = asked(store, "--at", "2026-01-01T13:05:00Z")
    assert (code, "no drift of m is known at 2026-01-01 13:05:00 UTC" in told) == (1, True)
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--window", "slow")
    assert code == 1
    assert "no drift of the slow window of m is known at 2026-01-01 12:05:00 UTC" in told
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--window", "fast", texts="none")
    assert code == 1
    assert "says more than the settings explanation.texts" in told
    # Another release stored it in another form.
    connection.execute("update explanation set told = '{}'")
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--window", "fast")
    assert (code, "no drift of the fast window of m is known" in told) == (1, True)


@pytest.mark.usefixtures("changed")
def test_the_shares_of_slices_are_told(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "slices" in json.loads(explained(store, "--json"))
    assert "tenant = acme: " not in explained(store)
    monkeypatch.setenv("EMBEDDING_DRIFT_MONITORING_SLICES", '["tenant"]')
    told = json.loads(explained(store, "--json"))["slices"]
    acme, other = told["tenant"]
    assert (acme["value"], acme["share_before"], acme["changed"]) == ("acme", 1.0, True)
    assert (other["value"], other["share_before"], other["changed"]) == ("other", 0.0, True)
    assert "(was 100.0%, changed)." in explained(store)


def test_missing_rights_are_no_fault_of_the_window(
    store: str, connection: psycopg.Connection
) -> None:
    role = f"without_rights_{uuid.uuid4().hex}"
    connection.execute(f"create role {role} login password 'secret'".encode())
    string = make_conninfo(store, user=role, password="secret")
    environment = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": string}
    done = CliRunner().invoke(main, ["explain", "m"], env=environment)
    connection.execute(f"drop role {role}".encode())
    assert done.exit_code == 2
    assert "window" not in done.output
    assert "lacks rights" in done.output


def test_too_few_vectors_are_an_error(store: str, connection: psycopg.Connection) -> None:
    keep_usual(store, 400)
    baseline.pin(connection, "m", Selection(first=400))
    environment = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store}
    done = CliRunner().invoke(main, ["explain", "m"], env=environment)
    assert done.exit_code == 1
    assert "m, slow window: an explanation needs at least 10 vectors, got 0" in done.output


def test_the_evidence_of_a_slice_has_its_newest_vectors_only(
    store: str, connection: psycopg.Connection
) -> None:
    keep_usual(store, 1_500)
    baseline.pin(connection, "m", Selection(first=1_500))
    is_new = np.arange(1_000) % 5 > 0
    keep(store, drawing(1)(KNOWN, 1_000), ~is_new, "second")
    settings = Settings(monitoring=MonitoringSettings(slices=["tenant"]))
    found = gather(connection, "m", "slow", settings, "tenant=acme")
    assert {(row.metadata or {})["tenant"] for row in found.rows} == {"acme"}
    # The window has the newest 750 vectors of all tenants.
    assert len(found.rows) == len(found.window) == 600
    assert found.rows[-1].seq == 2_500
    assert len(found.reference) == 1_500
    assert found.detector.n_reference == 1_500


def test_a_slice_is_explained_by_its_vectors_alone(
    store: str, changed: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_DRIFT_MONITORING_SLICES", '["tenant"]')
    output = explained(store, "--json", "--slice", "tenant=acme")
    told = json.loads(output[output.index("{\n") :])  # after a line of the log
    assert told["slice"] == "tenant=acme"
    assert told["summary"].startswith("m (tenant=acme): the last ")
    assert told["vectors"] < len(changed)
    assert told["cause"]["kind"] == "none"
    code, output = asked(store, "--slice", "tenant=other")
    assert code == 1
    assert "baseline 1 of model m has 0 such vectors, and a slice needs 250" in output
    code, output = asked(store, "--slice", "language=de")
    assert code == 1
    assert "no slice 'language=de': model m has slices of the keys: tenant" in output


def test_json_is_that_of_the_http_api(store: str, connection: psycopg.Connection) -> None:
    keep_usual(store, 10)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    row = replace(explained_row(at.timestamp()), slice="tenant=acme")
    explanations.keep(connection, row, 900)
    _, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--slice", "tenant=acme", "--json")
    of_api = msgspec.to_builtins(recorded.explanation(row))
    assert json.loads(told) == {"model_name": "m", **of_api}
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z")
    assert (code, "no drift of m is known" in told) == (1, True)
    code, told = asked(store, "--at", "2026-01-01T12:05:00Z", "--slice", "tenant=b")
    assert (code, "no drift of m (tenant=b) is known" in told) == (1, True)


@pytest.mark.usefixtures("changed")
def test_json_of_now_has_the_fields_of_the_http_api_that_need_no_drift(store: str) -> None:
    told = json.loads(explained(store, "--json"))
    assert told.keys() == {"model_name", "slices", *Told.__struct_fields__}
