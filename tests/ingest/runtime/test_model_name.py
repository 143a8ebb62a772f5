"""Names of models."""

from __future__ import annotations

import re

import pytest

from ingest.runtime import model_name


@pytest.mark.parametrize("name", ["m", "a/b", "org/model-3:v1@eu+x_y.z", "A" * 128])
def test_a_legal_name(name: str) -> None:
    assert model_name.is_legal(name)
    assert re.fullmatch(model_name.PATTERN, name)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "-a", "a/.b", "a b", "a\n", "ä", "..", "A" * 129]
)
def test_an_illegal_name(name: str) -> None:
    assert not model_name.is_legal(name)
