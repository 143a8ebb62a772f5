"""Answers of embedding APIs are stored as they are."""

from __future__ import annotations

import base64
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingest.formats.answers import cohere, ollama, openai, tei
from ingest.formats.answers.registry import FORMS
from ingest.runtime.errors import NonFinite
from tests.ingest.formats.bodies import ROWS, b64, read, refusal

Json = Any

VECTORS = ROWS.tolist()


def data(vectors: list[Json]) -> list[Json]:
    return [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]


USAGE = {"prompt_tokens": 5, "total_tokens": 5}
META = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}}

NAMED: dict[str, Json] = {
    "OpenAI": {"object": "list", "data": data(VECTORS), "model": "m", "usage": USAGE},
    "OpenAI in base64": {"object": "list", "data": data([*map(b64, ROWS)]), "model": "m"},
    "vLLM": {"id": "embd-1", "object": "list", "created": 1, "model": "m", "data": data(VECTORS)},
    "Jina": {"model": "m", "object": "list", "usage": {"total_tokens": 5}, "data": data(VECTORS)},
    "Voyage": {"object": "list", "data": data(VECTORS), "model": "m", "usage": USAGE},
    "Ollama": {
        "model": "m",
        "embeddings": VECTORS,
        "total_duration": 14143917,
        "load_duration": 1019500,
        "prompt_eval_count": 8,
    },
}
UNNAMED: dict[str, Json] = {
    "Cohere 1": {
        "id": "3198",
        "texts": ["a", "b"],
        "embeddings": VECTORS,
        "meta": META,
        "response_type": "embeddings_floats",
    },
    "Cohere by type": {
        "id": "3198",
        "embeddings": {"int8": [[1, 2, 3], [4, 5, 6]], "float": VECTORS},
        "texts": ["a", "b"],
        "meta": META,
        "response_type": "embeddings_by_type",
    },
    "Cohere in base64": {"id": "3198", "embeddings": {"base64": [*map(b64, ROWS)]}, "meta": META},
    "Hugging Face TEI": VECTORS,
    "OpenAI without a name": {"object": "list", "data": data(VECTORS)},
}


@pytest.mark.parametrize(
    ("form", "example"),
    [(openai, "OpenAI"), (ollama, "Ollama"), (cohere, "Cohere 1"), (tei, "Hugging Face TEI")],
)
def test_an_answer_is_of_one_form(form: ModuleType, example: str) -> None:
    answer = (NAMED | UNNAMED)[example]
    fields = {} if isinstance(answer, list) else {k: json.dumps(v)[0] for k, v in answer.items()}
    assert [each for each in FORMS if each.matches(fields)] == [form.FORM]


@pytest.mark.parametrize("form", NAMED)
def test_an_answer_is_stored_under_the_name_that_it_has(form: str) -> None:
    batch = read(NAMED[form])
    assert batch.model_name == "m"
    assert batch.vectors.tolist() == VECTORS
    assert (batch.ids, batch.timestamps) == (None, None)


@pytest.mark.parametrize("form", UNNAMED)
def test_an_answer_without_a_name_takes_that_of_the_request(form: str) -> None:
    assert read(UNNAMED[form], query={"model_name": "m"}).vectors.tolist() == VECTORS
    assert read(UNNAMED[form], x_model_name="m").model_name == "m"
    place = "model in the body, " if form == "OpenAI without a name" else ""
    assert refusal(UNNAMED[form]).detail == (
        f"the model is missing: give {place}header X-Model-Name or query model_name"
    )


def test_the_name_of_the_request_counts_more_than_that_of_the_answer() -> None:
    assert read(NAMED["OpenAI"], x_model_name="search").model_name == "search"


def test_an_answer_with_one_vector_may_be_of_ollamas_older_path_or_a_bare_list() -> None:
    for body in ({"embedding": VECTORS[0]}, VECTORS[0]):
        assert read(body, x_model_name="m").vectors.tolist() == VECTORS[:1]


def test_texts_of_cohere_are_metadata_and_cut_if_they_are_long() -> None:
    answer = UNNAMED["Cohere 1"] | {"texts": ["ü", "x" * 1_000]}
    batch = read(answer, x_model_name="m")
    first, second = [json.loads(item or b"") for item in batch.metadata or ()]
    assert first == {"text": "ü"}
    assert set(second["text"]) == {"x"}


def test_integers_are_stored_if_there_are_no_floats() -> None:
    answer = {"id": "1", "embeddings": {"ubinary": [[1], [2]], "uint8": [[1, 255], [3, 4]]}}
    assert read(answer, x_model_name="m").vectors.tolist() == [[1, 255], [3, 4]]
    half = [base64.b64encode(row.astype("<f2").tobytes()).decode() for row in ROWS]
    answer = {"object": "list", "data": data(half), "model": "m"}
    assert read(answer, x_dtype="float16").vectors.tolist() == VECTORS


WRONG: dict[str, tuple[Json, str, str]] = {
    "a vector too short": (
        {"data": data([[1, 2], [1]]), "model": "m"},
        "/data/1/embedding",
        "has dimension 1",
    ),
    "an item with an id": (
        {"data": [{"embedding": [1], "id": "a"}], "model": "m"},
        "/data/0",
        'unknown field "id"; allowed are "embedding", "index", "object"',
    ),
    "an item without a vector": (
        {"data": [{"vector": [1]}]},
        "/data/0",
        'unknown field "vector": did you mean "embedding"? allowed are',
    ),
    "an item with a vector for each token": (
        {"data": [*data([[1]]), {"embeddings": [[1], [2]]}], "model": "jina"},
        "/data/1",
        'unknown field "embeddings": did you mean "embedding"? allowed are',
    ),
    "ids beside an answer": (
        {"data": data([[1]]), "model": "m", "ids": ["a"]},
        "",
        'is an answer of OpenAI, Jina, Voyage and has "ids"',
    ),
    "a component of Cohere": (
        {"embeddings": {"float": [[1, None]]}, "id": "1"},
        "/embeddings/float/0",
        "component 1 is null",
    ),
    "binary embeddings": ({"embeddings": {"ubinary": [[1]]}, "id": "1"}, "", "pack 8 components"),
    "vectors of tokens": ([[[1.0, 2.0], [1.0, 2.0]]], "/0", "component 0 is a list"),
    "nothing": ([], "", "the batch is empty"),
    "a text with NUL": (
        {"embeddings": [[1]], "texts": ["\0"], "id": "1"},
        "/texts/0",
        "U+0000",
    ),
    "an answer of Gemini": (
        {"model_name": "m", "embeddings": [{"values": [1]}]},
        "/embeddings/0",
        "is an object",
    ),
    "an error": (
        {"error": {"message": "quota"}},
        "",
        'unknown field "error"; allowed are "model_name", "embedding"',
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_where_it_is_in_the_answer(mistake: str) -> None:
    body, pointer, reason = WRONG[mistake]
    refused = refusal(body, x_model_name="m")
    assert reason in refused.detail
    assert [problem.pointer for problem in refused.problems or ()][:1] in ([pointer], [])


def test_nan_in_an_answer_is_named_where_it_is() -> None:
    refused = refusal({"object": "list", "data": data([[1.0, 2.0], [1.0, np.nan]]), "model": "m"})
    assert type(refused) is NonFinite
    assert [problem.pointer for problem in refused.problems] == ["/data/1/embedding/1"]
