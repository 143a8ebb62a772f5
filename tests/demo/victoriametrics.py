"""Run VictoriaMetrics, and vmalert with our rules, as child processes on free ports of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from demo import stack
from tests.programs import NEWEST


@contextmanager
def evaluating(folder: Path, rules: Path, target: str, alertmanager: str) -> Iterator[None]:
    """Scrape ``target`` and evaluate the rules every second; alerts go to ``alertmanager``.

    A new series is found after up to ten seconds, and one recorded from it after as many again.

    Parameters
    ----------
    folder : Path
        A folder for configuration, data and logs; it is created.
    rules : Path
        Folder of the rendered ``*.rules.yaml``.
    target, alertmanager : str
        URLs of the exporter and of Alertmanager.
    """
    folder.mkdir()
    scrape = {
        "job_name": "embedding-drift",
        "static_configs": [{"targets": [target.removeprefix("http://")]}],
    }
    file = folder / "scrape.yml"
    file.write_text(
        yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]})
    )
    store, alerts = (f"127.0.0.1:{stack.free_port()}" for _ in range(2))
    database = [
        str(NEWEST / "victoria-metrics"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr={store}",
        f"-promscrape.config={file}",
        "-search.latencyOffset=0s",
    ]
    evaluator = [
        str(NEWEST / "vmalert"),
        f"-rule={rules / '*.rules.yaml'}",
        f"-datasource.url=http://{store}",
        f"-remoteWrite.url=http://{store}",
        f"-notifier.url={alertmanager}",
        f"-httpListenAddr={alerts}",
        "-evaluationInterval=1s",
        "-rule.evalDelay=0s",
        "-remoteWrite.flushInterval=100ms",
    ]
    log = folder / "victoria-metrics.log"
    with stack.child(database, log) as process:
        stack.wait_ready(f"http://{store}/health", process, log)
        log = folder / "vmalert.log"
        with stack.child(evaluator, log) as process:
            stack.wait_ready(f"http://{alerts}/health", process, log)
            yield
