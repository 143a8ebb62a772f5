from __future__ import annotations

from functools import cache

import pytest

from k8s.__main__ import DEFAULT
from k8s.helm import helm as find_helm
from k8s.manifest import Manifest
from tests.k8s import overlays
from tests.k8s.overlays import OVERLAYS, Render
from tests.programs import find, missing


@pytest.fixture(scope="session")
def kubectl() -> str:
    """Return the path of kubectl."""
    return find("kubectl")


@pytest.fixture(scope="session")
def render(kubectl: str) -> Render:
    """Return the objects of an overlay by its name."""
    return cache(overlays.objects)


@pytest.fixture(scope="session", params=[DEFAULT.name, *OVERLAYS])
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    """Return the objects of the rendered default, and of each overlay in turn."""
    if request.param == DEFAULT.name:
        return overlays.rendered()
    render: Render = request.getfixturevalue("render")
    return render(request.param)


@pytest.fixture(scope="session")
def helm() -> str:
    """Return the path of helm."""
    return find_helm() or missing("helm is not installed; make tools-kubernetes")
