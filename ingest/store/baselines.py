"""Pinned baselines: copies of vectors, and the detector that was fitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ingest.runtime.errors import NotFound
from ingest.store import copy
from ingest.store.dimension import check_dimension, require_dimension
from ingest.store.registration import keep_dimension
from ingest.store.stored_vector import StoredVector

KEPT_VERSIONS = 3
"""Automatic versions of a model's baseline that are kept, and as many of those that people pinned
or chose. One more drops the oldest of its kind."""
_ADVISORY_LOCK = 0x456D6242  # "EmbB"
# The one in use is the one that was chosen last, also if the clock was set back since.
_USED_NOW = sql.SQL(
    "greatest(clock_timestamp(), (select max(used_at) + interval '1 microsecond' from baseline"
    " where model_name = %(name)s))"
)


@dataclass(frozen=True, slots=True)
class StoredBaseline:
    """A version of a model's baseline.

    Attributes
    ----------
    version : int
    pinned_at : datetime
    vectors : int
        How many vectors it has.
    last_seq : int
        Number of its newest vector.
    first_at, last_at : datetime
        When its oldest and its newest vector arrived, or were made if they are not from the store.
    automatic : bool
        Whether the exporter pinned it by itself, and nobody has chosen it since.
    matures : bool
        Whether the exporter may replace it.
    used_at : datetime
        When it was pinned or chosen last.
    source : str
        How the vectors were selected, for people.
    quality : dict
        Quality of the vectors, as JSON. The store does not interpret it.
    detector : bytes
        The fitted detector. The store does not interpret it.
    time_zone : str
        IANA name of the time zone by whose local time it knows the seasons.
    """

    version: int
    pinned_at: datetime
    vectors: int
    last_seq: int
    first_at: datetime
    last_at: datetime
    automatic: bool
    matures: bool
    used_at: datetime
    source: str
    quality: dict[str, Any]
    detector: bytes
    time_zone: str


def lock(connection: psycopg.Connection) -> None:
    """Keep others from pinning or choosing a baseline until the transaction ends."""
    # Not the lock of the model's row: writers of the model would wait while vectors are copied.
    # One for all models, because the release before takes it, too.
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])


def lock_shared(connection: psycopg.Connection) -> None:
    """Keep others from changing baselines and from removing models until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock_shared(%s)", [_ADVISORY_LOCK])


@contextmanager
def hold(
    connection: psycopg.Connection, model_name: str, version: int, pinned_at: datetime
) -> Iterator[None]:
    """Keep a baseline, and its model, from being removed, in a transaction.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    model_name : str
    version : int
    pinned_at : datetime
        A baseline that was pinned at another time is of another model of this name.

    Raises
    ------
    NotFound
        If it is gone.
    """
    with connection.transaction():
        lock_shared(connection)
        found = connection.execute(
            "select from baseline where model_name = %s and version = %s and pinned_at = %s",
            [model_name, version, pinned_at],
        )
        if not found.rowcount:
            raise NotFound(
                f"baseline {version} of model {model_name} is gone: the model was removed, or newer"
                " baselines were pinned"
            )
        yield


def drop_indexes(connection: psycopg.Connection) -> None:
    """Drop the indexes that the release before makes of large baselines.

    They would outlive their baselines, and one of another dimension would refuse new vectors.

    Parameters
    ----------
    connection : psycopg.Connection
        Of the owner of the tables, in autocommit mode.

    Raises
    ------
    psycopg.errors.LockNotAvailable
        If a running search would make this call, and with it all later searches, wait.
    """
    found = connection.execute(
        "select nspname, relname from pg_index join pg_class on pg_class.oid = indexrelid"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where indrelid = 'baseline_embedding'::regclass"
        " and relname ~ '^baseline_[0-9a-f]{32}_[0-9]+$'"
    ).fetchall()
    for names in found:
        with connection.transaction():
            lock(connection)
            connection.execute("set local lock_timeout = '200ms'")
            connection.execute(sql.SQL("drop index if exists {}").format(sql.Identifier(*names)))


def in_use(connection: psycopg.Connection, model_name: str) -> int | None:
    """Return the version of a model's baseline that is in use: the one that was chosen last.

    None if there is none.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    require_dimension(connection, model_name)
    found = connection.execute(
        "select version from baseline_in_use where model_name = %s", [model_name]
    ).fetchone()
    return None if found is None else int(found[0])


def use(connection: psycopg.Connection, model_name: str, version: int) -> None:
    """Choose a version of a model's baseline. From now on, only people replace it.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    with connection.transaction():
        lock(connection)
        chosen = connection.execute(
            sql.SQL(
                "update baseline set used_at = {}, automatic = false, matures = false"
                " where model_name = %(name)s and version = %(version)s"
            ).format(_USED_NOW),
            {"name": model_name, "version": version},
        )
        if not chosen.rowcount:
            raise NotFound(f"model {model_name} has no baseline {version}")


def create(
    connection: psycopg.Connection,
    model_name: str,
    rows: NDArray[np.void],
    detector: bytes,
    quality: dict[str, Any],
    source: str,
    instead_of: int | None = None,
    time_zone: str = "UTC",
) -> int | None:
    """Pin a new version of a model's baseline: store its detector and copies of its vectors.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    rows : structured ndarray
        What :func:`ingest.store.selection.select` returned.
    detector : bytes
        The detector fitted to these vectors.
    quality : dict
        Quality of these vectors, as JSON.
    source : str
        How the vectors were selected, for people.
    instead_of : int, optional
        Pin it automatically, unless another version than this one is in use by now, or a person
        has chosen it; 0 stands for none. Without it, a person pins it.
    time_zone : str
        See `StoredBaseline`.

    Returns
    -------
    int or None
        The version, or None if nothing was done.

    Raises
    ------
    NotFound
        If there is no such model, or some of the vectors are not stored any more: they expired, or
        the model was removed, and is another one of its name now.
    """
    with connection.transaction():
        version = _next_version(connection, model_name)
        automatic = instead_of is not None
        if automatic and _replaceable(connection, model_name) != instead_of:
            return None
        last_seq = int(rows["seq"].max())
        _insert(
            connection,
            model_name,
            version,
            rows,
            last_seq,
            automatic,
            source,
            quality,
            detector,
            time_zone,
        )
        _copy_vectors(connection, model_name, version, rows)
        _drop_old_versions(connection, model_name)
    return version


def create_from_vectors(
    connection: psycopg.Connection,
    model_name: str,
    rows: NDArray[np.void],
    detector: bytes,
    quality: dict[str, Any],
    source: str,
    time_zone: str = "UTC",
) -> int:
    """Pin a new version of a model's baseline whose vectors are not in the store.

    The model is created if it does not exist. Vectors that arrived after these were made count as
    newer than the baseline.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    model_name : str
    rows : structured ndarray
        As for :func:`create`; ``seq`` counts from 1.
    detector, quality, source, time_zone
        See :func:`create`.

    Returns
    -------
    int
        The version.

    Raises
    ------
    DimensionMismatch
        If the model's vectors have another dimension.
    """
    components = rows["embedding"].shape[1]
    # In its own transaction: otherwise writers of the model would wait for the vectors.
    connection.execute(
        "insert into model (model_name, dimension) values (%s, %s) on conflict do nothing",
        [model_name, components],
    )
    check_dimension(connection, model_name, components)
    with connection.transaction():
        version = _next_version(connection, model_name)
        last_seq = _last_seq(connection, model_name, rows["received_at"].max())
        _insert(
            connection,
            model_name,
            version,
            rows,
            last_seq,
            False,
            source,
            quality,
            detector,
            time_zone,
        )
        _write_vectors(connection, model_name, version, rows)
        _drop_old_versions(connection, model_name)
        # A sender decides on the dimension of a model without vectors and without a baseline.
        keep_dimension(connection, model_name, components)
    return version


def _replaceable(connection: psycopg.Connection, model_name: str) -> int | None:
    """Return the version in use, 0 without one; None if only people may replace it."""
    found = connection.execute(
        "select version, matures from baseline_in_use join baseline using (model_name, version)"
        " where model_name = %s",
        [model_name],
    ).fetchone()
    if found is None:
        return 0
    version, matures = found
    return int(version) if matures else None


def drop(connection: psycopg.Connection, model_name: str) -> None:
    """Drop all baselines of a model, in a transaction that took :func:`lock`."""
    for table in ("baseline", "baseline_embedding"):
        statement = sql.SQL("delete from {} where model_name = %s").format(sql.Identifier(table))
        connection.execute(statement, [model_name])


def _next_version(connection: psycopg.Connection, model_name: str) -> int:
    lock(connection)
    require_dimension(connection, model_name)  # raises if it was removed in the meantime
    found = connection.execute(
        "select coalesce(max(version), 0) + 1 from baseline where model_name = %s", [model_name]
    ).fetchone()
    assert found is not None
    return int(found[0])


def _last_seq(connection: psycopg.Connection, model_name: str, received_at: float) -> int:
    found = connection.execute(
        "select coalesce(max(seq), 0) from embedding"
        " where model_name = %s and received_at <= to_timestamp(%s)",
        [model_name, received_at],
    ).fetchone()
    assert found is not None
    return int(found[0])


def _insert(
    connection: psycopg.Connection,
    model_name: str,
    version: int,
    rows: NDArray[np.void],
    last_seq: int,
    automatic: bool,
    source: str,
    quality: dict[str, Any],
    detector: bytes,
    time_zone: str,
) -> None:
    connection.execute(
        sql.SQL(
            "insert into baseline (model_name, version, vectors, last_seq, first_at, last_at,"
            " automatic, matures, source, quality, detector, time_zone, used_at)"
            " values (%(name)s, %(version)s, %(vectors)s, %(last_seq)s, to_timestamp(%(first_at)s),"
            " to_timestamp(%(last_at)s), %(automatic)s, true, %(source)s, %(quality)s,"
            " %(detector)s, %(time_zone)s, {})"
        ).format(_USED_NOW),
        {
            "name": model_name,
            "version": version,
            "vectors": len(rows),
            "last_seq": last_seq,
            "first_at": rows["received_at"].min(),
            "last_at": rows["received_at"].max(),
            "automatic": automatic,
            "source": source,
            "quality": Jsonb(quality),
            "detector": detector,
            "time_zone": time_zone,
        },
    )


def _copy_vectors(
    connection: psycopg.Connection, model_name: str, version: int, rows: NDArray[np.void]
) -> None:
    copied = connection.execute(
        "insert into baseline_embedding"
        " (model_name, version, seq, received_at, embedded_at, id, metadata, embedding)"
        " select model_name, %s, seq, received_at, embedded_at, id, metadata, embedding"
        " from embedding where model_name = %s and seq = any(%s)"
        " and received_at between to_timestamp(%s) and to_timestamp(%s)",
        [
            version,
            model_name,
            rows["seq"].tolist(),
            # The times were rounded to floating point. Vectors of another model of the same name
            # have the same numbers, but came later.
            rows["received_at"].min() - 1e-3,
            rows["received_at"].max() + 1e-3,
        ],
    ).rowcount
    if copied != len(rows):
        gone = len(rows) - copied
        raise NotFound(
            f"{gone} of the {len(rows)} vectors of a baseline of model {model_name} are not stored"
            " any more; they went while its detector was fitted"
        )


def _write_vectors(
    connection: psycopg.Connection, model_name: str, version: int, rows: NDArray[np.void]
) -> None:
    register_vector(connection)
    statement = (
        "copy baseline_embedding (model_name, version, seq, received_at, embedding)"
        " from stdin (format binary)"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.set_types(["text", "int4", "int8", "timestamptz", "vector"])
        for row in rows:
            moment = datetime.fromtimestamp(row["received_at"], UTC)
            stream.write_row((model_name, version, int(row["seq"]), moment, row["embedding"]))


def _drop_old_versions(connection: psycopg.Connection, model_name: str) -> None:
    """Keep the newest versions of each kind."""
    found = connection.execute(
        "select version from (select version, rank() over (partition by automatic order by version"
        " desc) as place from baseline where model_name = %s) as ranked where place > %s",
        [model_name, KEPT_VERSIONS],
    )
    dropped = [version for (version,) in found]
    for table in ("baseline", "baseline_embedding"):
        connection.execute(
            sql.SQL("delete from {} where model_name = %s and version = any(%s)").format(
                sql.Identifier(table)
            ),
            [model_name, dropped],
        )


def load(connection: psycopg.Connection, model_name: str, version: int) -> StoredBaseline:
    """Read one version of a model's baseline.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    # In text, a detector of 10 MB comes as 20 million hexadecimal digits.
    with connection.cursor(binary=True, row_factory=class_row(StoredBaseline)) as cursor:
        cursor.execute(
            "select version, pinned_at, vectors, last_seq, first_at, last_at, automatic, matures,"
            " used_at, source, quality, detector, time_zone"
            " from baseline where model_name = %s and version = %s",
            [model_name, version],
        )
        found = cursor.fetchone()
    if found is None:
        raise NotFound(f"model {model_name} has no baseline {version}")
    return found


def vectors(
    connection: psycopg.Connection, model_name: str, version: int, components: int
) -> NDArray[np.float32]:
    """Read the vectors of one version of a model's baseline, shape (n, components)."""
    found: NDArray[np.float32] = rows(connection, model_name, version, components)["embedding"]
    return found


def rows(
    connection: psycopg.Connection, model_name: str, version: int, components: int
) -> NDArray[np.void]:
    """Read the vectors of one version of a model's baseline in the order of their arrival.

    Returns
    -------
    structured ndarray, shape (n,)
        The fields of :func:`ingest.store.selection.select`.
    """
    statement = sql.SQL(
        "copy (select seq, received_at, embedding from baseline_embedding"
        " where model_name = {name} and version = {version} order by received_at, seq)"
        " to stdout (format binary)"
    ).format(name=sql.Literal(model_name), version=sql.Literal(version))
    with (
        connection.transaction(),
        connection.cursor() as cursor,
        cursor.copy(statement) as stream,
    ):
        return copy.decode(stream, components)


def described(
    connection: psycopg.Connection, model_name: str, version: int, dimension: int
) -> tuple[list[StoredVector], NDArray[np.float32]]:
    """Read the vectors of one version of a model's baseline, with what clients said of them.

    Returns
    -------
    described : list of StoredVector, length n
        In the order of their arrival.
    vectors : ndarray of float32, shape (n, dimension)
    """
    found = connection.execute(
        "select seq, id, received_at, embedded_at, metadata, vector_send(embedding)"
        " from baseline_embedding where model_name = %s and version = %s order by received_at, seq",
        [model_name, version],
        binary=True,
    ).fetchall()
    vectors = copy.decode_sent([row[-1] for row in found], dimension)
    return [StoredVector(*row[:-1]) for row in found], vectors


def replace_detector(
    connection: psycopg.Connection,
    model_name: str,
    version: int,
    pinned_at: datetime,
    detector: bytes,
) -> None:
    """Replace the detector of a baseline by one of the same vectors.

    A baseline that was pinned at another time is of another model of this name, and stays.
    """
    connection.execute(
        "update baseline set detector = %s"
        " where model_name = %s and version = %s and pinned_at = %s",
        [detector, model_name, version, pinned_at],
    )


class Version(NamedTuple):
    """A version of a model's baseline, without its detector."""

    version: int
    pinned_at: datetime
    vectors: int
    first_at: datetime
    last_at: datetime
    automatic: bool
    source: str
    in_use: bool


def versions(connection: psycopg.Connection, model_name: str) -> list[Version]:
    """List the versions of a model's baseline, newest first.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    require_dimension(connection, model_name)
    cursor = connection.execute(
        "select version, pinned_at, vectors, first_at, last_at, automatic, source,"
        " exists (select from baseline_in_use as used where used.model_name = baseline.model_name"
        " and used.version = baseline.version)"
        " from baseline where model_name = %s order by version desc",
        [model_name],
    )
    return [Version(*row) for row in cursor]
