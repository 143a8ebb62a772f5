"""A test without its program is skipped; in CI it fails."""

from __future__ import annotations

import pytest

from tests.programs import find


def test_a_missing_program_skips_the_test_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^absent is not installed; make it$"):
        find("absent", "; make it")


def test_a_missing_program_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="absent is not installed"):
        find("absent")
