"""``python -m k8s``: write the generated manifests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ingest.runtime.settings.configuration import load
from k8s.alertmanagerconfig import alertmanager_config
from k8s.manifest import dump
from k8s.prometheusrule import prometheus_rules

FOLDER = Path(__file__).parent
OPERATOR = FOLDER / "components" / "prometheus-operator"
DEFAULT = FOLDER / "embedding-drift.yaml"


def operator_files() -> dict[Path, str]:
    """Build the generated files of the component for the Prometheus Operator."""
    rules = prometheus_rules(load(FOLDER / "base" / "config.yaml"))
    return {
        OPERATOR / "prometheusrule.yaml": dump(rules),
        OPERATOR / "alertmanagerconfig.yaml": dump([alertmanager_config()]),
    }


def kustomize(overlay: Path) -> str:
    """Render an overlay.

    Raises
    ------
    subprocess.CalledProcessError
        If kubectl rejects it; its message is on standard error.
    """
    command = ["kubectl", "kustomize", str(overlay)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def main() -> None:
    """Write all files. The default comes last, because it includes the others."""
    for path, text in operator_files().items():
        path.write_text(text, encoding="utf-8")
    DEFAULT.write_text(kustomize(FOLDER / "overlays" / "default"), encoding="utf-8")


if __name__ == "__main__":
    main()
