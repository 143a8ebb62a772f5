"""Tokens: made once, stored as hashes, checked when read."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest

from ingest.runtime.auth import tokens
from ingest.runtime.errors import SettingsError


def test_a_token_is_shown_once_and_stored_as_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    first = tokens.add(file, "scraper", ["metrics"])
    second = tokens.add(file, "team", ["write:a/b", "drift"])
    assert first != second
    assert first not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(t.name, t.sha256, t.scopes) for t in tokens.read(file)] == [
        ("scraper", tokens.digest(first), ["metrics"]),
        ("team", tokens.digest(second), ["write:a/b", "drift"]),
    ]


def test_a_name_is_unique(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    tokens.add(file, "scraper", ["metrics"])
    with pytest.raises(SettingsError, match="already has a token named scraper"):
        tokens.add(file, "scraper", ["drift"])


def test_a_file_that_cannot_grow_keeps_its_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    tokens.add(file, "scraper", ["metrics"])
    held = file.read_text()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(held) + 10, before[1]))
    try:
        with pytest.raises(SettingsError, match=r"tokens\.yaml cannot be written: File too large"):
            tokens.add(file, "team", ["drift"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == held


@pytest.mark.parametrize(("name", "scope"), [("", "metrics"), ("a b", "metrics"), ("a", "all")])
def test_an_invalid_entry_is_not_written(tmp_path: Path, name: str, scope: str) -> None:
    with pytest.raises(SettingsError, match="the token cannot be made"):
        tokens.add(tmp_path / "tokens.yaml", name, [scope])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {name: a, sha256: hunter2, scopes: [metrics]}", "0.sha256"),
        ("- {name: a, scopes: [metrics]}", "0.sha256"),
        ("- [", "not valid YAML"),
        ("hunter2", "valid list"),
    ],
)
def test_an_error_names_the_mistake_but_quotes_no_value(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=reason) as refused:
        tokens.read(file)
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"server\.tokens_file"):
        tokens.read(tmp_path / "none")
