"""Request bodies: every format, and a clear refusal of everything else."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ingest.formats.registry import parse
from ingest.runtime.errors import (
    BodyTooLarge,
    NonFinite,
    PayloadError,
    Problem,
    UnsupportedMediaType,
)
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

NOW = 1_750_000_000.0
LIMITS = IngestSettings(max_batch_vectors=5, max_dimension=8, max_metadata_bytes=100)
ROWS = np.array([[0.5, -1, 2], [1, 2, 3]], dtype="<f4")


def read(
    body: object,
    content_type: str = "application/json",
    query: dict[str, str] | None = None,
    limits: IngestSettings = LIMITS,
    **headers: str,
) -> Batch:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["content-type"] = content_type
    return parse(data, headers=named, query=query or {}, limits=limits, now=NOW)


def one(**fields: object) -> dict[str, object]:
    return {"model_name": "m", "embedding": [1.0, 2.0], **fields}


def several(**fields: object) -> dict[str, object]:
    return {"model_name": "m", "embeddings": [[1.0, 2.0], [3.0, 4.0]], **fields}


def b64(vector: object) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def refusal(body: object, **kwargs: Any) -> PayloadError:
    with pytest.raises(PayloadError) as raised:
        read(body, **kwargs)
    return raised.value


def test_one_vector_with_all_that_belongs_to_it() -> None:
    batch = read(one(id="a", metadata={"text": "ü", "timestamp": 1703980800}))
    assert batch.model_name == "m"
    assert batch.vectors.tolist() == [[1.0, 2.0]]
    assert batch.vectors.dtype == np.float32
    assert batch.ids == ["a"]
    assert batch.timestamps == [1703980800.0]
    assert batch.metadata is not None
    assert json.loads(batch.metadata[0] or b"") == {"text": "ü", "timestamp": 1703980800}


def test_what_is_not_given_is_none() -> None:
    batch = read(one())
    assert (batch.ids, batch.metadata, batch.timestamps) == (None, None, None)
    assert (batch.idempotency_key, batch.fingerprint) == (None, b"")


def test_elements_of_a_batch_may_be_null() -> None:
    batch = read(several(ids=[None, "b"], metadata=[{"a": 1}, None]))
    assert batch.ids == [None, "b"]
    assert batch.metadata == [b'{"a":1}', None]
    assert batch.timestamps is None


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert len(read(one(), content_type)) == 1


def test_numbers_and_base64_may_be_mixed_in_a_batch() -> None:
    batch = read({"model_name": "m", "embeddings": [b64([1, 2]), [3, 4]]})
    assert batch.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_float_and_order(dtype: str, order: Any) -> None:
    body = npy(np.asarray(ROWS.astype(dtype), order=order))
    batch = read(body, "application/x-npy", x_model_name="m")
    assert batch.vectors.tolist() == ROWS.tolist()
    assert batch.vectors.flags.c_contiguous


def test_brackets_in_strings_begin_no_list() -> None:
    texts = {"before [": "[1, 2", "after ]": "3]"}
    assert read(one(metadata=texts)).vectors.tolist() == [[1, 2]]
    assert read({"metadata": texts} | one()).vectors.tolist() == [[1, 2]]
    assert read(one(embedding=b64([1, 2]), metadata={"t": "[3]"})).vectors.tolist() == [[1, 2]]
    assert read(one(id="]", metadata={"t": "["})).ids == ["]"]


def test_the_last_of_fields_that_come_twice_counts() -> None:
    twice = b'{"model_name": "m", "embedding": [1], "embedding": "AAAAQA=="}'
    assert read(twice).vectors.tolist() == [[2]]
    twice = b'{"model_name": "m", "embedding": "AAAAQA==", "embedding": [1]}'
    assert read(twice).vectors.tolist() == [[1]]


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


def test_npy_of_one_vector_is_a_batch_of_one() -> None:
    assert read(npy(ROWS[0]), "application/x-npy", x_model_name="m").vectors.shape == (1, 3)


def test_npy_is_known_by_its_first_bytes() -> None:
    batch = read(npy(ROWS), "application/octet-stream", query={"model_name": "m"})
    assert batch.vectors.tolist() == ROWS.tolist()


def test_raw_rows_take_model_and_dimension_from_headers_or_query() -> None:
    by_header = read(ROWS.tobytes(), "application/octet-stream", x_model_name="m", x_dimension="3")
    by_query = read(
        ROWS.tobytes(), "application/octet-stream", query={"model_name": "m", "dimension": "3"}
    )
    assert by_header.vectors.tolist() == by_query.vectors.tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    "name",
    ["m", "sentence-transformers/all-MiniLM-L6-v2", "text-embedding-3:2024@eu", "A" * 128],
)
def test_names_that_models_have_are_legal(name: str) -> None:
    assert read(one() | {"model_name": name}).model_name == name


def test_the_fingerprint_tells_a_repeat_from_another_body() -> None:
    first, again = (read(one(), idempotency_key="k").fingerprint for _ in range(2))
    other = read(one(id="x"), idempotency_key="k").fingerprint
    assert first == again != other
    assert len(first) == 32


def test_the_fingerprint_of_raw_rows_includes_how_they_are_cut() -> None:
    def fingerprint(dimension: str) -> bytes:
        return read(
            bytes(24),
            "application/octet-stream",
            x_model_name="m",
            x_dimension=dimension,
            idempotency_key="k",
        ).fingerprint

    assert fingerprint("2") != fingerprint("3")


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (0, 0.0),
        (1703980800.5, 1703980800.5),
        ("2023-12-31T00:00:00Z", 1703980800.0),
        ("2023-12-31T01:00:00+01:00", 1703980800.0),
        (NOW + 86_400, NOW + 86_400),
    ],
)
def test_timestamps_are_seconds_or_rfc_3339(timestamp: object, seconds: float) -> None:
    assert read(one(metadata={"timestamp": timestamp})).timestamps == [seconds]


WRONG_JSON = {
    "nothing": (b"", "not valid JSON"),
    "malformed": (b'{"model_name": "m",', "not valid JSON"),
    "not an object": (b"[]", "Expected `object`, got `array`"),
    "not UTF-8 in a list": (
        b'{"model_name": "m", "embedding": ["\xff"]}',
        r"/embedding: is not UTF-8: invalid start byte \(byte 2\)",
    ),
    "not UTF-8": (b'{"model_name": "\xff"}', r"not UTF-8: invalid start byte \(byte 16\)"),
    "deep": (b'{"model_name":"m","embedding":[1],"metadata":{"a":' + b"[" * 9_000, "JSON|deep"),
    "no model": ({"embedding": [1]}, "model_name"),
    "model not a string": (one() | {"model_name": 3}, "/model_name: Expected `str`, got `int`"),
    "model empty": (one() | {"model_name": ""}, "/model_name: '' is not allowed"),
    "model with a space": (one() | {"model_name": "a b"}, "segments that begin with a letter"),
    "model with a quote": (one() | {"model_name": 'a"b'}, "is not allowed"),
    "model with dots for a folder": (one() | {"model_name": "../x"}, "is not allowed"),
    "model with a line break": (one() | {"model_name": "a\n"}, "is not allowed"),
    "model in other letters": (one() | {"model_name": "modèle"}, "is not allowed"),
    "model too long": (one() | {"model_name": "a" * 129}, "1 to 128"),
    "unknown key": (one(embbedding=[1]), "unknown field `embbedding`"),
    "no vector": ({"model_name": "m"}, "either embedding or embeddings"),
    "both forms": (one(embeddings=[[1]]), "either embedding or embeddings"),
    "null vector": (one() | {"embedding": None}, "/embedding"),
    "empty vector": (one() | {"embedding": []}, "/embedding: the vector is empty"),
    "empty base64": (one() | {"embedding": ""}, "/embedding: the vector is empty"),
    "string component": (one() | {"embedding": [1, "2"]}, "/embedding: component 1 is a string"),
    "boolean component": (one() | {"embedding": [1, True]}, "/embedding: component 1 is a boolean"),
    "nested list": (one() | {"embedding": [[1], [2]]}, "/embedding: component 0 is a list"),
    "nested list in a batch": (
        several(embeddings=[[1], [[2]]]),
        "/embeddings/1: component 0 is a list",
    ),
    "object in a list": (one() | {"embedding": [{"a": 1}]}, "/embedding: component 0 is an object"),
    "number for a vector": (one() | {"embedding": 1}, "/embedding: is a number; must be a list"),
    "object for a vector": (one() | {"embedding": {}}, "/embedding: is an object; must be a list"),
    "endless number for a vector": (
        b'{"model_name": "m", "embedding": %s}' % (b"1" * 5_000),
        "/embedding: is a number; must be a list",
    ),
    "not UTF-8 in an object": (
        b'{"model_name": "m", "embedding": {"a": "\xff"}}',
        "/embedding: is an object; must be a list",
    ),
    "missing comma": (b'{"model_name": "m", "embedding": [1 2]}', "/embedding: is not valid JSON"),
    "closed twice": (b'{"model_name": "m", "embedding": [1]]}', "not valid JSON"),
    "closed in a string": (b'{"model_name": "m", "embedding": [1, "id": "]"}', "not valid JSON"),
    "opened in a string": (b'{"model_name": "m", "id": "[", "embedding": 1]}', "not valid JSON"),
    "NaN literal": (b'{"model_name": "m", "embedding": [1, NaN]}', "/embedding/1: is NaN"),
    "infinite literal": (
        b'{"model_name": "m", "embedding": [Infinity]}',
        "/embedding/0: is NaN, inf",
    ),
    "NaN in metadata": (b'{"model_name":"m","embedding":[1],"metadata":{"a":NaN}}', r"\(byte 50\)"),
    "beyond float64": (
        b'{"model_name": "m", "embedding": [1e999]}',
        "/embedding/0: is NaN, infinite or too",
    ),
    "whole number beyond float64": (
        b'{"model_name": "m", "embedding": [%s]}' % (b"9" * 5_000),
        "/embedding/0: is NaN, infinite or too large",
    ),
    "beyond float32": (one() | {"embedding": [1, 1e39]}, "/embedding/1: is NaN, infinite or"),
    "NaN in base64": (one() | {"embedding": b64([1, np.nan])}, "/embedding/1: is NaN"),
    "infinity in base64": (one() | {"embedding": b64([np.inf])}, "/embedding/0: is NaN, inf"),
    "bad base64": (one() | {"embedding": "@@@@"}, "/embedding: is not valid base64"),
    "truncated base64": (one() | {"embedding": b64([1, 2])[:-3]}, "/embedding: is not valid"),
    "base64 of 3 bytes": (one() | {"embedding": "AAAA"}, "multiple of 4"),
    "too many dimensions": (one() | {"embedding": [0] * 9}, "dimension 9 exceeds the 8 allowed"),
    "empty batch": (several() | {"embeddings": []}, "the batch is empty"),
    "ids too few": (several(ids=["a"]), "/ids: has 1 elements for 2 embeddings"),
    "metadata too many": (several(metadata=[None] * 3), "/metadata: has 3 elements for 2"),
    "id with a batch": (several(id="a"), "with embeddings, give ids and metadata as lists"),
    "ids with one vector": (one(ids=["a"]), "with embedding, give id and metadata"),
    "id not a string": (one(id=3), "/id: Expected `str"),
    "id empty": (one(id=""), "/id: '' is not allowed"),
    "id with NUL": (one(id="a\0"), "control character"),
    "id with an escape": (one(id="a\x1b[31m"), "control character"),
    "id too long": (one(id="a" * 256), "1 to 255"),
    "id twice in a batch": (several(ids=["a", "a"]), "/ids/1: 'a' comes twice"),
    "metadata not an object": (one(metadata="x"), "/metadata: Expected"),
    "metadata too large": (one(metadata={"a": "x" * 100}), "at most 100 are allowed"),
    "NUL in metadata": (one(metadata={"a": "x\0y"}), r"U\+0000"),
    "half a surrogate pair": (
        rb'{"model_name":"m","embedding":[1],"metadata":{"a":"\ud800"}}',
        "half a surrogate pair",
    ),
    "halves in the wrong order": (
        rb'{"model_name":"m","embedding":[1],"id":"\udc00\ud800"}',
        "half a surrogate pair",
    ),
    "timestamp a boolean": (one(metadata={"timestamp": True}), "/metadata/timestamp: is a boolean"),
    "timestamp negative": (one(metadata={"timestamp": -1}), "out of range"),
    "timestamp in ms": (one(metadata={"timestamp": 1703980800000}), "looks like milliseconds"),
    "timestamp ahead": (one(metadata={"timestamp": NOW + 86_401}), "out of range"),
    "timestamp no time": (one(metadata={"timestamp": "yesterday"}), "RFC 3339"),
    "timestamp naive": (one(metadata={"timestamp": "2023-12-31T00:00:00"}), "with an offset"),
    "timestamp of a week": (one(metadata={"timestamp": "2023-W52-7T00:00:00Z"}), "RFC 3339"),
    "timestamp before 1970": (one(metadata={"timestamp": "1969-12-31T23:59:59Z"}), "out of range"),
    "timestamp a list": (one(metadata={"timestamp": [1]}), "/metadata/timestamp: is a list"),
    "timestamp endless": (
        b'{"model_name":"m","embedding":[1],"metadata":{"timestamp":%s}}' % (b"9" * 400),
        "/metadata/timestamp: 9+ is out of range; allowed",
    ),
    "number in metadata beyond jsonb": (
        b'{"model_name":"m","embedding":[1],"metadata":{"a":1e400}}',
        "/metadata: Number out of range",
    ),
    "NUL in a key of metadata": (one(metadata={"a\0": 1}), r"U\+0000"),
}


@pytest.mark.parametrize("mistake", WRONG_JSON)
def test_a_mistake_in_json_is_named(mistake: str) -> None:
    body, message = WRONG_JSON[mistake]
    refused = refusal(body)
    with pytest.raises(PayloadError, match=message):
        raise refused
    assert refused.status == 400


RAW: dict[str, Any] = {"content_type": "application/octet-stream"}
NAMED: dict[str, Any] = {**RAW, "x_model_name": "m"}
SHAPED = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
NPY: dict[str, Any] = {"content_type": "application/x-npy", "x_model_name": "m"}

WRONG_BINARY = {
    "no model": (bytes(12), RAW | {"x_dimension": "3"}, "X-Model-Name"),
    "no dimension": (bytes(12), NAMED, "X-Dimension"),
    "dimension 0": (bytes(12), NAMED | {"x_dimension": "0"}, "not a whole number above 0"),
    "dimension negative": (bytes(12), NAMED | {"x_dimension": "-3"}, "not a whole number"),
    "dimension a word": (bytes(12), NAMED | {"x_dimension": "three"}, "'three' is not a whole"),
    "dimension endless": (bytes(12), NAMED | {"x_dimension": "9" * 5_000}, "not a whole number"),
    "dimension too large": (bytes(36), NAMED | {"x_dimension": "9"}, "exceeds the 8 allowed"),
    "truncated": (bytes(22), NAMED | {"x_dimension": "3"}, "the last one lacks 2"),
    "empty": (b"", NAMED | {"x_dimension": "3"}, "the batch is empty"),
    "NaN": (
        np.array([[1, 2], [3, np.nan]], "<f4").tobytes(),
        NAMED | {"x_dimension": "2"},
        "/embeddings/1/1: is NaN",
    ),
    "header against query": (
        bytes(12),
        NAMED | {"x_dimension": "3", "query": {"dimension": "1"}},
        "disagree",
    ),
    "illegal model": (bytes(12), RAW | {"x_model_name": "a b", "x_dimension": "3"}, "X-Model-Name"),
    "npy truncated": (npy(ROWS)[:-3], NPY, r"truncated: its shape \(2, 3\) lacks 3 bytes"),
    "npy with more": (npy(ROWS) + b"more", NPY, "4 bytes beyond its shape"),
    "npz": (b"PK\x03\x04", NPY, "not a readable .npy"),
    "npy of a later version": (b"\x93NUMPY\3\0", NPY, r"version \(3, 0\) is not supported"),
    "npy of a broken header": (npy_header("{'descr': '<f4', ("), NPY, "not a readable .npy"),
    "npy of a negative shape": (npy_header(SHAPED % "-1,"), NPY, r"shape \(-1,\)"),
    "npy of no shape": (npy_header(SHAPED % ""), NPY, r"shape \(\)"),
    "npy of a huge shape": (npy_header(SHAPED % f"{10**30},"), NPY, "number beyond 64 bits"),
    "npy of an endless shape": (npy_header(SHAPED % f"0x{'f' * 9_000},"), NPY, "beyond 64 bits"),
    "npy of header only": (npy(ROWS)[:20], NPY, "not a readable .npy"),
    "no npy at all": (b"hello", NPY, "not a readable .npy"),
    "npy of objects": (b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }", NPY, "not a readable .npy"),
    "npy of integers": (npy(np.ones((2, 2), int)), NPY, "must hold float16"),
    "npy of three dimensions": (npy(np.ones((2, 2, 2))), NPY, r"shape \(2, 2, 2\)"),
    "npy of no rows": (npy(np.ones((0, 3))), NPY, "the batch is empty"),
    "npy of no columns": (npy(np.ones((3, 0))), NPY, "the vector is empty"),
    "npy of long doubles": (npy(np.ones((1, 2), np.longdouble)), NPY, "must hold float16"),
    "npy beyond float32": (npy(np.array([[1e300]])), NPY, "too large for float32"),
    "npy of signalling NaN": (
        npy(np.frombuffer(b"\1\0\0\0\0\0\xf0\x7f", "<f8")),
        NPY,
        "/embeddings/0/0: is NaN",
    ),
    "npy of another dimension": (npy(ROWS), NPY | {"x_dimension": "4"}, "the .npy file has 3"),
    "idempotency key with a space": (
        bytes(12),
        NAMED | {"x_dimension": "3", "idempotency_key": "a b"},
        "visible ASCII",
    ),
}


@pytest.mark.parametrize("mistake", WRONG_BINARY)
def test_a_mistake_in_binary_is_named(mistake: str) -> None:
    body, arguments, message = WRONG_BINARY[mistake]
    with pytest.raises(PayloadError, match=message):
        read(body, **arguments)


def test_what_is_not_finite_has_an_error_of_its_own_to_count() -> None:
    for body, arguments in [
        (one() | {"embedding": [1e39]}, {}),
        (npy(np.array([[np.nan]])), NPY),
    ]:
        assert type(refusal(body, **arguments)) is NonFinite
    assert type(refusal(one() | {"embedding": []})) is PayloadError


def test_what_is_wrong_with_the_whole_body_has_an_empty_pointer() -> None:
    for body in (b"[]", b'{"model_name": "m", "embedding": [1], "more": 1}'):
        [problem] = refusal(body).problems
        assert problem.pointer == ""


def test_every_bad_vector_of_a_batch_is_listed_with_its_index() -> None:
    embeddings = [[1, 2], [1, None], "@@", [3, 4]]
    refused = refusal({"model_name": "m", "embeddings": embeddings})
    assert [p.index for p in refused.problems] == [1, 2]
    assert refused.problems[0].reason == "component 1 is null; components must be numbers"
    refused = refusal({"model_name": "m", "embeddings": [[1, 2], [1], [], "@@"]})
    assert [p.index for p in refused.problems] == [1, 2, 3]
    refused = refusal(b'{"model_name": "m", "embeddings": [[1, 2], [NaN, 2], [1], [1e39, 0]]}')
    assert [p.pointer for p in refused.problems] == [
        "/embeddings/1/0",
        "/embeddings/2",
        "/embeddings/3/0",
    ]
    refused = refusal(several(ids=["a", 3]))
    assert [(p.pointer, p.index) for p in refused.problems] == [("/ids/1", 1)]
    refused = refusal(several(ids=["", "b"], metadata=[None, {"timestamp": -1}]))
    assert [p.pointer for p in refused.problems] == ["/metadata/1/timestamp", "/ids/0"]


def test_a_long_list_of_bad_vectors_is_cut_and_counted() -> None:
    limits = IngestSettings(max_dimension=8)
    refused = refusal({"model_name": "m", "embeddings": [[]] * 250}, limits=limits)
    assert len(refused.problems) == 100
    assert "249 more, of which 150 are not listed" in refused.detail


def test_beyond_what_is_listed_vectors_are_told_apart_but_not_explained() -> None:
    limits = IngestSettings(max_batch_vectors=1_000)
    embeddings = [["1"]] * 150 + [1] * 50 + [[2**70]] * 300
    with pytest.raises(PayloadError) as caught:
        read(several(embeddings=embeddings), limits=limits)
    assert "199 more, of which 100 are not listed" in caught.value.detail
    reasons = {problem.reason for problem in caught.value.problems}
    assert reasons == {"component 0 is a string; components must be numbers"}


def test_too_many_vectors_are_a_request_too_large() -> None:
    with pytest.raises(BodyTooLarge, match="6 vectors; at most 5"):
        read({"model_name": "m", "embeddings": [[1]] * 6})
    with pytest.raises(BodyTooLarge, match="6 vectors; at most 5"):
        read(bytes(24), **NAMED, x_dimension="1")


def test_a_body_beyond_the_limit_is_a_request_too_large() -> None:
    limits = IngestSettings(max_body_bytes=1_024)
    shape: dict[str, Any] = {"x_model_name": "m", "x_dimension": "1"}
    assert len(read(bytes(1_024), "application/octet-stream", limits=limits, **shape)) == 256
    with pytest.raises(BodyTooLarge, match="exceeds 1024 bytes"):
        read(bytes(1_028), "application/octet-stream", limits=limits, **shape)


def test_an_answer_is_never_as_long_as_what_was_wrong() -> None:
    refused = refusal(one(metadata={"timestamp": "x" * 100_000}, **{"y" * 100_000: 1}))
    assert len(refused.detail) < 500
    refused = refusal(one(metadata={"timestamp": "x" * 100_000}))
    assert len(refused.detail) < 500


def test_ids_may_hold_whatever_is_not_a_control_character() -> None:
    assert read(one(id="a\u00a0\u200d\N{GRINNING FACE}")).ids == ["a\u00a0\u200d\N{GRINNING FACE}"]


def test_vectors_of_nothing_but_zeros_are_vectors() -> None:
    assert read(several() | {"embeddings": [[0, 0], [0.0, -0.0]]}).vectors.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("content_type", ["", "text/csv", "application/xml"])
def test_a_content_type_nobody_reads_names_those_that_are(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="application/x-npy"):
        read(one(), content_type)


def test_a_backslash_before_u0000_is_text() -> None:
    batch = read(one(metadata={"path": r"C:\u0000"}))
    assert batch.metadata == [rb'{"path":"C:\\u0000"}']


# Nothing here is about time: on a new machine Hypothesis first builds its tables of Unicode.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

finite_vectors = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@untimed
@given(vectors=finite_vectors)
def test_every_format_keeps_vectors_bit_for_bit(vectors: NDArray[np.float32]) -> None:
    count, dimension = vectors.shape
    name: dict[str, Any] = {"x_model_name": "m"}
    shape = {**name, "x_dimension": str(dimension)}
    raw = vectors.astype("<f4").tobytes()
    parsed = [
        read({"model_name": "m", "embeddings": vectors.tolist()}),
        read({"model_name": "m", "embeddings": [b64(v) for v in vectors]}),
        read(raw, "application/octet-stream", **shape),
        read(npy(vectors), "application/x-npy", **name),
        read(npy(vectors.astype(">f8", order="F")), "application/x-npy", **name),
    ]
    for batch in parsed:
        assert batch.vectors.tobytes() == vectors.tobytes()
        assert len(batch) == count


VALID = [
    json.dumps(one(id="a", metadata={"text": "x", "timestamp": 1})).encode(),
    json.dumps(
        several(ids=["a", None], metadata=[{"timestamp": "2023-12-31T00:00:00Z"}, None])
    ).encode(),
    json.dumps(several() | {"embeddings": [b64([1, 2]), b64([3, 4])]}).encode(),
    ROWS.tobytes(),
    npy(ROWS),
    npy(ROWS.astype(">f8", order="F")),
]
NASTY = [
    b"NaN,",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"9" * 5_000,
    b"null",
    b"true",
    b"{}",
    b'"\\ud800"',
    b'"\\u0000"',
    b"[" * 995,
    b"[" * 9_000,
    b"(" * 300,
    b"(-1,)",
    b"PK\3\4",
    b"\xff",
]


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """Bodies that were valid until something was put in the place of a part of them."""
    body = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 12)))
        body = body[:start] + draw(st.sampled_from(NASTY) | st.binary(max_size=8)) + body[end:]
    return body


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
named_bodies = st.fixed_dictionaries(
    {"model_name": st.just("m")},
    optional=dict.fromkeys(("embedding", "embeddings", "id", "ids", "x"), json_values)
    | {"metadata": json_values | st.dictionaries(st.sampled_from(["timestamp", "a"]), json_values)},
).map(lambda value: json.dumps(value).encode())
headers_of_npy = st.text(st.characters(max_codepoint=127), max_size=80).map(npy_header)


@pytest.mark.filterwarnings("default")  # numpy's and Python's own, on what a header holds
@untimed
@given(
    body=spliced() | named_bodies | headers_of_npy | st.binary(max_size=200),
    content_type=st.sampled_from(
        ["application/json", "application/octet-stream", "application/x-npy"]
    ),
    dimension=st.sampled_from(["1", "3", "x", "\xb2", ""]),
)
def test_no_body_does_anything_but_parse_or_be_refused(
    body: bytes, content_type: str, dimension: str
) -> None:
    refused: PayloadError | None = None
    try:
        batch = read(body, content_type, x_model_name="m", x_dimension=dimension)
    except PayloadError as error:
        refused = error
    if refused is not None:
        assert refused.detail
        assert all(isinstance(problem, Problem) for problem in refused.problems)
        return
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.flags.c_contiguous
    assert np.isfinite(batch.vectors).all()
    for column in (batch.ids, batch.metadata, batch.timestamps):
        assert column is None or len(column) == len(batch)
    assert all(t is None or 0 <= t <= NOW + 86_400 for t in batch.timestamps or ())
