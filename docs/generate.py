"""Write the generated tables of the pages in ``docs/``.

Settings, metrics and commands come from the code, the numbers of ``scaling.md`` from ``bench``.
``python docs/generate.py`` rewrites the tables in place. ``--check`` changes nothing and fails if a
table is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import get_args

import click
from pydantic import SecretStr

from bench import plan
from exporter.cli import main as program
from exporter.detector.detector import Detector
from exporter.explain.kinds import KINDS
from exporter.metrics import families, shapes
from exporter.monitor.examiner import RECORD
from exporter.monitor.explainer import EXPLANATION
from exporter.monitor.following import REASONS
from exporter.monitor.maturing import Wait
from exporter.monitor.snapshot import Findings
from exporter.monitor.states import FORECAST_STATES, STATES
from exporter.monitor.verdict import AGGREGATES
from ingest.pipeline import metrics
from ingest.runtime.family import Family
from ingest.runtime.http import application
from ingest.runtime.settings.settings import Key, WindowsSettings, keys
from ingest.runtime.thresholds import Stage
from ingest.store.standbys import REPLICATIONS

DOCS = Path(__file__).parent
CONFIGURATION = DOCS / "configuration.md"
METRICS = DOCS / "metrics.md"
COMMANDS = DOCS / "commands.md"
SCALING = DOCS / "scaling.md"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Lay out a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metric_rows(listed: Iterable[Family]) -> Iterator[tuple[str, ...]]:
    """Describe each family in one row."""
    for family in listed:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"`{family.name}`", family.type, labels, family.help


def setting_rows(listed: Iterable[Key]) -> Iterator[tuple[str, ...]]:
    """Describe each key in one row."""
    for key in listed:
        unset = key.default is None or isinstance(key.default, SecretStr)
        yield (
            f"`{key.dotted}`",
            "" if unset else f"`{key.default}`",
            " ".join(key.description.split()),
        )


def commands(group: click.Group, words: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command that can be run, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def command_rows() -> Iterator[tuple[str, ...]]:
    """Describe each command in one row."""
    for words, command in commands(program, "embedding-drift"):
        required = " ".join(_usage(p) for p in command.params if p.required)
        yield f"`{f'{words} {required}'.strip()}`", " ".join((command.help or "").split())


def _usage(parameter: click.Parameter) -> str:
    name = parameter.opts[0]
    value = name.removeprefix("--").upper()
    return f"{name} {value}" if isinstance(parameter, click.Option) else value


def option_rows() -> Iterator[tuple[str, ...]]:
    """Describe each option in one row, except those that every command with settings has."""
    for words, command in commands(program, "embedding-drift"):
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in ("config", "assignments"):
                default = option.default if option.show_default else None
                yield (
                    f"`{words.removeprefix('embedding-drift ')}`",
                    f"`{option.opts[0]}`",
                    "" if default is None else f"`{default}`",
                    option.help or "",
                )


def label_rows() -> Iterator[tuple[str, ...]]:
    """List the values of each label that has a fixed set."""
    values: dict[str, Iterable[str]] = {
        "`window`": WindowsSettings.model_fields,
        "`window` of the quality families": (*WindowsSettings.model_fields, shapes.BASELINE),
        "`examination`": (*(field.name for field in fields(Findings)), RECORD, EXPLANATION),
        "`component`": Detector.COMPONENTS,
        "`aggregate` (over dimensions)": AGGREGATES,
        f"`aggregate` of `{families.CANARY_DISTANCE.name}`": families.CANARY_AGGREGATES,
        f"`state` of `{families.STATE.name}`": STATES,
        f"`state` of `{families.HISTORY_STATE.name}`": FORECAST_STATES,
        f"`reason` of `{families.NOT_FOLLOWED.name}`": REASONS,
        f"`stage` of `{families.BASELINE_STAGE.name}`": get_args(Stage),
        f"`reason` of `{families.BASELINE_WAITS.name}`": get_args(Wait),
        f"`cause` of `{families.CAUSE.name}`": KINDS,
        f"`replication` of `{families.STORE_STANDBYS.name}`": REPLICATIONS,
    }
    for label, of_label in values.items():
        yield label, ", ".join(f"`{value}`" for value in of_label)


def blocks() -> dict[Path, dict[str, str]]:
    """Build every generated block by its file and name."""
    head = ("metric", "type", "labels", "meaning")
    return {
        CONFIGURATION: {"settings": table(("key", "default", "meaning"), setting_rows(keys()))},
        COMMANDS: {
            "commands": table(("command", "what it does"), command_rows()),
            "options": table(("command", "option", "default", "meaning"), option_rows()),
        },
        METRICS: {
            "labels": table(("label", "values"), label_rows()),
            "exporter metrics": table(head, metric_rows(families.FAMILIES)),
            "ingest metrics": table(head, metric_rows(metrics.FAMILIES)),
            "watch metrics": table(head, metric_rows(metrics.WATCH_FAMILIES)),
            "process metrics": table(head, metric_rows(application.FAMILIES)),
        },
        SCALING: {name: table(head, rows) for name, (head, rows) in plan.tables().items()},
    }


def fill(text: str, blocks: dict[str, str]) -> str:
    """Replace the text between the markers of each block.

    Raises
    ------
    SystemExit
        If a block is missing or is there twice.
    """
    for name, content in blocks.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = marked.subn(partial(_filled, content), text)
        if count != 1:
            raise SystemExit(f"found {count} blocks named {name!r}; expected one")
    return text


def _filled(content: str, block: re.Match[str]) -> str:
    return f"{block[1]}{content}\n{block[2]}"


def main() -> None:
    """Write the tables, or check them."""
    for file, content in blocks().items():
        old = file.read_text(encoding="utf-8")
        new = fill(old, content)
        if "--check" not in sys.argv[1:]:
            file.write_text(new, encoding="utf-8")
        elif new != old:
            sys.exit(f"{file.name} is out of date: make docs")


if __name__ == "__main__":
    main()
