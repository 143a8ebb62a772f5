"""Metadata: the values that are far more frequent in some observations than in others."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exporter.explain.observations import TEXT
from exporter.stats.arrays import Floats
from exporter.stats.design_effect import design_effect
from exporter.stats.enrichment import log_p_value

_MOST = 3
_ALPHA = 0.01
_LEAST_LIFT = 1.2
"""Minimum of the lower bound of the ratio of the frequencies."""
_SURE = 1.64
_IDENTIFIER = 0.5
"""Ratio of different values above which a key is an identifier."""
_FEWEST = 3
"""Observations that a value needs."""
_BLOCKS, _OTHER_BLOCKS = 4, 5
"""Blocks in which the dependence of the observations, and of the others, is measured. They hold
interleaved sessions: with ten blocks of the others, four times as many quiet windows named a
value."""
_FEWEST_IN_BLOCKS = 16
"""Observations from which their dependence is measured."""
_FEWEST_EFFECTIVE = 10
"""Independent observations that the window counts as, at least. A key that changed once in the
baseline, as a version does, would hide each later change otherwise."""
_LONGEST = 100
"""Length of a key and of a value, in characters: longer ones are texts."""
_CHARACTERS = 40
"""Characters of a text whose script is looked up."""
_MARKUP = re.compile(r"</?[a-z][^<>]*>|```|\{\{|&[a-z]+;", re.IGNORECASE)
_LINK = re.compile(r"https?://", re.IGNORECASE)
_ERROR = re.compile(r"traceback|exception|\berror\b", re.IGNORECASE)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the metadata that is more frequent than elsewhere.

    Attributes
    ----------
    key, value : str
        Keys that begin with ``text.`` were derived from the text: script, length and form.
    share, share_before : float
        Ratio of the observations with this value, and of the baseline's.
    """

    key: str
    value: str
    share: float
    share_before: float


def pairs(metadata: Mapping[str, object] | None) -> set[Pair]:
    """Return the short keys and values of an observation, and what its text shows."""
    found: set[Pair] = set()
    for key, value in (metadata or {}).items():
        if len(key) > _LONGEST:
            continue
        if key == TEXT:
            # A text that is a number is none, but as private.
            found.update(_traits(value) if isinstance(value, str) else ())
        elif isinstance(value, bool):
            found.add((key, str(value).lower()))
        elif isinstance(value, str | int | float) and len(shown := str(value)) <= _LONGEST:
            found.add((key, shown))
    return found


def _traits(text: str) -> Iterator[Pair]:
    yield "text.script", _script(text)
    length = len(text)
    yield "text.length", next(
        (name for most, name in ((20, "up to 20"), (100, "up to 100"), (500, "up to 500"))
         if length <= most),
        "above 500",
    )  # fmt: skip
    for form, pattern in (("markup", _MARKUP), ("link", _LINK), ("error", _ERROR)):
        if pattern.search(text):
            yield "text.form", form


def _script(text: str) -> str:
    """Return the most frequent script of the letters, by the names of their characters."""
    begin = text[:_CHARACTERS]
    if begin.isascii():  # most texts are; names of characters take time
        return "latin" if any(map(str.isalpha, begin)) else "none"
    scripts = Counter(map(_script_of, filter(str.isalpha, begin)))
    return scripts.most_common(1)[0][0] if scripts else "none"


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return re.split("[ -]", unicodedata.name(letter, "unknown"))[0].lower()


class Catalogue:
    """The key-value pairs of many observations, without identifiers.

    Parameters
    ----------
    metadata : sequence of mapping or None
    """

    def __init__(self, metadata: Sequence[Mapping[str, object] | None]) -> None:
        self._pairs = [pairs(each) for each in metadata]
        with_key = Counter(key for key, _ in itertools.chain.from_iterable(self._pairs))
        values = Counter(key for key, _ in set[Pair]().union(*self._pairs))
        self.identifiers = {
            key for key, many in values.items() if many > max(_IDENTIFIER * with_key[key], _FEWEST)
        }

    def __getitem__(self, rows: Iterable[int]) -> list[set[Pair]]:
        """Return the pairs of the observations in these rows."""
        return [self._pairs[row] for row in rows]


def overrepresented(
    observed: Sequence[set[Pair]], others: Sequence[set[Pair]], identifiers: set[str]
) -> list[Value]:
    """Return the values that are more frequent than in the others, at most three, the surest first.

    Fisher's test finds them, with a false discovery rate of 1 % over all values. The lower bound of
    the ratio of the frequencies must be above 1.2. Both hold also after all numbers were divided by
    the design effect of the key: observations of one session have the same tenant.

    Parameters
    ----------
    observed, others : sequence of set of pairs
        See `Catalogue`. Both in the order of arrival.
    identifiers : set of str
        Keys that are left out, because nearly every observation has another value.
    """
    count = Counter(pair for found in observed for pair in found if pair[0] not in identifiers)
    candidates = sorted(pair for pair, many in count.items() if many >= _FEWEST)
    if not candidates or not others:
        return []
    shared = map(set(candidates).intersection, others)
    other_count = Counter(itertools.chain.from_iterable(shared))
    here = np.array([count[pair] for pair in candidates])
    there = np.array([other_count[pair] for pair in candidates])
    n, other_n = len(observed), len(others)
    effect = np.ones(len(candidates))
    log_p, found = _more_frequent(here, n, there, other_n, effect)
    if found.any():
        grown = {pair for pair, grew in zip(candidates, found, strict=True) if grew}
        most = max(n / _FEWEST_EFFECTIVE, 1.0)
        effects = {
            key: min(_effect(key, observed, others, grown), most)
            for key in {key for key, _ in grown}
        }
        effect = np.array([effects.get(key, 1.0) for key, _ in candidates])
        log_p, found = _more_frequent(here, n, there, other_n, effect)
    values = []
    surest = np.argsort(log_p, kind="stable")
    for at in surest[found[surest]][:_MOST]:
        key, value = candidates[at]
        values.append(Value(key, value, float(here[at] / n), float(there[at] / other_n)))
    return values


def _more_frequent(
    here: NDArray[np.intp], n: int, there: NDArray[np.intp], other_n: int, effect: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the logarithms of the p-values of counts, and which count is certainly larger."""
    from scipy.stats import false_discovery_control  # late: see `enrichment`

    log_p = log_p_value(here, n, there, other_n, effect)
    found = false_discovery_control(np.exp(log_p)) <= _ALPHA
    # Half an observation more on each side: the other side may have none.
    ours, theirs = here / effect + 0.5, there / effect + 0.5
    size, other_size = n / effect + 1, other_n / effect + 1
    log_lift = np.log(ours / size) - np.log(theirs / other_size)
    error = np.sqrt(1 / ours - 1 / size + 1 / theirs - 1 / other_size)
    return log_p, found & (log_lift - _SURE * error > np.log(_LEAST_LIFT))


def _effect(
    key: str, observed: Sequence[set[Pair]], others: Sequence[set[Pair]], grown: set[Pair]
) -> float:
    """Return the design effect of the values of a key on either side, whichever is larger.

    Values that seem to have ``grown`` do not count in the observations. One that begins late varies
    from block to block because of the change, and would hide it.
    """
    ours, theirs = (
        [frozenset(pair for pair in found if pair[0] == key) for found in side]
        for side in (observed, others)
    )
    ours = [values for values in ours if values.isdisjoint(grown)]
    # In the order of arrival: sums in another order differ in their last bit.
    number = {values: at for at, values in enumerate(dict.fromkeys([*ours, *theirs]))}
    effects = [
        design_effect(np.array([number[each] for each in side], np.intp), len(side) // blocks)
        for side, blocks in ((ours, _BLOCKS), (theirs, _OTHER_BLOCKS))
        if len(side) >= _FEWEST_IN_BLOCKS
    ]
    return max(effects, default=1.0)
