"""Documents: YAML files, read strictly, with the place of every key.

Refused is what YAML accepts silently, a key that occurs twice or is not text. So are aliases, of
which a few lines make gigabytes, and deep nesting.

Numbers are those of YAML 1.2: `1e-05`, as Helm and JSON write it, is one, `010` is 10, and `1:30`
is a text; YAML 1.1 would read 8 and 90. As in YAML 1.1, underscores may separate digits: `1_000`.

Errors give a place and what is allowed. They never quote the file, which may hold secrets, also
where they do not belong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ingest.runtime.errors import Problem, SettingsError

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 20

# Others are not shown: a misplaced password may stand where a key or the name of an entry belongs.
_KEY = re.compile(r"[a-z][a-z_]{0,40}")
_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")

Keys = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


# Of the core schema of YAML 1.2, and with underscores. What is an integer matches both.
_DIGITS = r"[0-9](?:_?[0-9])*"
_NUMBERS = {
    "tag:yaml.org,2002:int": rf"(?:[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+)$",
    "tag:yaml.org,2002:float": (
        rf"(?:[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


class _Loader(yaml.SafeLoader):
    """The loader of YAML 1.1, with other numbers."""

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Read an integer. A leading zero means nothing; in YAML 1.1 it makes octal numbers."""
        text = node.value
        return int(text, 0 if text[:2] in {"0o", "0x"} else 10)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that is a number of YAML 1.1 or here."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


class Misplaced(ValueError):
    """What is wrong with a key within the part of a document that a validator checks.

    Parameters
    ----------
    path : tuple
        Keys and indices that lead from there to it.
    reason : str
    """

    def __init__(self, path: Keys, reason: str) -> None:
        super().__init__(reason)
        self.path = path


@dataclass(frozen=True)
class Document:
    """What a YAML text holds.

    Attributes
    ----------
    values : object
    places : mapping
        Line and column of each key and item, as text.
    """

    values: Any = None
    places: Mapping[Keys, str] = field(default_factory=dict)

    def place(self, path: Sequence[str | int]) -> str:
        """Return the place of a value, or of the nearest one around it that was given."""
        for end in range(len(path), 0, -1):
            if (found := self.places.get(tuple(path[:end]))) is not None:
                return found
        return ""

    def problem(self, error: Mapping[str, Any]) -> Problem:
        """Describe one error of pydantic by key, place and what is allowed."""
        cause = error.get("ctx", {}).get("error")
        inner = cause.path if isinstance(cause, Misplaced) else ()
        path = [*(part for part in error["loc"] if part != "[key]"), *inner]
        *parents, last = path or [""]
        shown = [str(part) if _ENTRY.fullmatch(str(part)) else "(a name)" for part in parents]
        reason = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            reason = "unknown key"
            last = last if _KEY.fullmatch(str(last)) else "(a key)"
        elif not _ENTRY.fullmatch(str(last)):
            last = "(a name)" if last else "the whole"
        pointer = ".".join([*shown, str(last)])
        place = self.place(path)
        return Problem(pointer, f"{place}: {reason}" if place else reason)


def read(file: Path, setting: str | None = None) -> Document:
    """Read a file.

    Parameters
    ----------
    file : Path
    setting : str or None
        The key that names it, for messages.

    Raises
    ------
    SettingsError
        If it cannot be read or is not a document.
    """
    name = str(file) if setting is None else f"{file} ({setting})"
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}") from error
    return decode(content, name)


def decode(content: bytes, name: str) -> Document:
    """Read the content of a file.

    Parameters
    ----------
    content : bytes
    name : str
        Of the file, for messages.

    Raises
    ------
    SettingsError
        If it is not a document.
    """
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{name} exceeds {_MAX_BYTES} bytes")
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is not UTF-8 (byte {error.start})") from None
    except yaml.YAMLError as error:
        # Not chained: its message quotes the line.
        raise SettingsError(f"{name} is not valid YAML{_explained(error)}") from None


def parse(text: str) -> Document:
    """Read a text.

    Raises
    ------
    yaml.YAMLError
        If it is not a document. Only messages of :class:`_Refused` may be shown.
    """
    _check_shape(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        places: dict[Keys, str] = {}
        return Document(None if node is None else _value(loader, node, (), places), places)
    finally:
        loader.dispose()


def write(values: object) -> str:
    """Return a text that is read as these values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Refused(yaml.MarkedYAMLError):
    """YAML that is not allowed here. The message quotes nothing."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def _check_shape(text: str) -> None:
    """Refuse aliases and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _Refused(
                "anchors (&) and aliases (*) are not allowed; write the value again",
                event.start_mark,
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _Refused(f"nesting deeper than {_MAX_DEPTH} is not allowed", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(loader: _Loader, node: yaml.Node, path: Keys, places: dict[Keys, str]) -> Any:
    """Build a value, and note the place of every key and item in it."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*path, index)] = _shown(item.start_mark)
        return [
            _value(loader, item, (*path, index), places) for index, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            raise _Refused("this value is not allowed; put it in quotes", node.start_mark) from None
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if key_node.tag != "tag:yaml.org,2002:str":
            raise _Refused("this key is not text; put it in quotes", key_node.start_mark)
        if key in values:
            raise _Refused("this key occurs twice", key_node.start_mark)
        places[(*path, key)] = _shown(key_node.start_mark)
        values[key] = _value(loader, value_node, (*path, key), places)
    return values


def _shown(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _explained(error: yaml.YAMLError) -> str:
    """Return where and why a text is not valid, in words that quote nothing of it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reason = error.problem if isinstance(error, _Refused) else error.context
        return f": {_shown(error.problem_mark)}" + (f": {reason}" if reason else "")
    return ": a character is not allowed"  # of yaml.ReaderError, which has no line
