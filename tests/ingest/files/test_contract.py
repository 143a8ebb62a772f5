"""What every format of files must do. A new format adds a case to ``WRITERS``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from ingest.files.reader import FORMATS, read
from ingest.files.rows import BLOCK
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, TEXTS, VECTORS, whole

Vectors = NDArray[np.float64]
Writer = Callable[[Path, Vectors, list[str], list[str]], None]


def write_npy(path: Path, vectors: Vectors, _ids: list[str], _texts: list[str]) -> None:
    np.save(path, vectors)


def write_npz(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    # An empty list would be an array of numbers.
    columns = {"id": np.array(ids, "U"), "text": np.array(texts, "U")}
    np.savez(path, embedding=vectors, unrelated=np.arange(9), **columns)  # type: ignore[arg-type]


def write_parquet(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    lists = pa.array(vectors.tolist(), pa.list_(pa.float64()))
    parquet.write_table(pa.table({"id": ids, "embedding": lists, "text": texts}), path)


def write_csv(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    rows = zip(ids, vectors.tolist(), texts, strict=True)
    lines = [f'{id_},"{json.dumps(vector)}",{text}' for id_, vector, text in rows]
    path.write_text("\n".join(["id,embedding,text", *lines]))


def write_jsonl(path: Path, vectors: Vectors, ids: list[str], texts: list[str]) -> None:
    rows = zip(ids, vectors.tolist(), texts, strict=True)
    path.write_text(
        "\n".join(
            json.dumps({"id": id_, "embedding": vector, "text": text}) for id_, vector, text in rows
        )
    )


WRITERS: dict[str, Writer] = {
    ".npy": write_npy,
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".jsonl": write_jsonl,
}
FIRST = {".csv": 2, ".jsonl": 1}
"""Number of the first vector; 0 where rows are counted. The header of a CSV file is line 1."""


@pytest.fixture(params=list(FORMATS))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to write a file of each format."""
    return tmp_path / f"v{request.param}"


def write(path: Path, vectors: NDArray[np.floating]) -> None:
    """Write vectors with ids and texts, where the format has them."""
    count = len(vectors)
    ids = IDS if count == len(IDS) else [f"id {n}" for n in range(count)]
    texts = TEXTS if count == len(TEXTS) else [f"text {n}" for n in range(count)]
    WRITERS[path.suffix](path, vectors.astype(np.float64), ids, texts)


def test_every_registered_format_has_a_case() -> None:
    assert set(WRITERS) == set(FORMATS)


def test_vectors_are_read_as_float32(path: Path) -> None:
    write(path, VECTORS)
    rows = whole(path)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.vectors.dtype == np.float32


@pytest.mark.parametrize("suffix", sorted(set(FORMATS) - {".npy"}))
def test_ids_and_other_columns_are_read_with_the_vectors(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    write(path, VECTORS)
    rows = whole(path)
    assert rows.ids == IDS
    assert rows.metadata == [{"text": text} for text in TEXTS]


def test_a_long_file_is_read_in_blocks(path: Path) -> None:
    write(path, np.arange(5 * BLOCK, dtype=np.float64).reshape(-1, 2))
    blocks = list(read(path))
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, BLOCK // 2]
    assert blocks[2].vectors[0].tolist() == [4 * BLOCK, 4 * BLOCK + 1]
    if path.suffix != ".npy":
        assert blocks[2].ids[0] == f"id {2 * BLOCK}"
        assert blocks[2].metadata[0] == {"text": f"text {2 * BLOCK}"}


def test_a_component_too_large_for_float32_is_reported_with_its_row(path: Path) -> None:
    vectors = np.ones((2_500, 2))
    vectors[2_100, 1] = 1e300
    write(path, vectors)
    place = f"{FORMATS[path.suffix].unit} {2_100 + FIRST.get(path.suffix, 0)}"
    message = f"{path}: {place}: component 1 is NaN, infinite or too large for float32"
    with pytest.raises(PayloadError) as raised:
        list(read(path))
    assert str(raised.value) == message


def test_a_file_without_rows_is_refused(path: Path) -> None:
    write(path, np.empty((0, 2)))
    with pytest.raises(PayloadError, match="holds no vectors"):
        list(read(path))


def test_a_missing_file_is_reported(path: Path) -> None:
    with pytest.raises(PayloadError, match=f"{path} cannot be read: .*No such file"):
        list(read(path))


def test_content_of_another_format_is_refused(path: Path) -> None:
    path.write_bytes(b"PK\3\4" + bytes(range(255)))
    with pytest.raises(PayloadError, match=str(path)):
        list(read(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_truncated_binary_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    write(path, VECTORS)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(PayloadError, match=str(path)):
            list(read(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", "compressed.npz"])
def test_a_damaged_binary_file_is_read_or_refused(suffix: str, tmp_path: Path) -> None:
    """No other error than ours, whichever byte is changed."""
    path = tmp_path / f"v{suffix}"
    if suffix == "compressed.npz":
        np.savez_compressed(path, embedding=VECTORS)
    else:
        write(path, VECTORS)
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0b0110_1001]) + content[at + 1 :])
        try:
            list(read(path))
        except PayloadError:
            refused += 1
    assert refused > 50


def test_a_suffix_may_have_capitals(path: Path) -> None:
    write(path, VECTORS)
    capital = path.rename(path.with_suffix(path.suffix.upper()))
    np.testing.assert_array_equal(whole(capital).vectors, VECTORS)
