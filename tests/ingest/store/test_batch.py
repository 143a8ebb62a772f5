"""A batch is cut and picked from with all its columns."""

from __future__ import annotations

import numpy as np

from ingest.store.batch import Batch

VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)
BATCH = Batch(
    "m",
    VECTORS,
    ids=["a", "b", None, "d", "e"],
    metadata=[b"{}", None, b"{}", None, None],
    timestamps=[0.0, 1.0, 2.0, None, 4.0],
    idempotency_key="key",
    fingerprint=b"fingerprint",
)


def test_a_batch_has_a_length_and_a_dimension() -> None:
    assert (len(BATCH), BATCH.dimension) == (5, 3)


def test_taken_vectors_keep_their_columns_and_the_request() -> None:
    taken = BATCH.take([3, 0])
    np.testing.assert_array_equal(taken.vectors, VECTORS[[3, 0]])
    assert taken.vectors.flags.c_contiguous
    assert taken.ids == ["d", "a"]
    assert taken.metadata == [None, b"{}"]
    assert taken.timestamps == [None, 0.0]
    assert (taken.model_name, taken.idempotency_key) == ("m", "key")
    assert taken.fingerprint == b"fingerprint"


def test_columns_that_a_batch_lacks_stay_missing() -> None:
    taken = Batch("m", VECTORS).take([1])
    assert (taken.ids, taken.metadata, taken.timestamps) == (None, None, None)


def test_parts_have_a_limited_size_and_keep_the_order() -> None:
    parts = list(BATCH.parts(2))
    assert [part.ids for part in parts] == [["a", "b"], [None, "d"], ["e"]]
    np.testing.assert_array_equal(np.concatenate([part.vectors for part in parts]), VECTORS)


def test_a_batch_that_is_small_enough_is_its_only_part() -> None:
    assert list(BATCH.parts(5)) == [BATCH]
