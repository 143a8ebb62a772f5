"""Pages for people: the fleet, one model, and a runbook that alerts can link to."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio
from exporter.http import pages
from exporter.http.pages import FleetQuery, Past, View
from exporter.monitor import recorded, reporting
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model
from exporter.monitor.report import COMPONENTS, Drift
from exporter.monitor.ring import Arrivals
from exporter.monitor.slices import Slice, SliceFinding, SlicesFinding, Slicing
from exporter.monitor.snapshot import ModelSnapshot
from exporter.monitor.verdict import measure
from exporter.monitor.windows import ModelWindows
from exporter.stats.arrays import Vectors
from exporter.stats.quality import assess
from exporter.stats.shares import Share
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.baselines import Version
from ingest.store.changes import ModelRow
from ingest.store.history import HistoryRow, Point
from tests.exporter.explained import SUMMARY, explained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = NOW.timestamp()
ALL = FleetQuery()
HOSTILE = "<script>alert(1)</script>"


def snapshot(name: str) -> ModelSnapshot:
    return Model(ModelRow(name, 8, 0, None, None, None, NOW), MonitoringSettings()).snapshot(
        SECONDS
    )


def detail(name: str) -> Drift:
    return reporting.detail(snapshot(name))


def page(*names: str, query: FleetQuery = ALL, points: list[Point] | None = None) -> str:
    chosen = pages.fleet([reporting.listed(snapshot(name)) for name in names], query, {})
    return pages.render_fleet(chosen, points, SECONDS)


def past(*points: Point, rows: tuple[HistoryRow, ...] = ()) -> Past:
    pinned = Version(7, NOW - timedelta(hours=1), 1_000, NOW, NOW, True, HOSTILE, False)
    return Past(points, {}, rows, [pinned])


def test_a_store_without_vectors_says_how_to_send_some() -> None:
    assert "No vectors yet: POST them to /embeddings." in page()


def test_each_model_is_one_row_with_a_word_a_reason_and_help() -> None:
    shown = page("a/b")
    assert shown.count('<a href="/drift/a%2Fb">a/b</a>') == 1
    assert '<span class="word learning">learning</span>' in shown
    assert "there is no baseline yet" in shown
    assert 'href="/runbook#embeddingdriftbaselinemissing"' in shown


def test_a_name_is_never_markup() -> None:
    assert "<script" not in page(HOSTILE)
    model = pages.render_model(detail(HOSTILE), View(), past(), 1)
    assert "<script" not in model
    assert "&lt;script&gt;" in model


def test_a_part_of_the_name_and_a_word_choose_models() -> None:
    assert "1 found" in page("docs", "chat", query=FleetQuery("DOC"))
    assert "2 found" in page("docs", "chat", query=FleetQuery(state="learning"))
    assert "No model matches." in page("docs", query=FleetQuery(state="quiet"))


def test_many_models_are_shown_page_by_page() -> None:
    names = [f"m{n:03}" for n in range(pages.PER_PAGE + 1)]
    first, second = page(*names), page(*names, query=FleetQuery("m", None, 2))
    assert first.count("<tr>") == pages.PER_PAGE + 1
    assert '<a href="/?page=2" rel="next">' in first
    assert second.count("<tr>") == 2
    assert '<a href="/?q=m&amp;page=1" rel="prev">' in second


def test_a_page_of_the_fleet_is_small() -> None:
    names = [f"m{n:03}" for n in range(1_000)]
    points = [
        Point(name, "fast", SECONDS - n * pages.DAY_STRETCH, 5.0, None)
        for name in names[: pages.PER_PAGE]
        for n in reversed(range(96))
    ]
    assert len(page(*names, points=points)) < 200_000


def test_the_line_of_a_day_is_shown_unless_the_store_is_away() -> None:
    point = Point("m", "fast", SECONDS - 60, 2.0, None)
    assert 'class="line fast"' in page("m", points=[point])
    assert "PostgreSQL does not answer" not in page("m", points=[point])
    assert "PostgreSQL does not answer" in page("m")


def test_the_page_of_a_model_draws_lines_thresholds_and_pins() -> None:
    points = [Point("m", "fast", SECONDS - n, 20.0, 0.3) for n in (7_200, 3_600, 0)]
    shown = pages.render_model(detail("m"), View(), past(*points), 1)
    assert shown.count('<path class="line fast" d="M') == 2
    assert shown.count('class="line limit fast"') == 1
    assert "<title>baseline 7</title>" in shown
    assert 'aria-label="Score: highest 20.0"' in shown
    assert "embedding-drift baseline use m 7</code>" in shown
    assert "embedding-drift baseline pin m --last 5000" in shown
    assert len(shown) < 200_000


@pytest.mark.parametrize(("hours", "anchored"), [(1, True), (20, False)])
def test_the_label_of_a_pin_stays_inside_the_chart(hours: int, anchored: bool) -> None:
    pinned = Version(7, NOW - timedelta(hours=hours), 1_000, NOW, NOW, True, "first", False)
    shown = pages.render_model(detail("m"), View(), Past([], {}, (), [pinned]), 1)
    assert bool(re.search(r'text-anchor="end" y="8">baseline 7<', shown)) == anchored


@pytest.mark.parametrize(("lower", "told"), [(0.3, True), (0.004, False)])
def test_the_headline_does_not_say_at_least_nothing(lower: float, told: bool) -> None:
    row = HistoryRow("m", "fast", "ok", 500, 1, 30.0, 0.4, lower, 0.5)
    shown = pages.render_model(detail("m"), View("6h", SECONDS - 60), past(rows=(row,)), 1)
    assert ("vectors are unlike the baseline" in shown) == told
    assert "The score of the fast window is 30.0" in shown


def test_the_page_of_a_model_is_shown_without_the_store() -> None:
    shown = pages.render_model(detail("m"), View(), None, 1)
    assert "PostgreSQL does not answer" in shown
    assert "<svg" not in shown


def test_a_past_time_shows_the_state_that_was_recorded() -> None:
    row = HistoryRow(
        "m",
        "fast",
        "ok",
        500,
        1,
        30.0,
        0.4,
        0.3,
        0.5,
        components=dict.fromkeys(COMPONENTS, 1.0),
    )
    view = View("6h", SECONDS - 60)
    shown = pages.render_model(detail("m"), view, past(rows=(row,)), 1)
    assert "This is the state at 2025-12-31 23:59:00 UTC." in shown
    assert '<span class="word drifting">drifting</span>' in shown
    assert "at least 30% of its 500 vectors are unlike the baseline" in shown
    assert "?range=30d&amp;at=2025-12-31T23:59:00Z" in shown
    assert all(words in shown for words in COMPONENTS.values())


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([1.0, 9.0, 9.0], "it has drifted since 2025-12-31 23:30 UTC"),
        ([9.0, 1.0, 9.0], "it has drifted since 2025-12-31 23:45 UTC"),
        ([9.0, 9.0, 9.0], "it has drifted since before 2025-12-31 23:15 UTC"),
    ],
)
def test_drift_is_told_since_when(scores: list[float], since: str) -> None:
    row = HistoryRow("m", "fast", "ok", 500, None, 30.0)
    points = [
        Point("m", "fast", SECONDS - 900 * (3 - n), score + 7, None)
        for n, score in enumerate(scores)
    ]
    view = View("24h", SECONDS)
    assert since in pages.render_model(detail("m"), view, past(*points, rows=(row,)), 1)


def test_every_component_is_told_in_words() -> None:
    assert tuple(COMPONENTS) == tuple(name for name in COMPONENTS if name in Detector.COMPONENTS)
    assert set(COMPONENTS) == set(Detector.COMPONENTS)


def test_a_baseline_of_equal_vectors_is_explained() -> None:
    model = Model(ModelRow("m", 8, 500, NOW, None, 1, NOW), MonitoringSettings())
    equal = np.ones((500, 8), np.float32)
    detector = Detector.fit(equal)
    model.adopt(
        Baseline(1, NOW, 500, NOW, NOW, True, "first 500", assess(equal), detector),
        ModelWindows(8, MonitoringSettings(), detector),
    )
    shown = pages.render_model(reporting.detail(model.snapshot(SECONDS)), View(), past(), 1)
    assert "The vectors of the baseline hardly differ" in shown
    assert "Quality of the vectors" in shown
    assert '<a href="/runbook#embeddingdriftbaselineconstant">What to do</a>' in shown


def test_the_distances_of_canaries_are_shown_where_there_are_any() -> None:
    canaries = {"canary_median_distance": 2.4e-8, "canary_max_distance": 0.5}
    row = ModelRow("<m>", 8, 0, None, None, None, NOW, canaries_received_at=NOW, **canaries)
    snapshot = Model(row, MonitoringSettings()).snapshot(SECONDS)
    shown = pages.render_model(reporting.detail(snapshot), View(), past(), 1)
    assert "embedded again, came last at 2026-01-01 00:00 UTC" in shown
    assert "is 2e-08 in the" in shown
    assert "and 5e-01 at most" in shown
    without = replace(row, canaries_received_at=None)
    snapshot = Model(without, MonitoringSettings()).snapshot(SECONDS)
    assert "anaries" not in pages.render_model(reporting.detail(snapshot), View(), past(), 1)


def drifting(kind: str = "new content", name: str = "m") -> ModelSnapshot:
    """A snapshot whose fast window drifts and is explained."""
    vectors = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    model = Model(ModelRow(name, 8, 600, NOW, None, 1, NOW), MonitoringSettings())
    detector = Detector.fit(vectors[:500])
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(5 + vectors[500:], np.full(100, SECONDS)))
    model.adopt(Baseline(1, NOW, 0, NOW, NOW, True, "x", assess(vectors), detector), windows)
    model.standing.explained = {"fast": explained(SECONDS - 300, name, kind)}
    return model.snapshot(SECONDS)


def test_the_page_of_a_model_says_what_changed_with_evidence_groups_and_examples() -> None:
    shown = pages.render_model(reporting.detail(drifting()), View(), past(), 1)
    assert "What changed in the fast window" in shown
    assert SUMMARY in shown
    assert "Cause: new content (topics moved differently (0.31 of 1))." in shown
    assert "Explained at 2025-12-31 23:55 UTC, 5 min before." in shown
    assert "More often: tenant = acme, 40% (was 5%)." in shown
    assert '<th scope="row">audio, player</th><td>grown</td>' in shown
    assert "section = sound 80%" in shown
    assert "doc 7, 2026-01-01 00:00 UTC" in shown
    assert "Texts are shown only if <code>explanation.texts</code> is <code>full</code>" in shown
    assert "What changed" not in pages.render_model(detail("m"), View(), past(), 1)


def test_hostile_texts_and_values_stay_text() -> None:
    model = drifting()
    row = explained(SECONDS)
    group = row.told["groups"][0]
    group["name"] = group["metadata"][0]["value"] = HOSTILE
    group["examples"][0]["text"] = HOSTILE
    row.told["cause"]["evidence"] = [HOSTILE]
    hostile = replace(row, summary=HOSTILE)
    series = tuple(replace(each, explanation=hostile) for each in model.series)
    drifts = pages.drifts([hostile], lambda *_: True)
    shown = pages.render_model(
        reporting.detail(replace(model, series=series)), View(), replace(past(), drifts=drifts), 1
    )
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 6
    assert "Texts are shown only if" not in shown


def test_a_past_time_shows_what_was_known_then() -> None:
    at = replace(explained(SECONDS - 7_200), summary="m: what was known then.")
    view, known = View("6h", SECONDS - 3_600), replace(past(), explained=[recorded.explanation(at)])
    shown = pages.render_model(reporting.detail(drifting()), view, known, 1)
    assert "m: what was known then." in shown
    assert "60 min before" in shown
    # The last check may be older than the drift.
    assert '<span class="word drifting">drifting</span>' in shown
    assert "The score of the fast window is 21.5" in shown
    assert SUMMARY not in shown


def test_drifts_are_shaded_and_link_to_what_was_known() -> None:
    first, later = explained(SECONDS - 7_200), explained(SECONDS - 3_600)
    later = replace(later, began_at=first.began_at, number=1, seen_at=SECONDS - 1_800)
    drifts = pages.drifts([later], lambda *_: True)
    [drift] = drifts
    assert (drift.began_at, drift.seen_at) == (SECONDS - 7_200, SECONDS - 1_800)
    shown = pages.render_model(detail("m"), View(), replace(past(), drifts=drifts), 1)
    assert shown.count('<rect class="shade fast"') == 2
    assert "?range=24h&amp;at=2025-12-31T23:00:01Z" in shown
    assert "from 2025-12-31 22:00 UTC to 2025-12-31 23:30 UTC" in shown
    hidden = pages.drifts([later], lambda *_: False)
    shown = pages.render_model(detail("m"), View(), replace(past(), drifts=hidden), 1)
    assert SUMMARY not in shown
    assert "it says more than the settings allow now" in shown


def test_the_fleet_shows_the_cause_in_a_few_words() -> None:
    causes = {"swapped": "model", "docs": "new content"}
    models = [reporting.listed(drifting(kind, name)) for name, kind in causes.items()]
    shown = pages.render_fleet(pages.fleet(models, ALL, {}), None, SECONDS)
    assert '<span class="word model-changed">model changed</span>' in shown
    assert "<td>model or its input changed</td>" in shown
    assert '<span class="word drifting">drifting</span>' in shown
    assert "<td>new content</td>" in shown
    only = pages.fleet(models, FleetQuery(state="model changed"), {})
    assert [each.model.model_name for each in only.shown] == ["swapped"]


@pytest.fixture(scope="module")
def sliced(detector: Detector, vectors: Vectors) -> ModelSnapshot:
    """A model whose tenant <b>acme drifts, beside one that does not and a new one."""
    model = Model(ModelRow("m", 8, 1_100, NOW, None, 1, NOW), MonitoringSettings())
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(vectors[1_000:1_100], np.full(100, SECONDS)))
    pinned = Baseline(1, NOW, 0, NOW, NOW, False, "first", assess(vectors[:1_000]), detector)
    model.adopt(pinned, windows)
    names = ("<b>acme", "bolt")
    parts = [Slice("tenant", name, detector, True) for name in names]
    found = [
        SliceFinding(
            each,
            100,
            SECONDS,
            SECONDS,
            1.0,
            measure(detector, detector.sums(vectors[1_000:1_100] + moved)),
            ChangedRatio(0.5, 0.4, 0.6),
        )
        for each, moved in zip(parts, (np.float32(3), np.float32(0)), strict=True)
    ]
    shares = (
        Share("<b>acme", 0.5, 0.4, 0.2, False),
        Share("bolt", 0.3, 0.6, 1e-9, True),
        Share("new", 0.2, 0.0, 1e-9, True),
    )
    finding = SlicesFinding({"tenant": shares}, tuple(found), SECONDS)
    model.standing.slicing = Slicing(("tenant",), {}, tuple(parts), 7)
    model.standing.attach("slices", {"fast": finding, "slow": finding})
    return model.snapshot(SECONDS)


def test_slices_are_a_table_in_which_the_drifting_one_is_told(sliced: ModelSnapshot) -> None:
    shown = pages.render_model(reporting.detail(sliced), View(), past(), 3)
    rows = [
        re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row)).strip()
        for row in re.findall(r"<tr>(<th scope=\"row\">tenant=.*?)</tr>", shown, re.DOTALL)
    ]
    assert re.fullmatch(r"tenant=&lt;b&gt;acme 50% 40% [\d.]+ [\d.]+ drifting", rows[0])
    assert re.fullmatch(r"tenant=bolt 30% \(changed\) 60% [\d.]+ [\d.]+ quiet", rows[1])
    assert rows[2] == "tenant=new 20% (changed) 0% too few vectors in the baseline"
    assert "7 more values have enough vectors" in shown
    assert "<b>" not in shown
    assert "window of tenant=&lt;b&gt;acme is" in shown
    assert "slices that drift: tenant=&lt;b&gt;acme." in shown


def test_the_past_and_models_without_slices_have_no_such_table(sliced: ModelSnapshot) -> None:
    assert "Slices" not in pages.render_model(
        reporting.detail(sliced), View("6h", SECONDS - 60), past(), 3
    )
    assert "Slices" not in pages.render_model(detail("m"), View(), past(), 1)


def test_a_model_is_drifting_in_the_fleet_if_one_of_its_slices_is(sliced: ModelSnapshot) -> None:
    [listed] = pages.fleet([reporting.listed(sliced)], ALL, {}).shown
    assert listed.condition.word == "drifting"
    assert listed.condition.worst is not None
    assert listed.condition.worst.slice == "tenant=<b>acme"
    shown = pages.render_fleet(pages.fleet([reporting.listed(sliced)], ALL, {}), None, SECONDS)
    assert "tenant=&lt;b&gt;acme" in shown


def test_the_report_has_the_shares_and_the_windows_of_slices(sliced: ModelSnapshot) -> None:
    told = reporting.detail(sliced)
    assert told.slices_folded == 7
    [tenant] = told.slices
    assert tenant.key == "tenant"
    assert [(each.value, each.share, each.changed) for each in tenant.values] == [
        ("<b>acme", 0.5, False),
        ("bolt", 0.3, True),
        ("new", 0.2, True),
    ]
    acme, bolt, new = (each.windows for each in tenant.values)
    assert new is None
    assert acme is not None
    assert bolt is not None
    assert acme.fast is not None
    assert acme.fast.state == "ok"
    assert acme.fast.vectors == 100
    assert acme.fast.magnitude is not None
    assert acme.fast.magnitude.lower == 0.4
    assert bolt.slow is not None
    assert (acme.fast.score or 0) > 15 > (bolt.slow.score or 0)


def test_headings_of_the_runbook_have_ids() -> None:
    assert '<h2 id="embeddingdriftdetected">EmbeddingDriftDetected</h2>' in pages.runbook()


def luminance(colour: str) -> float:
    """Relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", pages.style(), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[theme]))
    texts = {"ink", "soft", "link", "drifting", "unknown", "learning", "quiet", "fast", "slow"}
    assert texts < set(colours)
    for background in ("paper", "shade"):
        for name in texts:
            low, high = sorted(luminance(colours[each]) for each in (name, background))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, background)
