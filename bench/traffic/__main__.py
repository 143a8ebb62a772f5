"""``python -m bench.traffic [DATA.npz]``: false pages and delays on simulated traffic, by regime.

DATA has ``embedding``, shape (n, d), and ``topic``, shape (n,); by default, the package
descriptions of the demo. A stream of 30 days with its drifts takes two minutes of a core at 384
dimensions, six at 60 vectors a minute.
"""

from __future__ import annotations

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from bench.table import show
from bench.traffic.drifts import DRIFTS
from bench.traffic.regimes import REGIMES
from bench.traffic.simulation import Outcome, simulate
from bench.traffic.source import Source
from bench.traffic.summary import Delays, Summary
from ingest.runtime.settings.settings import MonitoringSettings, Settings

DEMO = files("demo") / "data" / "package-descriptions-minilm.npz"


def main() -> None:
    """Simulate, print two tables, and write a file if asked to."""
    asked = _arguments()
    tasks = [(name, number) for name in asked.regime for number in range(asked.streams)]
    with as_file(DEMO) as demo, ProcessPoolExecutor(asked.workers) as pool:
        file = asked.data or str(demo)
        running = [pool.submit(_simulate, file, name, number, asked) for name, number in tasks]
        outcomes: dict[str, list[Outcome]] = {name: [] for name in asked.regime}
        for (name, number), done in zip(tasks, running, strict=True):
            outcome = done.result()
            outcomes[name].append(outcome)
            print(f"{name} {number}: {len(outcome.pages)} pages", file=sys.stderr, flush=True)
    summaries = {name: Summary.of(each, REGIMES[name].change) for name, each in outcomes.items()}
    _show_pages(summaries)
    _show_delays(summaries)
    if asked.json is not None:
        regimes = {
            name: asdict(summary) | {"each": [asdict(one) for one in outcomes[name]]}
            for name, summary in summaries.items()
        }
        asked.json.write_text(json.dumps(regimes, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.traffic", description=__doc__)
    parser.add_argument("data", nargs="?", metavar="DATA.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--regime", action="append", choices=REGIMES, help="may be repeated")
    parser.add_argument("--streams", type=int, default=9, help="of each regime")
    parser.add_argument("--rate", type=float, help="vectors a minute, not those of the regimes")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quick", action="store_true", help="two days of one stream")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every stream's numbers")
    asked = parser.parse_args()
    if asked.quick:
        asked.days, asked.streams = 2, 1
    asked.regime = list(dict.fromkeys(asked.regime or REGIMES))
    return asked


def _simulate(file: str, regime: str, number: int, asked: argparse.Namespace) -> Outcome:
    monitoring = MonitoringSettings(time_zone=REGIMES[regime].zone.key)
    settings = Settings(monitoring=monitoring)
    source = _source(file)
    return simulate(source, regime, asked.days, asked.seed, number, settings, asked.rate)


@cache
def _source(file: str) -> Source:
    return Source.load(file)


def _show_pages(summaries: dict[str, Summary]) -> None:
    first = next(iter(summaries.values()))
    show(
        f"False pages of a model in {first.days} days, {first.streams} streams of each regime",
        ("", "day 1", "days 2-7", "later", "all", "worst", "firing", "due", "CPU s a day"),
        [
            (
                name,
                f"{of.first_day:.1f}",
                f"{of.days_2_to_7:.1f}",
                f"{of.later:.1f}",
                f"{of.mean:.1f}",
                str(of.max),
                f"{of.firing:.1%}",
                f"{of.due:.1f}",
                f"{of.cpu_seconds:.1f}",
            )
            for name, of in summaries.items()
        ],
    )


def _show_delays(summaries: dict[str, Summary]) -> None:
    show(
        "Median minutes from the onset of a drift to a page (share paged within 24 hours)",
        ("", "onsets of each", *DRIFTS),
        [
            (
                name,
                str(next(iter(of.drifts.values())).onsets),
                *(_delay(delays) for delays in of.drifts.values()),
            )
            for name, of in summaries.items()
        ],
    )


def _delay(delays: Delays) -> str:
    if delays.found is None:
        return "-"
    minutes = "-" if delays.median_minutes is None else f"{delays.median_minutes:.0f}"
    return f"{minutes} ({delays.found:.2f})"


if __name__ == "__main__":
    main()
