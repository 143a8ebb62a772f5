"""Time and memory of the detector, by dimension."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.table import median_seconds, show
from exporter.detector.detector import Detector


def cost(quick: bool) -> None:
    """Measure and print."""
    rows = []
    for dimension in (64, 384, 768) if quick else (64, 384, 768, 1_536, 3_072):
        random = np.random.default_rng(0)
        vectors = random.normal(size=(6_000, dimension)).astype(np.float32)
        detector = Detector.fit(vectors[:5_000])
        fit = median_seconds(partial(Detector.fit, vectors[:5_000]), 1 if quick else 3)
        sums = detector.sums()
        add = median_seconds(partial(sums.add, vectors[5_000:]), 9)
        full = detector.sums(vectors[5_000:])
        score = median_seconds(partial(detector.score, full), 99)
        marginals = median_seconds(partial(detector.marginals, full), 20)
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
