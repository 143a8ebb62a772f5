"""A stream whose topics follow day and week: alarms and delay, with and without times."""

from __future__ import annotations

import numpy as np

from bench.detection.data import Dataset, Source, Trial, Vectors
from bench.detection.stream import PER_MINUTE, WINDOW, delay_until_page
from bench.table import show
from exporter.detector.detector import Detector

DAY, WEEK = 86_400.0, 604_800.0


def season(dataset: Dataset, trials: int, days: int, repeats: int = 6) -> None:
    """Print the largest scores, the alarms and the delay."""
    rows = []
    for seed in range(trials):
        trial = Trial(dataset, 4_000 + seed)
        known = np.concatenate([trial.reference, trial.pool])
        topics = np.concatenate([trial.reference_topic, trial.pool_topic])
        half = trial.random.permutation(np.unique(topics))[::2]
        source = Source(known, seed, np.isin(topics, half))
        new = Source(trial.new, seed)
        times = np.sort(trial.random.random(5_000)) * WEEK
        reference = source.seasonal(times)
        judges = {
            "times known": Detector.fit(reference, timestamps=times),
            "times unknown": Detector.fit(reference),
        }
        scores = _season_scores(judges, source, days)
        delays = [
            _season_delay(judges["times known"], source, new, WEEK + days * DAY * k / repeats)
            for k in range(repeats)
        ]
        rows.append(
            (
                f"stream {seed + 1}",
                *(f"{max(scores[name]):.1f}" for name in judges),
                *(f"{np.mean(np.array(scores[name]) > 5):.1%}" for name in judges),
                f"{np.median(delays):.0f}",
            )
        )
    show(
        f"Topics that follow day and week, {days} days, {PER_MINUTE} vectors a minute; the "
        "reference spans a week; minutes until a new topic of 10 % is paged",
        (
            "",
            "largest score",
            "same, times unknown",
            "scores > 5",
            "same, times unknown",
            "median delay",
        ),
        rows,
    )


def _season_scores(
    judges: dict[str, Detector], source: Source, days: int
) -> dict[str, list[float]]:
    """Score the last hour every ten minutes."""
    sums = {name: judge.sums() for name, judge in judges.items()}
    scores: dict[str, list[float]] = {name: [] for name in judges}
    parts: list[Vectors] = []
    for ten in range(days * 144):
        end = WEEK + (ten + 1) * 600
        parts.append(source.seasonal(np.linspace(end - 600, end, 10 * PER_MINUTE)))
        for name, judge in judges.items():
            sums[name].add(parts[-1])
            if len(parts) > 6:
                sums[name].remove(parts[0])
            if ten > 6:
                scores[name].append(judge.score(sums[name], at=end - 1_800))
        del parts[:-6]
    return scores


def _season_delay(detector: Detector, source: Source, new: Source, onset: float) -> float:
    def minute(number: int, share: float) -> Vectors:
        start = onset + 60 * number
        vectors = source.seasonal(np.linspace(start, start + 60, PER_MINUTE))
        count = source.random.binomial(PER_MINUTE, share)
        return np.concatenate([vectors[count:], new.draw(count)])

    before = [minute(number, 0) for number in range(-WINDOW, 0)]
    after = (minute(number, 0.1) for number in range(4 * WINDOW))
    return delay_until_page(detector, before, after, onset)
