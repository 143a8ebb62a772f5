"""What an explanation and its map cost: 1,000 vectors of 768 dimensions, with and without texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bench.explanation.sets import Set, Vectors
from exporter.detector import Detector
from exporter.explain.explanation import explain
from exporter.explain.map import draw
from exporter.explain.observations import Observations

_DIMENSION = 768
_BASELINE = 5_000
_WINDOW = 1_000
_NEW = 0.15
"""Share of the window that is of two new topics."""
_NOISE = 0.1
"""Length of what is added to each vector: the data have fewer dimensions, and too few vectors."""
_RUNS = 5

Result = TypeVar("Result")


def cost(data: Set) -> list[tuple[str, float]]:
    """Return what was measured, and the median of the CPU time in milliseconds."""
    random = np.random.default_rng(0)
    new = np.isin(data.topic, random.choice(data.coherent, 2, replace=False))
    several = round(_NEW * _WINDOW)
    rows = np.concatenate(
        [
            random.choice(np.flatnonzero(~new), _BASELINE + _WINDOW - several),
            random.choice(np.flatnonzero(new), several),
        ]
    )
    vectors = _wide(data.vectors[rows], random)
    metadata: list[dict[str, object]] = [
        {
            "tenant": f"t{row % 20}",
            "request": f"r{at}",
            **({} if data.texts is None else {"text": str(data.texts[row])}),
        }
        for at, row in enumerate(rows.tolist())
    ]
    order = _BASELINE + random.permutation(_WINDOW)
    reference, window = vectors[:_BASELINE], vectors[order]
    detector = Detector.fit(reference)
    bare = Observations(reference), Observations(window)
    told = (
        Observations(reference, metadata[:_BASELINE]),
        Observations(window, [metadata[at] for at in order.tolist()]),
    )
    without, _ = _timed(lambda: explain(detector, *bare), _RUNS)
    with_texts, found = _timed(lambda: explain(detector, *told), _RUNS)
    first, drawn = _timed(lambda: draw(detector, *told, found), 1)
    later, _ = _timed(lambda: draw(detector, *told, found, drawn.baseline), _RUNS)
    return [
        ("explanation without texts", without),
        ("explanation with texts and metadata", with_texts),
        ("first map of a baseline", first),
        ("each later map", later),
    ]


def _wide(vectors: Vectors, random: np.random.Generator) -> Vectors:
    """Turn vectors into more dimensions, and make those of equal rows differ."""
    d = vectors.shape[1]
    turn = np.linalg.qr(random.normal(size=(_DIMENSION, d)))[0].T
    noise = random.normal(size=(len(vectors), _DIMENSION)) * _NOISE / _DIMENSION**0.5
    wide: Vectors = (vectors @ turn + noise).astype(np.float32)
    unit: Vectors = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _timed(run: Callable[[], Result], runs: int) -> tuple[float, Result]:
    took = []
    for _ in range(runs):
        start = time.process_time()
        result = run()
        took.append(1e3 * (time.process_time() - start))
    return round(float(np.median(took))), result
