"""One vector, whatever a cell holds."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.files.vectors import bytes_of, is_text_of_vector, read

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


def test_the_bytes_of_a_cell_are_known_and_numbers_are_no_bytes() -> None:
    data = VECTOR.tobytes()
    for cell in (data, base64.b64encode(data).decode()):
        assert bytes_of(np.asarray(read(cell))) == data
    for numbers in (VECTOR, VECTOR.tolist(), str(VECTOR.tolist()), [VECTOR]):
        assert bytes_of(np.asarray(read(numbers))) is None
    [row, _] = np.frombuffer(2 * data, np.float32).reshape(2, -1)
    assert bytes_of(row) is None


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


def encoded(components: NDArray[np.floating[Any]]) -> str:
    return base64.b64encode(components.astype("<f4").tobytes()).decode()


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize("dimension", [16, 384])
def test_a_column_of_float32_in_base64_holds_vectors(dimension: int, scale: float) -> None:
    rng = np.random.default_rng(1)
    vector = (scale * rng.normal(size=dimension)).astype(np.float32)
    assert is_text_of_vector(encoded(vector))
    vector[:3] = [0, np.nan, -np.inf]
    assert is_text_of_vector(encoded(vector))


@pytest.mark.parametrize(
    "text",
    [
        "b1946ac92492d2347c6235b4d2611184",
        "B1946AC9" * 16,
        "0" * 128,
        "customer/support",
        "responsibilities",
        "support/customers/responsibilities/" * 4 + "abcd",
        base64.b64encode(b"a sentence that somebody has encoded in base64, for a header. " * 2),
        base64.b64encode(np.random.default_rng(1).bytes(256)),
        "A" * 128,
        encoded(VECTOR),
    ],
)
def test_a_column_of_hashes_words_or_other_base64_does_not(text: str | bytes) -> None:
    assert not is_text_of_vector(text if isinstance(text, str) else text.decode())


@pytest.mark.parametrize("text", ["[1, 2]", "{1,2}", "[1 2]", "array([1, 2])", "[0.1 ... 0.2]"])
def test_a_column_of_such_texts_holds_vectors(text: str) -> None:
    assert is_text_of_vector(text)


@pytest.mark.parametrize("text", ["7", "2026", "1,000,000", "a text", "[1]", "2026-01-01", "1 2"])
def test_a_column_of_such_texts_does_not(text: str) -> None:
    assert not is_text_of_vector(text)
