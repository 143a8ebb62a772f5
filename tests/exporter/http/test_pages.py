"""Pages for people: every model at a glance, and a runbook that alerts can link to."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from exporter.detector import Detector
from exporter.http import pages
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.changes import ModelRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def landing(*names: str) -> str:
    models = [Model(ModelRow(n, 8, 0, None, None, None, NOW), MonitoringSettings()) for n in names]
    return pages.landing([model.snapshot(NOW.timestamp()) for model in models])


def test_a_store_without_vectors_says_how_to_send_some() -> None:
    assert "No vectors yet: POST them to /embeddings." in landing()


def test_each_window_of_a_model_is_a_row_that_links_to_its_report() -> None:
    page = landing("a/b")
    assert page.count('<a href="/drift/a%2Fb">a/b</a>') == 2
    assert page.count("<td>no_baseline</td>") == 2


def test_a_name_is_never_markup() -> None:
    assert "<script>" not in landing("<script>")


def test_a_baseline_of_equal_vectors_is_explained() -> None:
    model = Model(ModelRow("m", 8, 500, NOW, None, 1, NOW), MonitoringSettings())
    equal = np.ones((500, 8), np.float32)
    detector = Detector.fit(equal)
    model.adopt(
        Baseline(1, NOW, 500, NOW, NOW, True, "first 500", assess(equal), detector),
        ModelWindows(8, MonitoringSettings(), detector),
    )
    page = pages.landing([model.snapshot(NOW.timestamp())])
    assert page.count("<td>baseline_constant</td>") == 2
    assert '<a href="/runbook#embeddingdriftbaselineconstant">What to do</a>' in page
    assert '<h2 id="embeddingdriftbaselineconstant">' in pages.runbook()


def test_the_distances_of_canaries_are_shown_where_there_are_any() -> None:
    canaries = {"canary_median_distance": 2.4e-8, "canary_max_distance": 0.5}
    row = ModelRow("<m>", 8, 0, None, None, None, NOW, canaries_received_at=NOW, **canaries)
    page = pages.landing([Model(row, MonitoringSettings()).snapshot(NOW.timestamp())])
    assert "The canaries of &lt;m&gt;" in page
    assert "came last at 2026-01-01 00:00 UTC" in page
    assert "is 2e-08 in the median and 5e-01 at most" in page
    assert "canaries" not in landing("m")


def test_headings_of_the_runbook_have_ids() -> None:
    assert '<h2 id="embeddingdriftdetected">EmbeddingDriftDetected</h2>' in pages.runbook()
