"""Read .fvecs and .bvecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import whole


def row(*components: float) -> bytes:
    return np.int32(len(components)).tobytes() + np.array(components, "<f4").tobytes()


def test_a_dimension_that_looks_like_a_bracket_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "v.fvecs").write_bytes(row(*range(ord("{"))))
    assert whole(tmp_path / "v.fvecs").vectors.shape == (1, 123)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (row(1, 2) + row(1, 2)[:-1], "row 1 is cut off: it needs 12 bytes"),
        (row(1, 2) + row(1), r"row 1 is cut off|row 1 has the dimension 1, those before it 2"),
        (row(1, 2) + row(3, 4, 5) + row(6), "row 1 has the dimension 3, those before it 2"),
        (b"\0\0\0\0", "row 0 has the dimension 0: the file is not of this format"),
        (b"text without zeros", "row 0 has the dimension .*not of this format"),
    ],
)
def test_a_file_that_is_cut_or_of_another_format_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "v.fvecs").write_bytes(content)
    with pytest.raises(PayloadError, match=message):
        whole(tmp_path / "v.fvecs")
