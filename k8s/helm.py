"""Render the chart with helm, for people who install without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from k8s.manifest import Manifest, load

ROOT = Path(__file__).parents[1]
CHART = ROOT / "k8s" / "chart"
NAME = "embedding-drift"
"""Release and namespace of the rendered manifests."""

TOOLS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "embedding-drift"
    / "kubernetes"
)
"""What ``make tools-kubernetes`` builds."""

_KUBERNETES = "1.34.0"
_OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/")


def tool(program: str, version_of: str) -> Path:
    """Return where ``.ci/kubernetes`` puts a program or file, by the version that it has there."""
    text = (ROOT / ".ci" / "kubernetes").read_text(encoding="utf-8")
    [version] = re.findall(rf"(?m)^{version_of}=(\S+)$", text)
    return TOOLS / f"{program}-{version}"


def helm() -> str | None:
    """Return the path of helm: the one that ``.ci/kubernetes`` built, or an installed one."""
    built = tool("helm", "helm")
    return str(built) if built.exists() else shutil.which("helm")


def render(*values: Path, release: str = NAME, namespace: str = NAME) -> list[Manifest]:
    """Render the chart with values files, without what only Helm reads.

    Raises
    ------
    FileNotFoundError
        If helm is not installed.
    subprocess.CalledProcessError
        If helm rejects the values; its message is in ``stderr``.
    """
    program = helm()
    if program is None:
        raise FileNotFoundError("helm is not installed; make tools-kubernetes builds it")
    command = [program, "template", release, str(CHART), "--namespace", namespace]
    command += ["--skip-tests", "--kube-version", _KUBERNETES]
    command += [f"--values={file}" for file in values]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return [_plain(found) for found in load(answer.stdout)]


def _plain(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    for field in ("labels", "annotations"):
        kept = {k: v for k, v in metadata.get(field, {}).items() if not k.startswith(_OF_HELM)}
        if kept:
            metadata[field] = kept
        else:
            metadata.pop(field, None)
    return manifest
