from __future__ import annotations

from pathlib import Path

import pytest

from demo import tools


def test_a_missing_program_is_named_with_its_debian_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        tools.ToolMissing, match=r"amtool .*apt-get install prometheus-alertmanager"
    ):
        tools.find("amtool")


def test_alertmanager_is_found_under_its_upstream_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "alertmanager"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find("alertmanager") == str(program)
