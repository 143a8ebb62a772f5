"""NumPy's .npy files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ingest.runtime.errors import (
    PayloadError,
)
from tests.ingest.formats.bodies import (
    NPY,
    ROWS,
    npy,
    npy_header,
    read,
)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_float_type_and_order_is_read(dtype: str, order: Any) -> None:
    body = npy(np.asarray(ROWS.astype(dtype), order=order))
    batch = read(body, "application/x-npy", x_model_name="m")
    assert batch.vectors.tolist() == ROWS.tolist()
    assert batch.vectors.flags.c_contiguous


def test_one_dimension_is_a_batch_of_one_vector() -> None:
    assert read(npy(ROWS[0]), "application/x-npy", x_model_name="m").vectors.shape == (1, 3)


SHAPED = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
WRONG = {
    "truncated": (npy(ROWS)[:-3], r"truncated: its shape \(2, 3\) lacks 3 bytes"),
    "more than its shape": (npy(ROWS) + b"more", "4 bytes beyond its shape"),
    "an npz file": (b"PK\x03\x04", "not a readable .npy"),
    "a later version": (b"\x93NUMPY\3\0", r"version \(3, 0\) is not supported"),
    "a broken header": (npy_header("{'descr': '<f4', ("), "not a readable .npy"),
    "a negative shape": (npy_header(SHAPED % "-1,"), r"shape \(-1,\)"),
    "no shape": (npy_header(SHAPED % ""), r"shape \(\)"),
    "a huge shape": (npy_header(SHAPED % f"{10**30},"), "number beyond 64 bits"),
    "an endless shape": (npy_header(SHAPED % f"0x{'f' * 9_000},"), "beyond 64 bits"),
    "the header only": (npy(ROWS)[:20], "not a readable .npy"),
    "anything else": (b"hello", "not a readable .npy"),
    "objects": (b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }", "not a readable .npy"),
    "integers": (npy(np.ones((2, 2), int)), "must hold float16"),
    "three dimensions": (npy(np.ones((2, 2, 2))), r"shape \(2, 2, 2\)"),
    "no rows": (npy(np.ones((0, 3))), "the batch is empty"),
    "no columns": (npy(np.ones((3, 0))), "the vector is empty"),
    "long doubles": (npy(np.ones((1, 2), np.longdouble)), "must hold float16"),
    "beyond float32": (npy(np.array([[1e300]])), "too large for float32"),
    "a signalling NaN": (
        npy(np.frombuffer(b"\1\0\0\0\0\0\xf0\x7f", "<f8")),
        "/embeddings/0/0: is NaN",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake: str) -> None:
    body, message = WRONG[mistake]
    with pytest.raises(PayloadError, match=message):
        read(body, **NPY)


def test_a_dimension_that_is_given_has_to_be_that_of_the_file() -> None:
    assert read(npy(ROWS), **NPY, x_dimension="3").dimension == 3
    with pytest.raises(PayloadError, match=r"X-Dimension says 4, but the \.npy file has 3"):
        read(npy(ROWS), **NPY, x_dimension="4")


def test_any_float_and_order_keeps_float32_bit_for_bit() -> None:
    vectors = np.array([[1e-45, -3.4028235e38, 1 / 3], [-0.0, 16777216, 1e-30]], np.float32)
    wide = read(npy(vectors.astype(">f8", order="F")), **NPY)
    assert wide.vectors.tobytes() == vectors.tobytes()
