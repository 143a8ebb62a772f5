"""Vectors in JSON: lists of numbers and base64."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.runtime.errors import (
    PayloadError,
)
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import (
    b64,
    read,
    several,
)


def test_numbers_and_base64_may_be_mixed_in_a_batch() -> None:
    batch = read({"model_name": "m", "embeddings": [b64([1, 2]), [3, 4]]})
    assert batch.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1180591620717411303424", 2.0**70),
        ("1" + 30 * "0", 1e30),
        ("-0.0", -0.0),
        ("1e-45", 1e-45),
        ("0." + 400 * "1", 1 / 9),
        ("16777217", 16777216.0),
    ],
)
def test_numbers_of_any_length_are_rounded_to_float32(text: str, value: float) -> None:
    body = '{"model_name": "m", "embedding": [1, %s], "metadata": {"big": 123456789012345678901}}'
    expected = np.array([[1, value]], "f4")
    assert read((body % text).encode()).vectors.tobytes() == expected.tobytes()


def test_wrong_vectors_that_are_not_listed_are_counted() -> None:
    limits = IngestSettings(max_batch_vectors=1_000)
    embeddings = [["1"]] * 150 + [1] * 50 + [[2**70]] * 300
    with pytest.raises(PayloadError) as caught:
        read(several(embeddings=embeddings), limits=limits)
    assert "199 more, of which 100 are not listed" in caught.value.detail
    reasons = {problem.reason for problem in caught.value.problems}
    assert reasons == {"component 0 is a string; components must be numbers"}


def test_lists_and_base64_keep_float32_bit_for_bit() -> None:
    vectors = np.array([[1e-45, -3.4028235e38, 1 / 3], [-0.0, 16777216, 1e-30]], "<f4")
    lists = read({"model_name": "m", "embeddings": vectors.tolist()})
    strings = read({"model_name": "m", "embeddings": [b64(vector) for vector in vectors]})
    assert lists.vectors.tobytes() == strings.vectors.tobytes() == vectors.tobytes()
