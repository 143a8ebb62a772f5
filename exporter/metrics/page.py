"""The page of a format: the families as text, of which most is kept from scrape to scrape.

prometheus_client takes 4 us to write a sample. So it writes the head of a family and the labels of
a sample once. A later scrape writes the numbers, and only those of models that have changed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.metrics.families import FAMILIES
from exporter.metrics.shapes import Sample
from exporter.monitor.snapshot import ModelSnapshot, Snapshot
from ingest.runtime.family import Family
from ingest.runtime.http.exposition import Families


def metric(family: Family, samples: Iterable[Sample] = ()) -> Metric:
    """Make a family of samples as prometheus_client has it."""
    # It adds "_total" to the samples of a counter itself.
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    made = Metric(name, family.help, family.type)
    for labels, value in samples:
        named = zip(family.labels, labels, strict=True)
        # To Prometheus, an empty label is an absent one.
        present = {name: label for name, label in named if label}
        made.add_sample(family.name, present, value)
    return made


class Numbered(NamedTuple):
    """A settled model, and a number that no other one ever has."""

    model: ModelSnapshot
    number: int


class Numbers:
    """Numbers the models of scrapes. One that equals that of the last scrape keeps its number.

    Pages remember numbers instead of models, because a model holds its detector.
    """

    def __init__(self) -> None:
        self._last: Mapping[str, Numbered] = {}
        self._next = itertools.count()

    def of(self, models: Sequence[ModelSnapshot]) -> list[Numbered]:
        """Return the models, settled."""
        last, found = self._last, {}
        for model in models:
            name, settled = model.row.model_name, model.settled()
            numbered = last.get(name)
            if numbered is None or numbered.model != settled:
                numbered = Numbered(settled, next(self._next))
            found[name] = numbered
        # Replaced as a whole, because several scrapes may run at once.
        self._last = found
        return list(found.values())


class Page:
    """Writes the page of one format.

    Parameters
    ----------
    encode : callable
        Writes families in this format.
    """

    def __init__(self, encode: Callable[[Collector], bytes]) -> None:
        self._writer = _Writer(encode)
        self._lines = _Lines(self._writer)
        self._models: Mapping[str, _ModelText] = {}

    def write(self, snapshot: Snapshot, models: Sequence[Numbered]) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each family that has samples.

        Parameters
        ----------
        snapshot : Snapshot
        models : sequence of Numbered
            Those of the snapshot.
        """
        texts = {each.model.row.model_name: self._text(each) for each in models}
        self._models = texts
        of_models = zip(*(each.of_families for each in texts.values()), strict=True)
        for family in FAMILIES:
            if family.read_model is None:
                text = self._lines.write(family, list(family.read(snapshot)))
            else:
                text = "".join(next(of_models, ()))
            if text:
                yield family.name, self._writer.heads[family.name] + text

    def _text(self, numbered: Numbered) -> _ModelText:
        known = self._models.get(numbered.model.row.model_name)
        if known is not None and known.number == numbered.number:
            return known
        lines = _Lines(self._writer) if known is None else known.lines
        of_families = [
            lines.write(family, list(family.read_model(numbered.model)))
            for family in FAMILIES
            if family.read_model is not None
        ]
        return _ModelText(numbered.number, lines, of_families)


class _Writer:
    """Writes what stays the same: the heads of families, and the labels of samples."""

    def __init__(self, encode: Callable[[Collector], bytes]) -> None:
        self._encode = encode
        self._end = encode(Families())
        self.heads = {family.name: self._text(metric(family)) for family in FAMILIES}

    def starts(self, family: Family, labels: Sequence[tuple[str, ...]]) -> Iterator[str]:
        """Yield the text of samples up to their values."""
        text = self._text(metric(family, [(each, 0.0) for each in labels]))
        # Not splitlines(), because a label may have other line separators.
        for line in text.removeprefix(self.heads[family.name]).split("\n")[:-1]:
            # A label may have spaces, a value has none.
            yield line[: line.rindex(" ") + 1]

    def _text(self, made: Metric) -> str:
        return self._encode(Families(made)).removesuffix(self._end).decode()


class _Lines:
    """Writes samples, and keeps the text of their labels until the next scrape."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        self._starts: dict[str, Mapping[tuple[str, ...], str]] = {}

    def write(self, family: Family, samples: Sequence[Sample]) -> str:
        """Write the samples of a family."""
        starts = self._starts.get(family.name, {})
        if missing := [labels for labels, _ in samples if labels not in starts]:
            new = zip(missing, self._writer.starts(family, missing), strict=True)
            starts = {**starts, **dict(new)}
        if len(starts) != len(samples):
            starts = {labels: starts[labels] for labels, _ in samples}
        self._starts[family.name] = starts
        return "".join([f"{starts[labels]}{number_text(value)}\n" for labels, value in samples])


def number_text(value: float) -> str:
    """Write a number as Prometheus reads it."""
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class _ModelText(NamedTuple):
    """The text of a model in each family that is read model by model."""

    number: int
    lines: _Lines
    of_families: list[str]
