"""Write the generated tables: the README's of settings and metrics, and all of scaling.md.

``python docs/generate.py`` rewrites them in place; ``--check`` only says whether it would.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import SecretStr

from bench import plan
from exporter.detector.detector import Detector
from exporter.metrics import families
from ingest.pipeline import metrics
from ingest.runtime.family import Family
from ingest.runtime.http import application
from ingest.runtime.settings.settings import Key, WindowsSettings, keys

README = Path(__file__).parent.parent / "README.md"
SCALING = Path(__file__).parent / "scaling.md"


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


def label_rows() -> Iterator[tuple[str, ...]]:
    """List the values of each label that has a fixed set."""
    values: dict[str, Iterable[str]] = {
        "`window`": WindowsSettings.model_fields,
        "`component`": Detector.COMPONENTS,
        "`aggregate` (over dimensions)": families.AGGREGATES,
        f"`state` of `{families.STATE.name}`": families.STATES,
        f"`state` of `{families.HISTORY_STATE.name}`": families.HISTORY_STATES,
    }
    for label, of_label in values.items():
        yield label, ", ".join(f"`{value}`" for value in of_label)


def blocks() -> dict[Path, dict[str, str]]:
    """Build every generated block by its file and name."""
    head = ("metric", "type", "labels", "meaning")
    return {
        README: {
            "labels": table(("label", "values"), label_rows()),
            "exporter metrics": table(head, metric_rows(families.FAMILIES)),
            "ingest metrics": table(head, metric_rows(metrics.FAMILIES)),
            "watch metrics": table(head, metric_rows(metrics.WATCH_FAMILIES)),
            "process metrics": table(head, metric_rows(application.FAMILIES)),
            "settings": table(("key", "default", "meaning"), setting_rows(keys())),
        },
        SCALING: {name: table(head, rows) for name, (head, rows) in plan.tables().items()},
    }


def fill(text: str, blocks: dict[str, str]) -> str:
    """Replace what stands between the markers of each block.

    Raises
    ------
    SystemExit
        If a block does not stand there once.
    """
    for name, content in blocks.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = marked.subn(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
        if count != 1:
            raise SystemExit(f"there are {count} blocks named {name!r}; there must be one")
    return text


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
