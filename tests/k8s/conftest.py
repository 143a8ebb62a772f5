from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from k8s.__main__ import FOLDER, kustomize
from k8s.manifest import Manifest

OWN = Path(__file__).parent

OVERLAYS = {path.name: path for path in sorted((FOLDER / "overlays").iterdir())} | {
    # The default with the one component that no overlay has.
    "cnpg": OWN / "cnpg"
}

Render = Callable[[str], list[Manifest]]


@pytest.fixture(scope="session")
def render() -> Render:
    """Give the objects of an overlay by its name; the test is skipped without kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    known: dict[str, list[Manifest]] = {}

    def objects(overlay: str) -> list[Manifest]:
        if overlay not in known:
            known[overlay] = list(yaml.safe_load_all(kustomize(OVERLAYS[overlay])))
        return known[overlay]

    return objects


@pytest.fixture(scope="session", params=OVERLAYS)
def objects(request: pytest.FixtureRequest, render: Render) -> list[Manifest]:
    """Give the objects of each overlay in turn."""
    return render(request.param)
