"""The explanation of a window: how much has changed, which groups did, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.ratio import FEWEST, ChangedRatio
from exporter.explain import cause, groups
from exporter.explain.cause import Cause
from exporter.explain.clusters import square_distances, typical
from exporter.explain.groups import Members
from exporter.explain.keywords import Vocabulary, keywords
from exporter.explain.metadata import Catalogue, Value, overrepresented
from exporter.explain.observations import Observations
from exporter.stats.arrays import Vectors
from exporter.stats.thinning import thinned

_MOST_VECTORS = 2_500
_MOST_OF_BASELINE = 5_000
"""Vectors that are looked at."""
_MOST_TEXTS = 2_500
"""Texts and metadata of the baseline that those of the window are compared with."""
_MOST_REST = 500
"""Texts of the window that those of a group are compared with."""
_MOST_FOR_CAUSE = 2_500
"""Vectors of the baseline that the cause is found from."""
_STRETCHES = 10
"""Stretches of consecutive vectors, if there are more. Long ones hold whole sessions."""
_SHORT_STRETCHES = 50
"""Stretches for the cause, which needs the whole baseline rather than whole sessions."""
_EXAMPLES = 5
_MOST_CHANGED = 50
_MOST_GROUPS = 8
"""Groups of either kind, at most."""
_LEVEL = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A part of the space that holds more, or less, of the window than of the baseline.

    Attributes
    ----------
    id : str
        The same from one explanation to the next, while the group lasts.
    change : str
        "grown" or "shrunk".
    share, share_before : float
        Ratio of the window's vectors, and of the baseline's, in the group. A share that grew is
        rather too low: the group does not hold all that belongs to it.
    lower, upper : float
        Interval of the share now, with a confidence of 90 % (Wilson).
    rows : ndarray of intp
        Its rows: of the window if it grew, of the baseline if it shrank.
    examples : ndarray of intp
        Up to five of the rows, typical of the group and different from each other.
    keywords : tuple of str
        Up to three. None without texts.
    metadata : tuple of Value
        Up to three values that are over-represented in the group.
    centre : ndarray of float32, shape (p,)
    """

    id: str
    change: Literal["grown", "shrunk"]
    share: float
    share_before: float
    lower: float
    upper: float
    rows: NDArray[np.intp]
    examples: NDArray[np.intp]
    keywords: tuple[str, ...]
    metadata: tuple[Value, ...]
    centre: Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What changed in a window.

    Attributes
    ----------
    n : int
        Vectors of the window.
    score : float
        Minus log10 of the p-value.
    changed : ChangedRatio
        How much of the window is unlike the baseline, with its interval.
    explained : float
        Ratio of the window by which the grown groups grew; part of ``changed``.
    groups : tuple of Group
        Grown ones first, the surest first.
    metadata : tuple of Value
        Up to three values that are over-represented in the whole window.
    cause : Cause
    most_changed : ndarray of intp
        Up to fifty rows of the window, those most unlike the baseline first.
    numbered : int
        Groups that have been numbered so far; the next new group gets the next number.
    """

    n: int
    score: float
    changed: ChangedRatio
    explained: float
    groups: tuple[Group, ...]
    metadata: tuple[Value, ...]
    cause: Cause
    most_changed: NDArray[np.intp]
    numbered: int


def explain(
    detector: Detector,
    baseline: Observations,
    window: Observations,
    previous: Explanation | None = None,
    *,
    is_drift: bool = False,
) -> Explanation:
    """Explain how a window differs from the baseline.

    Parameters
    ----------
    detector : Detector
        Fitted to the baseline.
    baseline : Observations
        Vectors of the baseline, or a sample of them.
    window : Observations
        At least ten vectors.
    previous : Explanation, optional
        The one before, against the same baseline. Groups that last keep its ids.
    is_drift : bool
        Whether drift is known already, as from an average of scores. Then a low score of this
        window is not called chance.

    Raises
    ------
    ValueError
        If the window has fewer vectors, the baseline has none, the dimension is another one, or a
        component is not finite in float32.
    """
    if len(window) < FEWEST:
        raise ValueError(f"an explanation needs at least {FEWEST} vectors, got {len(window)}")
    if not len(baseline):
        raise ValueError("an explanation needs vectors of the baseline, got none")
    score, components = detector.scores(detector.sums(window.vectors, window.times))
    rows = _looked_at(len(window), _MOST_VECTORS, _STRETCHES)
    baseline_rows = _looked_at(len(baseline), _MOST_OF_BASELINE, _STRETCHES)
    new, old = _taken(window, rows), _taken(baseline, baseline_rows)
    compared = detector.compare(new.vectors)
    places = detector.places(old.vectors)
    known = groups.baseline_centres(places)
    effect = groups.dependence(compared.places, places, known)
    grown = groups.grown(compared, places, known, effect)[:_MOST_GROUPS]
    grouped = sum(len(each.window) / len(new) - len(each.baseline) / len(old) for each in grown)
    some = _looked_at(len(old), _MOST_FOR_CAUSE, _SHORT_STRETCHES)
    facts = cause.measure(
        detector,
        compared,
        score,
        components["duplicates"],
        old.take(some),
        new,
        places[some],
        known,
        grouped,
        effect,
    )
    why = cause.decide(facts, is_drift)
    naming = _Naming(new, old)
    shrunk = groups.shrunk(
        compared.places,
        places,
        known,
        _without(len(new), [each.window for each in grown]),
        _without(len(old), [each.baseline for each in grown]),
        effect,
    )[:_MOST_GROUPS]
    described = [
        *(_grown(each, compared.places, len(old), naming) for each in grown),
        *(_shrunk(each, places, len(new), naming) for each in shrunk),
    ]
    numbered = 0 if previous is None else previous.numbered
    identified, numbered = _identify(
        described, () if previous is None else previous.groups, known, numbered
    )
    return Explanation(
        n=len(window),
        score=score,
        changed=compared.changed,
        explained=grouped,
        groups=tuple(
            replace(
                each,
                rows=(rows if each.change == "grown" else baseline_rows)[each.rows],
                examples=(rows if each.change == "grown" else baseline_rows)[each.examples],
            )
            for each in identified
        ),
        metadata=naming.of_window(),
        cause=why,
        most_changed=rows[np.argsort(-compared.unlikeness, kind="stable")[:_MOST_CHANGED]],
        numbered=numbered,
    )


class _Naming:
    """Words and metadata of both sides."""

    def __init__(self, window: Observations, baseline: Observations) -> None:
        self._n = len(window)
        self._words, self._words_before = Vocabulary(window.texts), Vocabulary(baseline.texts)
        self._compared = thinned(len(baseline), _MOST_TEXTS)
        self._sampled = thinned(self._n, _MOST_REST)
        now, before = window.metadata, baseline.metadata
        self._values = Catalogue([None] * self._n if now is None else now)
        compared = [None if before is None else before[row] for row in self._compared.tolist()]
        self._values_before = Catalogue(compared)
        self._identifiers = self._values.identifiers | self._values_before.identifiers

    def grown(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """Name rows of the window, against the baseline; words against its other rows, too."""
        before = self._words_before[self._compared]
        rest = self._words[self._sampled[~np.isin(self._sampled, rows)]]
        return (
            tuple(keywords(self._words[rows], before, rest)),
            self._over(self._values[rows], self._values_before[range(len(self._compared))]),
        )

    def shrunk(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """Name rows of the baseline, against its other rows."""
        inside = np.isin(self._compared, rows)
        others = self._words_before[self._compared[~inside]]
        return (
            tuple(keywords(self._words_before[rows], others)),
            self._over(
                self._values_before[np.flatnonzero(inside)],
                self._values_before[np.flatnonzero(~inside)],
            ),
        )

    def of_window(self) -> tuple[Value, ...]:
        """Return the values that are over-represented in the window."""
        every = range(len(self._compared))
        return self._over(self._values[range(self._n)], self._values_before[every])

    def _over(
        self, observed: Sequence[set[tuple[str, str]]], others: Sequence[set[tuple[str, str]]]
    ) -> tuple[Value, ...]:
        return tuple(overrepresented(observed, others, self._identifiers))


def _grown(members: Members, places: Vectors, m: int, naming: _Naming) -> Group:
    return _group("grown", members, members.window, places, len(places), m, naming)


def _shrunk(members: Members, places: Vectors, n: int, naming: _Naming) -> Group:
    return _group("shrunk", members, members.baseline, places, n, len(places), naming)


def _group(
    change: Literal["grown", "shrunk"],
    members: Members,
    rows: NDArray[np.intp],
    places: Vectors,
    n: int,
    m: int,
    naming: _Naming,
) -> Group:
    """Describe a group by its rows on the side where it is larger; ``places`` are of that side."""
    from scipy.stats import binomtest  # late: see `enrichment`

    interval = binomtest(len(members.window), n).proportion_ci(_LEVEL, method="wilson")
    words, values = naming.grown(rows) if change == "grown" else naming.shrunk(rows)
    return Group(
        id="",
        change=change,
        share=len(members.window) / n,
        share_before=len(members.baseline) / m,
        lower=float(interval.low),
        upper=float(interval.high),
        rows=rows,
        examples=rows[typical(places[rows], members.centre, _EXAMPLES)],
        keywords=words,
        metadata=values,
        centre=members.centre,
    )


def _identify(
    found: Sequence[Group], before: Sequence[Group], known: Vectors, numbered: int
) -> tuple[list[Group], int]:
    """Give each group the id of the one before that it continues, or else a new one.

    A group continues the nearest group of the same change, if that is nearer than all centres of
    the baseline. Each group before is continued once, by the nearest one.
    """
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for _, row, earlier in sorted(_continued(found, before, known), key=lambda each: each[0]):
        if row not in ids and earlier not in taken:
            ids[row] = earlier
            taken.add(earlier)
    identified = []
    for row, group in enumerate(found):
        if row not in ids:
            numbered += 1
            ids[row] = f"g{numbered}"
        identified.append(replace(group, id=ids[row]))
    return identified, numbered


def _continued(
    found: Sequence[Group], before: Sequence[Group], known: Vectors
) -> Iterator[tuple[float, int, str]]:
    """Yield the distance, row and earlier id of each pair of groups that may be the same."""
    for row, group in enumerate(found):
        to_known = square_distances(group.centre[None], known)[0]
        # The centre of a shrunk group is itself one of those of the baseline.
        limit = to_known.min() if group.change == "grown" else np.sort(to_known)[1:2].sum()
        for earlier in before:
            if earlier.centre.shape != group.centre.shape:
                continue  # of a detector with other axes
            distance = square_distances(group.centre[None], earlier.centre[None])[0, 0]
            if earlier.change == group.change and distance < max(limit, _TOUCHING):
                yield float(distance), row, earlier.id


_TOUCHING = 1e-3
"""Squared distance of two centres that are the same but for rounding."""


def _without(n: int, groups: Iterable[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the rows below n that are in none of the groups."""
    left = np.ones(n, bool)
    for rows in groups:
        left[rows] = False
    return np.flatnonzero(left)


def _taken(observed: Observations, rows: NDArray[np.intp]) -> Observations:
    """Take the rows that `_looked_at` chose; a copy of all of them would take time."""
    return observed if len(rows) == len(observed) else observed.take(rows)


def _looked_at(n: int, most: int, stretches: int) -> NDArray[np.intp]:
    """Return the rows of n that are looked at: all, or stretches, so that sessions stay whole."""
    if n <= most:
        return np.arange(n)
    length = most // stretches
    first = np.arange(stretches) * (n - length) // (stretches - 1)
    return np.add.outer(first, np.arange(length)).ravel()
