"""Reading the body of a search."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.http import search
from ingest.runtime.errors import PayloadError, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings

LIMITS = IngestSettings(max_dimension=4)
JSON = {"content-type": "application/json; charset=utf-8"}


def filtered(value: str) -> str:
    return f'{{"model_name": "m", "seq": 1, "filter": {{"a": {value}}}}}'


def refusal(body: str) -> str:
    with pytest.raises(PayloadError) as refused:
        search.parse(body.encode(), JSON, LIMITS)
    return str(refused.value)


def test_a_search_is_by_vector_id_or_number() -> None:
    found = search.parse(b'{"model_name": "m", "embedding": [1, 2.5]}', JSON, LIMITS)
    np.testing.assert_array_equal(found.target, np.array([1, 2.5], np.float32))
    assert (found.k, found.scope) == (10, "slow")
    assert search.parse(b'{"model_name": "m", "id": "a", "k": 1}', JSON, LIMITS).target == "a"
    assert search.parse(b'{"model_name": "m", "id": 7}', JSON, LIMITS).target == "7"
    assert search.parse(b'{"model_name": "m", "seq": 7}', JSON, LIMITS).target == 7


def test_a_filter_is_an_object() -> None:
    body = b'{"model_name": "m", "seq": 7, "filter": {"tenant": "a", "n": [1]}}'
    assert search.parse(body, JSON, LIMITS).filter == b'{"tenant":"a","n":[1]}'
    assert search.parse(b'{"model_name": "m", "seq": 7}', JSON, LIMITS).filter is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"model_name": "m"}', "needs one of embedding, id and seq"),
        ('{"model_name": "m", "id": "a", "embedding": [1]}', "needs one of embedding, id and seq"),
        ('{"model_name": "m", "embedding": [NaN, 1]}', "/embedding"),
        ('{"model_name": "m", "embedding": [1, 2, 3, 4, 5]}', "dimension 5"),
        ('{"model_name": "m", "embedding": [1, true]}', "component 1"),
        ('{"model_name": "m", "embedding": [0, 0]}', "all zeros"),
        ('{"model_name": "m", "id": "a", "k": 0}', "/k"),
        ('{"model_name": "m", "id": "a", "k": 1001}', "1000"),
        ('{"model_name": "m", "id": "a", "scope": "all"}', "/scope"),
        ('{"model_name": "", "id": "a"}', "/model_name"),
        ('{"model_name": "m", "id": "a", "more": 1}', "more"),
        ('{"model_name": "m", "id": "a", "seq": 1}', "needs one of embedding, id and seq"),
        ('{"model_name": "m", "seq": 0}', "/seq"),
        ('{"model_name": "m", "seq": 9223372036854775808}', "/seq"),
        ('{"model_name": "m", "seq": 1, "filter": "a"}', "/filter"),
        (filtered(r'"\u0000"'), "/filter: holds the character U+0000"),
        (filtered(f'"{"x" * 20_000}"'), "/filter: takes 20008 bytes"),
        (filtered("[" * 101 + "]" * 101), "/filter: is nested more than 100 levels deep"),
        (
            filtered("1e400"),
            "/filter: has a number that is too large; allowed are integers of at most",
        ),
        ('{"model_name": "m", "id": 1e400}', "too large; an id is an integer or text of 1 to 255"),
        ("[1]", "Expected `object`"),
        ("{", "not valid JSON"),
    ],
)
def test_a_mistake_is_named(body: str, reason: str) -> None:
    assert reason in refusal(body)


def test_another_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/plain is not supported"):
        search.parse(b"{}", {"content-type": "text/plain"}, LIMITS)
