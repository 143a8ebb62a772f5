"""Raw rows of float32."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.runtime.errors import (
    PayloadError,
)
from tests.ingest.formats.bodies import (
    RAW,
    ROWS,
    npy,
    read,
)


def test_an_npy_file_is_recognised_by_its_first_bytes() -> None:
    batch = read(npy(ROWS), "application/octet-stream", query={"model_name": "m"})
    assert batch.vectors.tolist() == ROWS.tolist()


def test_model_and_dimension_come_from_headers_or_query() -> None:
    by_header = read(ROWS.tobytes(), "application/octet-stream", x_model_name="m", x_dimension="3")
    by_query = read(
        ROWS.tobytes(), "application/octet-stream", query={"model_name": "m", "dimension": "3"}
    )
    assert by_header.vectors.tolist() == by_query.vectors.tolist() == ROWS.tolist()


WRONG = {
    "no dimension": (bytes(12), RAW, "X-Dimension"),
    "truncated": (bytes(22), RAW | {"x_dimension": "3"}, "the last one lacks 2"),
    "empty": (b"", RAW | {"x_dimension": "3"}, "the batch is empty"),
    "NaN": (
        np.array([[1, 2], [3, np.nan]], "<f4").tobytes(),
        RAW | {"x_dimension": "2"},
        "/embeddings/1/1: is NaN",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake: str) -> None:
    body, arguments, message = WRONG[mistake]
    with pytest.raises(PayloadError, match=message):
        read(body, **arguments)
