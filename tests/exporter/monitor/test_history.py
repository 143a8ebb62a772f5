"""A row of history holds the numbers of a verdict, and none where there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio
from exporter.monitor.history import history_row
from exporter.monitor.series import Series
from exporter.monitor.verdict import Verdict, measure
from ingest.store.history import HistoryRow


def test_a_measured_window_is_recorded_with_its_numbers(
    vectors: NDArray[np.float32], detector: Detector
) -> None:
    measured = measure(detector, detector.sums(vectors[1_000:1_100]))
    verdict = Verdict("ok", 100, 1e9, 1.0, measured, 3)
    row = history_row(Series("m", "fast"), verdict, 2.5, ChangedRatio(0.12, 0.09, 0.15))
    assert row == HistoryRow(
        model_name="m",
        window_name="fast",
        state="ok",
        vectors=100,
        baseline_version=3,
        score=measured.score,
        changed_ratio=0.12,
        changed_ratio_lower=0.09,
        changed_ratio_upper=0.15,
        cosine_similarity=measured.cosine_similarity,
        norm=2.5,
        components=dict(measured.components),
    )
    assert history_row(Series("m", "fast"), verdict, 2.5).changed_ratio is None


def test_a_window_without_a_measurement_is_recorded_with_its_state() -> None:
    row = history_row(Series("m", "slow"), Verdict("stale", 7, 1e9, 1.0, None, 3), norm=2.5)
    assert row == HistoryRow("m", "slow", "stale", 7, 3)
