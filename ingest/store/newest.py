"""The newest vectors of a model, with what their clients said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.store import copy
from ingest.store.stored_vector import StoredVector


def newest(
    connection: psycopg.Connection,
    model_name: str,
    dimension: int,
    seconds: int,
    count: int,
    after: int = 0,
) -> tuple[Sequence[StoredVector], NDArray[np.float32]]:
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
    after : int
        Leave out vectors with this number or a lower one.

    Returns
    -------
    described : sequence of StoredVector, length n
        The newest first.
    vectors : ndarray of float32, shape (n, dimension)
    """
    found = connection.execute("select last_seq from model where model_name = %s", [model_name])
    last_seq = max((seq for (seq,) in found), default=0)
    # By number: once the clock was set back, older vectors have later times. The times select the
    # part of the index that is read, and the limit ends that as soon as all are found.
    after = max(after, last_seq - count)
    rows = connection.execute(
        "select seq, id, received_at, embedded_at, metadata, vector_send(embedding) from embedding"
        " where model_name = %s and seq > %s and vector_dims(embedding) = %s"
        " and received_at > clock_timestamp() - make_interval(secs => %s)"
        " order by received_at desc, seq desc limit %s",
        (model_name, after, dimension, seconds, max(last_seq - after, 0)),
        binary=True,
    ).fetchall()
    rows.sort(key=lambda row: row[0], reverse=True)
    vectors = copy.decode_sent([row[-1] for row in rows], dimension)
    return [StoredVector(*row[:-1]) for row in rows], vectors
