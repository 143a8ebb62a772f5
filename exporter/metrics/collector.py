"""The collector: a snapshot goes in, metric families come out; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.metrics.families import FAMILIES
from exporter.metrics.page import Numbers, Page, metric
from exporter.monitor.snapshot import Snapshot
from ingest.runtime.http.exposition import Format, Text, deadline, written

_FORMATS = 4
"""Formats whose pages are kept. Each client scrapes in one, and a client chooses its name."""


class DriftCollector(Collector):
    """Exposes all families, computed from running sums at each scrape.

    Parameters
    ----------
    snapshot : callable
        Judges all models; takes the deadline, by ``time.monotonic``.
    """

    def __init__(self, snapshot: Callable[[float], Snapshot]) -> None:
        self._snapshot = snapshot
        self._numbers = Numbers()
        self._pages: dict[str, Page] = {}

    def describe(self) -> Iterator[Metric]:
        """Name the families without computing them."""
        return map(metric, FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """Yield all families that have samples now, written if that is wanted."""
        snapshot, form = self._snapshot(deadline.get()), written.get()
        if form is None:
            families = (metric(family, family.read(snapshot)) for family in FAMILIES)
            yield from (family for family in families if family.samples)
        else:
            models = self._numbers.of(snapshot.models)
            for name, text in self._page(form).write(snapshot, models):
                yield Text(name, text)

    def _page(self, form: Format) -> Page:
        pages = dict(self._pages)
        page = pages.pop(form.content_type, None) or Page(form.encode)
        # The page that was written last comes last. Replaced as a whole, as scrapes run at once.
        kept = [*pages.items(), (form.content_type, page)][-_FORMATS:]
        self._pages = dict(kept)
        return page
