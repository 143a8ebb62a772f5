"""Power, false alarms, delay and cost of the detector, against the classical methods.

Every trial splits the data anew and holds one topic out. Power is the share of windows beyond
the threshold that 1 % of windows without drift exceed, for every method alike; "alarm" is our
own calibrated `Detector.alarm`.

What was tried and did not earn its place, on new topics and shifted odds of known ones:

- whitened T^2 of cluster shares, of random Fourier features (kernel Fisher discriminant) and of
  rectified similarities to anchors: below T^2 of the mean;
- novelty tails, the share of vectors beyond the reference's own 90 to 99.8 % quantile of residual
  energy or of the distance to the nearest cluster: next to no power up to a share of 10 %;
- the largest Poisson surprise of one cluster's share: below `direction`;
- T^2 in the leading 8 to 128 axes, or weighted by the variance between clusters along each axis:
  below the ridge, and below `topics` on odds;
- the plain distance of centroids: below `topics`; anchors that average ten neighbours: below
  plain vectors; two more exponents between centroid and T^2: no gain in the combination;
- the smallest p-value times the number of tests: below the mean of 1/p.

A kernel over all pairs of vectors that keeps only the close ones finds more topics of 5 %. It is
not a function of running sums, and a thousand anchors do not come close to it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np

from bench.detection.data import Dataset, Source, Trial, Vectors, digits, sentences
from bench.detection.rivals import rivals
from bench.detection.scenarios import DRIFT, ROUNDING
from bench.table import median_seconds, show
from exporter.score import Detector

Values = dict[tuple[int, str, str], list[float]]
OURS, ALARM = "score", "alarm"
PER_MINUTE, WINDOW = 17, 60
PAGE, WARN, WARN_MINUTES = 4.5, 2.7, 15
DAY, WEEK = 86_400.0, 604_800.0


def main(quick: bool) -> None:
    """Print all tables."""
    for dataset in (sentences(), digits()):
        power(dataset, trials=3 if quick else 12, windows=2 if quick else 6)
        false_alarms(dataset, trials=4 if quick else 25, windows=25 if quick else 40)
    unit = sentences()
    sessions(unit, trials=1 if quick else 8)
    quiet(unit, months=1 if quick else 3, days=2 if quick else 30)
    delay(unit, trials=1 if quick else 5)
    season(unit, trials=1 if quick else 3, days=2 if quick else 14)
    cost(quick)


def power(dataset: Dataset, trials: int, windows: int) -> None:
    """Print the power of every method in every scenario."""
    values: Values = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, seed)
        detector = Detector.fit(trial.reference)
        methods = {**rivals(trial.reference, seed), OURS: detector.score}
        for size in dataset.sizes:
            for _ in range(5 * windows):
                window = trial.window(size)
                for method, measure in methods.items():
                    values[size, "", method].append(measure(window))
            for name, drift in DRIFT.items():
                for _ in range(windows):
                    window = drift(trial, size)
                    for method, measure in methods.items():
                        values[size, name, method].append(measure(window))
    for size in dataset.sizes:
        names = [*methods, ALARM]
        table = [[_power(values, size, name, method) for method in names] for name in DRIFT]
        show(
            f"Power at 1 % false alarms: {dataset.name}, reference of {dataset.n_reference:,}, "
            f"windows of {size}, {trials * windows} windows each",
            ("", *names),
            [
                (name, *(f"{cell:.2f}" for cell in row))
                for name, row in zip(
                    [*DRIFT, "mean"], [*table, np.mean(table, axis=0)], strict=True
                )
            ],
        )


def _power(values: Values, size: int, name: str, method: str) -> float:
    if method == ALARM:
        return float(np.mean(np.array(values[size, name, OURS]) > 2))
    threshold = np.quantile(values[size, "", method], 0.99)
    return float(np.mean(np.array(values[size, name, method]) > threshold))


def false_alarms(dataset: Dataset, trials: int, windows: int) -> None:
    """Print how often windows without drift, or merely rounded, alarm."""
    largest = dataset.n_reference // 5
    kinds: dict[str, Callable[[Trial], Vectors]] = {
        f"no drift, {size} vectors": lambda trial, size=size: trial.window(size)
        for size in sorted({50, 100, 200, largest})
    }
    for name, rounded in ROUNDING.items():
        kinds[f"{name}, {largest} vectors"] = lambda trial, r=rounded: r(trial, largest)
    alarms: dict[str, list[bool]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 1_000 + seed)
        detector = Detector.fit(trial.reference)
        for name, window in kinds.items():
            alarms[name] += [detector.alarm(window(trial)) for _ in range(windows)]
    show(
        f"Alarms at alpha = 1 %: {dataset.name}, reference of {dataset.n_reference:,}, "
        f"{trials * windows} windows each",
        ("", "alarms"),
        [(name, f"{np.mean(each):.1%}") for name, each in alarms.items()],
    )


def sessions(dataset: Dataset, trials: int) -> None:
    """Print alarms when vectors arrive in sessions, with and without the order known."""
    alarms: dict[tuple[int, str], list[bool]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 2_000 + seed)
        known = Source(np.concatenate([trial.reference, trial.pool]), seed)
        new = Source(trial.new, seed)
        reference, stream = known.sessions(5_000), known.sessions(5_000)
        judges = {
            "reference in order": Detector.fit(reference),
            "reference shuffled": Detector.fit(trial.random.permutation(reference)),
        }
        for size in (50, 200, 1_000):
            for _ in range(25):
                at = trial.random.integers(len(stream) - size)
                window = stream[at : at + size]
                for name, judge in judges.items():
                    alarms[size, name].append(judge.alarm(window))
                for share in (0.25, 0.5):
                    drifted = np.concatenate(
                        [window[int(share * size) :], new.draw(int(share * size))]
                    )
                    alarm = judges["reference in order"].alarm(drifted)
                    alarms[size, f"new topic {share:.0%}, in order"].append(alarm)
    names = list(dict.fromkeys(name for _, name in alarms))
    show(
        f"Alarms at alpha = 1 % when vectors arrive in sessions of 20 to 50 neighbours: "
        f"{dataset.name}, reference of 5,000, {trials * 25} windows each",
        ("window", *names),
        [
            (str(size), *(f"{np.mean(alarms[size, name]):.1%}" for name in names))
            for size in (50, 200, 1_000)
        ],
    )


def _episodes(scores: Iterable[float], threshold: float) -> int:
    """Count crossings that lie an hour or more apart."""
    minutes = np.flatnonzero(np.array(list(scores)) > threshold)
    return int(len(minutes) > 0) + int((np.diff(minutes) > WINDOW).sum())


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


def delay(dataset: Dataset, trials: int, repeats: int = 6) -> None:
    """Print how many minutes pass until a page."""
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
                delays[name].append(_delay(detector, before, after))
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


def _delay(
    detector: Detector,
    before: list[Vectors],
    after: Iterable[Vectors],
    onset: float | None = None,
) -> float:
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


def season(dataset: Dataset, trials: int, days: int, repeats: int = 6) -> None:
    """Print alarms of a stream whose topics follow day and week, with and without times."""
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
    return _delay(detector, before, after, onset)


def cost(quick: bool) -> None:
    """Print what it costs."""
    rows = []
    for dimension in (64, 384, 768) if quick else (64, 384, 768, 1_536, 3_072):
        random = np.random.default_rng(0)
        vectors = random.normal(size=(6_000, dimension)).astype(np.float32)
        detector = Detector.fit(vectors[:5_000])
        fit = median_seconds(lambda v=vectors: Detector.fit(v[:5_000]), 1 if quick else 3)
        sums = detector.sums()
        add = median_seconds(lambda s=sums, v=vectors: s.add(v[5_000:]), 9)
        full = detector.sums(vectors[5_000:])
        score = median_seconds(lambda d=detector, s=full: d.score(s), 99)
        marginals = median_seconds(lambda d=detector, s=full: d.marginals(s), 20)
        rows.append(
            (
                str(dimension),
                f"{add * 1e3:.1f}",
                f"{score * 1e3:.3f}",
                f"{marginals * 1e3:.2f}",
                f"{fit:.2f}",
                f"{len(detector.to_bytes()) / 1e6:.1f}",
                f"{(full.total.nbytes + full.bins.nbytes) / vectors[5_000:].nbytes:.2f}",
            )
        )
    show(
        "Cost by dimension, reference of 5,000",
        (
            "d",
            "1,000 enter, ms",
            "score, ms",
            "marginals, ms",
            "fit, s",
            "stored, MB",
            "sums / raw of 1,000",
        ),
        rows,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
