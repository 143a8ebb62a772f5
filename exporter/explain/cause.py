"""Cause: whether the model or the data changed, and the facts that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio, Comparison
from exporter.explain.clusters import nearest
from exporter.explain.kinds import Kind
from exporter.explain.observations import VERSION, Observations
from exporter.stats.arrays import Floats, Vectors
from exporter.stats.enrichment import log_p_value
from exporter.stats.quality import norms
from exporter.stats.thinning import thinned

Column = NDArray[np.float32]

SURPRISING = 2.0
"""Score from which a window is unlike the baseline: one window in a hundred without drift."""
_FEWEST = 50
"""Vectors of a window that show a cause."""
_STUCK = 0.05
"""Share of a window that the three most frequent vectors gained, from which an encoder is stuck."""
_MOST_EQUAL = 3
_ALIKE = 2.5e-3
"""Variance of copies of one vector, at most, as a share of the baseline's: 5 % of its deviation."""
_HALF = 0.5
"""A fact is the cause if it accounts for half of what changed."""
_SILENT = 1e-6
"""Variance of a dimension, as a share of the baseline's, below which it has become constant."""
_LIVELY = 1e-3
"""Variance of a dimension of the baseline, as a share of the mean one, that may become constant."""
_BY_CHANCE = 1e-3
"""Chance that a window without drift has a dimension that is called constant."""
_RESCALED = 0.01
"""Change of the logarithm of the length that counts: rounding changes it less."""
_SHORTEST = 1e-30
"""Length of a vector, at least: a ratio to a vector of zeros is not defined."""
_COARSER = 0.95
"""Ratio of different values in a vector, to that of the baseline, from which it is rounded."""
_FEWER_BITS = 4
_FAR = 0.05
"""Share of vectors without any near vector in the baseline, from which the model is another one. No
change of the data gave more than 0.02."""
_APART = 0.75
"""Mean distance of the most changed vectors from the baseline's space, from which the model is
another one. 0 is that of the baseline, 1 that of random directions."""
_FOREIGN = 0.38
"""The same of all vectors, from which a change is too large to tell model and data apart."""
_NEW = 0.1
"""The same of the most changed vectors, from which their content is new."""
_COHERENT = 0.65
"""How alike the clusters moved, from which the model has changed. New topics give 0.3 to 0.6."""
_LOCAL = 0.6
"""Share of the change that grown groups account for, from which it is one of these groups only."""
_ALL = 0.9
"""Changed ratio from which all vectors have changed, whatever groups account for."""
_FEWEST_CHANGED = 20
"""Vectors that count as the most changed ones, at least."""
_LEAST_ROOM = 0.02
"""Distance of the baseline from random directions, at least. With few dimensions, nearly all of
them are within its space."""
_PAIRS = 10
"""Pairs of the same text that settle whether the model changed."""
_SAME_TEXT = 5e-5
"""Cosine distance of the same text's vectors, from which its encoder has changed. Rounding to
float16 or bfloat16 gives 6e-6 at most, and rounding to int8 gives 4e-4."""
_SAME_VECTOR = 0.01
"""The same as a share of the length."""
_MOVED = 0.05
"""Share of these pairs whose vectors differ, from which the model is another one: one odd text of
many does not tell."""
_LONGEST = 100
"""Characters of a version."""
_COMPARED = 1_000
"""Vectors whose nearest ones are looked up. Of 300, the first percentile is that of three: half of
the windows with a new topic were taken for another model then, and a seventh are of 1,000."""
_SORTED = 300
"""Vectors whose different values are counted."""
_NEIGHBOURS = 1_500
"""Vectors of the baseline among which they are looked up."""
_CLUSTERS = 24
"""Clusters whose moves are compared: those with the most vectors of the window."""
_FEWEST_IN_CLUSTER = 6
_FEWEST_CLUSTERS = 3
_LEAST_MOVE = 0.1
"""Smallest squared move that is known, as a share of the variance of the means."""
_LEAST_DEVIATION = 1e-4
"""Standard deviation of a coordinate, at least: all of them together have one of about 1."""
_WEIGHT_OUTSIDE = 2.0
"""Weight of the distance from the baseline's space beside the coordinates within: noise moves all
clusters out, but in no common direction."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What has probably changed.

    Attributes
    ----------
    kind : str
        One of nine: none, new content, other mix, foreign, model, scale, precision, stuck, unknown.
        Foreign is another encoder, or another language or domain: vectors cannot tell which.
    evidence : tuple of str
        The facts that decided, in words.
    """

    kind: Kind
    evidence: tuple[str, ...]


class Facts(NamedTuple):
    """What is measured of a window. Each is a plain number, so that a rule can be read.

    Attributes
    ----------
    n : int
        Vectors of the window.
    score : float
        Of the detector.
    changed : float
        Changed ratio.
    directions_changed : float
        Changed ratio if each vector had the length that the baseline has at its rank.
    duplicates : float
        Decades of surprise of the repeats in the window.
    equal, equal_before : float
        Share of the window, and of the baseline, of the three most frequent vectors of the window
        that are more frequent than in the baseline.
    silent : int
        Dimensions that have become constant.
    length : float
        Ratio of the median lengths.
    bits : float
        Bits that mantissas have less than in the baseline.
    different : float
        Different values in a vector, as a ratio to those in the baseline's vectors.
    far : float
        Share of vectors without any near vector in the baseline.
    outside, outside_of_changed : float
        Distance from the baseline's space, of all vectors and of those that changed most: 0 as the
        baseline, 1 as random directions.
    coherence : float
        How alike the clusters moved, 0 to 1.
    grouped : float
        Share of the window by which the grown groups grew.
    version, version_before : str
        The most frequent ``model_version`` of the metadata, now and in the baseline; empty if none
        was sent. Now: of those that the baseline lacks, if there are any.
    other_version : float
        Share of the window with a version that the baseline lacks; 0 unless both sides have one.
    pairs : int
        Texts that both sides have, but for those whose vector several texts of the window share.
    pairs_moved : float
        Share of them whose vectors differ.
    """

    n: int
    score: float
    changed: float
    directions_changed: float
    duplicates: float
    equal: float
    equal_before: float
    silent: int
    length: float
    bits: float
    different: float
    far: float
    outside: float
    outside_of_changed: float
    coherence: float
    grouped: float
    version: str
    version_before: str
    other_version: float
    pairs: int
    pairs_moved: float


def decide(facts: Facts, is_drift: bool = False) -> Cause:
    """Name the cause that the facts show, by the first rule that holds.

    Parameters
    ----------
    facts : Facts
    is_drift : bool
        Whether drift is known from more than this window, so that it is not chance.
    """
    kind, *evidence = next(_rules(facts, is_drift))
    return Cause(kind, tuple(filter(None, evidence)))


def _rules(f: Facts, is_drift: bool) -> Iterator[tuple[Kind, str] | tuple[Kind, str, str]]:
    """Yield the kinds whose rule holds, the surest first, with the evidence."""
    # The estimate may be 0 although much has changed.
    changed = f"{f.changed:.0%} of the vectors changed" if round(100 * f.changed) else ""
    coarse = f.different < _COARSER or f.bits >= _FEWER_BITS
    # A few groups move the clusters around them, and alike if they are related.
    is_local = 0 < f.changed < _ALL and f.grouped >= _LOCAL * f.changed
    same_texts = f.pairs >= _PAIRS
    moved = same_texts and f.pairs_moved >= max(_MOVED, _HALF * f.changed, 2 / f.pairs)
    is_other_version = not same_texts and f.other_version >= max(_FAR, _HALF * f.changed)
    if _is_stuck(f, moved, is_other_version):
        before = f", {f.equal_before:.0%} before" if round(100 * f.equal_before) else ""
        yield "stuck", f"{f.equal:.0%} of the vectors are copies of three or fewer{before}"
    if f.silent:
        dimensions = "1 dimension has" if f.silent == 1 else f"{f.silent} dimensions have"
        yield "model", f"{dimensions} become constant"
    if f.score < SURPRISING and coarse:
        yield "precision", _coarser(f), "little else changed"
    if f.score < SURPRISING and is_drift:
        yield "unknown", f"the score is {f.score:.1f}: too low for one window to show why"
    if f.score < SURPRISING:
        yield "none", f"the score is {f.score:.1f}: chance explains it"
    if f.n < _FEWEST:
        yield "unknown", f"{f.n} vectors are too few"
    if abs(np.log(f.length)) > _RESCALED and f.directions_changed < _HALF * f.changed:
        times = f"{f.length:,.0f}" if 100 <= f.length < 1e6 else f"{f.length:.3g}"
        yield "scale", f"the lengths are {times} times those before", "same directions"
    if moved:
        yield "model", f"{f.pairs_moved:.0%} of {f.pairs} texts sent before have other vectors now"
    if coarse and f.changed < _FAR:
        yield "precision", _coarser(f), changed
    if not same_texts:
        if f.changed >= _FAR and is_other_version:
            versions = (
                f"{f.other_version:.0%} of the vectors have a model_version that the baseline lacks"
                f", most often {f.version}; the baseline has {f.version_before}"
            )
            yield "model", versions, changed
        if f.far >= max(_FAR, _HALF * f.changed):
            yield "model", f"{f.far:.0%} of the vectors have no near vector in the baseline"
        if f.outside_of_changed > _APART and f.changed > 0:
            yield "model", "the changed vectors lie outside the baseline's space", changed
        if f.coherence > _COHERENT and f.changed >= _FAR and not is_local:
            yield "model", f"all topics moved alike ({f.coherence:.2f} of 1)", changed
        if f.outside > _FOREIGN:
            yield "foreign", f"the vectors are {_way_out(f.outside)} of its space"
    if f.outside_of_changed > _NEW:
        yield (
            "new content",
            "groups that grew account for most of the change"
            if is_local
            else f"topics moved differently ({f.coherence:.2f} of 1)",
            f"the changed vectors are {_way_out(f.outside_of_changed)} of its space",
        )
    yield "other mix", "the changed vectors lie within the baseline's space", changed


def _is_stuck(f: Facts, moved: bool, is_other_version: bool) -> bool:
    """Return whether a few vectors gained what changed, and no other model is the reason."""
    gained = f.equal - f.equal_before
    # Of a model that has changed, popular texts have new vectors. So copies of these count as
    # gained, but the other vectors have changed, or their texts, or their version, too.
    have_others_changed = (
        moved
        or (is_other_version and f.other_version - gained > _STUCK)
        or f.changed - gained > max(_STUCK, _HALF * (1 - gained))
    )
    # A popular query may grow. Where all vectors repeat, no number of repeats surprises. And
    # vectors without any near vector in the baseline are zeros, say, if they are copies.
    are_too_many = (
        f.duplicates >= SURPRISING
        or (f.score >= SURPRISING and gained >= _HALF)
        or _FAR <= f.far <= gained + _FAR
    )
    return are_too_many and gained >= max(_STUCK, _HALF * f.changed) and not have_others_changed


def _way_out(outside: float) -> str:
    # Vectors may lie farther out than random directions do.
    return f"{min(outside, 1):.0%} of the way out"


def _coarser(f: Facts) -> str:
    if f.bits >= _FEWER_BITS:
        return f"mantissas have {f.bits:.0f} bits less"
    return f"a vector has {1 - f.different:.0%} fewer different values"


def measure(
    detector: Detector,
    compared: Comparison,
    score: float,
    duplicates: float,
    baseline: Observations,
    window: Observations,
    places: Vectors,
    known: Vectors,
    grouped: float,
    effect: float,
) -> Facts:
    """Measure the facts of a window.

    Parameters
    ----------
    detector : Detector
    compared : Comparison
        Of the window.
    score, duplicates : float
        Of the window, and of its component ``duplicates``.
    baseline, window : Observations
    places : ndarray of float32, shape (m, p)
        Places of the baseline's vectors.
    known : ndarray of float32, shape (c, p)
        Centres of the baseline's clusters.
    grouped : float
        Share of the window by which the grown groups grew.
    effect : float
        The `design_effect` of both: vectors of one session resemble each other.
    """
    new, old = window.vectors, baseline.vectors
    lengths, usual = norms(new), norms(old)
    length = max(float(np.median(lengths)), _SHORTEST) / max(float(np.median(usual)), _SHORTEST)
    out, usually_out = detector.outside(new), detector.outside(old)
    outside, of_changed = _outside(compared, out, usually_out, 1 - detector.leading / new.shape[1])
    copies, equal_before = _copies(detector, new, old)
    pairs, moved = _same_texts(window, baseline, copies)
    version, version_before, other_version = _versions(window, baseline)
    deviation = np.maximum(places.std(axis=0), _LEAST_DEVIATION)
    weight = _WEIGHT_OUTSIDE / max(float(usually_out.std()), _LEAST_ROOM / 10)
    return Facts(
        n=len(new),
        score=score,
        changed=compared.changed.estimate,
        directions_changed=_directions(detector, compared.changed, new, lengths, usual, length),
        duplicates=duplicates,
        equal=sum(map(len, copies)) / len(new),
        equal_before=equal_before,
        silent=_silent(new, old, length, effect),
        length=length,
        bits=_mantissa_bits(old) - _mantissa_bits(new),
        different=_different(new) / _different(old),
        far=_far(detector, new, old),
        outside=outside,
        outside_of_changed=of_changed,
        coherence=coherence(
            np.column_stack([compared.places / deviation, weight * out]),
            np.column_stack([places / deviation, weight * usually_out]),
            nearest(compared.places, known),
            nearest(places, known),
        ),
        grouped=grouped,
        pairs=pairs,
        pairs_moved=moved,
        version=version,
        version_before=version_before,
        other_version=other_version,
    )


def _directions(
    detector: Detector,
    changed: ChangedRatio,
    new: Vectors,
    lengths: Floats,
    usual: Floats,
    length: float,
) -> float:
    """Return the changed ratio of the directions; see `Facts.directions_changed`."""
    if abs(np.log(length)) <= _RESCALED:
        return changed.estimate
    rank = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
    expected = np.quantile(usual, (rank + 0.5) / len(new))
    rescaled = new * (expected / np.maximum(lengths, _SHORTEST))[:, None]
    return detector.changed_ratio(rescaled.astype(np.float32)).estimate


def _copies(detector: Detector, new: Vectors, old: Vectors) -> tuple[list[NDArray[np.intp]], float]:
    """Return the rows of the most frequent vectors of a window, and their share of the baseline.

    Only those that became more frequent. One large number in all vectors gives them one direction:
    they are no copies if they still vary as the baseline's vectors do.
    """
    hashes, hashes_before = detector.fingerprints(new), detector.fingerprints(old)
    different, counts = np.unique(hashes, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:_MOST_EQUAL]
    most = _ALIKE * old.var(axis=0, dtype=np.float64).sum()
    copies, before = [], 0.0
    for each in top[counts[top] > _MOST_EQUAL]:
        rows = np.flatnonzero(hashes == different[each])
        usual = float((hashes_before == different[each]).mean())
        is_copied = new[rows].var(axis=0, dtype=np.float64).sum() <= most
        if is_copied and len(rows) / len(new) > usual:
            copies.append(rows)
            before += usual
    return copies, before


def _silent(new: Vectors, old: Vectors, length: float, effect: float) -> int:
    """Count the dimensions that varied in the baseline and are constant now, but not by chance.

    Vectors that all are shorter, by the ratio of the lengths, vary as much as before. They may be
    longer because of one dimension, and then the others vary as before.
    A sparse feature has one value nearly everywhere, so a small window often lacks the others.
    """
    before = old.var(axis=0, dtype=np.float64)
    now = new.var(axis=0, dtype=np.float64) / min(length, 1.0) ** 2
    constant = np.flatnonzero((before > _LIVELY * before.mean()) & (now < _SILENT * before))
    usual = [np.unique(old[:, each], return_counts=True)[1].max() for each in constant]
    log_p = log_p_value(np.full(len(constant), len(new)), len(new), usual, len(old), effect)
    return int((log_p < np.log(_BY_CHANCE / new.shape[1])).sum())


def _mantissa_bits(vectors: Vectors) -> float:
    """Return the bits of the mantissas that are in use, in the median vector."""
    mantissa = vectors.view(np.uint32) & np.uint32(0x7FFFFF)
    used = np.bitwise_or.reduce(mantissa, axis=1)
    lowest = np.log2(np.maximum(used & (~used + np.uint32(1)), 1))
    return float(np.median(np.where(used > 0, 23 - lowest, 0)))


def _different(vectors: Vectors) -> float:
    """Return the ratio of different values in the median vector."""
    ordered = np.sort(vectors[thinned(len(vectors), _SORTED)], axis=1)
    changes = np.count_nonzero(np.diff(ordered, axis=1), axis=1)
    return float(np.median(changes + 1) / vectors.shape[1])


def _far(detector: Detector, new: Vectors, old: Vectors) -> float:
    """Return the share of vectors whose nearest vector in the baseline is far.

    Far is below q1 - (q50 - q1) / 2, quantiles of the baseline's own nearest cosines. Copies would
    make each cosine 1, so they are left out.
    """
    looked_at = old[thinned(len(old), _NEIGHBOURS)]
    first = np.unique(detector.fingerprints(looked_at), return_index=True)[1]
    others = _unit(looked_at[np.sort(first)]).astype(np.float32)
    own = thinned(len(others), _COMPARED)
    cosines = others[own] @ others.T
    cosines[np.arange(len(own)), own] = -1
    low, middle = np.quantile(cosines.max(axis=1), (0.01, 0.5))
    some = _unit(new[thinned(len(new), _COMPARED)]).astype(np.float32)
    nearest_cosine = (some @ others.T).max(axis=1)
    return float((nearest_cosine < low - (middle - low) / 2).mean())


def _outside(compared: Comparison, new: Column, old: Column, random: float) -> tuple[float, float]:
    """Return how far all vectors, and the most changed ones, are out of the baseline's space."""
    usual = float(old.mean())
    most = max(_FEWEST_CHANGED, round(compared.changed.estimate * len(new)))
    top = np.argsort(-compared.unlikeness, kind="stable")[:most]
    scale = max(random - usual, _LEAST_ROOM)
    return float((new.mean() - usual) / scale), float((new[top].mean() - usual) / scale)


def coherence(
    new: Vectors, old: Vectors, of_new: NDArray[np.intp], of_old: NDArray[np.intp]
) -> float:
    """Return how alike clusters moved: the mean product of the moves of two, of that of one.

    Parameters
    ----------
    new, old : ndarray of float32, shapes (n, p) and (m, p)
        Coordinates that weigh alike.
    of_new, of_old : ndarray of intp, shapes (n,) and (m,)
        Cluster of each vector.

    Returns
    -------
    float
        0 to 1. 0 too if no cluster moved by more than chance explains.
    """
    count = np.bincount(of_new)
    moves, noise = [], []
    for each in np.argsort(-count, kind="stable")[:_CLUSTERS]:
        ours, theirs = new[of_new == each], old[of_old == each]
        if min(len(ours), len(theirs)) >= _FEWEST_IN_CLUSTER:
            moves.append(ours.mean(axis=0) - theirs.mean(axis=0))
            noise.append(sum(side.var(axis=0, ddof=1).sum() / len(side) for side in (ours, theirs)))
    if len(moves) < _FEWEST_CLUSTERS:
        return 0.0
    products = np.stack(moves) @ np.stack(moves).T
    k = len(moves)
    # The square of a move is too large by the variance of the means; the product of two is not.
    same = np.trace(products) / k - np.mean(noise)
    different = (products.sum() - np.trace(products)) / (k * (k - 1))
    return float(np.clip(different / max(same, _LEAST_MOVE * np.mean(noise)), 0, 1))


def _same_texts(
    window: Observations, baseline: Observations, copies: list[NDArray[np.intp]]
) -> tuple[int, float]:
    """Return how many texts both sides have, and the share of them whose vectors differ.

    Copies that stand for several texts come from an encoder that is stuck: they do not count. If
    the vectors of a text differ within the baseline, more than the text was embedded. Texts show
    nothing then.
    """
    before: dict[str, int] = {}
    repeats: list[tuple[int, int]] = []
    for row, text in enumerate(baseline.texts):
        if text and before.setdefault(text, row) != row:
            repeats.append((row, before[text]))
    texts = window.texts
    vectors = window.vectors
    stuck = np.zeros(len(window), bool)
    for rows in copies:
        if len({texts[row] for row in rows.tolist()} - {None}) > 1:
            one = vectors[rows[0]]
            # A border of the cells may part some of its copies from the others.
            stuck[rows] = True
            stuck |= norms(vectors - one) <= _SAME_VECTOR * norms(one[None])
    # One text that comes again and again is one witness, by its newest vector.
    newest = {text: row for row, text in enumerate(texts) if text in before and not stuck[row]}
    pairs = [(row, before[text]) for text, row in newest.items()]
    if not pairs or _moved(baseline.vectors, baseline.vectors, repeats) > 0:
        return 0, 0.0
    return len(pairs), _moved(window.vectors, baseline.vectors, pairs)


def _versions(window: Observations, baseline: Observations) -> tuple[str, str, float]:
    """Compare the versions of the model; see `Facts.version`."""
    now, before = (
        [
            str(each[VERSION])[:_LONGEST]
            for each in side.metadata or ()
            if each and _is_plain(each.get(VERSION)) and str(each[VERSION]).strip()
        ]
        for side in (window, baseline)
    )
    if not now or not before:
        return "", "", 0.0
    known = set(before)
    other = Counter(each for each in now if each not in known)
    [(usual, _)] = Counter(before).most_common(1)
    [(newest, _)] = (other or Counter(now)).most_common(1)
    return newest, usual, other.total() / len(window)


def _is_plain(value: object) -> bool:
    """Whether a value of metadata is a text or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _moved(new: Vectors, old: Vectors, pairs: list[tuple[int, int]]) -> float:
    """Return the share of pairs of rows whose vectors differ."""
    if not pairs:
        return 0.0
    rows, old_rows = np.array(pairs).T
    ours, theirs = _unit(new[rows]), _unit(old[old_rows])
    return float((1 - np.einsum("ij,ij->i", ours, theirs) > _SAME_TEXT).mean())


def _unit(vectors: Vectors) -> Floats:
    """Return the vectors with a length of 1 in double precision; zeros stay zeros."""
    return vectors / np.maximum(norms(vectors), _SHORTEST)[:, None]
