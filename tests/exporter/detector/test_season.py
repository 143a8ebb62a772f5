"""Season: what to expect at an hour of the day and a day of the week."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector

Vectors = NDArray[np.float32]

DAY = 86_400.0


def by_day(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Follow the time of day, between 0.2 and 0.8."""
    return 0.5 + 0.3 * np.sin(2 * np.pi * times / DAY)


def by_weekend(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step from 0.7 down to 0.3 for the last two days of a week."""
    return np.where(times // DAY % 7 < 5, 0.7, 0.3)


def seasonal_stream(
    sentences: Vectors,
    times: NDArray[np.float64],
    seed: int,
    share_at: Callable[[NDArray[np.float64]], NDArray[np.float64]] = by_day,
) -> Vectors:
    """Between two kinds of sentences whose shares follow the time."""
    random = np.random.default_rng(seed)
    axis = sentences - sentences.mean(axis=0)
    kind = axis @ np.linalg.svd(axis[:1_000], full_matrices=False)[2][0] > 0
    rows = np.where(
        random.random(len(times)) < share_at(times),
        random.choice(np.flatnonzero(kind), len(times)),
        random.choice(np.flatnonzero(~kind), len(times)),
    )
    return sentences[rows] + 1e-4 * random.normal(size=(len(times), 1)).astype(np.float32)


def test_a_week_tells_what_to_expect_at_an_hour(sentences: Vectors) -> None:
    times = 1e9 + np.linspace(0, 7 * DAY, 4_000)
    reference = seasonal_stream(sentences, times, 0)
    seasonal = Detector.fit(reference, timestamps=times)
    plain = Detector.fit(np.random.default_rng(0).permutation(reference))
    assert seasonal.seasonal
    assert not plain.seasonal
    usual, unexpected = [], []
    for hour in range(0, 24, 3):
        at = 1e9 + 9 * DAY + 3_600 * hour
        window = seasonal_stream(sentences, at + np.linspace(-900, 900, 300), hour)
        usual.append(seasonal.score(window, at=at))
        unexpected.append(seasonal.score(window, at=at + DAY / 2))
        assert seasonal.components(window, at=at).keys() == plain.components(window).keys()
    assert max(usual) < 3
    assert max(unexpected) > 5


def test_a_step_that_waves_are_too_smooth_for_is_no_news(sentences: Vectors) -> None:
    times = np.linspace(0, 7 * DAY, 4_000)
    detector = Detector.fit(seasonal_stream(sentences, times, 0, by_weekend), timestamps=times)

    def score(at: float, happened_at: float) -> float:
        around = happened_at + np.linspace(-1_800, 1_800, 800)
        return detector.score(seasonal_stream(sentences, around, 1, by_weekend), at=at)

    last_hours, first_hours = 11.9 * DAY, 14.1 * DAY
    assert score(last_hours, last_hours) < 3
    assert score(first_hours, first_hours) < 3
    assert score(10 * DAY, 13 * DAY) > 5


def test_the_season_survives_storage(sentences: Vectors) -> None:
    times = np.linspace(0, 8 * DAY, 600)
    detector = Detector.fit(seasonal_stream(sentences, times, 0), timestamps=times)
    twin = Detector.from_bytes(detector.to_bytes())
    window = sentences[:50]
    assert twin.seasonal
    assert twin.score(window, at=1e9) == detector.score(window, at=1e9)


def test_less_than_a_week_tells_of_no_season(sentences: Vectors) -> None:
    reference = sentences[:600]
    short = Detector.fit(reference, timestamps=np.linspace(0, 6 * DAY, 600))
    assert not short.seasonal
    assert short.to_bytes() == Detector.fit(reference).to_bytes()
    assert short.score(sentences[600:700], at=1e9) == short.score(sentences[600:700])


@pytest.mark.parametrize("timestamps", [[1.0, 2.0], [np.nan] * 300])
def test_every_vector_needs_a_time(sentences: Vectors, timestamps: list[float]) -> None:
    with pytest.raises(ValueError, match="timestamps must be 300 finite numbers"):
        Detector.fit(sentences[:300], timestamps=timestamps)
