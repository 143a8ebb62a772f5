"""Configuration: the sources of the values of settings.

Precedence, highest first: command-line flags, environment variables
``EMBEDDING_DRIFT_SECTION_KEY`` (for secrets also ``..._FILE``, which names a file that holds the
value), the YAML file, the defaults.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, HttpUrl, SecretStr, ValidationError

from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.settings.document import Document, Keys, parse, read
from ingest.runtime.settings.settings import ENVIRONMENT_PREFIX, Key, Settings, keys

CONFIG_VARIABLE = "EMBEDDING_DRIFT_CONFIG"
"""Environment variable that names the configuration file."""

# Kubernetes sets such variables in every pod for each Service of the namespace. Those of a Service
# called embedding-drift-ingest have the prefix of settings.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_(TCP|UDP)\w*)?)$")


class SecretFile(SecretStr):
    """A secret in a file, which is read again at each use, because it may change.

    Raises
    ------
    SettingsError
        If the file cannot be read, at construction or at a use.
    """

    def __init__(self, variable: str, path: Path) -> None:
        self._variable = variable
        self._path = path
        super().__init__(self.get_secret_value())

    def get_secret_value(self) -> str:
        """Read the secret."""
        try:
            return self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"{self._variable}: {self._path} cannot be read: {error.strerror}"
            ) from error
        except UnicodeDecodeError as error:
            raise SettingsError(
                f"{self._variable}: {self._path} is not UTF-8 (byte {error.start})"
            ) from None


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Merge the sources by precedence and validate the result.

    Parameters
    ----------
    file : Path or None
        YAML file; None reads no file.
    environment : mapping or None
        Environment variables; those without the prefix are ignored.
    flags : mapping or None
        Dotted keys (``server.port``) to values from the command line.

    Raises
    ------
    SettingsError
        Naming every unknown key, wrong type and impossible value by its place, and what is allowed.
        It never quotes a text that stands as a value.
    """
    document = Document() if file is None else _read_file(file)
    values = {} if document.values is None else document.values
    places: dict[Keys, str] = {}
    for key, value in _read_environment(environment or {}):
        _set(values, key.dotted, value)
        places[tuple(key.dotted.split("."))] = key.variable
    for dotted, value in (flags or {}).items():
        _set(values, dotted, value)
        places[tuple(dotted.split("."))] = "command line"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        source = str(file) if file is not None else "the configuration"
        document = Document(values, {**document.places, **places})
        raise SettingsError(
            f"{source} is invalid:", [_problem(e, document) for e in error.errors()]
        ) from None


def from_text(text: str, dotted: str) -> object:
    """Read the value of a key from an environment variable or an argument."""
    found = next((key for key in keys() if key.dotted == dotted), None)
    return text if found is None else _from_text(text, found.kind)


def _read_file(file: Path) -> Document:
    document = read(file)
    values = document.values
    if values is None:
        return document
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold sections ({', '.join(Settings.model_fields)})")
    # YAML reads an empty section ("ingest:") as null; it is a section that sets nothing.
    sections = {key: {} if value is None else value for key, value in values.items()}
    return Document(sections, document.places)


def _read_environment(environment: Mapping[str, str]) -> Iterator[tuple[Key, object]]:
    unknown = {name for name in environment if name.startswith(ENVIRONMENT_PREFIX)}
    unknown -= {CONFIG_VARIABLE}
    for key in keys():
        name, file = key.variable, f"{key.variable}_FILE"
        if key.is_secret and file in unknown:
            unknown.remove(file)
            yield key, SecretFile(file, Path(environment[file]))
        if name in unknown and not environment[name].startswith("tcp://"):
            unknown.remove(name)
            yield key, _from_text(environment[name], key.kind)
    unknown = {name for name in unknown if not _SERVICE_LINK.search(name)}
    if unknown:
        known = [key.variable for key in keys()]
        raise SettingsError(
            "the environment is invalid:",
            [Problem(name, f"unknown variable{_nearest(name, known)}") for name in sorted(unknown)],
        )


def _from_text(text: str, kind: Any) -> object:
    if kind is str or {str, SecretStr, HttpUrl} & set(get_args(kind)) or kind is HttpUrl:
        return text
    try:
        return parse(text).values
    except yaml.YAMLError:
        return text  # validation will refuse it


def _set(values: Any, dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return  # the section has the wrong type, which validation will report
    values[key] = value


def _problem(error: Any, document: Document) -> Problem:
    found = document.problem(error)
    if error["type"] != "extra_forbidden":
        return found
    *parents, last = map(str, error["loc"])
    allowed = list(_section(parents).model_fields)
    return Problem(found.pointer, f"{found.reason}{_nearest(last, allowed)}")


def _section(location: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Settings
    parts = iter(location)
    for part in parts:
        kind = model.model_fields[part].annotation
        if get_origin(kind) is dict:
            _, kind = get_args(kind)
            next(parts)  # the name of the entry
        assert isinstance(kind, type)
        model = kind
    return model


def _nearest(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f" (allowed: {', '.join(allowed)}){hint}" if len(allowed) < 15 else hint
