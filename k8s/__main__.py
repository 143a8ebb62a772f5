"""``python -m k8s``: write the generated files of the chart, and the manifests made from it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from k8s import values
from k8s.alertmanagerconfig import alertmanager_config
from k8s.helm import CHART, render
from k8s.manifest import Manifest, dump
from k8s.thresholds import thresholds

FOLDER = Path(__file__).parent
OVERLAYS = FOLDER / "overlays"
DEFAULT = FOLDER / "embedding-drift.yaml"
MONITORING = FOLDER / "monitoring" / "manifests.yaml"
"""What the overlays for the Prometheus Operator share."""

_MONITORING = ("ServiceMonitor", "PrometheusRule", "AlertmanagerConfig")
_TABLE = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- /values -->)", re.DOTALL)


def chart_files() -> dict[Path, str]:
    """Build the generated files of the chart."""
    readme = CHART / "README.md"
    text = readme.read_text(encoding="utf-8")
    return {
        CHART / "files" / "thresholds.rules.yaml": dump([thresholds()]),
        CHART / "files" / "alertmanagerconfig.yaml": dump([alertmanager_config()]),
        CHART / "values.schema.json": json.dumps(values.schema(), indent=1) + "\n",
        readme: _TABLE.sub(lambda _: values.table(), text),
    }


def manifests() -> dict[Path, str]:
    """Render the chart with the values of each overlay.

    Raises
    ------
    FileNotFoundError
        If helm is not installed.
    subprocess.CalledProcessError
        If helm rejects the values; its message is in ``stderr``.
    """
    found = {}
    for file in sorted(OVERLAYS.glob("*/values.yaml")):
        objects = render(file)
        own = [each for each in objects if not _is_monitoring(each)]
        shared = [each for each in objects if _is_monitoring(each)]
        path = DEFAULT if file.parent.name == "default" else file.with_name("manifests.yaml")
        found[path] = dump(own)
        if shared:
            assert found.setdefault(MONITORING, dump(shared)) == dump(shared), file
    return found


def kustomize(overlay: Path) -> str:
    """Build an overlay.

    Raises
    ------
    subprocess.CalledProcessError
        If kubectl rejects it; its message is on standard error.
    """
    command = ["kubectl", "kustomize", str(overlay)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def _is_monitoring(manifest: Manifest) -> bool:
    name: str = manifest["metadata"]["name"]
    return manifest["kind"] in _MONITORING or name.endswith("-dashboards")


def main() -> None:
    """Write all files. The manifests come last, because the chart renders them."""
    for build in (chart_files, manifests):
        for path, text in build().items():
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
