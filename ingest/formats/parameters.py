"""Parameters of a request: what its body may not say of its model and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingest.files.dtypes import DTYPES
from ingest.formats import checks
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.settings.settings import IngestSettings


@dataclass(frozen=True, slots=True)
class Parameters:
    """Model, dimension and type of numbers, as text; None where they are not given.

    The default model counts if neither they nor the body name one.
    """

    model_name: str | None = None
    dimension: str | None = None
    dtype: str | None = None
    default_model: str | None = None

    @classmethod
    def of(
        cls, headers: Mapping[str, str], query: Mapping[str, str], default_model: str | None = None
    ) -> Parameters:
        """Read them from headers or query.

        Raises
        ------
        PayloadError
            If header and query disagree.
        """
        return cls(
            _either(_decoded(headers, "x-model-name"), "X-Model-Name", query, "model_name"),
            _either(headers.get("x-dimension"), "X-Dimension", query, "dimension"),
            _either(headers.get("x-dtype"), "X-Dtype", query, "dtype"),
            default_model,
        )

    def checked_model_name(self, named: str | None = None, pointer: str = "") -> str:
        """Return the model's name.

        Parameters
        ----------
        named : str, optional
            The name in the body, which counts if no other is given.
        pointer : str
            JSON pointer to it.

        Raises
        ------
        PayloadError
            If it is missing or not allowed.
        """
        if self.model_name is None and named is not None:
            return checks.model_name(named, pointer)
        if self.model_name is None and self.default_model is not None:
            return self.default_model
        if self.model_name is None:
            field = f"{pointer[1:]} in the body, " if pointer else ""
            raise PayloadError(
                f"the model is missing: give {field}header X-Model-Name or query model_name"
            )
        return checks.model_name(self.model_name, "X-Model-Name")

    def checked_dtype(self, named: str | None = None) -> str | None:
        """Return the type of numbers in bytes, or None if it is not given.

        Parameters
        ----------
        named : str, optional
            The type in the body, which counts if no other is given.

        Raises
        ------
        PayloadError
            If it is not allowed.
        """
        given, pointer = (named, "/dtype") if self.dtype is None else (self.dtype, "X-Dtype")
        if given is not None and given not in DTYPES:
            problem = f"{given:.20} is not allowed; allowed are {', '.join(DTYPES)}"
            raise checks.refuse([Problem(pointer, problem)])
        return given

    def checked_dimension(self, limits: IngestSettings) -> int | None:
        """Return the dimension, or None if it is not given.

        Raises
        ------
        PayloadError
            If it is not a number or not allowed.
        """
        given = self.dimension
        if given is None:
            return None
        # Long numbers are refused as text, because converting them to int takes very long.
        if not (given.isascii() and given.isdecimal() and len(given) < 10 and int(given) > 0):
            problem: str | None = f"{given[:20]!r} is not a whole number above 0"
        else:
            problem = checks.dimension(int(given), limits)
        if problem is not None:
            raise checks.refuse([Problem("X-Dimension", problem)])
        return int(given)


def _decoded(headers: Mapping[str, str], header: str) -> str | None:
    """Return a header as UTF-8 if it is that; HTTP reads headers as Latin-1."""
    value = headers.get(header)
    if value is None or value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _either(value: str | None, header: str, query: Mapping[str, str], parameter: str) -> str | None:
    if not query:
        return value
    given = {value, query.get(parameter)} - {None}
    if len(given) > 1:
        raise PayloadError(f"header {header} and query parameter {parameter} disagree")
    return given.pop() if given else None
