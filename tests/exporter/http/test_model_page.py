"""The page of a model: what changed, since when, and by what numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.http import model_page, rendering
from exporter.http.model_page import Past, View
from exporter.monitor import recorded, reporting
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model
from exporter.monitor.report import COMPONENTS, Magnitude, Next
from exporter.monitor.snapshot import ModelSnapshot
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.thresholds import SCORE
from ingest.store.baselines import Version
from ingest.store.changes import ModelRow
from ingest.store.history import HistoryRow, Point
from tests.exporter.explained import SUMMARY, drawn, explained, point
from tests.exporter.shown import (
    ACME,
    BOLT,
    HOSTILE,
    NOW,
    SECONDS,
    detail,
    drifting,
    past,
    scored,
)


def test_the_page_of_a_model_draws_lines_thresholds_and_pins() -> None:
    points = [Point("m", "fast", SECONDS - n, 20.0, 0.3) for n in (7_200, 3_600, 0)]
    shown = model_page.render_model(detail("m"), View(), past(*points), 1)
    assert shown.count('<path class="line fast" d="M') == 2
    assert shown.count('class="line limit fast"') == 1
    assert "<title>baseline 7</title>" in shown
    assert 'aria-label="Score: highest 20.0"' in shown
    assert "embedding-drift baseline use m 7</code>" in shown
    assert "embedding-drift baseline pin m --last 5000" in shown
    assert len(shown) < 200_000


def test_a_suggested_baseline_is_shown_with_its_command_while_nothing_drifts() -> None:
    drifts = reporting.detail(drifting())
    quiet = reporting.detail(drifting())
    for window in (quiet.windows.fast, quiet.windows.slow):
        window.score = 0.5
    for shown in (drifts, quiet):
        assert shown.baseline is not None
        shown.baseline.next = Next("weekly", NOW, "person")
    page = model_page.render_model(quiet, View(), past(), 1)
    assert "was above 1 on average" in page
    assert "If the traffic of that week is what you want" in page
    assert "baseline pin m --week</code>" in page
    for shown, view in ((drifts, View()), (quiet, View(at=SECONDS))):
        page = model_page.render_model(shown, view, past(), 1)
        assert "on average. Without" not in page
        assert "--week" not in page
    quiet.overdue = True
    assert "--week" not in model_page.render_model(quiet, View(), past(), 1)


@pytest.mark.parametrize(("hours", "anchored"), [(1, True), (20, False)])
def test_the_label_of_a_pin_stays_inside_the_chart(hours: int, anchored: bool) -> None:
    pinned = Version(7, NOW - timedelta(hours=hours), 1_000, NOW, NOW, True, "first", False)
    shown = model_page.render_model(detail("m"), View(), Past([], {}, (), [pinned]), 1)
    assert bool(re.search(r'text-anchor="end" y="8">baseline 7<', shown)) == anchored


def test_the_page_says_when_the_share_of_changed_vectors_was_computed() -> None:
    shown = detail("m")
    assert "<td>2026-01-01 00:00 UTC</td>" not in model_page.render_model(shown, View(), past(), 1)
    shown.windows.slow.magnitude = Magnitude(0.4, 0.3, 0.5, NOW)
    page = model_page.render_model(shown, View(), past(), 1)
    assert (
        '<td class="number">40%</td>\n<td class="number">30% to 50%</td>\n'
        "<td>2026-01-01 00:00 UTC</td></tr>"
    ) in page


@pytest.mark.parametrize(("lower", "told"), [(0.3, True), (0.004, False)])
def test_the_headline_does_not_say_at_least_nothing(lower: float, told: bool) -> None:
    row = HistoryRow("m", "fast", "ok", 500, 1, 30.0, 0.4, lower, 0.5)
    shown = model_page.render_model(detail("m"), View("6h", SECONDS - 60), past(rows=(row,)), 1)
    assert ("vectors are unlike the baseline" in shown) == told
    assert "The score of the fast window is 30.0" in shown


def test_a_rise_is_told_while_it_is_above_its_threshold() -> None:
    shown = detail("m")
    thresholds = SCORE["provisional"]["slow"]
    slow = shown.windows.slow
    slow.state, slow.score, slow.rise = "ok", 31.0, thresholds.rise + 1
    told = "average of 8 hours is 31.0 higher than in the last week without drift"
    page = model_page.render_model(shown, View(), past(), 1)
    assert '<span class="word drifting">drifting</span>' in page
    assert told in page
    assert told not in model_page.render_model(shown, View(), past(), 100_000)


def test_the_page_of_a_model_is_shown_without_the_store() -> None:
    shown = model_page.render_model(detail("m"), View(), None, 1)
    assert "PostgreSQL does not answer" in shown
    assert "<svg" not in shown


def test_without_the_store_a_page_that_says_what_changed_does_not_say_quiet() -> None:
    model = reporting.detail(drifting())
    model.windows.fast.score, model.windows.slow.score = 12.0, 5.0
    shown = model_page.render_model(model, View(), None, 1)
    assert "What changed in the fast window" in shown
    assert '<span class="word drifting">drifting</span>' in shown


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
    shown = model_page.render_model(detail("m"), view, past(rows=(row,)), 1)
    assert "This is the state at 2025-12-31 23:59:00 UTC." in shown
    assert '<span class="word drifting">drifting</span>' in shown
    assert "at least 30% of its 500 vectors are unlike the baseline" in shown
    assert "?range=30d&amp;at=2025-12-31T23:59:00Z" in shown
    assert all(words in shown for words in COMPONENTS.values())


def test_a_past_time_shows_a_state_that_only_another_release_knows() -> None:
    row = HistoryRow("m", "fast", "paused", 500)
    view, known = View("6h", SECONDS - 60), replace(past(rows=(row,)), sliced=[(ACME, row)])
    shown = model_page.render_model(detail("m"), view, known, 1)
    assert '<p class="lead"><span class="word cannot-tell">cannot tell</span>' in shown
    assert "<td>another release recorded the state paused</td>" in shown


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
    assert since in model_page.render_model(detail("m"), view, past(*points, rows=(row,)), 1)


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
    shown = model_page.render_model(reporting.detail(model.snapshot(SECONDS)), View(), past(), 1)
    assert "The vectors of the baseline hardly differ" in shown
    assert "Quality of the vectors" in shown
    assert '<a href="/runbook#embeddingdriftbaselineconstant">What to do</a>' in shown


def test_the_distances_of_canaries_are_shown_where_there_are_any() -> None:
    bare = ModelRow("<m>", 8, 0, None, None, None, NOW)
    row = replace(
        bare, canaries_received_at=NOW, canary_median_distance=2.4e-8, canary_max_distance=0.5
    )
    snapshot = Model(row, MonitoringSettings()).snapshot(SECONDS)
    shown = model_page.render_model(reporting.detail(snapshot), View(), past(), 1)
    assert "embedded again, came last at 2026-01-01 00:00 UTC" in shown
    assert "is 2e-08 in the" in shown
    assert "and 5e-01 at most" in shown
    without = replace(row, canaries_received_at=None)
    snapshot = Model(without, MonitoringSettings()).snapshot(SECONDS)
    assert "anaries" not in model_page.render_model(reporting.detail(snapshot), View(), past(), 1)


def test_the_page_of_a_model_says_what_changed_with_evidence_groups_and_examples() -> None:
    shown = model_page.render_model(reporting.detail(drifting()), View(), past(), 1)
    assert "What changed in the fast window" in shown
    assert '<a href="/runbook#embeddingdriftdetected">What to do</a>' in shown
    assert SUMMARY in shown
    assert "Cause: new content (topics moved differently (0.31 of 1))." in shown
    assert "Explained at 2025-12-31 23:55 UTC, 5 min before." in shown
    assert "More often: tenant = acme, 40% (was 5%)." in shown
    assert re.search(r'<tr id="fast-g1"><th scope="row"><svg .*</svg><bdi>audio, player<', shown)
    assert "section = sound 80%" in shown
    assert "doc 7, 2026-01-01 00:00 UTC" in shown
    assert "Texts are shown only if <code>explanation.texts</code> is <code>full</code>" in shown
    assert "What changed" not in model_page.render_model(detail("m"), View(), past(), 1)


def test_the_map_links_its_vectors_and_groups_to_what_is_known_of_them() -> None:
    known = replace(past(), maps={"fast": drawn(point(7, "g1"), point(8), rings=("g2",))})
    shown = model_page.render_model(reporting.detail(drifting()), View(), known, 1)
    assert '<svg viewBox="0 0 760 460" role="group" aria-label="Map of the fast window: ' in shown
    for seq in (7, 8):
        assert f'<a href="#fast-{seq}" tabindex="-1">' in shown
        assert f'<li id="fast-{seq}">doc {seq}, 2026-01-01 00:00 UTC</li>' in shown
    assert "<title>doc 7</title>" in shown
    for group in ("g1", "g2"):
        assert f'<a href="#fast-{group}">' in shown
        assert f'<tr id="fast-{group}">' in shown
    # A click leads somewhere, and to one place only.
    places = re.findall(r' id="([^"]*)"', shown)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]*)"', shown)) <= set(places)
    assert "Map of" not in model_page.render_model(reporting.detail(drifting()), View(), past(), 1)


def test_a_page_with_two_large_maps_with_texts_is_small_enough() -> None:
    points = [
        point(row, "g1" if row % 9 == 0 else None) | {"text": "long " * 16} for row in range(260)
    ]
    large = drawn(*points) | {"baseline": [[-0.123, 0.456]] * 600}
    model = drifting()
    series = tuple(
        replace(each, explanation=replace(explained(SECONDS), window_name=each.series.window))
        for each in model.series
    )
    shown = model_page.render_model(
        reporting.detail(replace(model, series=series)),
        View(),
        replace(past(), maps={"fast": large, "slow": large}),
        1,
    )
    assert shown.count('<svg viewBox="0 0 760') == 2
    assert len(shown.encode()) < 200_000


def test_words_of_another_direction_do_not_turn_what_is_around_them() -> None:
    told = {**explained(SECONDS - 300).told}
    told["groups"] = [{**told["groups"][0], "name": "إلغاء, الاشتراك"}]
    row = replace(explained(SECONDS - 300), told=told)
    known = replace(past(), explained=[recorded.explanation(row)])
    view = View("6h", SECONDS - 60)
    shown = model_page.render_model(reporting.detail(drifting()), view, known, 1)
    assert "</svg><bdi>إلغاء, الاشتراك</bdi></th>" in shown
    assert "unicode-bidi: plaintext" in rendering.style()


def test_hostile_texts_and_values_stay_text() -> None:
    model = drifting()
    row = explained(SECONDS)
    group = row.told["groups"][0]
    group["name"] = group["metadata"][0]["value"] = HOSTILE
    group["examples"][0]["text"] = HOSTILE
    mapped = drawn(point(7, "g1") | {"text": HOSTILE}, point(8) | {"id": HOSTILE})
    mapped["regions"][0]["name"] = HOSTILE
    row.told["cause"]["evidence"] = [HOSTILE]
    hostile = replace(row, summary=HOSTILE)
    series = tuple(replace(each, explanation=hostile) for each in model.series)
    drifts = model_page.drifts([hostile], lambda *_: True)
    shown = model_page.render_model(
        reporting.detail(replace(model, series=series)),
        View(),
        replace(past(), drifts=drifts, maps={"fast": mapped}),
        1,
    )
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 12
    assert "Texts are shown only if" not in shown


def test_a_past_time_shows_what_was_known_then() -> None:
    at = replace(explained(SECONDS - 7_200), summary="m: what was known then.")
    view, known = View("6h", SECONDS - 3_600), replace(past(), explained=[recorded.explanation(at)])
    shown = model_page.render_model(reporting.detail(drifting()), view, known, 1)
    assert "m: what was known then." in shown
    assert "60 min before" in shown
    # The last check may be older than the drift.
    assert '<span class="word drifting">drifting</span>' in shown
    assert "The score of the fast window is 21.5" in shown
    assert SUMMARY not in shown


def test_a_window_and_its_slice_have_no_common_places() -> None:
    whole = explained(SECONDS - 7_200)
    rows = (whole, replace(whole, slice="tenant=acme"))
    known = replace(
        past(),
        explained=[recorded.explanation(row) for row in rows],
        maps={"fast": drawn(point(7, "g1"), rings=("g2",))},
    )
    view = View("6h", SECONDS - 3_600)
    shown = model_page.render_model(reporting.detail(drifting()), view, known, 1)
    link = '<a href="?range=6h&amp;slice=tenant%3Dacme&amp;at=2025-12-31T23:00:00Z">tenant=acme</a>'
    assert f"What changed in the fast window, {link}" in shown
    places = re.findall(r' id="([^"]*)"', shown)
    assert len(places) == len(set(places))
    assert {"fast-g1", "fast-g2", "fast-7"} <= set(places)


def test_drifts_are_shaded_and_link_to_what_was_known() -> None:
    first, later = explained(SECONDS - 7_200), explained(SECONDS - 3_600)
    later = replace(later, began_at=first.began_at, number=1, seen_at=SECONDS - 1_800)
    drifts = model_page.drifts([later], lambda *_: True)
    [drift] = drifts
    assert (drift.began_at, drift.seen_at) == (SECONDS - 7_200, SECONDS - 1_800)
    shown = model_page.render_model(detail("m"), View(), replace(past(), drifts=drifts), 1)
    assert shown.count('<rect class="shade fast"') == 2
    assert "?range=24h&amp;at=2025-12-31T23:00:01Z" in shown
    assert "from 2025-12-31 22:00 UTC to 2025-12-31 23:30 UTC" in shown
    hidden = model_page.drifts([later], lambda *_: False)
    shown = model_page.render_model(detail("m"), View(), replace(past(), drifts=hidden), 1)
    assert SUMMARY not in shown
    assert "it says more than the settings allow now" in shown


def test_slices_are_a_table_in_which_the_drifting_one_is_told(sliced: ModelSnapshot) -> None:
    shown = model_page.render_model(reporting.detail(sliced), View(), past(), 3)
    rows = [
        re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row)).strip()
        for row in re.findall(
            r"<tr>(<th scope=\"row\">(?:<a [^>]*>)?tenant=.*?)</tr>", shown, re.DOTALL
        )
    ]
    assert re.fullmatch(r"tenant=&lt;b&gt;acme 50% 40% [\d.]+ [\d.]+ drifting", rows[0])
    assert re.fullmatch(r"tenant=bolt 30% \(changed\) 60% [\d.]+ [\d.]+ quiet", rows[1])
    assert rows[2] == "tenant=new 20% (changed) 0% too few vectors in the baseline"
    assert "7 more values have enough vectors" in shown
    assert "<b>" not in shown
    assert "window of tenant=&lt;b&gt;acme is" in shown
    assert "slices that drift" not in shown  # it is named already


def test_a_slice_that_drifts_by_its_hour_is_told_on_the_page_of_its_model_and_on_its_own(
    sliced: ModelSnapshot,
) -> None:
    hour = 12.0
    model = reporting.detail(scored(sliced, {("fast", BOLT): hour}))
    for view in (View(), View(slice=BOLT)):
        known = replace(past(), averages={("fast", BOLT): hour})
        page = model_page.render_model(model, view, known, 3)
        assert '<p class="lead"><span class="word drifting">drifting</span>' in page
        assert "The score of the fast window of tenant=bolt is 12.0" in page
        if not view.slice:
            table = page[page.index("<h2>Slices</h2>") :]
            assert table.count('<span class="word drifting">drifting</span>') == 1
        quiet = replace(past(), averages={("fast", ""): hour, ("fast", ACME): hour})
        assert "drifting" not in model_page.render_model(model, view, quiet, 3)


def test_the_page_of_a_slice_shows_its_windows_course_and_explanation_only(
    sliced: ModelSnapshot,
) -> None:
    rows = (explained(SECONDS - 300), replace(explained(SECONDS - 300), slice="tenant=<b>acme"))
    drifts = model_page.drifts(rows, lambda *_: True)
    points = [Point("m", "fast", SECONDS - after, 30.0, 0.5) for after in (1_200, 600, 0)]
    known = replace(past(*points), drifts=drifts[1:])
    view = View(slice="tenant=<b>acme")
    shown = model_page.render_model(reporting.detail(sliced), view, known, 3)
    assert "<h1>m, tenant=&lt;b&gt;acme</h1>" in shown
    assert '<span class="word drifting">drifting</span>' in shown
    assert "it has drifted since before 2025-12-31 23:40 UTC" in shown
    assert shown.count('<rect class="shade fast"') == 2
    query = "slice=tenant%3D%3Cb%3Eacme"
    assert f'href="?range=7d&amp;{query}"' in shown
    assert f"?range=24h&amp;{query}&amp;at=" in shown
    assert '<a href="?range=24h">Show all vectors of m</a>' in shown
    for heading in ("Slices", "Quality of the vectors", "Baseline", "What the score is made of"):
        assert f"<h2>{heading}</h2>" not in shown
    assert "tenant=bolt" not in shown


def test_a_past_time_shows_the_slices_of_then_and_each_links_to_its_page(
    sliced: ModelSnapshot,
) -> None:
    row = HistoryRow("m", "fast", "ok", 90, 1, 30.0, 0.5, 0.4, 0.6)
    known = replace(
        past(rows=(replace(row, score=1.0),)),
        sliced=[
            ("tenant=acme", row),
            ("tenant=bolt", replace(row, score=0.5)),
            ("tenant=core", replace(row, score=25.0)),
        ],
        explained=[recorded.explanation(replace(explained(SECONDS - 300), slice="tenant=acme"))],
    )
    detail, at = reporting.detail(sliced), SECONDS - 60
    shown = model_page.render_model(detail, View("6h", at), known, 3)
    table = shown[shown.index("<h2>Slices</h2>") :]
    link = "?range=6h&amp;slice=tenant%3Dacme&amp;at=2025-12-31T23:59:00Z"
    assert f'<a href="{link}">tenant=acme</a>' in table
    assert "Share now" not in table
    assert "slices that drift: tenant=acme, tenant=core." in shown
    shown = model_page.render_model(detail, View("6h", at, "tenant=acme"), known, 3)
    assert "The score of the fast window of tenant=acme is 30.0; at least 40%" in shown
    assert "audio, player" in shown
    assert 'href="/drift/m?slice=tenant%3Dacme">Show the state now' in shown
    shown = model_page.render_model(detail, View("6h", at, "tenant=bolt"), known, 3)
    assert '<span class="word quiet">quiet</span>' in shown
    assert "audio, player" not in shown


def test_a_slice_that_is_not_measured_now_says_so(sliced: ModelSnapshot) -> None:
    view = View(slice="tenant=gone")
    shown = model_page.render_model(reporting.detail(sliced), view, past(), 3)
    assert "The slice is not measured now" in shown


def test_models_without_slices_have_no_such_table() -> None:
    assert "Slices" not in model_page.render_model(detail("m"), View(), past(), 1)
