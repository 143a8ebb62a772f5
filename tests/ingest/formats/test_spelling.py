"""Unknown fields, and what was probably meant."""

from __future__ import annotations

import pytest

from ingest.formats.spelling import unknown

ALLOWED = ("model_name", "embedding", "embeddings", "metadata", "id", "ids")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vector", "embedding"),
        ("vectors", "embeddings"),
        ("Embeding", "embedding"),
        ("modelName", "model_name"),
        ("model", "model_name"),
        ("payload", "metadata"),
        ("timestamp", "metadata.timestamp"),
    ],
)
def test_the_field_that_was_probably_meant_is_named(name: str, meant: str) -> None:
    [problem] = unknown(["id", name], ALLOWED)
    assert problem.reason.startswith(f'unknown field "{name}": did you mean "{meant}"? allowed are')


def test_a_field_that_is_like_none_gets_those_that_are_allowed() -> None:
    [problem] = unknown(["xyz"], ALLOWED)
    assert problem.reason == (
        'unknown field "xyz"; allowed are "model_name", "embedding", "embeddings", "metadata",'
        ' "id", "ids"'
    )


def test_what_is_not_allowed_is_not_suggested() -> None:
    [problem] = unknown(["payload"], ["model_name", "k"])
    assert "did you mean" not in problem.reason


def test_a_long_name_is_cut() -> None:
    assert len(unknown(["x" * 100_000], ALLOWED)[0].reason) < 300
