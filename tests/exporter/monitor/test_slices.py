"""Slices: the vectors of each value of the metadata are measured by themselves."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor import baseline, fit_process, slices
from exporter.monitor.examinations import SlicesExamination
from exporter.monitor.examiner import Examiner
from exporter.monitor.fit_process import Fitted
from exporter.monitor.model import Model, Models
from exporter.monitor.monitor import examinations
from exporter.monitor.slices import NONE, Slicing, named
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot
from exporter.monitor.tail import Tail
from exporter.monitor.windows import REFERENCE_RATIO
from exporter.stats.shares import OTHER, Share
from ingest.runtime.errors import FitFailed
from ingest.runtime.settings.settings import (
    ModelSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import slice_history
from ingest.store import slices as stored
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.pool import Pool
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.service import wait_for

Vectors = NDArray[np.float32]
Metadata = Sequence[dict[str, object] | None]
Watching = Callable[..., "Watch"]

TENANTS = ("acme", "bolt", "core", "dune", "echo")
SETTINGS = MonitoringSettings(slices=["tenant"])
N = 1_500
"""Vectors of the baseline: 300 of each tenant."""


@pytest.fixture
def keep(store: str) -> Callable[[Vectors, Metadata], None]:
    """Store vectors of the model m with their metadata."""

    def keep(vectors: Vectors, metadata: Metadata) -> None:
        encoded = [None if each is None else json.dumps(each).encode() for each in metadata]
        batch = Batch("m", np.ascontiguousarray(vectors), metadata=encoded)

        async def run() -> None:
            async with await AsyncConnection.connect(store, autocommit=True) as connection:
                await insert(connection, [batch], 10)

        asyncio.run(run())

    return keep


def of_tenants(n: int, tenants: Sequence[str] = TENANTS) -> list[dict[str, object] | None]:
    return [{"tenant": tenants[at % len(tenants)]} for at in range(n)]


class Watch:
    """The tail and the examiner of one exporter, driven by hand."""

    def __init__(self, pool: Pool, settings: MonitoringSettings) -> None:
        self.models = Models()
        self.tail = Tail(pool, self.models, settings)
        followed = threading.Event()
        followed.set()
        self.examiner = Examiner(self.models, examinations(pool), pool, 300, followed)

    @property
    def model(self) -> Model:
        return self.models.by_name["m"]

    def divide(self) -> Slicing:
        """Follow the store until the slices are fitted, and return them."""

        def is_divided() -> bool:
            self.tail.poll()
            return self.model.standing.slicing is not None

        wait_for(is_divided, "the slices")
        slicing = self.model.standing.slicing
        assert slicing is not None
        return slicing

    def check(self) -> ModelSnapshot:
        self.tail.poll()
        self.examiner.check()
        return self.model.snapshot(self.models.now())


@pytest.fixture
def watching(pool: Pool) -> Iterator[Watching]:
    """Make exporters, whose tails stop in the end: they may still work on a baseline."""
    with ExitStack() as stack:

        def begin(settings: MonitoringSettings = SETTINGS) -> Watch:
            watch = Watch(pool, settings)
            stack.callback(watch.tail.stop)
            return watch

        yield begin


@pytest.fixture
def watch(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> Watch:
    """A model whose five tenants have a baseline of 300 vectors each."""
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    watch = watching()
    watch.divide()
    return watch


def by_name(model: ModelSnapshot, window: str = "fast") -> dict[str, SeriesSnapshot]:
    return {each.series.slice: each for each in model.slices if each.series.window == window}


def shares(model: ModelSnapshot, key: str = "tenant") -> dict[str, Share]:
    found = next(each for each in model.series if each.series.window == "slow").findings.slices
    assert found is not None
    return {each.value: each for each in found.shares[key]}


def score(each: SeriesSnapshot) -> float:
    assert each.verdict.measurement is not None
    return each.verdict.measurement.score


def test_only_the_tenant_that_drifts_has_a_high_score(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    newer = vectors[N : N + 500].copy()
    newer[2::5] += 1.5
    keep(newer, of_tenants(500))
    model = watch.check()
    found = by_name(model)
    assert set(found) == {f"tenant={name}" for name in TENANTS}
    assert score(found["tenant=core"]) > 15
    assert all(score(each) < 5 for name, each in found.items() if name != "tenant=core")
    magnitude = found["tenant=core"].findings.magnitude
    assert magnitude is not None
    assert magnitude.ratio.lower > 0.2
    assert {each.verdict.state for each in found.values()} == {"ok"}
    assert {each.verdict.vectors for each in found.values()} == {100}
    assert all(each.value in TENANTS and not each.changed for each in shares(model).values())


def test_a_slice_is_measured_as_its_vectors_alone_would_be(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    found = by_name(watch.check())["tenant=acme"].verdict
    slicing = watch.model.standing.slicing
    assert slicing is not None
    [acme] = [each for each in slicing.slices if each.value == "acme"]
    assert acme.detector.n_reference == N / 5
    assert found.measurement is not None
    assert found.measurement.score == acme.detector.score(vectors[N : N + 500 : 5])
    assert found.start is not None
    assert found.baseline_version == 1


def test_the_tenant_whose_share_grew_is_told(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    random = np.random.default_rng(0)
    names = random.choice([*TENANTS, "new"], 500, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    keep(vectors[N : N + 500], [{"tenant": str(name)} for name in names])
    found = shares(watch.check())
    assert found["acme"].share_before == 0.2
    assert found["acme"].share > 0.3
    assert found["acme"].changed
    assert found["new"].changed
    assert not found["bolt"].changed


def test_a_slice_holds_as_many_vectors_as_its_baseline_calibrates(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 600], of_tenants(600, ["acme"]))
    acme = by_name(watch.check())["tenant=acme"]
    assert acme.limits.capacity == N / 5 / REFERENCE_RATIO
    assert 75 < acme.verdict.vectors <= acme.limits.capacity
    assert acme.verdict.sampled_ratio < 0.5
    assert acme.verdict.state == "ok"


def test_a_slice_of_more_vectors_than_its_baseline_calibrates_is_measured_whatever_the_minimum(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    fast = WindowSettings(seconds=900, min_vectors=N // 5 // REFERENCE_RATIO)
    settings = SETTINGS.model_copy(update={"windows": WindowsSettings(fast=fast)})
    watch = watching(settings)
    watch.divide()
    keep(vectors[N : N + 600], of_tenants(600, ["acme", "acme", "acme", "bolt"]))
    found = by_name(watch.check())
    assert found["tenant=acme"].verdict.vectors < fast.min_vectors
    assert found["tenant=acme"].verdict.state == "ok"
    assert found["tenant=acme"].verdict.measurement is not None


def test_a_slice_with_few_vectors_is_not_measured(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 100], of_tenants(100))
    for each in watch.check().slices:
        assert each.verdict.state == "too_few_vectors"
        assert each.verdict.measurement is None
        assert each.findings.magnitude is None
        assert each.verdict.vectors == 20


def test_a_slice_is_not_measured_while_the_model_is_not_followed(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    watch.check()
    later = watch.models.now() + 600
    states = {each.verdict.state for each in watch.model.snapshot(later).slices}
    assert states == {"not_followed"}


def test_old_findings_are_not_shown(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    model = watch.check()
    later = model.computed_at + 4 * SETTINGS.check_interval
    assert model.slices
    assert watch.model.snapshot(later).slices == ()


def test_hostile_values_stay_text_of_bounded_length(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    hostile = ["x" * 10_000, 'a"b\nc\\d', "<script>", ["acme"], {"a": 1}, None, 12, True, "\u202e"]
    keep(vectors[N : N + 500], [{"tenant": hostile[at % len(hostile)]} for at in range(500)])
    found = shares(watch.check())
    cut = "x" * 64 + "…"
    assert set(found) >= {cut, 'a"b c\\d', "<script>", NONE, "12", "true"}
    assert found[NONE].share == pytest.approx(4 / 9, abs=0.01)
    assert len(found) <= slices.MOST_VALUES + 1


def test_ten_thousand_values_are_other(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    connection: psycopg.Connection,
) -> None:
    many = np.random.default_rng(0).normal(size=(10_500, 4)).astype(np.float32)
    keep(many[:10_000], [{"tenant": f"t{at}"} for at in range(10_000)])
    baseline.pin(connection, "m", Selection(first=10_000))
    watch = watching()
    watch.divide()
    keep(many[10_000:], [{"tenant": f"u{at}"} for at in range(500)])
    model = watch.check()
    assert model.slices == ()
    assert model.slicing is not None
    assert model.slicing.folded == 0
    assert [(each.value, each.share) for each in shares(model).values()] == [(OTHER, 1.0)]


def test_slices_above_the_cap_are_counted(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "MOST_SLICES", 2)
    names = ("acme", "acme", "bolt", "bolt", "core", "dune")
    keep(vectors, of_tenants(len(vectors), names))
    baseline.pin(connection, "m", Selection(first=len(vectors)))
    watch = watching()
    slicing = watch.divide()
    assert [each.name for each in slicing.slices] == ["tenant=acme", "tenant=bolt"]
    assert slicing.folded == 2


def test_a_value_of_an_earlier_stage_takes_no_place_of_a_slice(
    pool: Pool,
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A nightly job has most vectors, but no hour of the day beside its own."""
    monkeypatch.setattr(slices, "MOST_SLICES", 2)
    day = 86_400.0
    times = np.concatenate([np.linspace(0, 600, 400), *3 * [np.linspace(0, day, 300)]])
    names = np.repeat(["job", "acme", "bolt", "core"], [400, 300, 300, 300])
    order = np.argsort(times, kind="stable")
    start = time.time() - day
    baseline.pin_vectors(connection, "m", vectors[: len(times)], start + times[order], "test")
    with connection.cursor() as cursor:
        cursor.executemany(
            "update baseline_embedding set metadata = jsonb_build_object('tenant', %s::text)"
            " where seq = %s",
            [(str(name), seq) for seq, name in enumerate(names[order], 1)],
        )
    found = baseline.load(connection, "m", 1)
    assert found.stage == "daily"
    slicing = slices.divide(pool.borrow, "m", found, ("tenant",))
    assert [each.name for each in slicing.slices] == ["tenant=acme", "tenant=bolt"]
    assert slicing.folded == 1


def test_what_has_no_score_takes_no_part_of_the_budget_of_false_alarms(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    watch = watching()
    assert len(watch.divide().slices) > 1
    assert watch.models.watched == 0
    keep(vectors[N : N + 500], [{"tenant": "acme"}] * 500)
    model = watch.check()
    assert watch.models.watched == model.watched == 2


def test_a_value_with_too_few_vectors_in_the_baseline_has_no_series(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[:600], [{"tenant": "acme" if at < 249 else "bolt"} for at in range(600)])
    baseline.pin(connection, "m", Selection(first=600))
    watch = watching()
    slicing = watch.divide()
    assert [each.name for each in slicing.slices] == ["tenant=bolt"]


def test_a_value_of_nearly_all_vectors_is_no_slice(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors, [{"tenant": "acme" if at < 300 else "bolt"} for at in range(len(vectors))])
    baseline.pin(connection, "m", Selection(first=len(vectors)))
    watch = watching()
    slicing = watch.divide()
    assert [each.name for each in slicing.slices] == ["tenant=acme"]


def test_equal_vectors_of_a_tenant_are_a_constant_baseline(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    stuck = vectors[:N].copy()
    stuck[::5] = 1
    keep(stuck, of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    watch = watching()
    watch.divide()
    keep(vectors[N : N + 500], of_tenants(500))
    acme = by_name(watch.check())["tenant=acme"]
    assert acme.verdict.state == "baseline_constant"
    assert acme.verdict.measurement is None


def test_slices_that_cannot_be_fitted_are_tried_again_and_the_model_is_watched(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    keep(vectors[N : N + 500], of_tenants(500))

    def fail(*_: object) -> None:
        raise ValueError("no slices today")

    monkeypatch.setattr(slices, "divide", fail)
    watch = watching()

    def is_logged() -> bool:
        watch.tail.poll()
        return "slices not fitted; it will be tried again" in caplog.text

    wait_for(is_logged, "the failure")
    model = watch.check()
    assert model.slicing is None
    assert {each.verdict.state for each in model.series} == {"ok"}


def test_a_slice_whose_fit_died_is_tried_again_and_the_others_are_watched(
    pool: Pool,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    clock, fits, fit = [0.0], [0], fit_process.fit

    def killed_once(*arguments: Any) -> Fitted:
        fits[0] += 1
        if fits[0] == 2:
            raise FitFailed("the process ended with SIGKILL")
        return fit(*arguments)

    monkeypatch.setattr(fit_process, "fit", killed_once)
    models = Models()
    tail = Tail(pool, models, SETTINGS, monotonic=lambda: clock[0])

    def watched() -> int:
        tail.poll()
        slicing = models.by_name["m"].standing.slicing
        return 0 if slicing is None else len(slicing.slices)

    wait_for(lambda: watched() == 4, "the other slices")
    tried = tail._fitting._slicings["m"]
    wait_for(tried.future.done, "the end of the fits")
    clock[0] = 3_599.0
    watched()
    assert tail._fitting._slicings["m"] is tried
    clock[0] = 3_600.0
    wait_for(lambda: watched() == 5, "all slices")
    for _ in range(3):
        watched()
    tail.stop()
    assert fits[0] == 6


def test_other_slices_are_fitted_at_once_after_the_fits_of_some_have_died(
    pool: Pool,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a person takes away the key that needs too much memory."""
    keep(vectors[:N], [{**each, "region": each["tenant"]} for each in of_tenants(N) if each])
    baseline.pin(connection, "m", Selection(first=N))
    fit, is_short = fit_process.fit, [True]

    def killed(*arguments: Any) -> Fitted:
        if is_short[0]:
            raise FitFailed("the process ended with SIGKILL")
        return fit(*arguments)

    monkeypatch.setattr(fit_process, "fit", killed)
    models = Models()
    tail = Tail(pool, models, SETTINGS, monotonic=lambda: 0.0)

    def slicing() -> Slicing | None:
        tail.poll()
        return models.by_name["m"].standing.slicing

    wait_for(lambda: (found := slicing()) is not None and not found.slices, "the failure")
    wait_for(tail._fitting._slicings["m"].future.done, "the end of the fits")
    is_short[0] = False
    tail.reconfigure(MonitoringSettings(slices=["region"]))
    wait_for(lambda: (found := slicing()) is not None and bool(found.slices), "other slices")
    tail.stop()


def test_a_slice_without_the_seasons_of_its_model_has_no_series(
    pool: Pool,
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    """The tenant acme sent its vectors in the first hour, the others theirs over two days."""
    names = ["acme" if at < 300 else "bolt" for at in range(N)]
    keep(vectors[:N], [{"tenant": name} for name in names])
    baseline.pin(connection, "m", Selection(first=N))
    connection.execute(
        "update baseline_embedding set received_at = to_timestamp("
        "case when seq <= 300 then seq else 3600 + seq * 115 end)"
    )
    baseline.fit_again(pool.borrow, "m", 1)
    assert baseline.load(connection, "m", 1).detector.seasons == ("daily",)
    watch = watching()
    slicing = watch.divide()
    assert [each.name for each in slicing.slices] == ["tenant=bolt"]


def test_a_slice_of_a_job_is_watched_though_it_shows_nothing_of_the_day(
    pool: Pool,
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    """The tenant acme sent at seven nights, the others all the time."""
    keep(vectors[:N], [{"tenant": "bolt" if at % 5 else "acme"} for at in range(N)])
    baseline.pin(connection, "m", Selection(first=N))
    connection.execute(
        "update baseline_embedding set received_at = to_timestamp("
        "case when seq % 5 = 1 then seq / 215 * 86400 + seq else seq * 415 end)"
    )
    baseline.fit_again(pool.borrow, "m", 1)
    assert baseline.load(connection, "m", 1).detector.seasons == ("daily", "weekly")
    slicing = watching().divide()
    seasons = {each.name: each.detector.seasons for each in slicing.slices}
    assert seasons == {"tenant=acme": ("weekly",), "tenant=bolt": ("daily", "weekly")}


def test_a_model_without_slices_reads_nothing(
    pool: Pool,
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(vectors[:N], of_tenants(N))
    baseline.pin(connection, "m", Selection(first=N))
    keep(vectors[N : N + 500], of_tenants(500))
    own = MonitoringSettings(slices=["tenant"], models={"m": ModelSettings(slices=[])})
    watch = watching(own)
    monkeypatch.delattr(slices, "divide")
    monkeypatch.setattr(stored, "of_vectors", None)
    model = watch.check()
    assert model.slicing is None
    assert model.slices == ()
    assert model.watched == 1
    assert not SlicesExamination(pool).is_awaited(model)


def test_other_keys_take_effect_at_the_next_poll(
    watch: Watch, keep: Callable[[Vectors, Metadata], None], vectors: Vectors
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    assert watch.check().slices
    watch.tail.settings = MonitoringSettings()
    assert watch.check().slices == ()
    assert watch.model.standing.slicing is None


@pytest.mark.parametrize("left", [[], ["language"]])
def test_the_values_of_a_key_that_is_removed_are_gone_before_the_next_poll_and_check(
    watching: Watching,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    left: list[str],
) -> None:
    def of_people(n: int) -> Metadata:
        return [
            {"tenant": TENANTS[at % 5], "language": "en" if at % 2 else "de"} for at in range(n)
        ]

    def reported() -> str:
        [(detail,)] = connection.execute("select detail::text from report").fetchall()
        return str(detail)

    keep(vectors[:N], of_people(N))
    baseline.pin(connection, "m", Selection(first=N))
    watch = watching(MonitoringSettings(slices=["tenant", "language"]))
    watch.divide()
    keep(vectors[N : N + 500], of_people(500))
    assert "tenant=acme" in by_name(watch.check())
    assert "acme" in reported()
    watch.tail.reconfigure(MonitoringSettings(slices=left))
    model = watch.model.snapshot(watch.models.now())
    assert {name.partition("=")[0] for name in by_name(model)} == set(left)
    told = {key for each in model.series if (f := each.findings.slices) for key in f.shares}
    assert told == set(left)
    assert any(found.slices for found in watch.model.standing.findings.values())
    watch.examiner.catch_up()
    assert "acme" not in reported()
    assert ("language" in reported()) == bool(left)


def test_slices_are_measured_soon_and_again_while_one_drifts(
    watch: Watch,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    pool: Pool,
) -> None:
    examination = SlicesExamination(pool)
    keep(vectors[N : N + 500], of_tenants(500))
    watch.tail.poll()
    assert examination.is_awaited(watch.model.snapshot(watch.models.now()))
    model = watch.check()
    assert not examination.is_awaited(model)
    assert not examination.is_awaited(replace(model, computed_at=model.computed_at + 61))
    newer = vectors[N + 500 : N + 1_000].copy()
    newer[2::5] += 1.5
    keep(newer, of_tenants(500))
    model = watch.check()
    assert not examination.is_awaited(model)
    assert examination.is_awaited(replace(model, computed_at=model.computed_at + 61))


def test_a_check_works_without_the_vectors_that_have_expired(
    watch: Watch,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    watch.tail.poll()
    connection.execute("delete from embedding where seq > %s and seq <= %s", [N, N + 250])
    watch.examiner.check()
    found = shares(watch.model.snapshot(watch.models.now()))
    assert found[NONE].share == 0.5


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, NONE),
        ("", NONE),
        (" \n\t", NONE),
        (OTHER, NONE),
        ("acme", "acme"),
        ("a\nb", "a b"),
        ("a\u202eb", "a b"),
        ("ü" * 64, "ü" * 64),
        ("ü" * 65, "ü" * 64 + "…"),
    ],
)
def test_a_value_becomes_one_short_line(value: str | None, name: str) -> None:
    assert named(value) == name


def test_each_check_records_the_slices(
    watch: Watch,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    found = by_name(watch.check())
    rows = slice_history.rows_at(connection, "m", watch.models.now() + 60)
    fast = {name: row for _, name, row in rows if row.window_name == "fast"}
    assert set(fast) == set(found)
    for name, row in fast.items():
        magnitude = found[name].findings.magnitude
        assert magnitude is not None
        assert (row.score, row.changed_ratio) == (score(found[name]), magnitude.ratio.estimate)
        assert (row.state, row.vectors, row.baseline_version) == ("ok", 100, 1)
        assert (row.components, row.norm) == (None, None)


def test_slices_of_a_model_are_not_recorded_of_another_one_of_its_name(
    watch: Watch,
    keep: Callable[[Vectors, Metadata], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    keep(vectors[N : N + 500], of_tenants(500))
    watch.tail.poll()
    # As if it had been removed and made again since.
    connection.execute("update model set created_at = created_at + interval '1 us'")
    watch.examiner.check()
    assert by_name(watch.model.snapshot(watch.models.now()))
    assert connection.execute("select * from slice_history").fetchall() == []
