"""Reading the body of a search."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.http import search
from ingest.runtime.errors import PayloadError, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings

LIMITS = IngestSettings(max_dimension=4)
JSON = {"content-type": "application/json; charset=utf-8"}


def refusal(body: str) -> str:
    with pytest.raises(PayloadError) as refused:
        search.parse(body.encode(), JSON, LIMITS)
    return str(refused.value)


def test_a_search_is_by_vector_or_by_id() -> None:
    found = search.parse(b'{"model_name": "m", "embedding": [1, 2.5]}', JSON, LIMITS)
    np.testing.assert_array_equal(found.target, np.array([1, 2.5], np.float32))
    assert (found.k, found.scope) == (10, "slow")
    assert search.parse(b'{"model_name": "m", "id": "a", "k": 1}', JSON, LIMITS).target == "a"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"model_name": "m"}', "needs either embedding or id"),
        ('{"model_name": "m", "id": "a", "embedding": [1]}', "needs either embedding or id"),
        ('{"model_name": "m", "embedding": [NaN, 1]}', "/embedding"),
        ('{"model_name": "m", "embedding": [1, 2, 3, 4, 5]}', "dimension 5"),
        ('{"model_name": "m", "embedding": [1, true]}', "component 1"),
        ('{"model_name": "m", "embedding": [0, 0]}', "all zeros"),
        ('{"model_name": "m", "id": "a", "k": 0}', "/k"),
        ('{"model_name": "m", "id": "a", "k": 1001}', "1000"),
        ('{"model_name": "m", "id": "a", "scope": "all"}', "/scope"),
        ('{"model_name": "", "id": "a"}', "/model_name"),
        ('{"model_name": "m", "id": "a", "more": 1}', "more"),
        ("[1]", "Expected `object`"),
        ("{", "not valid JSON"),
    ],
)
def test_a_mistake_is_named(body: str, reason: str) -> None:
    assert reason in refusal(body)


def test_another_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/plain is not supported"):
        search.parse(b"{}", {"content-type": "text/plain"}, LIMITS)
