"""Which columns of a file hold the vectors, ids, times, texts and models."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import digits

from ingest.files.names import EMBEDDING, ID, MODEL, TEXT, TIMESTAMP, USUAL
from ingest.files.table import Kind, Times

_IDS = (ID, "ids", "_id")
_SEPARATORS = ("_", ".", "-", " ")
"""What may stand before the number of a component."""
_LONGEST_NUMBER = 9
"""Digits of the number of a component."""
_SHOWN_NAMES, _SHOWN_LETTERS = 30, 80
"""Columns that an error lists, and letters of each."""
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__|index|level_0")
"""Columns of row numbers that pandas writes."""
_FEWEST = 2
"""Components of the shortest vector that is found in columns of numbers."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to read files, as the commands' options say.

    Attributes
    ----------
    vector, id, time, text, model : str or None
        Names of columns; None means that the usual name is used if there is such a column. For
        ``vector``, a pattern such as ``dim_*`` names one column for each component.
    drop : sequence of str
        Columns to leave out, with all that lies in them. They may be fields of objects.
    times : Times
    """

    vector: str | None = None
    id: str | None = None
    time: str | None = None
    text: str | None = None
    model: str | None = None
    drop: Sequence[str] = ()
    times: Times = field(default_factory=Times)


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns of one file.

    Attributes
    ----------
    vectors : tuple of str
        The column of vectors, or the columns of their components in order.
    is_wide : bool
        Whether each column holds a component.
    id, time, text, model : str or None
    others : tuple of str
        Columns of metadata.
    """

    vectors: tuple[str, ...]
    is_wide: bool
    id: str | None
    time: str | None
    text: str | None
    model: str | None
    others: tuple[str, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """All columns but those of metadata, the vectors' first."""
        beside = (self.id, self.time, self.text, self.model)
        return (*self.vectors, *(name for name in beside if name is not None))


def choose(
    kinds: Mapping[str, Kind], options: Options, objects: Mapping[str, str] | None = None
) -> Choice:
    """Find the columns of a file.

    Parameters
    ----------
    kinds : mapping of str to Kind
    options : Options
    objects : mapping of str to str, optional
        See `Table`.

    Raises
    ------
    ValueError
        If a column that an option names does not exist, or if none or several may be the vectors.
    """
    for option in ("vector", "id", "time", "text", "model"):
        name = getattr(options, option)
        if name is not None and not _matching(kinds, name):
            raise ValueError(f"--{option}-column {name!r}: {it_has(kinds)}")
    for name in options.drop:
        if name not in kinds:
            raise ValueError(f"--drop {name!r}: {it_has(kinds)}")
    objects = objects or {}
    dropped = {
        name for name in kinds if not {name, *_around([name], objects)}.isdisjoint(options.drop)
    }
    kept = [name for name in kinds if name not in dropped]
    time = options.time or _present(kept, TIMESTAMP)
    text = options.text or _present(kept, TEXT)
    model = options.model or _present(kept, MODEL)
    named_id = options.id or next((name for name in _IDS if name in kept), None)
    taken = {*dropped, time, text, model, named_id}
    free = {name: kind for name, kind in kinds.items() if name not in taken}
    vectors, is_wide = _vectors(free, kinds, options.vector)
    around = _around(vectors, objects)
    # Directly beside them: what objects further out are named is not the vector's.
    inner = {objects[name] for name in vectors if name in objects}
    beside = [name for name in kept if objects.get(name) in inner]
    time = time or _within(beside, TIMESTAMP)
    text = text or _within(beside, TEXT)
    model = model or _within(beside, MODEL)
    named_id = named_id or next(filter(None, (_within(beside, name) for name in _IDS)), None)
    used = {*vectors, *taken, *around, time, text, model, named_id}
    others = [
        name
        for name, kind in kinds.items()
        if name not in used
        # Vectors are too large to be metadata.
        and kind is not Kind.VECTORS
        and not _is_index(name, kind)
        # What lies within an object is metadata with it. The object of the vectors is not, so what
        # lies beside them is metadata of its own.
        and objects.get(name) in {None, *around}
    ]
    return Choice(vectors, is_wide, named_id, time, text, model, tuple(others))


def _around(names: Iterable[str], objects: Mapping[str, str]) -> set[str]:
    """Return all objects that names lie in."""
    found: set[str] = set()
    for name in names:
        around = objects.get(name)
        while around is not None and around not in found:
            found.add(around)
            around = objects.get(around)
    return found


def _is_index(name: str, kind: Kind) -> bool:
    return kind is Kind.NUMBERS and _INDEX.fullmatch(name) is not None


def _present(names: Collection[str], name: str) -> str | None:
    return name if name in names else None


def _within(names: Iterable[str], name: str) -> str | None:
    """Return the first of the fields of objects that has a name."""
    return next((each for each in names if each.endswith(f".{name}")), None)


def _matching(kinds: Mapping[str, Kind], name: str) -> list[str]:
    return [name] if name in kinds else [each for each in kinds if fnmatch.fnmatchcase(each, name)]


def _vectors(
    free: Mapping[str, Kind], kinds: Mapping[str, Kind], wanted: str | None
) -> tuple[tuple[str, ...], bool]:
    if wanted is not None:
        found = [name for name in _matching(kinds, wanted) if kinds[name] is not Kind.FOLDER]
        if not found:
            raise ValueError(f"--vector-column {wanted!r} is {Kind.FOLDER.value}; {it_has(kinds)}")
        is_wide = found != [wanted] or kinds[wanted] is Kind.NUMBERS
        return _in_order(found) if is_wide else tuple(found), is_wide
    lists = [name for name, kind in free.items() if kind is Kind.VECTORS]
    # A column of this name holds them even if its first value cannot be read.
    if free.get(EMBEDDING) in (Kind.VECTORS, Kind.OTHER):
        return (EMBEDDING,), False
    usual = [name for name in lists if name.lower() in USUAL]
    if len(lists) == 1 or len(usual) == 1:
        return ((usual or lists)[0],), False
    if lists:
        raise ValueError(
            f"has {len(lists)} columns of vectors: {_listed(lists)}; choose one with"
            " --vector-column"
        )
    components = _components(free)
    if components:
        return components, True
    # Base64 that may be anything, such as that of zeros, is no vector by itself.
    named = [name for name, kind in free.items() if kind is Kind.OTHER and name.lower() in USUAL]
    if len(named) == 1:
        return (named[0],), False
    raise ValueError(
        f"has no column of vectors; {it_has(kinds)}. Name the one that holds lists of numbers, or"
        " the columns of components (such as 'dim_*'), with --vector-column"
    )


def _components(free: Mapping[str, Kind]) -> tuple[str, ...]:
    """Find columns of components: numbered ones, or else all, if they are numbers."""
    numbers = [
        name for name, kind in free.items() if kind is Kind.NUMBERS and not _is_index(name, kind)
    ]
    groups: dict[str, list[str]] = {}
    for name in numbers:
        stem, number = _numbered(name)
        if number is not None:
            groups.setdefault(stem, []).append(name)
    longest = max(groups.values(), key=len, default=[])
    if len(longest) >= _FEWEST:
        return _in_order(longest)
    plain = [
        name for name, kind in free.items() if kind is not Kind.FOLDER and not _is_index(name, kind)
    ]
    if len(plain) >= _FEWEST and all(free[name] is Kind.NUMBERS for name in plain):
        return tuple(plain)
    return ()


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Sort columns by the numbers in their names, and check that none is missing."""
    numbers = [number for _, number in map(_numbered, names) if number is not None]
    if len(numbers) < len(names):
        return tuple(names)
    numbered = dict(zip(numbers, names, strict=True))
    first = min(numbered)
    missing = [n for n in range(first, first + len(numbered)) if n not in numbered]
    if missing or first > 1 or len(numbered) != len(names):
        at = 0 if first > 1 else min(missing, default=first)
        raise ValueError(
            f"has the components {names[0]!r} to {names[-1]!r}, but number {at} is missing or"
            " comes twice"
        )
    return tuple(numbered[n] for n in sorted(numbered))


def _numbered(name: str) -> tuple[str, int | None]:
    """Cut a name such as `dim_7` into `dim` and 7; the number is None if there is none."""
    stem = name.rstrip(digits)
    number = name[len(stem) :]
    if not 0 < len(number) <= _LONGEST_NUMBER:
        return name, None
    return stem[:-1] if stem[-1:] in _SEPARATORS else stem, int(number)


def it_has(kinds: Mapping[str, Kind]) -> str:
    """List the columns of a file, for messages."""
    return f"its columns are {_listed(list(map(repr, kinds))) or 'none'}"


def _listed(names: Sequence[str]) -> str:
    """List names, not all and not the whole of each if there are many or they are long."""
    shown = ", ".join(f"{name:.{_SHOWN_LETTERS}}" for name in names[:_SHOWN_NAMES])
    return shown + ", ..." * (len(names) > _SHOWN_NAMES)
