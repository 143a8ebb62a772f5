"""The picture of an incident is drawn from what the rules record."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from demo.picture import draw
from demo.stack import Prometheus

RULES = Path(__file__).parent.parent.parent / "rules" / "drift.rules.yaml"


@dataclass(frozen=True)
class Recorded(Prometheus):
    """A Prometheus that has a line for every expression, and notes what it is asked for."""

    asked: list[str] = field(default_factory=list)

    def query_range(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[dict[str, Any]]:
        self.asked.append(expression)
        return [{"values": [[start, "1"], [end, "2"]]}]


def test_every_line_of_the_picture_is_a_series_that_the_rules_record(tmp_path: Path) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    prometheus = Recorded("http://127.0.0.1:1")
    draw(prometheus, "m", began=0.0, shifted=60.0, file=tmp_path / "incident.png")
    drawn = {re.split(r"[{(]", expression)[0] for expression in prometheus.asked} - {"max"}
    assert len(drawn) == 6
    assert drawn <= recorded
    assert (tmp_path / "incident.png").read_bytes().startswith(b"\x89PNG")
