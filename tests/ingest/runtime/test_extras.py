"""Libraries that are not installed."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ingest.runtime import extras


def test_the_python_that_runs_installs_what_is_missing() -> None:
    command = f"{sys.executable} -m pip install 'embedding-drift-exporter[kafka]'"
    for name in ("confluent_kafka", "confluent_kafka.admin"):
        error = ModuleNotFoundError(name=name)
        assert extras.needs(error, "kafka") == f"needs confluent_kafka: {command}"


@pytest.mark.parametrize(("name", "extra"), [("msgspec", "files"), ("h5py", ""), (None, "kafka")])
def test_what_an_extra_does_not_install_is_raised_as_it_is(name: str | None, extra: str) -> None:
    error = ModuleNotFoundError(name=name)
    with pytest.raises(ModuleNotFoundError) as raised:
        extras.needs(error, extra)
    assert raised.value is error


def test_the_libraries_are_those_that_the_extras_install() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    provided = packages_distributions()
    for extra, libraries in extras.LIBRARIES.items():
        names = {re.split(r"[\[>=]", line)[0] for line in declared[extra]}
        if "dask" in names:
            names.add("distributed")  # which dask[distributed] installs
        assert {each for library in libraries for each in provided[library]} == names


def test_in_the_image_the_pip_of_the_base_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/opt/embedding-drift/bin/python")
    assert extras.installs("kafka") == (
        "pip --python /opt/embedding-drift/bin/python install 'embedding-drift-exporter[kafka]'"
    )
