"""Pages: what prometheus_client would write, of which most is kept from scrape to scrape."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from exporter.metrics.collector import DriftCollector
from exporter.metrics.families import DIMENSIONS, FAMILIES, FOLLOWED_TIMESTAMP
from exporter.metrics.page import Numbers, Page, number_text
from exporter.metrics.shapes import SnapshotFamily
from exporter.monitor.following import Following
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot, Snapshot
from ingest.runtime.http.exposition import Format, write

ACCEPTED = (
    "",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=dots",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=values",
)


class Scraped:
    """A collector whose snapshots are given."""

    def __init__(self) -> None:
        self.snapshot = Snapshot(())
        self.collector = DriftCollector(lambda _: self.snapshot)
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def page(self, form: Format, *models: ModelSnapshot) -> str:
        self.snapshot = replace(self.snapshot, models=models)
        return write(self.registry, form).decode()

    def expected(self, form: Format) -> str:
        """What prometheus_client writes of the same snapshot."""
        return form.encode(self.registry).decode()


def read(page: str) -> list[str | tuple[str, float]]:
    """Split a page into its lines, with numbers read: a number can be written in many ways."""
    lines = list[str | tuple[str, float]]()
    for line in page.split("\n"):
        start, _, number = line.rpartition(" ")
        lines.append((start, float(number)) if line and not line.startswith("#") else line)
    return lines


class Told(dict[str, Any]):
    """A part of a model that may have weak references."""


def chosen(accept: str) -> Format:
    encode, content_type = choose_encoder(accept)
    return Format(content_type, encode)


def named(model: ModelSnapshot, name: str) -> ModelSnapshot:
    series = tuple(replace(each, series=Series(name, each.series.window)) for each in model.series)
    return replace(model, row=replace(model.row, model_name=name), series=series, slices=())


def polled(model: ModelSnapshot, seconds: float) -> ModelSnapshot:
    """The same model after another poll that found nothing new."""
    return replace(
        model,
        row=replace(model.row, now=model.row.now + timedelta(seconds=seconds)),
        computed_at=model.computed_at + seconds,
        following=Following(model.following.followed_at + seconds, 10 + seconds),
    )


@pytest.fixture
def model(full: Snapshot) -> ModelSnapshot:
    """A model from which nearly each family has something to read."""
    return full.models[0]


@pytest.mark.parametrize("accept", ACCEPTED)
def test_each_scrape_is_what_prometheus_client_writes(accept: str, full: Snapshot) -> None:
    followed, behind = full.models[0], named(full.models[1], "n")
    scraped, form = Scraped(), chosen(accept)
    scraped.snapshot = full
    silent = replace(followed, series=followed.series[:1], baseline=None, slices=())
    for models in (
        [followed],
        [followed, behind],
        [polled(followed, 1.5), behind],
        [behind],
        [],
        [silent, behind],
        [followed, named(followed, "o")],
    ):
        assert read(scraped.page(form, *models)) == read(scraped.expected(form))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0.0"),
        (1_767_225_600.25, "1767225600.25"),
        (1e22, "1e+22"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_every_number_is_written_as_prometheus_reads_it(value: float, written: str) -> None:
    assert number_text(value) == written
    [family] = text_string_to_metric_families(f"a {written}\n")
    [sample] = family.samples
    assert sample.value == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\u2028b\x85c", "é#", "{} 0.0"])
@pytest.mark.parametrize("accept", ACCEPTED)
def test_labels_are_written_as_prometheus_client_does(
    accept: str, name: str, model: ModelSnapshot
) -> None:
    scraped, form = Scraped(), chosen(accept)
    page = scraped.page(form, named(model, name))
    assert read(page) == read(scraped.expected(form))


def test_a_poll_that_finds_nothing_new_changes_the_time_of_following_only(
    model: ModelSnapshot,
) -> None:
    scraped, form = Scraped(), chosen("")
    before = scraped.page(form, model).splitlines()
    after = scraped.page(form, polled(model, 1.5)).splitlines()
    [(old, new)] = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
    assert old.startswith(f"{FOLLOWED_TIMESTAMP.name}{{")
    assert float(new.split()[1]) == float(old.split()[1]) + 1.5


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.read_model], ids=lambda family: family.name
)
def test_families_that_are_kept_do_not_read_what_changes_with_every_poll(
    family: SnapshotFamily, model: ModelSnapshot
) -> None:
    assert family.read_model is not None
    assert list(family.read_model(model.settled())) == list(family.read_model(model))


def test_a_model_keeps_its_number_until_it_changes(model: ModelSnapshot) -> None:
    numbers = Numbers()
    [first] = numbers.of([model])
    [again] = numbers.of([polled(model, 60)])
    assert again is first
    seen = {first.number}
    for changed in (
        replace(model, row=replace(model.row, last_seq=model.row.last_seq + 1)),
        replace(model, following=replace(model.following, behind=1)),
        replace(model, not_followed="behind"),
        replace(model, series=model.series[::-1]),
        replace(model, slices=()),
        model,
    ):
        [found] = numbers.of([changed])
        assert found.number not in seen
        seen.add(found.number)


def test_nothing_is_written_again_for_a_model_that_has_not_changed(model: ModelSnapshot) -> None:
    encoded = []
    encode, _ = choose_encoder("")

    def counting(collector: Collector) -> bytes:
        encoded.append(collector)
        return encode(collector)

    page, [numbered] = Page(counting), Numbers().of([model])
    before = dict(page.write(Snapshot((model,)), [numbered]))
    written = len(encoded)
    # Other numbers that a page is not told of show that it does not read them.
    unseen = numbered._replace(model=replace(model, row=replace(model.row, dimension=9), series=()))
    after = dict(page.write(Snapshot((model,)), [unseen]))
    assert after == before
    assert len(encoded) == written
    seen = dict(page.write(Snapshot((model,)), [unseen._replace(number=numbered.number + 1)]))
    assert seen[DIMENSIONS.name].endswith(" 9.0\n")


def test_pages_of_few_formats_are_kept(model: ModelSnapshot) -> None:
    """A client chooses the version in the name of its format."""
    scraped, known = Scraped(), []
    for number in range(10):
        form = chosen(f"application/openmetrics-text;version=1.{number}.0")
        assert read(scraped.page(form, model)) == read(scraped.expected(form))
        known.append(weakref.ref(form.encode))
        del form
    gc.collect()
    assert sum(each() is not None for each in known) == 4


def test_a_removed_model_leaves_nothing_behind(model: ModelSnapshot) -> None:
    scraped, form = Scraped(), chosen("")
    [fast, slow] = model.series
    assert fast.explanation is not None
    told = Told(fast.explanation.told)
    fast = replace(fast, explanation=replace(fast.explanation, told=told))
    held = weakref.ref(told)
    scraped.page(form, named(replace(model, series=(fast, slow)), "gone"), model)
    del fast, told
    assert "gone" not in scraped.page(form, model)
    gc.collect()
    assert held() is None
