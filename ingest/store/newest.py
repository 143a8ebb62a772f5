"""The newest vectors of a model, with what their clients said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class NewVector:
    """A stored vector without its components.

    Attributes
    ----------
    seq : int
        Its number.
    id : str or None
        The id that its client gave it.
    received_at : datetime
        When it arrived.
    embedded_at : datetime or None
        When it was made, as its client says.
    metadata : dict or None
    """

    seq: int
    id: str | None
    received_at: datetime
    embedded_at: datetime | None
    metadata: dict[str, Any] | None


def newest(
    connection: psycopg.Connection, model_name: str, dimension: int, seconds: int, count: int
) -> tuple[Sequence[NewVector], NDArray[np.float32]]:
    """Read the newest vectors of a model.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    dimension : int
        Of the model. Vectors of another one, which something else must have written, are left out.
    seconds : int
        Age of the oldest vector.
    count : int
        Number of vectors, at most.

    Returns
    -------
    described : sequence of NewVector, length n
        The newest first.
    vectors : ndarray of float32, shape (n, dimension)
    """
    rows = connection.execute(
        "select seq, id, received_at, embedded_at, metadata, embedding::real[] from embedding"
        " where model_name = %s and vector_dims(embedding) = %s"
        " and received_at > clock_timestamp() - make_interval(secs => %s)"
        " order by received_at desc, seq desc limit %s",
        (model_name, dimension, seconds, count),
        binary=True,
    ).fetchall()
    vectors = np.array([row[-1] for row in rows], np.float32).reshape(-1, dimension)
    return [NewVector(*row[:-1]) for row in rows], vectors
