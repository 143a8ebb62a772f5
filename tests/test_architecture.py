"""Imports point down, packages explain themselves, and tests mirror the packages."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("alertmanager", "bench", "client", "demo", "exporter", "grafana", "ingest", "k8s", "rules")
"""Folders of the repository that hold Python packages, tests apart."""
PRODUCT = [
    file
    for folder in ("client", "exporter", "ingest")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
PACKAGES = sorted(file.parent for folder in TOP for file in (ROOT / folder).rglob("__init__.py"))

UNMIRRORED = {
    "client/embedding_drift_client/errors.py": "data: tests/client/test_delivery.py raises them",
    "exporter/explain/kinds.py": "data: tests/exporter/explain/test_cause.py goes by it",
    "exporter/http/operations.py": "tests/test_openapi.py compares it with the real answers",
    "exporter/metrics/shapes.py": "tests/exporter/metrics/test_families.py reads one of each",
    "exporter/monitor/report.py": "data: tests/exporter/monitor/test_reporting.py goes by it",
    "exporter/monitor/series.py": "record: no behaviour",
    "exporter/monitor/snapshot.py": "record: no behaviour",
    "exporter/monitor/states.py": "data: tests/exporter/monitor/test_verdict.py goes by it",
    "exporter/stats/arrays.py": "data: types, and a conversion that every other statistic uses",
    "ingest/cli.py": "tests/exporter/test_cli.py has all commands",
    "ingest/formats/answers/answer.py": "record: no behaviour",
    **{
        f"ingest/formats/answers/{name}.py": "tests/ingest/formats/answers/test_registry.py"
        for name in ("cohere", "ollama", "openai", "tei")
    },
    "ingest/formats/confinement.py": "tests/ingest/formats/test_child.py runs the program",
    "ingest/formats/fields.py": "types: tests/test_openapi.py describes them",
    "ingest/http/bodies.py": "data: tests/ingest/http/test_app.py sends and reads the bodies",
    "ingest/http/searches.py": "tests/ingest/http/test_app.py sends searches",
    "ingest/http/operations.py": "tests/test_openapi.py compares it with the real answers",
    "ingest/pipeline/metrics.py": "tests/ingest/http/test_app.py reads the metrics",
    "ingest/store/stored_vector.py": "record: no behaviour",
    "ingest/runtime/errors.py": "data: tests/test_openapi.py provokes each status",
    "ingest/runtime/family.py": "record: no behaviour",
    "ingest/runtime/http/fields.py": "tests/test_openapi.py validates the description",
    "ingest/runtime/http/listener.py": "tests/test_flood.py connects more clients than it accepts",
    "ingest/runtime/settings/settings.py": "tests/ingest/runtime/settings/test_configuration.py",
    "ingest/runtime/thresholds.py": "data: tests/rules renders it, test_maturing.py goes by it",
    "ingest/runtime/version.py": "data: one constant",
    "ingest/service.py": "tests/test_serve.py runs the commands",
    "ingest/watch/sources/source.py": "a protocol: tests/ingest/watch/sources/test_contract.py",
    "ingest/watch/watch.py": "tests/test_watch.py runs the command",
}
"""Product modules without a test module at the mirrored path, and what tests them instead."""


def imports(file: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports must be absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of these packages, or lies inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offenders(
    folder: str, forbidden: Iterable[str], allowed: Iterable[str] = (), but: str = ""
) -> list[str]:
    """List the imports of a folder that are forbidden, unless they are allowed by name."""
    forbidden, allowed = tuple(forbidden), tuple(allowed)
    files = [file for file in sorted((ROOT / folder).rglob("*.py")) if file != ROOT / but]
    assert files, f"{folder} has no module"
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        if within(name, forbidden) and not within(name, allowed)
    ]


OURS = (*TOP, "embedding_drift_client", "tests")

_SHARED = ("ingest.runtime", "ingest.store")
_MEASURING = ("exporter.detector", "exporter.monitor", "exporter.stats")
_EXPLAINING = ("exporter.explain", *_MEASURING)

DIRECTIONS = {
    "exporter/stats": (),
    "exporter/detector": ("exporter.stats",),
    "exporter/explain": ("exporter.detector", "exporter.stats"),
    "exporter/monitor": ("exporter.detector", "exporter.explain", "exporter.stats", *_SHARED),
    "exporter/metrics": (*_EXPLAINING, *_SHARED),
    "exporter/http": ("exporter.metrics", *_EXPLAINING, *_SHARED),
    "exporter/backfill": (*_MEASURING, "ingest.files", *_SHARED),
    "ingest/runtime": (),
    "ingest/store": ("ingest.runtime",),
    "ingest/formats": ("ingest.files", *_SHARED),
    "ingest/otlp": ("ingest.formats", *_SHARED),
    "ingest/files": ("embedding_drift_client", *_SHARED),
    "ingest/pipeline": _SHARED,
    "ingest/watch": ("ingest.files", "ingest.formats", "ingest.pipeline", *_SHARED),
    "ingest/http": ("ingest.formats", "ingest.otlp", "ingest.pipeline", *_SHARED),
    "client": ("embedding_drift_client",),
    "rules": ("ingest.runtime",),
    "alertmanager": (),
}
"""What of ours each folder may import besides itself, as in docs/architecture.md."""


_PURE = (
    *("__future__", "collections", "dataclasses", "functools", "heapq", "itertools", "math"),
    *("re", "typing", "unicodedata"),
    *("numpy", "scipy"),
    *("json", "struct", "zlib"),  # codec.py writes bytes in memory
)
"""Modules that these folders may import: none reads a file, a socket or a clock there."""


@pytest.mark.parametrize("folder", DIRECTIONS)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    itself = folder.replace("/", ".")
    assert offenders(folder, OURS, allowed=(itself, *DIRECTIONS[folder])) == []


def test_the_architecture_page_lists_the_same_directions() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w/]+)/` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    listed = {folder: set(cell.split(", ")) for folder, cell in rows if folder in DIRECTIONS}
    assert listed == {
        folder: {_short(name) for name in allowed if _short(name) != folder} or {"nothing"}
        for folder, allowed in DIRECTIONS.items()
    }


def _short(package: str) -> str:
    return package.rsplit(".")[-1].replace("embedding_drift_client", "client")


def test_the_monitor_imports_neither_the_web_nor_prometheus() -> None:
    web = ("exporter.http", "exporter.metrics", "prometheus_client", "starlette", "uvicorn")
    assert offenders("exporter/monitor", web) == []


def test_only_replay_imports_the_client() -> None:
    found = {
        line.split(" imports ")[0]
        for folder in ("exporter", "ingest")
        for line in offenders(folder, ("embedding_drift_client",))
    }
    assert found == {"ingest/files/replay.py"}


def test_the_exporter_imports_only_store_and_runtime_of_ingest() -> None:
    allowed = ("ingest.runtime", "ingest.store")
    found = offenders("exporter", ["ingest"], allowed, but="exporter/cli.py")
    # Backfill reads files with the reader that replay has.
    reads = [line for line in found if line.startswith("exporter/backfill/")]
    assert [line for line in reads if " imports ingest.files." in line] == found


def test_ingest_never_imports_the_exporter() -> None:
    assert offenders("ingest", ["bench", "demo", "exporter", "grafana", "k8s", "tests"]) == []


def test_the_store_knows_nothing_of_http() -> None:
    assert offenders("ingest/store", ["httpx2", "starlette", "uvicorn"]) == []


def test_statistics_detector_and_explanation_do_no_io() -> None:
    allowed = ("exporter.detector", "exporter.explain", "exporter.stats", *_PURE)
    for folder in ("exporter/stats", "exporter/detector", "exporter/explain"):
        files = sorted((ROOT / folder).glob("*.py"))
        assert files
        found = {(file.name, name) for file in files for name in imports(file)}
        assert {(file, name) for file, name in found if not within(name, allowed)} == set()


def test_the_runtime_does_not_need_the_database() -> None:
    assert offenders("ingest/runtime", ["psycopg", "psycopg_pool"]) == []


@pytest.mark.parametrize("heavy", ["dask", "pandas", "scipy"])
def test_ingest_stays_light(heavy: str) -> None:
    assert offenders("ingest", [heavy]) == []


def test_dashboards_know_only_the_metric_tables_and_the_settings() -> None:
    allowed = ("exporter.metrics.families", "grafana", "ingest.pipeline.metrics", "ingest.runtime")
    assert offenders("grafana", OURS, allowed) == []


def package(name: str) -> Path | None:
    """Find the folder of a module of ours; None for a module of others."""
    if name.startswith("embedding_drift_client"):
        name = f"client.{name}"
    folder = ROOT
    for part in name.split("."):
        if not (folder / part).is_dir():
            break
        folder /= part
    return None if folder == ROOT else folder


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    """A package is a folder. A folder and its own sub-folders may import each other."""
    graph: dict[Path, set[Path]] = {}
    for file in (file for folder in TOP for file in (ROOT / folder).rglob("*.py")):
        source = file.parent
        for name in imports(file):
            target = package(name)
            if target and not (source.is_relative_to(target) or target.is_relative_to(source)):
                graph.setdefault(source, set()).add(target)
    assert len(graph) > 10
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = " <- ".join(str(folder.relative_to(ROOT)) for folder in error.args[1])
        pytest.fail(f"packages import each other in a circle: {circle}")


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_says_what_it_holds(folder: Path) -> None:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    parts = {file.name for file in folder.iterdir() if file.name != "__init__.py"}
    # Modules by their name, in the package or its sub-packages; or other files of the package.
    named = {word.rstrip("/") for word in re.findall(r"`~?([\w./]+)`", docstring)}
    named |= {f"{name.rsplit('.')[-1]}.py" for name in named}
    assert named & parts, f"{folder.relative_to(ROOT)}/__init__.py names none of its parts"


def mirrored(module: Path) -> Path:
    """Return where the tests of a product module belong."""
    folder = module.relative_to(ROOT).parent
    if folder.parts[0] == "client":
        # The folder of the distribution holds one package.
        folder = Path("client", *folder.parts[2:])
    return ROOT / "tests" / folder / f"test_{module.name}"


def test_every_product_module_has_its_tests_at_the_mirrored_path() -> None:
    modules = [module for module in PRODUCT if module.name != "__init__.py"]
    assert len(modules) > 50
    missing = {str(m.relative_to(ROOT)) for m in modules if not mirrored(m).is_file()}
    assert missing - set(UNMIRRORED) == set(), "a module without tests of its own"
    assert set(UNMIRRORED) - missing == set(), "no exception is needed any more"


@pytest.mark.parametrize("module", UNMIRRORED)
def test_an_exception_is_data_or_names_a_test_of_the_module(module: str) -> None:
    tests = re.findall(r"tests/[\w/]+\.py", UNMIRRORED[module])
    is_data = UNMIRRORED[module].startswith(("data: ", "record: "))
    assert tests or is_data
    for test in tests:
        # A test imports the module, or mentions its name.
        text = (ROOT / test).read_text(encoding="utf-8")
        assert is_data or re.search(rf"\b{Path(module).stem}\b", text), f"{test} and {module}"
