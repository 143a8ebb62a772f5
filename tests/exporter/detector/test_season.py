"""Season: a harmonic regression on the time of day and of the week."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.season import Season, Swing
from exporter.detector.waves import known_seasons
from exporter.stats.arrays import Floats, Vectors
from tests.exporter.detector.terms import (
    DAY,
    TABLE,
    TERMS,
    TIMES,
    design,
    totals_of,
    weekday,
)


def fit(
    times: Floats | None, seasons: tuple[str, ...], table: NDArray[np.float32] = TABLE
) -> Season:
    return Season.fit(totals_of(table, times), seasons, np.random.default_rng(0))


def test_a_strong_season_is_a_ridge_regression() -> None:
    table = (20 * design(TIMES) @ np.random.default_rng(1).normal(size=(TERMS, 40))).astype("f4")
    season = fit(TIMES, ("daily", "weekly"), table)
    # A ridge is one more observation of 0 for each centred wave.
    waves = design(TIMES) - np.r_[0, design(TIMES)[:, 1:].mean(axis=0)]
    rows = np.vstack([waves, np.sqrt(0.01 * len(waves)) * np.eye(TERMS)[1:]])
    ridge, *_ = np.linalg.lstsq(rows, np.vstack([table, np.zeros((TERMS - 1, 40))]), rcond=None)
    np.testing.assert_allclose(season.coefficients[1:], ridge[1:], rtol=0.05, atol=0.1)
    expected = np.linalg.inv(rows.T @ rows)
    np.testing.assert_allclose(season.covariance[1:, 1:], expected[1:, 1:], rtol=0.1, atol=2e-4)
    assert season.is_known


def test_the_expectation_is_exact_at_the_mean_of_the_waves() -> None:
    season = fit(TIMES, ("daily", "weekly"))
    usual = design(TIMES).mean(axis=0)
    np.testing.assert_allclose(season.expected(usual), TABLE.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert season.uncertainty(usual) == pytest.approx(1 / 500, rel=1e-3)
    # Four features leave four combinations of waves without any size, but for rounding.
    assert np.abs(season.covariance).max() < 1


def test_a_constant_changes_the_constant_only() -> None:
    random = np.random.default_rng(0)
    # Times are in order, but their hours hold different numbers of vectors.
    times = np.sort(1e9 + 8 * DAY * random.beta(2, 2, 500))
    alone = fit(times, ("daily", "weekly"), noise(0))
    moved = fit(times, ("daily", "weekly"), noise(0) + np.float32(30))
    np.testing.assert_allclose(moved.coefficients[1:], alone.coefficients[1:], atol=1e-3)
    np.testing.assert_allclose(moved.coefficients[0], alone.coefficients[0] + 30, atol=1e-3)
    np.testing.assert_allclose(moved.covariance, alone.covariance, atol=1e-5)


def noise(seed: int, features: int = 200) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(500, features)).astype(np.float32)


def test_a_season_that_chance_explains_is_none() -> None:
    for seed in range(5):
        table = noise(seed)
        season = fit(TIMES, ("daily", "weekly"), table)
        assert season.seasons == ("daily", "weekly")
        for hour in range(0, 24 * 7, 11):
            terms = design(np.array([1e9 + 3_600.0 * hour]))[0]
            # Nine terms would add about nine times this variance.
            assert season.uncertainty(terms) < 5 / 500
            moved = season.expected(terms) - table.mean(axis=0)
            assert np.square(moved).mean() < 1 / 500


def test_each_combination_of_waves_shrinks_by_itself() -> None:
    loud = np.sin(2 * np.pi * TIMES / DAY)[:, None] * np.random.default_rng(7).normal(size=200)
    season = fit(TIMES, ("daily", "weekly"), (noise(3) + 0.5 * loud).astype(np.float32))
    sizes = np.square(season.coefficients[1:]).mean(axis=1)
    assert sizes[4] == pytest.approx(0.5**2, rel=0.3)
    assert np.delete(sizes, 4).max() < 0.1 * sizes[4]
    # What is kept is as uncertain as a regression on that wave alone.
    sine = design(np.array([1e9 // DAY * DAY + DAY / 4]))[0]
    assert season.uncertainty(sine) == pytest.approx(3 / 500, rel=0.4)


def test_sessions_are_no_season() -> None:
    """Chance makes more of sessions than of independent vectors."""
    sessions = np.repeat(noise(4), 20, axis=0)
    times = 1e9 + DAY * np.linspace(0, 8, len(sessions))
    season = fit(times, ("daily", "weekly"), sessions)
    for hour in range(0, 24 * 7, 11):
        terms = design(np.array([1e9 + 3_600.0 * hour]))[0]
        assert season.uncertainty(terms) < 5 / len(sessions)


def test_a_month_of_days_shows_the_season_of_the_day() -> None:
    # Blocks of a day each would keep it when they change places.
    times = 1e9 + np.linspace(0, 32 * DAY, 500)
    table = noise(1) + 2 * np.sin(2 * np.pi * times / DAY).astype(np.float32)[:, None]
    season = fit(times, ("daily", "weekly"), table)
    assert season.coefficients[5].mean() == pytest.approx(2, rel=0.05)


def test_a_season_expects_what_its_terms_say() -> None:
    season = fit(TIMES, ("daily", "weekly"))
    terms = design(np.array([1e9 + 3_600.0]))[0]
    np.testing.assert_allclose(season.expected(terms), terms @ season.coefficients)
    np.testing.assert_allclose(season.uncertainty(terms), terms @ season.covariance @ terms)
    np.testing.assert_array_equal(season.expected(None), season.coefficients[0])
    assert season.uncertainty(None) == season.covariance[0, 0]
    season.expected(None)[:] = 0
    assert season.coefficients[0].any()


def test_without_times_the_mean_is_expected_at_all_times() -> None:
    season = fit(None, ())
    assert not season.is_known
    for terms in (None, design(np.array([1e9]))[0]):
        np.testing.assert_allclose(season.expected(terms), TABLE.mean(axis=0), rtol=1e-5)
        assert season.uncertainty(terms) == pytest.approx(1 / 500)
    np.testing.assert_array_equal(season.residual(TABLE, None), TABLE)


def test_a_residual_keeps_the_mean_and_loses_the_season() -> None:
    season = fit(TIMES, ("daily", "weekly"))
    residual = season.residual(TABLE, TIMES)
    assert residual.dtype == np.float32
    expected = TABLE - design(TIMES)[:, 1:] @ season.coefficients[1:]
    np.testing.assert_allclose(residual, expected, atol=1e-4)
    # What is left is the noise, of variance 1, around the constant.
    np.testing.assert_allclose(residual.var(axis=0), 1, atol=0.2)


# Swing


def swinging(amplitude: float) -> Season:
    """A season that moves the first of four features by a daily sine, known exactly."""
    coefficients = np.zeros((TERMS, 4))
    coefficients[5, 0] = amplitude
    return Season(coefficients, np.zeros((TERMS, TERMS)), np.ones(TERMS, bool))


def test_a_third_of_the_seasons_root_mean_square_is_tolerated() -> None:
    swing = Swing.fit(swinging(0.6))
    tolerated = 0.6 / 2**0.5 / 3
    shift = np.array([1.0, 2.0, 0.0, -1.0])
    np.testing.assert_allclose(swing.beyond(shift), [1 - tolerated, 2.0, 0.0, -1.0])
    np.testing.assert_allclose(swing.beyond(-shift), [tolerated - 1, -2.0, 0.0, 1.0])
    small = np.array([0.9 * tolerated, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(swing.beyond(small), [0, 1.0, 0.0, 0.0], atol=1e-12)


def test_noise_of_the_estimate_is_not_the_seasons_swing() -> None:
    season = swinging(0.6)
    covariance = np.diag([9.0] + [0.01] * (TERMS - 1))
    swing = Swing.fit(Season(season.coefficients, covariance, np.ones(TERMS, bool)))
    np.testing.assert_allclose(swing.tolerance[0], ((0.6**2 - 4 * 0.01) / 2) ** 0.5 / 3)
    np.testing.assert_array_equal(swing.tolerance[1:], 0)


def test_without_a_season_nothing_is_tolerated() -> None:
    swing = Swing.fit(fit(None, ()))
    shift = np.array([0.1, 0.2, -0.3, 0.0])
    np.testing.assert_array_equal(swing.beyond(shift), shift)


# Times


@pytest.mark.parametrize(
    ("days", "seasons"),
    [
        (0.96, ()),
        (0.98, ("daily",)),
        (6.7, ("daily",)),
        (6.9, ("daily", "weekly")),
        (40, ("daily", "weekly")),
    ],
)
def test_a_season_needs_its_length_less_an_arrival(days: float, seasons: tuple[str, ...]) -> None:
    times = 1e9 + np.linspace(0, days, 20_000) * DAY
    assert known_seasons(times) == seasons
    assert fit(times[::400], seasons, TABLE[:50]).seasons == seasons


@pytest.mark.parametrize(
    ("batches", "hours", "seasons"),
    [
        pytest.param(24, 1, ("daily",), id="every hour of a day"),
        pytest.param(23, 1, (), id="an hour less"),
        pytest.param(6, 4, ("daily",), id="every four hours of a day"),
        pytest.param(4, 6, (), id="too few to know the day"),
        pytest.param(28, 6, ("weekly",), id="of a week, too"),
        pytest.param(7, 24, ("weekly",), id="every night of a week"),
        pytest.param(6, 24, (), id="a night less"),
        pytest.param(4, 48, (), id="too few to know the week"),
    ],
)
def test_a_season_of_a_job_has_the_pause_after_its_last_batch(
    batches: int, hours: float, seasons: tuple[str, ...]
) -> None:
    starts = 1e9 + 3_600 * hours * np.arange(batches)
    times = (starts[:, None] + np.linspace(0, 120, 40)).ravel()
    assert known_seasons(times) == seasons
    assert known_seasons(np.random.default_rng(1).permutation(times)) == seasons


@pytest.mark.parametrize(
    ("hours", "seasons"),
    [
        pytest.param([(0, 12), (16, 22)], (), id="a short one"),
        pytest.param([(0, 0.5), (12, 19)], (), id="after a test"),
        pytest.param([(0, 2), (16, 19)], (), id="between two short parts"),
        pytest.param([(0, 24), (96, 132)], ("daily",), id="of days"),
    ],
)
def test_a_single_pause_of_a_steady_stream_adds_nothing_to_its_span(
    hours: list[tuple[float, float]], seasons: tuple[str, ...]
) -> None:
    times = np.concatenate([np.arange(*each, 0.01) for each in hours])
    assert known_seasons(1e9 + 3_600 * times) == seasons


@pytest.mark.parametrize("hours", [(2.0, 7.5), (9.0, 17.0)], ids=["night", "office"])
def test_at_hours_that_the_baseline_has_not_seen_large_drift_is_found(
    hours: tuple[float, float],
) -> None:
    vectors = np.random.default_rng(0).normal(size=(4_300, 8)).astype(np.float32)
    each = 24 * np.arange(7)[:, None] + np.linspace(*hours, 600)
    times = 1_767_571_200 + 3_600 * each.ravel()
    detector = Detector.fit(vectors[:4_200], timestamps=times)
    assert detector.seasons == ("daily", "weekly")
    usual, changed = vectors[4_200:], vectors[4_200:] + np.float32(0.7)
    for later in range(0, 24, 3):
        at = times[-1] + 3_600 * later
        assert detector.score(usual, at=at) < 3
        assert detector.score(changed, at=at) > 5


@pytest.mark.parametrize("others", [0, 4])
def test_a_job_that_runs_hours_later_than_in_its_baseline_is_still_compared(
    vectors: Vectors, others: int
) -> None:
    nights = 1_767_571_200 + DAY * np.arange(7)[:, None] + np.linspace(0, 1_800, 100)
    times = nights.ravel()
    times[300 : 300 + others] += 3_600 * np.linspace(9, 18, others)
    detector = Detector.fit(vectors[:700], timestamps=times)
    assert detector.seasons == ("weekly",)
    usual, changed = vectors[700:800], vectors[700:800] + np.float32(0.7) * vectors.std(axis=0)
    for hours in (0, 1, 6, 12):
        at = nights[0, 0] + 7 * DAY + 3_600 * hours
        assert detector.score(usual, at=at) < 3
        assert detector.score(changed, at=at) > 9


def test_office_hours_of_a_week_show_the_day_and_the_week() -> None:
    monday = 1_767_571_200
    hours = [24 * day + np.arange(9, 17, 0.01) for day in (0, 1, 2, 3, 4, 7)]
    times = monday + 3_600 * np.concatenate(hours)
    assert known_seasons(times) == ("daily", "weekly")


@pytest.mark.parametrize("times", [[], [1e9], [1e9, 1e9]])
def test_one_moment_has_no_season(times: list[float]) -> None:
    assert known_seasons(np.array(times)) == ()


def test_a_day_shows_the_season_of_the_day_alone() -> None:
    season = fit(TIMES, ("daily",))
    assert season.coefficients[[1, 2, 5, 6]].all()
    assert not season.coefficients[[3, 4, 7, 8, 9]].any()
    assert not season.covariance[[3, 4, 7, 8, 9]].any()
    assert season.seasons == ("daily",)


@pytest.mark.parametrize("timestamps", [[1.0, 2.0], [np.nan] * 300, [[1.0]] * 300])
def test_every_vector_needs_a_time(vectors: Vectors, timestamps: list[float]) -> None:
    with pytest.raises(ValueError, match="timestamps must be 300 finite numbers"):
        Detector.fit(vectors[:300], timestamps=timestamps)


# Through the detector


def test_a_seasonal_detector_survives_storage(vectors: Vectors) -> None:
    detector = Detector.fit(vectors[:600], timestamps=np.linspace(0, 8 * DAY, 600))
    twin = Detector.from_bytes(detector.to_bytes())
    window = vectors[600:650]
    assert twin.seasons == ("daily", "weekly")
    assert twin.score(window, at=1e9) == detector.score(window, at=1e9)


def test_less_than_a_day_shows_no_season(vectors: Vectors) -> None:
    reference, window = vectors[:600], vectors[600:700]
    short = Detector.fit(reference, timestamps=np.linspace(0, 0.9 * DAY, 600))
    assert short.seasons == ()
    assert short.to_bytes() == Detector.fit(reference).to_bytes()
    assert short.score(window, at=1e9) == short.score(window)


def daily(vectors: Vectors, times: Floats) -> Vectors:
    """Move vectors along their first dimension with the time of day."""
    moved = vectors.copy()
    moved[:, 0] += 3 * np.sin(2 * np.pi * times / DAY).astype(np.float32)
    return moved


@pytest.mark.parametrize("days", [1, 8])
def test_a_window_is_compared_with_what_is_usual_at_its_time(vectors: Vectors, days: int) -> None:
    times = 1e9 + np.linspace(0, days * DAY, 1_500)
    detector = Detector.fit(daily(vectors[:1_500], times), timestamps=times)
    for hour in range(0, 24, 3):
        around = 1e9 + 9 * DAY + 3_600 * hour + np.linspace(-900, 900, 150)
        window = daily(vectors[1_500 + 20 * hour :][:150], around)
        sums = detector.sums()
        sums.add(window, around)
        assert detector.score(sums) < 3
        assert detector.score(window, at=around.mean()) < 3
    noon = 1e9 + DAY / 4 - 1e9 % DAY + 9 * DAY
    window = daily(vectors[1_500:1_650], np.full(150, noon))
    assert detector.score(window, at=noon) < 3
    # To a baseline of a day, another day may differ as much as its hours do.
    assert detector.score(window, at=noon + DAY / 2) > (4 if days == 1 else 5)
    assert detector.score(window) > detector.score(window, at=noon)


def test_a_baseline_of_a_week_follows_the_step_into_a_weekend(vectors: Vectors) -> None:
    one = np.float32(2) * vectors.std(axis=0)[3]

    def weekly(rows: Vectors, times: Floats) -> Vectors:
        moved = rows.copy()
        moved[:, 3] += one * (np.array(weekday(times)) >= 5)
        return moved

    times = 1e9 + np.linspace(0, 8 * DAY, 1_500)
    detector = Detector.fit(weekly(vectors[:1_500], times), timestamps=times)
    for day in range(7):
        for hour in (1, 23):
            at = 1e9 // DAY * DAY + (14 + day) * DAY + 3_600.0 * hour
            rows = vectors[1_500 + 20 * (2 * day + hour % 2) :][:500]
            window = weekly(rows, np.full(len(rows), at))
            assert detector.score(window, at=at) < 3
    # A weekend on a weekday is drift.
    wednesday = 1e9 // DAY * DAY + 17.5 * DAY
    assert (
        detector.score(
            weekly(vectors[1_500:2_000], np.full(500, wednesday - 4 * DAY)), at=wednesday
        )
        > 5
    )


def test_a_baseline_of_a_day_tolerates_another_day_as_far_as_its_hours_differ(
    vectors: Vectors,
) -> None:
    one = np.diag(vectors.std(axis=0))
    # Chosen so that it is found without tolerance, and not far beyond it.
    window = vectors[1_500:2_000] + np.float32(0.6) * one[3]

    def score(days: float, amplitude: float) -> float:
        times = 1e9 + np.linspace(0, days * DAY, 1_500)
        swing = amplitude * np.sin(2 * np.pi * times / DAY).astype(np.float32)
        reference = vectors[:1_500] + swing[:, None] * one[5]
        return Detector.fit(reference, timestamps=times).score(window, at=1e9 + 30 * DAY)

    assert score(1, 0) > 5
    assert score(8, 1) > 5
    assert score(1, 1) < 3
