"""A pytest plugin: only numpy, scipy, pytest, hypothesis and the detector can be imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGES = {
    # What is tested, and its tests.
    "exporter",
    "tests",
    # The libraries that the detector needs.
    "numpy",
    "scipy",
    # pytest and hypothesis, with what they require.
    "_hypothesis_globals",
    "_hypothesis_pytestplugin",
    "_pytest",
    "attr",
    "hypothesis",
    "iniconfig",
    "packaging",
    "pluggy",
    "pygments",
    "pytest",
    "sortedcontainers",
}
_HALVES = {"detector", "stats"}


def allowed(name: str) -> bool:
    """Return whether a module may be imported."""
    package, *rest = name.split(".")
    # The standard library names its build's configuration after the platform.
    if package in sys.stdlib_module_names or package.startswith("_sysconfigdata"):
        return True
    if package == "exporter" and rest:
        return rest[0] in _HALVES
    return package in _PACKAGES


class _Filter:
    """A finder of modules that finds only those that are allowed."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found: ModuleSpec | None = None
        # Test modules, and files beside the program such as sitecustomize, keep other names.
        if allowed(name) or name.startswith("test_") or "conftest" in name:
            found = self._finder.find_spec(name, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


sys.meta_path[:] = [_Filter(finder) for finder in sys.meta_path]
for module in [name for name in sys.modules if not allowed(name) and name != "__main__"]:
    del sys.modules[module]
