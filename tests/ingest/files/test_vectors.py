"""One vector, whatever a cell holds."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from ingest.files.vectors import is_text_of_vector, read

VECTOR = np.arange(8, dtype=np.float32) / 4


@pytest.mark.parametrize(
    "cell",
    [
        VECTOR.tolist(),
        VECTOR,
        [VECTOR.tolist()],
        VECTOR.tobytes(),
        base64.b64encode(VECTOR.tobytes()).decode(),
        {"float": VECTOR.tolist()},
        str(VECTOR),
        repr(VECTOR),
        repr(list(VECTOR)),
        str(VECTOR.tolist()),
        " ".join(map(str, VECTOR.tolist())),
    ],
)
def test_a_vector_is_read(cell: object) -> None:
    found = read(cell)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTOR)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "has no vector"),
        ("  ", "has no vector"),
        ([], "has an empty vector"),
        ("[]", "has an empty vector"),
        (b"", "has an empty vector"),
        (b"12345", "has 5 bytes where a vector is needed; float32 takes a multiple of 4"),
        ([1.0, "x"], "has a vector whose component 1 is 'x'; components must be numbers"),
        ([True, 0.5], "has a vector whose component 0 is True"),
        ("[0.1 ... 0.3]", "has a vector that the program which wrote it abbreviated"),
        ("hello", "has 'hello' where a vector is needed; allowed are lists"),
        ({"indices": [1], "values": [1.0]}, "has a sparse vector; only dense"),
        ({"a": 1}, "has an object with a where a vector is needed"),
    ],
)
def test_anything_else_has_a_reason(cell: object, reason: str) -> None:
    found = read(cell)
    assert isinstance(found, str)
    assert found.startswith(reason)


@pytest.mark.parametrize("text", ["[1, 2]", "{1,2}", "[1 2]", "array([1, 2])", "[0.1 ... 0.2]"])
def test_a_column_of_such_texts_holds_vectors(text: str) -> None:
    assert is_text_of_vector(text)


@pytest.mark.parametrize("text", ["7", "2026", "1,000,000", "a text", "[1]", "2026-01-01", "1 2"])
def test_a_column_of_such_texts_does_not(text: str) -> None:
    assert not is_text_of_vector(text)
