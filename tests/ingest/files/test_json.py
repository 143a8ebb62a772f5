"""Read JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ingest.files import json as json_files
from ingest.files.table import CHUNK
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, TEXTS, VECTORS, Whole, whole

LISTS = VECTORS.tolist()
ROWS = [{"id": i, "embedding": v, "text": t} for i, v, t in zip(IDS, LISTS, TEXTS, strict=True)]


def read(folder: Path, text: str | bytes) -> Whole:
    path = folder / "v.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return whole(path)


def data(vectors: list[Any]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]


WITH_IDS: dict[str, object] = {
    "a list of objects": ROWS,
    "records within an object": {"records": ROWS},
    "columns": {"ids": IDS, "embeddings": LISTS, "text": TEXTS},
    "columns of pandas": json.loads(pd.DataFrame(ROWS).to_json()),
    "pandas, split": json.loads(pd.DataFrame(ROWS).to_json(orient="split")),
    "pandas, table": json.loads(pd.DataFrame(ROWS).to_json(orient="table", index=False)),
    "pandas, index": json.loads(pd.DataFrame(ROWS).to_json(orient="index")),
    "rows by id": {row["id"]: {"vector": row["embedding"], "text": row["text"]} for row in ROWS},
    "Weaviate": {
        "objects": [
            {"id": row["id"], "vectors": {"default": row["embedding"]}, "text": row["text"]}
            for row in ROWS
        ]
    },
    "MongoDB": [
        {"_id": {"$oid": row["id"]}, "embedding": row["embedding"], "text": row["text"]}
        for row in ROWS
    ],
    "Chroma": {"ids": IDS, "embeddings": LISTS, "documents": TEXTS, "metadatas": [None] * 3},
    "Qdrant": {
        "result": {
            "points": [
                {"id": row["id"], "vector": row["embedding"], "payload": {"text": row["text"]}}
                for row in ROWS
            ]
        }
    },
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", WITH_IDS)
def test_a_document_is_read_whatever_its_layout(
    form: str, indent: int | None, tmp_path: Path
) -> None:
    rows = read(tmp_path, json.dumps(WITH_IDS[form], indent=indent))
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS
    assert [row["text"] for row in rows.metadata] == TEXTS


ANSWERS: dict[str, object] = {
    "OpenAI": {"object": "list", "model": "m", "data": data(LISTS), "usage": {"total_tokens": 1}},
    "OpenAI, base64": {
        "object": "list",
        "model": "m",
        "data": data([base64.b64encode(v.tobytes()).decode() for v in np.repeat(VECTORS, 2, 1)]),
    },
    "Ollama": {"model": "m", "embeddings": LISTS},
}


@pytest.mark.parametrize("provider", ANSWERS)
def test_the_answer_of_an_embedding_api_names_the_model(provider: str, tmp_path: Path) -> None:
    rows = read(tmp_path, json.dumps(ANSWERS[provider]))
    factor = 2 if "base64" in provider else 1
    np.testing.assert_array_equal(rows.vectors, np.repeat(VECTORS, factor, 1))
    assert rows.models == ["m"] * 3
    assert rows.metadata == []


def test_lists_without_names_are_vectors(tmp_path: Path) -> None:
    for text in (json.dumps(LISTS), "\n".join(map(json.dumps, LISTS)), json.dumps(LISTS, indent=1)):
        np.testing.assert_array_equal(read(tmp_path, text).vectors, VECTORS)
    cohere = {"id": "x", "embeddings": {"float": LISTS}, "texts": TEXTS}
    assert read(tmp_path, json.dumps(cohere)).metadata == [{"text": text} for text in TEXTS]


@pytest.mark.parametrize("between", ["", " ", "\n", "\r\n\n"])
def test_lists_may_follow_each_other(between: str, tmp_path: Path) -> None:
    for lists in ([ROWS[:1], [], ROWS[1:]], [LISTS[:1], LISTS[1:]], [ROWS] * 5, [LISTS] * 5):
        rows = read(tmp_path, between.join(map(json.dumps, lists)) + "\n")
        expected = VECTORS if len(lists) < 5 else np.tile(VECTORS, (5, 1))
        np.testing.assert_array_equal(rows.vectors, expected)


def test_lists_may_end_where_a_piece_of_the_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{json.dumps(LISTS)} \n {json.dumps(LISTS)} \n"
    for size in range(1, len(text)):
        monkeypatch.setattr(json_files, "_READ", size)
        assert len(read(tmp_path, text).vectors) == 6


@pytest.mark.parametrize("rest", [",\n", "\0\0", "\ufeff", "\n\n"])
def test_harmless_bytes_after_a_list_are_passed_over(rest: str, tmp_path: Path) -> None:
    for text in (json.dumps(ROWS) + rest, json.dumps(ROWS) + rest + json.dumps(ROWS)):
        rows = read(tmp_path, text)
        np.testing.assert_array_equal(rows.vectors, np.tile(VECTORS, (len(rows.vectors) // 3, 1)))


def test_a_value_that_is_no_list_among_lists_is_one_bad_row(tmp_path: Path) -> None:
    rows = read(tmp_path, f'{json.dumps(LISTS)}\n{{"error": "busy"}}\nnull\n{json.dumps(LISTS)}\n')
    np.testing.assert_array_equal(rows.vectors, np.tile(VECTORS, (2, 1)))
    assert len(rows.faults) == 2


@pytest.mark.parametrize("rest", ["\n garbage {", " ]"])
def test_what_is_no_json_after_a_list_is_an_error(rest: str, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(f"{json.dumps(ROWS)}{rest}")
    with pytest.raises(PayloadError, match=r"v\.json: is not valid JSON, or cut off"):
        whole(path)


def test_the_first_of_many_lines_may_be_an_empty_list(tmp_path: Path) -> None:
    rows = read(tmp_path, "\n".join(map(json.dumps, [[], *LISTS])))
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.faults == ["line 1 has an empty vector"]


def batch(custom_id: str, vectors: list[Any]) -> dict[str, Any]:
    body = {"object": "list", "model": "te", "data": data(vectors)}
    response = {"status_code": 200, "request_id": "x", "body": body}
    return {"id": "batch_req", "custom_id": custom_id, "response": response, "error": None}


def test_the_output_of_a_batch_job_has_the_clients_ids_and_failed_requests(tmp_path: Path) -> None:
    failed = batch("late", []) | {"response": None, "error": {"code": "x", "message": "expired"}}
    refused = batch("long", [])
    refused["response"] = {"status_code": 400, "body": {"error": {"message": "too long"}}}
    down = batch("down", []) | {"response": {"status_code": 502, "body": "Bad gateway"}}
    lines = [batch("one", LISTS[:1]), failed, batch("two", LISTS[1:]), refused, down]
    rows = read(tmp_path, "\n".join(map(json.dumps, lines)))
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == ["one", "two/0", "two/1"]
    assert rows.models == ["te"] * 3
    assert rows.faults == [
        "line 2 is request 'late', which failed: expired",
        "line 4 is request 'long', which failed: too long",
        "line 5 is request 'down', which failed: it has no answer",
    ]


def test_ids_may_be_numbers_or_missing_and_metadata_an_object(tmp_path: Path) -> None:
    first = '{"embedding": [1, 2], "lang": "en", "metadata": {"n": 1}, "id": 7}'
    rows = read(tmp_path, first + '\n{"embedding": [3, 4]}')
    assert rows.ids == ["7", None]
    assert rows.metadata == [{"lang": "en", "n": 1}, {}]


def test_keys_that_come_up_late_are_metadata(tmp_path: Path) -> None:
    lines = ['{"embedding": [1]}'] * 2_000 + ['{"embedding": [1], "late": 1}']
    assert whole_of(tmp_path, lines).metadata[-1] == {"late": 1}


def whole_of(folder: Path, lines: list[str]) -> Whole:
    return read(folder, "\n".join(lines))


def test_nan_beside_the_vector_is_null_and_in_it_a_bad_row(tmp_path: Path) -> None:
    rows = read(tmp_path, '{"v": [1, 2], "n": NaN, "m": 1}\n{"v": [NaN, 2]}\n')
    assert rows.metadata == [{"m": 1}]
    assert rows.faults[0].startswith("line 2 has a vector whose component 0 is missing, NaN")


@pytest.mark.parametrize("between", ["", " ", "\n", "\n\n"])
@pytest.mark.parametrize("indent", [None, 1])
def test_objects_may_follow_each_other_without_lines(
    between: str, indent: int | None, tmp_path: Path
) -> None:
    rows = read(tmp_path, between.join(json.dumps(row, indent=indent) for row in ROWS))
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS
    for cut in (1, 30):
        path = tmp_path / "cut.json"
        path.write_text("".join(json.dumps(row, indent=1) for row in ROWS)[:-cut])
        with pytest.raises(PayloadError, match="is not valid JSON, or cut off"):
            whole(path)


@pytest.mark.parametrize("lines", [1, 2])
def test_vectors_under_names_are_one_row_however_many_lines_there_are(
    lines: int, tmp_path: Path
) -> None:
    line = '{"title": {"values": [1, 2]}, "body": {"values": [1, 2]}}\n'
    with pytest.raises(
        PayloadError, match=r"has 2 columns of vectors: title\.values, body\.values"
    ):
        read(tmp_path, lines * line)


@pytest.mark.parametrize(
    "other",
    [
        {"shape": [1, 2]},
        {"embedding": [1, 2], "shape": [1, 2]},
        {"embedding": 2},
        {"embedding": [[1, 2]]},
    ],
)
def test_parts_of_another_kind_are_no_rows_by_id(other: object, tmp_path: Path) -> None:
    value = {"data": {"embedding": [1, 2]}, "more": {"embedding": [3, 4]}, "meta": other}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(value, indent=1))
    with pytest.raises(PayloadError, match=r"columns of vectors: data\.embedding, more\.embedding"):
        whole(path)


@pytest.mark.parametrize("name", ["embedding", "vector", "v"])
@pytest.mark.parametrize("lines", [1, 2])
def test_objects_in_a_list_beside_a_vector_belong_to_its_row(
    name: str, lines: int, tmp_path: Path
) -> None:
    found = [{"xy": [1, 2]}, {"xy": [3, 4]}]
    row = {"id": 1, name: [0.5, 2, 3], "results": found}
    rows = read(tmp_path, lines * f"{json.dumps(row)}\n")
    assert rows.vectors.tolist() == [[0.5, 2, 3]] * lines
    assert rows.ids == ["1"] * lines
    assert rows.metadata == [{"results": found}] * lines


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "list", "data": data(LISTS), "token_counts": [7, 8, 9]},
        {"data": data(LISTS), "topks": [3, 4, 5, 6]},
        {"points": [{"vector": vector} for vector in LISTS], "next": [1, 2, 3, 4]},
        {"query": [1, 2], "matches": [{"values": vector} for vector in LISTS]},
    ],
    ids=["counts", "numbers", "offset", "a search"],
)
def test_numbers_beside_a_list_of_vectors_are_none(answer: object, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, json.dumps(answer)).vectors, VECTORS)


def test_numbers_beside_a_list_of_longer_vectors_are_no_vector(tmp_path: Path) -> None:
    answer = {"model": "m", "shape": [3], "data": data(LISTS)}
    np.testing.assert_array_equal(read(tmp_path, json.dumps(answer)).vectors, VECTORS)


V = [0.5, 1, 2, 3]
SPANS = [[0, 3], [8, 11]]
WITH_A_VECTOR: dict[str, dict[str, Any]] = {
    "pairs of numbers": {"id": 1, "embedding": V, "text": "Ada met Bob", "spans": SPANS},
    "as many pairs": {"embedding": V, "spans": [[0, 1]] * 4},
    "pairs, and an unusual name": {"label": "x", "v": V, "spans": SPANS},
    "as many pairs, and an id": {"_id": {"$oid": "1"}, "v": V, "spans": [[0, 1]] * 4},
    "pairs, and text": {"embedding": json.dumps(V), "spans": SPANS},
    "objects with longer vectors": {"id": 1, "v": V, "items": [{"dims": [1, 2, 3, 4, 5]}]},
    "objects with vectors": {"vector": V, "hits": [{"vector": [1, 2]}]},
    "objects, and a vector in one": {"vector": {"a": V}, "items": [{"dims": [1, 2, 3, 4, 5]}]},
    "objects, and text": {"vector": json.dumps(V), "items": [{"dims": [1, 2, 3, 4, 5]}]},
    "a result": {"embedding": V, "result": {"label": "spam"}},
    "a result with a vector": {"embedding": V, "result": {"values": [1]}},
    "a result, and an unusual name": {"v": V, "result": {"label": "spam"}},
    "a response": {"custom_id": "a", "response": "I like it", "embedding": V},
    "a response that is an object": {"custom_id": "a", "response": {"ok": True}, "v": V},
    "columns and data": {"embedding": V, "columns": ["a"], "data": [[1], [2]]},
    "columns and numbers": {"embedding": V, "columns": ["a"], "data": ["x", "y"]},
    "columns, and an unusual name": {"text": "x", "v": V, "columns": ["a"], "data": [["y"]]},
}


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("beside", WITH_A_VECTOR)
def test_an_object_with_a_vector_is_one_row_whatever_is_beside_it(
    beside: str, lines: int, tmp_path: Path
) -> None:
    row = WITH_A_VECTOR[beside]
    rows = read(tmp_path, lines * f"{json.dumps(row)}\n")
    assert rows.vectors.tolist() == [V] * lines
    assert rows.ids == ["1"] * lines * ("id" in row or "_id" in row)
    others = ("id", "_id", "embedding", "vector", "v")
    assert rows.metadata == [{name: row[name] for name in row if name not in others}] * lines
    assert rows.faults == []


def test_a_row_without_its_vector_is_one_bad_row(tmp_path: Path) -> None:
    row = {"id": 1, "embedding": V, "spans": SPANS, "items": [{"vector": [1]}]}
    without = {"id": 2, "spans": SPANS}
    rows = whole_of(
        tmp_path, [json.dumps(each) for each in (row, without, row | {"embedding": None})]
    )
    assert rows.vectors.tolist() == [V]
    assert rows.faults == ["line 2 has no vector", "line 3 has no vector"]


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("vector", [None, [], [None, 1, 2], ["NaN", 1, 2], "[1, 2, x]", "missing"])
def test_a_bad_vector_is_not_replaced_by_those_beside_it(
    vector: object, as_list: bool, tmp_path: Path
) -> None:
    good = {"id": "1", "vector": [1.0, 2.0, 3.0], "hits": [{"vector": [7, 7, 7], "id": "9"}]}
    bad = good | {"id": "2", "vector": vector}
    if vector == "missing":
        del bad["vector"]
    lines = list(map(json.dumps, (good, bad, good | {"id": "3"})))
    rows = read(tmp_path, f"[{','.join(lines)}]") if as_list else whole_of(tmp_path, lines)
    assert (rows.vectors.tolist(), rows.ids) == ([[1, 2, 3]] * 2, ["1", "3"])
    assert len(rows.faults) == 1


def test_a_row_with_an_id_keeps_it_if_its_vector_is_in_a_list(tmp_path: Path) -> None:
    rows = read(tmp_path, json.dumps({"id": 1, "v": [V], "tags": ["a"]}))
    assert (rows.vectors.tolist(), rows.ids, rows.metadata) == ([V], ["1"], [{"tags": ["a"]}])
    tokens = {"id": 1, "embedding": [V, V], "tokens": ["a", "b"]}
    assert read(tmp_path, json.dumps(tokens)).faults == [
        "row 0 has a vector of shape (2, 4); a flat list of numbers is needed"
    ]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("v", {"v": V, "label": "x", "spans": [[0, 1]] * 4}),
        ("v", {"v": V, "n": 1, "items": [{"sku": 1, "vector": [1, 2, 3, 4, 5]}]}),
        ("v", {"embeddings": [[1, 2], [3, 4]], "v": V}),
        ("n_*", {"n_0": 0.5, "n_1": 1, "n_2": 2, "n_3": 3, "spans": SPANS}),
        ("response.v", {"custom_id": "a", "response": {"v": V}}),
        ("result.v", {"result": {"v": V, "vector": [1]}, "shape": [1]}),
        ("a.v", {"a": {"v": V}, "b": {"v": [1]}, "c": {"v": [1]}}),
    ],
)
def test_an_object_with_the_named_vector_is_a_row(
    name: str, row: dict[str, Any], tmp_path: Path
) -> None:
    for lines in (1, 2):
        (tmp_path / "v.jsonl").write_text(lines * f"{json.dumps(row)}\n")
        assert whole(tmp_path / "v.jsonl", vector=name).vectors.tolist() == [V] * lines


@pytest.mark.parametrize(
    "table",
    [
        {"spans": [[0, 3], [8, 11]], "v": LISTS, "ids": IDS},
        {
            "id": "job",
            "numbers": [1, 2, 3],
            "data": [{"id": i, "v": v} for i, v in zip(IDS, LISTS, strict=True)],
        },
    ],
    ids=["columns", "a list"],
)
def test_a_named_column_of_vectors_is_read_from_objects_that_hold_several_rows(
    table: object, tmp_path: Path
) -> None:
    (tmp_path / "v.json").write_text(json.dumps(table))
    rows = whole(tmp_path / "v.json", vector="v")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "embd", "object": "list", "data": data(LISTS), "token_counts": [7, 8, 9]},
        {"jsonrpc": "2.0", "id": 1, "result": {"points": [{"vector": v} for v in LISTS]}},
        {"result": {"shape": [3, 2], "data": LISTS, "pooling": "mean"}, "success": True},
        {"vectors": {"size": 2}, "points": [{"vector": vector} for vector in LISTS]},
        {"embeddings": LISTS, "values": [1, 2, 3]},
        {"id": "x", "texts": TEXTS, "embeddings": LISTS},
    ],
    ids=["an id", "an id of a call", "a shape", "a size", "values", "an id and columns"],
)
def test_an_answer_holds_several_rows_whatever_is_beside_them(
    answer: object, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(read(tmp_path, json.dumps(answer)).vectors, VECTORS)


def test_a_table_without_rows_is_none(tmp_path: Path) -> None:
    rows = read(tmp_path, pd.DataFrame(columns=["id", "embedding"]).to_json(orient="split"))
    assert (len(rows.vectors), rows.faults) == (0, [])


def test_other_names_of_text_and_metadata_do_not_replace_them(tmp_path: Path) -> None:
    row = {"embedding": V, "text": "hello", "documents": ["x"], "metadata": {"a": 1}}
    rows = read(tmp_path, json.dumps({"payload": {"b": 2}} | row))
    assert rows.metadata == [{"text": "hello", "documents": ["x"], "payload": {"b": 2}, "a": 1}]


@pytest.mark.parametrize("dimension", [2, 400, 2_000])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_rows_by_id_are_read_whatever_the_length_of_their_line(
    dimension: int, end: str, tmp_path: Path
) -> None:
    vector = [0.123456789] * dimension
    rows = read(tmp_path, json.dumps({f"id{n}": {"embedding": vector} for n in range(200)}) + end)
    assert rows.vectors.shape == (200, dimension)
    assert rows.ids == [f"id{n}" for n in range(200)]


@pytest.mark.parametrize("dimension", [2, 30_000, 100_000])
def test_long_lines_are_numbered_like_short_ones(dimension: int, tmp_path: Path) -> None:
    line = json.dumps({"embedding": [0.123456789] * dimension})
    rows = read(tmp_path, f"{line}\n\n{line}\n" + '{"embedding": [1]}')
    assert rows.vectors.shape == (2, dimension)
    [fault] = rows.faults
    assert fault.startswith("line 4 has a vector of 1 components")


def test_utf_16_is_read_as_programs_of_windows_write_it(tmp_path: Path) -> None:
    for text in ("\r\n".join(map(json.dumps, ROWS)), json.dumps(ROWS), json.dumps(ROWS, indent=1)):
        for encoding in ("utf-16-le", "utf-16-be"):
            rows = read(tmp_path, f"\ufeff{text}".encode(encoding))
            np.testing.assert_array_equal(rows.vectors, VECTORS)


def test_times_and_numbers_of_mongodb_are_read(tmp_path: Path) -> None:
    row = {"embedding": [1, 2], "n": {"$numberLong": "7"}}
    rows = read(tmp_path, json.dumps(row | {"timestamp": {"$date": "2023-11-14T22:13:20Z"}}))
    assert rows.times == [1_700_000_000]
    assert rows.metadata == [{"n": 7}]


def test_vectors_of_mongodb_may_tell_the_type_of_each_component(tmp_path: Path) -> None:
    canonical = [{"$numberDouble": "0.5"}, {"$numberInt": "2"}, {"$numberLong": "-3"}]
    rows = read(tmp_path, json.dumps([{"_id": {"$oid": "a"}, "embedding": canonical, "n": [1]}]))
    np.testing.assert_array_equal(rows.vectors, [[0.5, 2, -3]])
    assert rows.ids == ["a"]
    text = json.dumps([{"embedding": [1, 2], "a": [{"$oid": "b"}], "n": {"$numberInt": "x"}}])
    assert read(tmp_path, text).metadata == [{"a": ["b"], "n": "x"}]


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    for text in ('{"embedding": [1]}\n', '[{"embedding": [1]}]'):
        assert read(tmp_path, text.encode("utf-8-sig")).vectors.tolist() == [[1]]


BAD = {
    "cut": (b'{"embedding": \n', "is not valid JSON: Input data was truncated"),
    "no vector": (b'{"text": "x"}\n', "has no vector"),
    "a word": (b'{"embedding": [1, "2"]}\n', "has a vector whose component 1 is '2'"),
    "a boolean": (b'{"embedding": [true, 2]}\n', "has a vector whose component 0 is True"),
    "a null": (b'{"embedding": [1, null]}\n', "has a vector whose component 1 is null"),
    "two vectors": (b'{"embedding": [[1, 2], [2, 3]]}\n', "has a vector of shape (2, 2)"),
    "a ragged vector": (b'{"embedding": [[1, 2], 2]}\n', "has a vector that is not a flat list"),
    "a huge number": (b'{"embedding": [1, %s]}\n' % (b"9" * 400), "has a vector"),
    "deep nesting": (b'{"embedding": [1, 2], "a": ' + b"[" * 20_000, "is not valid JSON"),
    "a number": (b"5\n", "has 5 where an object with a vector is needed"),
    "a sparse vector": (
        b'{"embedding": {"indices": [1], "values": [2]}}\n',
        "has a sparse vector",
    ),
    "an object as id": (
        b'{"embedding": [1, 2], "id": {"a": 1}}\n',
        "has {'a': 1} as id; allowed are texts and integers",
    ),
    "another dimension": (
        b'{"embedding": [1]}\n',
        "has a vector of 1 components, those",
    ),
    "bytes that are not UTF-8": (b'{"embedding": [1, 2], "text": "\xff"}', "is not valid JSON"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_row_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    content, message = BAD[mistake]
    rows = read(tmp_path, b'\n{"embedding": [1, 2]}\n' + content)
    assert [fault[: len(message) + 7] for fault in rows.faults] == [f"line 3 {message}"]
    assert rows.vectors.tolist() == [[1, 2]]


def test_a_document_that_is_cut_off_gives_the_rows_before(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match=r"v\.jsonl: is not valid JSON, or cut off"):
        read(tmp_path, json.dumps(ROWS)[:-30])


def test_what_lies_beside_the_vector_in_an_object_is_kept(tmp_path: Path) -> None:
    """As elasticdump and change streams of MongoDB write documents."""
    source = {"embedding": [1, 2], "text": "one", "lang": "en", "timestamp": 7, "by": {"id": 3}}
    line = {"_index": "docs", "_id": "a", "_source": source}
    (tmp_path / "v.jsonl").write_text(json.dumps(line))
    rows = whole(tmp_path / "v.jsonl")
    assert (rows.ids, rows.times) == (["a"], [7])
    assert rows.metadata == [
        {"_index": "docs", "text": "one", "_source.lang": "en", "_source.by": {"id": 3}}
    ]
    # What encloses the vector's object is another thing.
    request = {"id": "r", "text": "all", "item": {"id": "i", "embedding": [1, 2]}}
    (tmp_path / "w.jsonl").write_text(json.dumps({"request": request}))
    rows = whole(tmp_path / "w.jsonl")
    assert rows.ids == ["i"]
    assert rows.metadata == [{"request.id": "r", "request.text": "all"}]
    options = {"time": "_source.by.id", "text": "_source.lang", "drop": ("_source.by", "_index")}
    rows = whole(tmp_path / "v.jsonl", **options)
    assert rows.times == [3]
    assert rows.metadata == [{"text": "en", "_source.text": "one", "_source.timestamp": 7}]


def test_a_dropped_field_of_an_object_is_in_no_metadata(tmp_path: Path) -> None:
    user = {"lang": "en", "at": {"email": "x", "city": "y"}}
    rows = [{"embedding": [1], "user": {"lang": "de"}}, {"embedding": [2], "user": user}]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = whole(tmp_path / "v.jsonl", drop=("user.at.email",)).metadata
    assert found == [{"user": {"lang": "de"}}, {"user": {"lang": "en", "at": {"city": "y"}}}]
    found = whole(tmp_path / "v.jsonl", drop=("user.at",), text="user").metadata
    assert found == [{"text": {"lang": "de"}}, {"text": {"lang": "en"}}]


def test_a_dropped_field_is_left_out_of_an_object_that_comes_up_later(tmp_path: Path) -> None:
    early = {"embedding": [1], "user.email": "x"}
    late = {"embedding": [1], "user": {"email": "y", "lang": "en"}}
    rows = [early] * CHUNK + [late]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = whole(tmp_path / "v.jsonl", drop=("user.email",)).metadata
    assert found == [{"user": {"lang": "en"}}]


@pytest.mark.parametrize("bad", [None, [], [None, 1]])
@pytest.mark.parametrize("as_objects", [False, True])
def test_one_bad_vector_of_a_column_is_one_bad_row(
    bad: object, as_objects: bool, tmp_path: Path
) -> None:
    columns: dict[str, list[Any]] = {"id": ["a", "b", "c"], "embedding": [[1, 2], bad, [3, 4]]}
    table: object = columns
    if as_objects:  # as pandas writes it
        table = {name: dict(zip("012", values, strict=True)) for name, values in columns.items()}
    rows = read(tmp_path, json.dumps(table))
    assert (rows.vectors.tolist(), rows.ids) == ([[1, 2], [3, 4]], ["a", "c"])
    assert len(rows.faults) == 1
    assert rows.faults[0].startswith("row 1 has ")


@pytest.mark.parametrize("name", ["ids", "timestamp", "documents", "model_name"])
def test_lists_of_another_length_than_the_vectors_are_an_error(name: str, tmp_path: Path) -> None:
    rows = read(tmp_path, json.dumps({name: ["a", "b", "c"], "embeddings": [[1], [2]]}))
    assert rows.faults == [f"row 0 has 3 values of {name!r} for 2 vectors"]


def test_vectors_of_one_object_are_of_the_model_that_it_names(tmp_path: Path) -> None:
    table = {"model_name": "m", "embeddings": [[1], [2]]}
    assert read(tmp_path, json.dumps(table)).models == ["m", "m"]


@pytest.mark.parametrize("is_in_metadata", [False, True])
def test_a_dropped_field_is_left_out_of_objects_in_lists(
    is_in_metadata: bool, tmp_path: Path
) -> None:
    one, many = {"email": "x", "lang": "en"}, [{"email": "y", "lang": "de"}]
    rows: list[dict[str, Any]] = [
        {"embedding": [1], "user": one},
        {"embedding": [2], "user": many},
    ]
    if is_in_metadata:
        rows = [{"embedding": row["embedding"], "metadata": {"user": row["user"]}} for row in rows]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = whole(tmp_path / "v.jsonl", drop=("user.email",)).metadata
    assert found == [{"user": {"lang": "en"}}, {"user": [{"lang": "de"}]}]


def test_a_dropped_column_does_not_come_back_out_of_metadata(tmp_path: Path) -> None:
    row = {"embedding": [1], "email": "x", "metadata": {"metadata": {"email": "y", "a": 1}}}
    (tmp_path / "v.jsonl").write_text(json.dumps(row))
    assert whole(tmp_path / "v.jsonl", drop=("email",)).metadata == [{"a": 1}]


def test_names_with_dots_are_objects_only_if_they_hold_some(tmp_path: Path) -> None:
    row = {"hit.0": {"embedding": [1, 2], "lang": "en"}, "text": "one", "text.lang": "de"}
    rows = read(tmp_path, json.dumps(row))
    assert rows.vectors.tolist() == [[1, 2]]
    assert rows.metadata == [{"text": "one", "hit.0.lang": "en", "text.lang": "de"}]


def test_a_field_beside_the_vector_that_the_first_row_lacks_is_kept(tmp_path: Path) -> None:
    rows = [{"hit": {"embedding": [1]}}, {"hit": {"embedding": [2], "lang": "en"}}]
    found = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert found.metadata == [{}, {"hit.lang": "en"}]
