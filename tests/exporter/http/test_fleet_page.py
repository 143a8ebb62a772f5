"""The page of the fleet: the worst model first, with its word and why."""

from __future__ import annotations

from exporter.http import fleet_page, model_page
from exporter.http.fleet_page import FleetQuery
from exporter.http.model_page import View
from exporter.monitor import reporting
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot
from ingest.store.history import Point
from tests.exporter.shown import (
    ACME,
    BOLT,
    HOSTILE,
    SECONDS,
    detail,
    drifting,
    past,
    scored,
    snapshot,
)

ALL = FleetQuery()


def page(*names: str, query: FleetQuery = ALL, points: list[Point] | None = None) -> str:
    chosen = fleet_page.fleet([reporting.listed(snapshot(name)) for name in names], query, {})
    return fleet_page.render_fleet(chosen, points, SECONDS)


def test_a_store_without_vectors_says_how_to_send_some() -> None:
    assert "No vectors yet: POST them to /embeddings." in page(points=[])


def test_without_the_store_a_fleet_without_models_is_not_called_empty() -> None:
    shown = page()
    assert "PostgreSQL does not answer" in shown
    assert "No vectors yet" not in shown


def test_each_model_is_one_row_with_a_word_a_reason_and_help() -> None:
    shown = page("a/b")
    assert shown.count('<a href="/drift/a%2Fb">a/b</a>') == 1
    assert '<span class="word learning">learning</span>' in shown
    assert "there is no baseline yet" in shown
    assert 'href="/runbook#embeddingdriftbaselinemissing"' in shown


def test_a_name_is_never_markup() -> None:
    assert "<script" not in page(HOSTILE)
    model = model_page.render_model(detail(HOSTILE), View(), past(), 1)
    assert "<script" not in model
    assert "&lt;script&gt;" in model


def test_a_part_of_the_name_and_a_word_choose_models() -> None:
    assert "1 found" in page("docs", "chat", query=FleetQuery("DOC"))
    assert "2 found" in page("docs", "chat", query=FleetQuery(state="learning"))
    assert "No model matches." in page("docs", query=FleetQuery(state="quiet"))


def test_many_models_are_shown_page_by_page() -> None:
    names = [f"m{n:03}" for n in range(fleet_page.PER_PAGE + 1)]
    first, second = page(*names), page(*names, query=FleetQuery("m", None, 2))
    assert first.count("<tr>") == fleet_page.PER_PAGE + 1
    assert '<a href="/?page=2" rel="next">' in first
    assert second.count("<tr>") == 2
    assert '<a href="/?q=m&amp;page=1" rel="prev">' in second


def test_a_page_of_the_fleet_is_small() -> None:
    names = [f"m{n:03}" for n in range(1_000)]
    points = [
        Point(name, "fast", SECONDS - n * fleet_page.DAY_STRETCH, 5.0, None)
        for name in names[: fleet_page.PER_PAGE]
        for n in reversed(range(96))
    ]
    assert len(page(*names, points=points)) < 200_000


def test_the_line_of_a_day_is_shown_unless_the_store_is_away() -> None:
    point = Point("m", "fast", SECONDS - 60, 2.0, None)
    assert 'class="line fast"' in page("m", points=[point])
    assert "PostgreSQL does not answer" not in page("m", points=[point])
    assert "PostgreSQL does not answer" in page("m")


def test_the_fleet_shows_the_cause_in_a_few_words() -> None:
    causes = {"swapped": "model", "docs": "new content"}
    models = [reporting.listed(drifting(kind, name)) for name, kind in causes.items()]
    shown = fleet_page.render_fleet(fleet_page.fleet(models, ALL, {}), None, SECONDS)
    assert '<span class="word model-changed">model changed</span>' in shown
    assert "<td>model or its input changed</td>" in shown
    assert '<span class="word drifting">drifting</span>' in shown
    assert "<td>new content</td>" in shown
    only = fleet_page.fleet(models, FleetQuery(state="model changed"), {})
    assert [each.model.model_name for each in only.shown] == ["swapped"]


def test_without_the_store_a_model_with_a_known_cause_is_not_called_quiet() -> None:
    model = reporting.listed(drifting("new content"))
    # Drift by its hour: a single score of a provisional baseline is drift above 15.
    model.windows.fast.score = model.windows.slow.score = 12.0
    [listed] = fleet_page.fleet([model], ALL, None).shown
    assert (listed.condition.word, listed.condition.cause) == ("drifting", "new content")
    model.windows.fast.cause = None
    [listed] = fleet_page.fleet([model], ALL, None).shown
    assert listed.condition.word == "cannot tell"
    [listed] = fleet_page.fleet([model], ALL, {}).shown
    assert listed.condition.word == "quiet"


def test_a_model_is_drifting_in_the_fleet_if_one_of_its_slices_is(sliced: ModelSnapshot) -> None:
    [listed] = fleet_page.fleet([reporting.listed(sliced)], ALL, {}).shown
    assert listed.condition.word == "drifting"
    assert listed.condition.worst is not None
    assert listed.condition.worst.slice == "tenant=<b>acme"
    shown = fleet_page.render_fleet(
        fleet_page.fleet([reporting.listed(sliced)], ALL, {}), None, SECONDS
    )
    assert "tenant=&lt;b&gt;acme" in shown


def test_a_model_is_drifting_in_the_fleet_if_the_hour_of_a_slice_is(sliced: ModelSnapshot) -> None:
    models = [reporting.listed(scored(sliced, {("fast", BOLT): 12.0}))]
    averages = {Series("m", "fast", BOLT): 12.0}
    [listed] = fleet_page.fleet(models, ALL, averages).shown
    assert listed.condition.word == "drifting"
    assert listed.condition.worst is not None
    assert listed.condition.worst.slice == BOLT
    for other in (Series("m", "fast"), Series("m", "fast", ACME), Series("n", "fast", BOLT)):
        [listed] = fleet_page.fleet(models, ALL, {other: 12.0}).shown
        assert listed.condition.word == "quiet"


def test_a_slice_whose_scores_rise_is_not_hidden_by_one_with_a_higher_score(
    sliced: ModelSnapshot,
) -> None:
    scores = {("slow", ACME): 14.0, ("slow", BOLT): 2.0}
    models = [reporting.listed(scored(sliced, scores, {BOLT: 32.0}))]
    [listed] = fleet_page.fleet(models, ALL, {}).shown
    assert listed.condition.word == "drifting"
    assert listed.condition.worst is not None
    assert listed.condition.worst.slice == BOLT
