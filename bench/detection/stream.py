"""A stream that is scored every minute: false alarms per month, and minutes until a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from bench.detection.data import Dataset, Source, Trial, Vectors
from bench.table import show
from exporter.detector.detector import Detector

PER_MINUTE, WINDOW = 17, 60
PAGE, WARN, WARN_MINUTES = 4.5, 2.7, 15


def quiet(dataset: Dataset, months: int, days: int) -> None:
    """Print false alarms of streams without drift."""
    rows = []
    for seed in range(months):
        source = Source(dataset.vectors, 100 + seed)
        detector = Detector.fit(source.draw(5_000))
        sums, minutes, scores = detector.sums(), [], []
        for _ in range(WINDOW + days * 24 * 60):
            minutes.append(source.draw(PER_MINUTE))
            sums.add(minutes[-1])
            if len(minutes) > WINDOW:
                sums.remove(minutes.pop(0))
                scores.append(detector.score(sums))
        counts = [str(_episodes(scores, threshold)) for threshold in (3, 4, PAGE)]
        rows.append((f"stream {seed + 1}", *counts, f"{max(scores):.2f}"))
    show(
        f"False alarms in {days} days without drift: {PER_MINUTE} vectors a minute, "
        f"{WINDOW}-minute window, a score a minute",
        ("", "> 3", "> 4", f"> {PAGE}", "largest score"),
        rows,
    )


def _episodes(scores: Iterable[float], threshold: float) -> int:
    """Count crossings of the threshold that are at least an hour apart."""
    minutes = np.flatnonzero(np.array(list(scores)) > threshold)
    return int(len(minutes) > 0) + int((np.diff(minutes) > WINDOW).sum())


def delay(dataset: Dataset, trials: int, repeats: int = 6) -> None:
    """Print the minutes until a page."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))[0].astype("f4")
    kinds: dict[str, Callable[[Source, Source, Vectors], Vectors]] = {
        "new topic 25%": lambda known, new, mean: _mixed(known, new, 0.25),
        "new topic 10%": lambda known, new, mean: _mixed(known, new, 0.1),
        "rotation": lambda known, new, mean: known.draw(PER_MINUTE) @ turn,
        "scale x1.05": lambda known, new, mean: known.draw(PER_MINUTE) * np.float32(1.05),
        "collapse 5% to the mean": lambda known, new, mean: (
            0.95 * known.draw(PER_MINUTE) + np.float32(0.05) * mean
        ),
    }
    delays: dict[str, list[float]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 3_000 + seed)
        known = Source(np.concatenate([trial.reference, trial.pool]), seed)
        new = Source(trial.new, seed)
        reference = known.draw(5_000)
        detector = Detector.fit(reference)
        for name, kind in kinds.items():
            for _ in range(repeats):
                before = [known.draw(PER_MINUTE) for _ in range(WINDOW)]
                after = (kind(known, new, reference.mean(axis=0)) for _ in range(3 * WINDOW))
                delays[name].append(delay_until_page(detector, before, after))
    show(
        f"Minutes from the onset of drift to a page (score > {PAGE}, or > {WARN} for "
        f"{WARN_MINUTES} minutes): {trials * repeats} onsets each",
        ("", "median", "90 %"),
        [
            (name, *(f"{np.quantile(each, q):.0f}" for q in (0.5, 0.9)))
            for name, each in delays.items()
        ],
    )


def _mixed(known: Source, new: Source, share: float) -> Vectors:
    count = known.random.binomial(PER_MINUTE, share)
    return np.concatenate([known.draw(PER_MINUTE - count), new.draw(count)])


def delay_until_page(
    detector: Detector,
    before: list[Vectors],
    after: Iterable[Vectors],
    onset: float | None = None,
) -> float:
    """Count the minutes of drift until a page; infinite without one.

    ``onset`` is the time of the first of these minutes, for a detector that knows seasons.
    """
    sums = detector.sums(np.concatenate(before))
    minutes, high = list(before), 0
    for minute, batch in enumerate(after, start=1):
        sums.add(batch)
        sums.remove(minutes.pop(0))
        minutes.append(batch)
        at = None if onset is None else onset + 60 * minute - 1_800
        score = detector.score(sums, at)
        high = high + 1 if score > WARN else 0
        if score > PAGE or high >= WARN_MINUTES:
            return minute
    return float("inf")
