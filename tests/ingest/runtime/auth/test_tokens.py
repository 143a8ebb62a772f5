"""Tokens: made once, stored as hashes, checked when read."""

from __future__ import annotations

import resource
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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


def test_a_name_may_look_like_a_number(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    names = ["1e5", "089", "0o17", "1_000", "7"]
    for name in names:
        tokens.add(file, name, ["drift"])
    assert [each.name for each in tokens.read(file)] == names


def test_a_name_is_unique(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    tokens.add(file, "scraper", ["metrics"])
    with pytest.raises(SettingsError, match="already has a token named scraper"):
        tokens.add(file, "scraper", ["drift"])


def test_no_token_is_lost_when_two_are_made_at_once(tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(8)]
    begin = threading.Barrier(len(names))

    def make(file: Path, name: str) -> str:
        begin.wait(60)
        return tokens.add(file, name, ["drift"])

    for attempt in range(5):
        file = tmp_path / f"{attempt}.yaml"
        # Nothing can be appended to it, so it is written anew.
        file.write_text(f"[{{name: old, sha256: {'a' * 64}, scopes: []}}]")
        with ThreadPoolExecutor(len(names)) as pool:
            made = list(pool.map(partial(make, file), names))
        known = {each.name: each.sha256 for each in tokens.read(file)}
        assert known == {"old": "a" * 64} | {
            name: tokens.digest(token) for name, token in zip(names, made, strict=True)
        }


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


ENTRY = f"name: old\n  sha256: {'a' * 64}\n  scopes:\n  - drift\n"
INLINE = f"{{name: old, sha256: {'a' * 64}, scopes: [drift]}}"


@pytest.mark.parametrize(
    "text",
    [
        f"- {INLINE}",
        f"  - {INLINE}\n",
        f"# team a\n  - {INLINE} # old\n  # the end",
        f"- {ENTRY}# the end",
        f"---\r\n- {INLINE}\r\n",
        "# no tokens yet",
        "",
    ],
)
def test_a_token_is_appended_to_what_a_person_wrote(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_bytes(text.encode())
    before = tokens.read(file)
    made = tokens.add(file, "new", ["metrics"])
    assert file.read_bytes().decode().startswith(text)
    *others, new = tokens.read(file)
    assert others == before
    assert (new.name, new.sha256, new.scopes) == ("new", tokens.digest(made), ["metrics"])


@pytest.mark.parametrize("text", ["[]", "null", "{}\n", f"[{INLINE}]\n", f"- {ENTRY}...\n"])
def test_a_file_that_nothing_can_be_appended_to_is_written_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    before = tokens.read(file)
    tokens.add(link, "new", ["metrics"])
    *others, new = tokens.read(file)
    assert others == before
    assert new.name == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(tmp_path.iterdir()) == [link, file]
    assert link.is_symlink()


@pytest.mark.parametrize("text", ["[] # none yet\n", f"# team a\n[{INLINE}]\n"])
def test_comments_are_not_lost_where_nothing_can_be_appended(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"no entry can be appended to .*tokens\.yaml; write"):
        tokens.add(file, "new", ["metrics"])
    assert file.read_text() == text


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
