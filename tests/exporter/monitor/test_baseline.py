"""Baselines: what is pinned is what is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.codec import Outdated
from exporter.monitor import baseline
from exporter.monitor.local_time import to_local
from exporter.stats.arrays import Floats, Vectors
from exporter.stats.quality import assess
from ingest.runtime.errors import DimensionMismatch, NotFound
from ingest.runtime.time_zone import UTC
from ingest.store import baselines, changes, copy
from ingest.store.pool import Pool
from ingest.store.selection import Selection, select

Send = Callable[..., None]


def test_a_pinned_baseline_is_loaded_as_it_was(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    assert baseline.pin(connection, "m", Selection(first=500)) == 1
    loaded = baseline.load(connection, "m", 1)
    assert (loaded.version, loaded.last_seq, loaded.source) == (1, 500, "first 500")
    assert loaded.detector.n_reference == 500
    prints = loaded.detector.fingerprints(vectors[:500])
    assert loaded.quality == assess(vectors[:500], prints)


def test_a_first_baseline_of_few_vectors_must_show_a_week(
    pool: Pool,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "exporter.monitor.baseline")
    send(vectors[:300])
    assert baseline.pin_early(pool.borrow, "m", 1_000, 300) is None
    connection.execute("create table past partition of embedding default")
    connection.execute("update embedding set received_at = now() - seq * interval '30 minutes'")
    assert baseline.pin_early(pool.borrow, "m", 1_000, 300) is None
    connection.execute("update embedding set received_at = now() - seq * interval '35 minutes'")
    assert baseline.pin_early(pool.borrow, "m", 1_000, 301) is None
    assert baseline.pin_early(pool.borrow, "m", 1_000, 300) == 1
    assert baseline.pin_early(pool.borrow, "m", 1_000, 300) is None
    found = baseline.load(connection, "m", 1)
    assert (found.source, found.stage, found.matures) == ("first 300", "weekly", True)
    told = [record for record in caplog.records if record.msg == "first baseline not pinned yet"]
    assert len(told) == 3


def test_vectors_that_are_equal_or_come_often_show_no_week(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    connection.execute("create table past partition of embedding default")
    send(np.repeat(vectors[:1], 300, axis=0), model_name="equal")
    # The ones that differ all came at once; the copies of one fill the week.
    send(np.concatenate([vectors[:400], np.repeat(vectors[:1], 250, axis=0)]), model_name="often")
    connection.execute(
        "update embedding set received_at = now() - greatest(seq - 400, 0) * interval '42 minutes'"
        " where model_name = 'often'"
    )
    connection.execute(
        "update embedding set received_at = now() - seq * interval '35 minutes'"
        " where model_name = 'equal'"
    )
    times = changes.first_arrivals(connection, "often", 1_000)
    assert baseline.fills_week(times, UTC)
    for name in ("equal", "often"):
        assert baseline.pin_early(pool.borrow, name, 1_000, 250) is None
        assert baselines.in_use(connection, name) is None


def test_an_automatic_baseline_replaces_the_one_it_was_made_for(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    with pytest.raises(ValueError, match="not all of the 501 vectors"):
        baseline.pin_first(pool.borrow, "m", 501)
    assert baseline.pin_first(pool.borrow, "m", 500) == 1
    assert baseline.pin_first(pool.borrow, "m", 500) is None
    first = baseline.load(connection, "m", 1)
    assert first.source == "first 500"
    found = baseline.fit("m", baseline.reference(connection, "m", 1), "a day", UTC)
    assert baseline.pin_next(pool.borrow, "m", found, 1) == 2
    assert baseline.pin_next(pool.borrow, "m", found, 1) is None
    assert baseline.pin(connection, "m", Selection(first=500)) == 3
    kinds = [each.automatic for each in baselines.versions(connection, "m")]
    assert kinds == [False, True, True]
    assert baseline.load(connection, "m", 3).matures
    baselines.use(connection, "m", 2)
    assert not baseline.load(connection, "m", 2).matures


def test_no_vectors_make_no_baseline(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    late = Selection(start=datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="no vectors are selected"):
        baseline.pin(connection, "m", late)


def test_absurdly_long_vectors_are_left_out_and_said(
    pool: Pool,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    absurd = vectors[:600].copy()
    absurd[7, 3] = 3e38
    absurd[8] *= np.float32(1e4)
    send(absurd)
    assert baseline.pin_first(pool.borrow, "m", 500) == 1
    loaded = baseline.load(connection, "m", 1)
    assert loaded.source == "first 500, without 2 absurdly long"
    assert loaded.quality == assess(np.delete(vectors[:500], [7, 8], axis=0))
    assert loaded.detector.n_reference == 498
    assert loaded.detector.score(vectors[500:600]) < 2
    [told] = [each for each in caplog.records if "left out" in each.message]
    assert (told.__dict__["left_out"], told.__dict__["seqs"]) == (2, [8, 9])
    outside = baseline.pin_vectors(connection, "n", absurd, np.arange(600.0), "lake")
    assert baseline.load(connection, "n", outside).source == "lake, without 2 absurdly long"


def equal_but(vectors: Vectors, different: int) -> Vectors:
    equal = np.repeat(vectors[:1], len(vectors), axis=0)
    equal[:different] = vectors[:different]
    return equal


def rounded_differently(vectors: Vectors) -> Vectors:
    noise = np.random.default_rng(0).normal(1, 3e-4, vectors.shape)
    return (equal_but(vectors, 0) * noise).astype(np.float32)


def half_of_the_dimensions_constant(vectors: Vectors) -> Vectors:
    return np.where(np.arange(vectors.shape[1]) % 2, 3, vectors).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "varies"),
    [
        (np.zeros_like, False),
        (np.ones_like, False),
        (lambda found: equal_but(found, len(found) // 100), False),
        (rounded_differently, False),
        (half_of_the_dimensions_constant, True),
        (lambda found: equal_but(found, len(found) // 2), True),
        (np.copy, True),
    ],
)
def test_a_baseline_knows_whether_its_vectors_differ(
    pool: Pool,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    change: Callable[[Vectors], Vectors],
    varies: bool,
) -> None:
    send(change(vectors[:500]))
    baseline.pin_first(pool.borrow, "m", 500)
    assert baseline.load(connection, "m", 1).varies == varies
    replaced = baseline.pin_another(pool.borrow, "m", 500, instead_of=1)
    assert (replaced is not None) == varies


def test_vectors_from_outside_add_a_model_with_a_baseline(
    connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = np.arange(500.0)
    assert baseline.pin_vectors(connection, "m", vectors[:500], times, "lake") == 1
    loaded = baseline.load(connection, "m", 1)
    assert (loaded.last_seq, loaded.source) == (0, "lake")
    assert loaded.detector.n_reference == 500
    with pytest.raises(DimensionMismatch):
        baseline.pin_vectors(connection, "m", vectors[:500, :5], times, "lake")


BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN = datetime(2026, 10, 25, tzinfo=BERLIN).timestamp()
"""Begin of the day with 25 hours."""


def test_a_baseline_keeps_the_time_zone_that_it_was_pinned_with(
    pool: Pool, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = AUTUMN + 691 * np.arange(1_000.0)
    assert baseline.pin_vectors(connection, "m", vectors[:1_000], times, "lake", BERLIN) == 1
    expected = Detector.fit(vectors[:1_000], timestamps=to_local(times, BERLIN)).to_bytes()
    loaded = baseline.load(connection, "m", 1)
    assert loaded.zone == BERLIN
    assert loaded.detector.to_bytes() == expected
    # Fitted again from what is stored, it still is in that zone.
    outdated(connection)
    baseline.fit_again(pool.borrow, "m", 1)
    assert baseline.load(connection, "m", 1).detector.to_bytes() == expected
    assert baseline.pin_vectors(connection, "m", vectors[:1_000], times, "lake") == 2
    assert baseline.load(connection, "m", 2).zone == UTC
    assert baseline.load(connection, "m", 1).zone == BERLIN


def test_a_baseline_of_a_time_zone_that_is_not_known_here_is_an_error(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=500))
    connection.execute("update baseline set time_zone = 'Mars/Olympus'")
    with pytest.raises(ValueError, match="'Mars/Olympus' is not a known time zone"):
        baseline.load(connection, "m", 1)


def test_a_baseline_that_cannot_be_read_is_an_error(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=500))
    with pytest.raises(NotFound):
        baseline.load(connection, "m", 2)
    connection.execute("update baseline set quality = '{\"other\": 1}'")
    with pytest.raises(ValueError, match="quality of other fields: other"):
        baseline.load(connection, "m", 1)


def outdated(connection: psycopg.Connection, version: int = 1) -> bytes:
    """Write the version before this one into the stored detector; return the current bytes."""
    [(current,)] = connection.execute(
        "select detector from baseline where version = %s", [version]
    ).fetchall()
    earlier = bytes(current).replace(b"\n10\n", b"\n9\n", 1)
    connection.execute("update baseline set detector = %s where version = %s", [earlier, version])
    return bytes(current)


def test_a_detector_of_an_earlier_version_is_fitted_again_and_stored(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=500))
    current = outdated(connection)
    with pytest.raises(Outdated):
        baseline.load(connection, "m", 1)
    baseline.fit_again(pool.borrow, "m", 1)
    assert baseline.load(connection, "m", 1).detector.to_bytes() == current


def test_an_automatic_baseline_that_is_fitted_again_knows_the_means_of_more_vectors(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    for part in np.array_split(vectors[:2_000], 8):
        send(part)
    baseline.pin_first(pool.borrow, "m", 500)
    rows = select(connection, "m", Selection(last=2_000))
    found = baseline.fit("m", rows[::4], "a day", UTC, [rows[:1_000], rows[1_000:]])
    baseline.pin_next(pool.borrow, "m", found, 1)
    outdated(connection, 2)
    baseline.fit_again(pool.borrow, "m", 2)
    again = baseline.load(connection, "m", 2).detector
    assert found.detector._linear_season.uncertainty(None) == 1 / 2_000
    # All but those that arrived in the last moment of the span.
    assert again._linear_season.uncertainty(None) == pytest.approx(1 / 1_812)
    assert again.n_reference == 500


def test_a_sample_that_a_person_pinned_is_fitted_again_by_itself(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    for part in np.array_split(vectors[:2_000], 8):
        send(part)
    baseline.pin(connection, "m", Selection(most=500))
    current = outdated(connection)
    baseline.fit_again(pool.borrow, "m", 1)
    assert baseline.load(connection, "m", 1).detector.to_bytes() == current


def test_a_sample_of_what_arrived_in_a_span_knows_the_means_of_more_vectors(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    for part in np.array_split(vectors[:2_000], 8):
        send(part)
    times = select(connection, "m", Selection(last=2_000))["received_at"]
    first, after = (datetime.fromtimestamp(at, UTC) for at in (times[0], times[-1] + 1))
    baseline.pin(connection, "m", Selection(arrived=(first, after), most=500))
    pinned = baseline.load(connection, "m", 1).detector
    assert pinned.n_reference < 500
    assert pinned._linear_season.uncertainty(None) < 1 / 1_000


def stored(vectors: Vectors, times: Floats) -> NDArray[np.void]:
    rows = np.empty(len(vectors), copy.row_type(vectors.shape[1]))
    rows["seq"], rows["received_at"], rows["embedding"] = np.arange(len(vectors)), times, vectors
    return rows


def test_more_vectors_count_once_and_by_local_time(vectors: Vectors) -> None:
    rows = stored(vectors[:2_000], AUTUMN + 345.5 * np.arange(2_000.0))
    found = baseline.fit("m", rows[::2], "a week", BERLIN, [rows[:900], rows[900:]])
    local = to_local(rows["received_at"], BERLIN)
    batches = [
        (rows["embedding"][start:stop:2], local[start:stop:2])
        for start, stop in ((1, 900), (901, 2_000))
    ]
    expected = Detector.fit(
        vectors[:2_000:2], timestamps=local[::2], positions=rows["seq"][::2], more=batches
    )
    assert expected.seasons == ("daily", "weekly")
    assert found.detector.to_bytes() == expected.to_bytes()


def test_more_vectors_that_are_absurdly_long_are_left_out(vectors: Vectors) -> None:
    rows, absurd = (stored(vectors[:1_000], np.arange(1_000.0)) for _ in range(2))
    absurd["embedding"][[601, 707]] *= np.float32(1e4)
    found = baseline.fit("m", rows[:500], "first", UTC, [absurd[500:], absurd[:0]])
    sound = baseline.fit("m", rows[:500], "first", UTC, [np.delete(rows[500:], [101, 207])])
    assert found.detector.to_bytes() == sound.detector.to_bytes()
    assert len(found.rows) == 500
    # They are no part of the baseline either, so a batch may hold nothing else that is new.
    everything = baseline.fit("m", absurd, "all", UTC, [absurd[:500], absurd[500:]])
    assert (
        everything.detector.to_bytes() == baseline.fit("m", absurd, "all", UTC).detector.to_bytes()
    )


def test_who_only_reads_fits_it_again_in_memory(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=500))
    current = outdated(connection)
    connection.execute("set default_transaction_read_only = on")
    assert baseline.load_or_fit(connection, "m", 1).detector.to_bytes() == current
    assert connection.execute("select detector from baseline").fetchone() != (current,)


def test_a_baseline_that_is_dropped_meanwhile_is_not_found(
    pool: Pool, connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=500))
    outdated(connection)
    connection.execute("delete from baseline_embedding")
    with pytest.raises(NotFound):
        baseline.fit_again(pool.borrow, "m", 1)


def test_a_detector_of_a_later_version_is_an_error(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=500))
    [(current,)] = connection.execute("select detector from baseline").fetchall()
    later = bytes(current).replace(b"\n10\n", b"\n11\n", 1)
    connection.execute("update baseline set detector = %s", [later])
    with pytest.raises(ValueError, match="detector of version b'11', this program reads 10"):
        baseline.load(connection, "m", 1)
