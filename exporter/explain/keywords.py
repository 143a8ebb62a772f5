"""Keywords: words that are far more frequent in some texts than in others."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from exporter.stats.arrays import Floats

_MOST = 3
_PRIOR = 500.0
"""Weight of all texts together, as a number of texts, in the prior of each word's frequency."""
_REST = 0.5
"""Texts that lack a word, at least, in the prior."""
_LEAST_LIFT = 3.0
"""Minimum ratio of the frequencies."""
_LEAST_Z = 2.0
_FEWEST = 3
"""Texts that a keyword needs. They must belong to two different texts at least."""
_LEAST_SHARE = 0.1
"""Share of the texts that a keyword needs: a rarer word does not say what the others are about."""
_LONGEST = 400
"""Words of a text that are read, at most, and pairs of characters."""
_CHARACTERS = 20 * _LONGEST
"""Characters of a text that are looked at, at most: more than so many words have."""
_LETTERS = 40
"""Letters of a word, at most. Nearly all compounds of German have fewer; encoded data has more."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese: scripts without spaces between words."""
_MARKS = "\u0300-\u036f" + "".join(
    char for char in map(chr, range(0x0900, 0x0E00)) if unicodedata.category(char) in ("Mn", "Mc")
)
"""Accents, and the vowels and other signs of Indic scripts. For ``re``, they are no letters."""
_WORD = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_MARKS}])+")


def terms(text: str) -> set[str]:
    """Return the words of a text and its pairs of neighbouring words, in lower case.

    Where words are not separated, pairs of characters take their place.
    """
    folded = unicodedata.normalize("NFKC", text[:_CHARACTERS]).casefold()
    pairs = (
        "".join(pair) for part in _UNSPACED.findall(folded) for pair in itertools.pairwise(part)
    )
    found = set(itertools.islice(pairs, _LONGEST))
    read = _WORD.findall(_UNSPACED.sub(" ", folded))[:_LONGEST]
    words = [word for word in read if len(word) <= _LETTERS]
    found.update(words)
    found.update(map(" ".join, itertools.pairwise(words)))
    return found


class Vocabulary:
    """The terms of many texts.

    Parameters
    ----------
    texts : sequence of str or None
    """

    def __init__(self, texts: Sequence[str | None]) -> None:
        self._texts = texts
        self._terms: dict[int, set[str]] = {}

    def __getitem__(self, rows: Iterable[int]) -> list[set[str]]:
        """Return the terms of the texts in these rows. Only these are read, and only once."""
        return [self._of(row, text) for row in rows if (text := self._texts[row]) is not None]

    def _of(self, row: int, text: str) -> set[str]:
        if row not in self._terms:
            self._terms[row] = terms(text)
        return self._terms[row]


def keywords(
    texts: Sequence[set[str]], others: Sequence[set[str]], rest: Sequence[set[str]] = ()
) -> list[str]:
    """Return the words that set texts apart from others, at most three, the best first.

    Words are ordered by the z-score of their log odds, with an informative Dirichlet prior from
    all texts (Monroe, Colaresi, Quinn 2008, "Fightin' Words"). Frequencies are those of texts.

    Parameters
    ----------
    texts, others : sequence of set of str
        The `terms` of each text.
    rest : sequence of set of str
        Further texts. Words that are as frequent there are taken only if there are no others.
    """
    count = Counter(itertools.chain.from_iterable(texts))
    different = Counter(itertools.chain.from_iterable({frozenset(found) for found in texts}))
    fewest = max(_FEWEST, _LEAST_SHARE * len(texts))
    candidates = sorted(term for term, many in count.items() if many >= fewest)
    if not candidates or not others:
        return []
    shared = map(set(candidates).intersection, others)
    other_count = Counter(itertools.chain.from_iterable(shared))
    here = np.array([count[term] for term in candidates], float)
    there = np.array([other_count[term] for term in candidates], float)
    n, other_n = len(texts), len(others)
    prior = _PRIOR * (here + there) / (n + other_n)
    z = _z_score(here, n, there, other_n, prior)
    lift = (here / n) / np.maximum(there / other_n, 1e-12)
    order = np.argsort(-z, kind="stable")
    clear = (candidates[at] for at in order if z[at] >= _LEAST_Z and lift[at] >= _LEAST_LIFT)
    good = [term for term in clear if different[term] > 1]
    known = Counter(itertools.chain.from_iterable(map(set(good).intersection, rest)))
    rarer = [term for term in good if count[term] * len(rest) >= _LEAST_LIFT * n * known[term]]
    return _distinct(rarer or good)


def _z_score(here: Floats, n: int, there: Floats, other_n: int, prior: Floats) -> Floats:
    """Return the difference of the log odds in standard errors, shape (w,)."""
    ours, theirs = here + prior, there + prior
    total = _PRIOR + _REST
    ours_without, theirs_without = n + total - ours, other_n + total - theirs
    difference = np.log(ours / ours_without) - np.log(theirs / theirs_without)
    z: Floats = difference / np.sqrt(1 / ours + 1 / theirs)
    return z


def _distinct(ordered: Iterable[str]) -> list[str]:
    """Take the first terms that share no word with one before."""
    taken: list[str] = []
    used: set[str] = set()
    for term in ordered:
        words = set(term.split())
        if not words & used:
            taken.append(term)
            used |= words
        if len(taken) == _MOST:
            break
    return taken
