from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.traffic.pager import ALERT
from bench.traffic.source import Source
from ingest.runtime.settings.settings import Settings
from rules.render import render


@pytest.fixture(scope="session")
def source() -> Source:
    """Eight topics of 150 vectors each, of dimension 16 and about unit length."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(8, 16))
    vectors = np.repeat(centres, 150, axis=0) + 0.7 * random.normal(size=(1_200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Source(vectors.astype(np.float32), np.repeat(list("abcdefgh"), 150))


@pytest.fixture
def promtool_agrees(tmp_path: Path, tool: Callable[[str], str]) -> Callable[..., None]:
    """Assert that the rendered rules fire for these windows, minute by minute."""

    def check(
        scores: dict[str, list[float | None]],
        expected: Sequence[tuple[str, ...]] | Mapping[int, tuple[str, ...]],
        stages: list[str | None] | None = None,
        rises: Sequence[float | None] = (),
        states: dict[str, list[str | None]] | None = None,
        pinned_at: Sequence[int] = (),
    ) -> None:
        render(Settings(), tmp_path)
        series = [_series("score", name, each) for name, each in scores.items()]
        # An exporter that is scraped all along, whatever it says of the windows.
        minutes = max(map(len, scores.values()))
        series.append({"series": "embedding_drift_up", "values": f"1x{minutes}"})
        if rises:
            series.append(_series("score_rise", "slow", rises))
        for stage in set(stages or ()) - {None}:
            values = " ".join("1" if each == stage else "stale" for each in stages or ())
            name = f'embedding_drift_baseline_stage{{model_name="docs", stage="{stage}"}}'
            series.append({"series": name, "values": values})
        for window, each in (states or {}).items():
            for state in set(each) - {None}:
                labels = f'{{model_name="docs", window="{window}", state="{state}"}}'
                values = " ".join("1" if other == state else "stale" for other in each)
                series.append({"series": f"embedding_drift_state{labels}", "values": values})
        if pinned_at:
            name = 'embedding_drift_baseline_timestamp_seconds{model_name="docs"}'
            series.append({"series": name, "values": " ".join(map(str, pinned_at))})
        firing = f'count by (window) (ALERTS{{alertname="{ALERT}", alertstate="firing"}})'
        tests = [
            {
                "expr": firing,
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{window="{name}"}}', "value": 1} for name in sorted(windows)
                ],
            }
            for minute, windows in (
                expected.items() if isinstance(expected, Mapping) else enumerate(expected)
            )
        ]
        example = {
            "rule_files": ["thresholds.rules.yaml", "drift.rules.yaml"],
            "evaluation_interval": "1m",
            "group_eval_order": ["embedding-drift-thresholds", "embedding-drift"],
            "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
        }
        (tmp_path / "example.yaml").write_text(yaml.safe_dump(example))
        command = [tool("promtool"), "test", "rules", "example.yaml"]
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert answer.returncode == 0, (answer.stdout + answer.stderr)[:2_000]

    return check


def _series(name: str, window: str, values: Sequence[float | None]) -> dict[str, str]:
    return {
        "series": f'embedding_drift_{name}{{model_name="docs", window="{window}"}}',
        # A series that a scrape no longer has gets a stale marker.
        "values": " ".join("stale" if value is None else repr(value) for value in values),
    }
