"""Names of models."""

from __future__ import annotations

import re

import pytest

from ingest.runtime import model_name


@pytest.mark.parametrize(
    "name",
    [
        *("m", "a/b", "org/model-3:v1@eu+x_y.z", "A" * 128, "@cf/baai/bge-base-en-v1.5"),
        *(
            "/models/bge-m3",
            "a/",
            "a//b",
            "-a",
            "a/.b",
            "\u0434\u0430",
            "\u6a21\u578b",
        ),
        *("modèle", "bge#2?x=1&y=100%", "(v2)*{a,b}|c;$d", "\N{ROCKET}", "..a", "a..b"),
    ],
)
def test_a_legal_name(name: str) -> None:
    assert model_name.is_legal(name)
    assert re.fullmatch(model_name.PATTERN, name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a b", "a\n", "\ta", ".", "..", "../a", "a/..", "a/./b", "A" * 129, 'a"b', "a\\b"),
        *(
            "<!channel>",
            "a`b",
            "a\xa0b",
            "a\u200bb",
            "a\u202eb",
            "\ufeffa",
            "\ufffd",
            "\ue000",
            "\ud800",
        ),
    ],
)
def test_an_illegal_name(name: str) -> None:
    assert not model_name.is_legal(name)
