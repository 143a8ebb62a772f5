from __future__ import annotations

import shutil
from functools import cache

import pytest

from k8s.manifest import Manifest
from tests.k8s import overlays
from tests.k8s.overlays import OVERLAYS, Render


@pytest.fixture(scope="session")
def render() -> Render:
    """Give the objects of an overlay by its name; the test is skipped without kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    return cache(overlays.objects)


@pytest.fixture(scope="session", params=OVERLAYS)
def objects(request: pytest.FixtureRequest, render: Render) -> list[Manifest]:
    """Give the objects of each overlay in turn."""
    return render(request.param)
