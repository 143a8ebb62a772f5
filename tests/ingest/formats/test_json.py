"""JSON bodies: both requests, and the place of each mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ingest.formats.format import Place
from ingest.formats.json import FORMAT
from ingest.runtime.errors import (
    PayloadError,
)
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import (
    NOW,
    b64,
    one,
    read,
    refusal,
    several,
)


def test_one_vector_has_its_id_metadata_and_timestamp() -> None:
    batch = read(one(id="a", metadata={"text": "ü", "timestamp": 1703980800}))
    assert batch.model_name == "m"
    assert batch.vectors.tolist() == [[1.0, 2.0]]
    assert batch.vectors.dtype == np.float32
    assert batch.ids == ["a"]
    assert batch.timestamps == [1703980800.0]
    assert batch.metadata is not None
    assert json.loads(batch.metadata[0] or b"") == {"text": "ü", "timestamp": 1703980800}


def test_optional_fields_are_none_by_default() -> None:
    batch = read(one())
    assert (batch.ids, batch.metadata, batch.timestamps) == (None, None, None)
    assert (batch.idempotency_key, batch.fingerprint) == (None, b"")


def test_elements_of_a_batch_may_be_null() -> None:
    batch = read(several(ids=[None, "b"], metadata=[{"a": 1}, None]))
    assert batch.ids == [None, "b"]
    assert batch.metadata == [b'{"a":1}', None]
    assert batch.timestamps is None


def test_brackets_in_strings_are_text() -> None:
    texts = {"before [": "[1, 2", "after ]": "3]"}
    assert read(one(metadata=texts)).vectors.tolist() == [[1, 2]]
    assert read({"metadata": texts} | one()).vectors.tolist() == [[1, 2]]
    assert read(one(embedding=b64([1, 2]), metadata={"t": "[3]"})).vectors.tolist() == [[1, 2]]
    assert read(one(id="]", metadata={"t": "["})).ids == ["]"]


def test_the_last_of_repeated_fields_counts() -> None:
    twice = b'{"model_name": "m", "embedding": [1], "embedding": "AAAAQA=="}'
    assert read(twice).vectors.tolist() == [[2]]
    twice = b'{"model_name": "m", "embedding": "AAAAQA==", "embedding": [1]}'
    assert read(twice).vectors.tolist() == [[1]]


WRONG = {
    "nothing": (b"", "not valid JSON"),
    "malformed": (b'{"model_name": "m",', "not valid JSON"),
    "not an object": (b"7", "Expected `object`, got `int`"),
    "not UTF-8 in a list": (
        b'{"model_name": "m", "embedding": ["\xff"]}',
        r"/embedding: is not UTF-8: invalid start byte \(byte 2\)",
    ),
    "not UTF-8": (b'{"model_name": "\xff"}', r"not UTF-8: invalid start byte \(byte 16\)"),
    "deep": (b'{"model_name":"m","embedding":[1],"metadata":{"a":' + b"[" * 9_000, "JSON|deep"),
    "no model": ({"embedding": [1]}, "model_name"),
    "model not a string": (
        one() | {"model_name": 3},
        "/model_name: Expected `str | null`, got `int`",
    ),
    "model empty": (one() | {"model_name": ""}, "/model_name: '' is not allowed"),
    "model with a space": (
        one() | {"model_name": "a b"},
        "any alphabet, other than spaces",
    ),
    "model with a quote": (one() | {"model_name": 'a"b'}, "is not allowed"),
    "model with dots for a folder": (one() | {"model_name": "../x"}, "is not allowed"),
    "model with a line break": (one() | {"model_name": "a\n"}, "is not allowed"),
    "model too long": (one() | {"model_name": "a" * 129}, "1 to 128"),
    "unknown key": (
        one(embbedding=[1]),
        'unknown field "embbedding": did you mean "embedding"\\? allowed are "model_name", ',
    ),
    "usual name of a vector": (
        {"model_name": "m", "vector": [1]},
        'unknown field "vector": did you mean "embedding"\\?',
    ),
    "usual name of a model": (
        {"modelName": "m", "embedding": [1]},
        'unknown field "modelName": did you mean "model_name"\\?',
    ),
    "unknown type of numbers": (one(dtype="float12"), "/dtype: float12 is not allowed; allowed"),
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
    "id not a string": (one(id=3.5), "/id: Expected `int | str"),
    "id a boolean": (one(id=True), "/id: Expected `int | str"),
    "integer id twice": (several(ids=[1, "1"]), "/ids/1: '1' comes twice"),
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
    "timestamp ahead": (
        one(metadata={"timestamp": NOW + 3 * 86_400}),
        r"3.0 days ahead of this server's clock, 2025-06-15T15:06:40Z, and at most 1 day",
    ),
    "timestamp as text ahead": (
        one(metadata={"timestamp": "2025-07-15T15:06:40Z"}),
        "'2025-07-15T15:06:40Z' is 30.0 days ahead",
    ),
    "timestamp in us": (one(metadata={"timestamp": NOW * 1e6}), "looks like microseconds"),
    "timestamp in ns": (one(metadata={"timestamp": int(NOW * 1e9)}), "looks like nanoseconds"),
    "timestamp no time": (one(metadata={"timestamp": "yesterday"}), "RFC 3339"),
    "timestamp naive": (one(metadata={"timestamp": "2023-12-31T00:00:00"}), "names no time zone"),
    "timestamp of a week": (one(metadata={"timestamp": "2023-W52-7T00:00:00Z"}), "RFC 3339"),
    "timestamp before 1970": (one(metadata={"timestamp": "1969-12-31T23:59:59Z"}), "out of range"),
    "timestamp a list": (one(metadata={"timestamp": [1]}), "/metadata/timestamp: is a list"),
    "timestamp endless": (
        b'{"model_name":"m","embedding":[1],"metadata":{"timestamp":%s}}' % (b"9" * 400),
        "/metadata/timestamp: 9+ is out of range; allowed",
    ),
    "number in metadata beyond jsonb": (
        b'{"model_name":"m","embedding":[1],"metadata":{"a":1e400}}',
        "/metadata: has a number that is too large; allowed are integers of at most 400 digits and,"
        " with a point or an exponent, numbers up to 1.79e308$",
    ),
    "integer of thousands of digits": (
        b'{"model_name":"m","embedding":[1],"id":%s}' % (b"9" * 5_000),
        "/id: has a number that is too large; an id is an integer or text of 1 to 255 characters",
    ),
    "number with a point in metadata beyond float64": (
        b'{"model_name":"m","embeddings":[[1]],"metadata":[{"a":%s.5}]}' % (b"9" * 350),
        "/metadata/0: has a number that is too large; allowed are integers of at most 400 digits",
    ),
    "number beyond float64 as id": (
        b'{"model_name":"m","embedding":[1],"id":1e400}',
        "/id: has a number that is too large; an id is an integer or text of 1 to 255 characters$",
    ),
    "number beyond float64 among ids": (
        b'{"model_name":"m","embeddings":[[1]],"ids":[1e400]}',
        "/ids/0: has a number that is too large; an id is an integer or text of 1 to 255 char",
    ),
    "number beyond float64 as model": (
        b'{"model_name":1e400,"embedding":[1]}',
        "/model_name: has a number that is too large$",
    ),
    "NUL in a key of metadata": (one(metadata={"a\0": 1}), r"U\+0000"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake: str) -> None:
    body, message = WRONG[mistake]
    refused = refusal(body)
    with pytest.raises(PayloadError, match=message):
        raise refused
    assert refused.status == 400


def test_a_problem_of_the_whole_body_has_an_empty_pointer() -> None:
    for body in (b"7", b'{"model_name": "m", "embedding": [1], "more": 1}'):
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
    refused = refusal(several(ids=["a", 3.5]))
    assert [(p.pointer, p.index) for p in refused.problems] == [("/ids/1", 1)]
    refused = refusal(several(ids=["", "b"], metadata=[None, {"timestamp": -1}]))
    assert [p.pointer for p in refused.problems] == ["/metadata/1/timestamp", "/ids/0"]


def test_an_error_does_not_quote_long_values() -> None:
    refused = refusal(one(metadata={"timestamp": "x" * 100_000}, **{"y" * 100_000: 1}))
    assert len(refused.detail) < 500
    refused = refusal(one(metadata={"timestamp": "x" * 100_000}))
    assert len(refused.detail) < 500


def test_nan_outside_of_vectors_is_a_missing_value() -> None:
    metadata = [{"score": np.nan, "say": 'NaN "NaN\\', "timestamp": np.nan}, {"d": -np.inf}]
    batch = read(several(ids=[np.nan, "NaN"], metadata=metadata))
    assert batch.ids == [None, "NaN"]
    assert batch.timestamps is None
    stored = [json.loads(item or b"") for item in batch.metadata or ()]
    assert stored == [{"score": None, "say": 'NaN "NaN\\', "timestamp": None}, {"d": None}]
    both = refusal(several(embeddings=[[1, np.nan], [1, 2]], metadata=metadata))
    assert [problem.pointer for problem in both.problems] == ["/embeddings/0/1"]


def test_the_letters_of_nan_in_base64_are_no_number() -> None:
    components = b64([8.144882599481207e-07, -9.831222732746883e-18, 2.296954093358285e16])
    assert components == "NaNaNaNaNaNaNaNa"
    batch = read(one(embedding=components, metadata={"price": np.nan}))
    assert batch.vectors.shape == (1, 3)
    assert batch.metadata == [b'{"price":null}']


def test_a_backslash_before_u0000_is_text() -> None:
    batch = read(one(metadata={"path": r"C:\u0000"}))
    assert batch.metadata == [rb'{"path":"C:\\u0000"}']


def test_integer_ids_are_texts() -> None:
    assert read(one(id=7)).ids == ["7"]
    assert read(several(ids=[7, None])).ids == ["7", None]


def nested(levels: int, opening: str, closing: str) -> str:
    """Metadata of so many levels."""
    inner = opening * (levels - 1) + "1" + closing * (levels - 1)
    return f'{{"a": {inner}}}'


FORMS = {
    "one": '{{"model_name": "m", "embedding": [1], "metadata": {0}}}',
    "base64": '{{"model_name": "m", "embedding": "AACAPw==", "metadata": {0}}}',
    "batch": '{{"model_name": "m", "embeddings": [[1]], "metadata": [{0}]}}',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_metadata_may_be_nested_to_one_depth_in_every_form(
    form: str, brackets: tuple[str, str]
) -> None:
    def body(levels: int) -> bytes:
        return FORMS[form].format(nested(levels, *brackets)).encode()

    assert len(read(body(100), limits=IngestSettings())) == 1
    for levels in (101, 500, 990, 1_000, 1_100, 10_000):
        with pytest.raises(PayloadError, match="is nested more than 100 levels deep"):
            read(body(levels), limits=IngestSettings())


def test_a_short_body_of_few_values_is_read_in_the_event_loop_and_others_are_not() -> None:
    metadata = {"text": "a", "n": 1}
    light = (one(embedding=[0.125] * 4_000), several(ids=["a", "b"], metadata=[metadata] * 2))
    heavy = (
        one(embedding=[0.125] * 40_000),
        several(embeddings=[[1]] * 600),
        several(ids=["a"] * 600),
        several(metadata=[{}] * 600),
    )
    for bodies, place in ((light, Place.LOOP), (heavy, Place.THREAD)):
        assert {FORMAT.place(json.dumps(body).encode()) for body in bodies} == {place}
