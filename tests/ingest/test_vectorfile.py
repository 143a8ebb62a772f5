"""Files of vectors: every format gives the same rows, and mistakes name their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.runtime.errors import PayloadError
from ingest.vectorfile import Rows, read

VECTORS = np.array([[1, 2.5], [3, 4], [5, -6]], np.float32)
IDS = ["a", "b", "c"]
TEXTS = ["one", "two", "three"]


def write_npy(path: Path) -> None:
    np.save(path, VECTORS.astype(np.float16))


def write_npz(path: Path) -> None:
    np.savez(path, embedding=VECTORS, text=TEXTS, id=IDS, unrelated=np.arange(9))


def write_parquet(path: Path) -> None:
    table = pa.table({"id": IDS, "embedding": VECTORS.tolist(), "text": TEXTS})
    parquet.write_table(table, path)


def write_csv(path: Path) -> None:
    lines = [f'{i},"{v.tolist()}",{t}' for i, v, t in zip(IDS, VECTORS, TEXTS, strict=True)]
    path.write_text("\n".join(["id,embedding,text", *lines]))


def write_jsonl(path: Path) -> None:
    objects = [
        {"id": i, "embedding": v.tolist(), "metadata": {"text": t}}
        for i, v, t in zip(IDS, VECTORS, TEXTS, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, objects)))


def whole(path: Path) -> Rows:
    blocks = list(read(path))
    return Rows(
        np.concatenate([block.vectors for block in blocks]),
        [id_ for block in blocks for id_ in block.ids],
        [item for block in blocks for item in block.metadata],
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.npz", write_npz),
        ("v.parquet", write_parquet),
        ("v.csv", write_csv),
        ("v.jsonl", write_jsonl),
    ],
)
def test_a_format_with_columns_gives_vectors_ids_and_metadata(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    rows = whole(tmp_path / name)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS
    assert [item["text"] for item in rows.metadata] == TEXTS


def test_npy_gives_vectors(tmp_path: Path) -> None:
    write_npy(tmp_path / "v.npy")
    rows = whole(tmp_path / "v.npy")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.vectors.dtype == np.float32
    assert (rows.ids, rows.metadata) == ([], [])


def test_csv_of_numbers_needs_no_embedding_column(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,x,y\na,1,2.5\nb,3,4\nc,5,-6\n")
    rows = whole(tmp_path / "v.csv")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


def test_jsonl_takes_other_keys_as_metadata_and_ids_where_there_are_any(tmp_path: Path) -> None:
    lines = ['{"embedding": [1, 2], "text": "one", "id": 7}', '{"embedding": [3, 4]}']
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    rows = whole(tmp_path / "v.jsonl")
    assert rows.ids == ["7", None]
    assert rows.metadata == [{"text": "one"}, {}]


def test_a_long_file_comes_in_blocks(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2_500, 2)))
    assert [len(rows) for rows in read(tmp_path / "v.npy")] == [1_000, 1_000, 500]


MISTAKES = {
    "v.txt": (b"", "unknown suffix; allowed are .npy, .npz, .parquet, .csv, .jsonl"),
    "v.npy": (b"nothing", "v.npy: "),
    "v.npz": (b"nothing", "v.npz: "),
    "v.parquet": (b"nothing", "v.parquet: "),
    "letters.csv": (b"x,y\n1,2\n3,z\n", "line 3: a column is not a number"),
    "short.csv": (b"x,y\n1,2\n3\n", "line 3: a column is not a number"),
    "list.csv": (b"embedding\n[1]\n[x]\n", "line 3: embedding is not a JSON list of numbers"),
    "ragged.csv": (b'embedding\n"[1,2]"\n[1]\n', "line 3 has 1 components, those before 2"),
    "v.jsonl": (b'{"embedding": [1]}\n{"embedding": \n', "line 2 is not a JSON object"),
    "none.jsonl": (b'{"embeddings": [1]}\n', "line 1 has no list 'embedding'"),
    "words.jsonl": (b'{"embedding": ["a"]}\n', "from line 1 on, a component is not a number"),
    "ragged.jsonl": (b'{"embedding": [1]}\n{"embedding": [1, 2]}\n', "line 2 has 2 components"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_file_and_place(name: str, tmp_path: Path) -> None:
    content, message = MISTAKES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PayloadError) as raised:
        list(read(tmp_path / name))
    assert str(tmp_path / name) in str(raised.value)
    assert message in str(raised.value)


def test_an_npz_without_vectors_says_what_it_needs(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=VECTORS, b=VECTORS)
    with pytest.raises(PayloadError, match=r"needs an array 'embedding' of shape \(n, d\)"):
        list(read(tmp_path / "v.npz"))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="cannot be read: No such file"):
        list(read(tmp_path / "v.csv"))
