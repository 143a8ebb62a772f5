"""The fit of a large detector: in a process, with the same result, and an end that is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.monitor import fit_process
from exporter.stats.quality import assess
from ingest.runtime.errors import FitFailed, FitStopped
from tests.service import children, wait_for

Floats = NDArray[np.float32]
COUNT = 400
TIMES = np.linspace(0.0, 86_400.0 * 2, COUNT)
POSITIONS = np.arange(COUNT)
PROGRAM = "exporter.monitor.fit_process"


@pytest.fixture(autouse=True)
def none_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_process, "SMALL", 0)


@pytest.fixture
def vectors() -> Floats:
    return np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)


@pytest.fixture
def more(vectors: Floats) -> list[tuple[Floats, NDArray[np.float64]]]:
    return [(vectors[::-1] + np.float32(0.1), TIMES), (vectors[:9] + np.float32(0.2), TIMES[:9])]


def test_the_detector_and_the_quality_are_the_same_as_without_a_process(
    vectors: Floats, more: list[tuple[Floats, NDArray[np.float64]]]
) -> None:
    apart = fit_process.fit(vectors, TIMES, POSITIONS, iter(more))
    assert children(PROGRAM) == []
    direct = Detector.fit(vectors, timestamps=TIMES, positions=POSITIONS, more=more)
    assert apart.detector.to_bytes() == direct.to_bytes()
    fewer = Detector.fit(vectors, timestamps=TIMES, positions=POSITIONS)
    assert apart.detector.to_bytes() != fewer.to_bytes()
    assert apart.quality == assess(vectors)


def test_a_small_one_is_fitted_here(vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_process, "SMALL", vectors.size)
    monkeypatch.delattr(fit_process, "Process")
    fitted = fit_process.fit(vectors, TIMES, POSITIONS, ())
    assert fitted.detector.n_reference == COUNT
    assert fitted.quality == assess(vectors)


def test_vectors_that_are_refused_are_an_error_as_without_a_process(vectors: Floats) -> None:
    few = vectors[:20]
    with pytest.raises(ValueError, match="at least 100") as raised:
        fit_process.fit(few, TIMES[:20], POSITIONS[:20], ((vectors, TIMES) for _ in range(1_000)))
    with pytest.raises(ValueError, match="at least 100") as direct:
        Detector.fit(few, timestamps=TIMES[:20], positions=POSITIONS[:20])
    assert str(raised.value) == str(direct.value)


def test_an_error_while_more_vectors_are_read_ends_the_process(vectors: Floats) -> None:
    def broken() -> Iterator[tuple[Floats, NDArray[np.float64]]]:
        yield vectors, TIMES
        raise ConnectionError("the store is away")

    with pytest.raises(ConnectionError, match="the store is away"):
        fit_process.fit(vectors, TIMES, POSITIONS, broken())
    assert children(PROGRAM) == []


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGKILL, "with SIGKILL; it may need more memory"), (signal.SIGSEGV, "with SIGSEGV$")],
)
def test_a_process_that_is_ended_is_an_error_that_says_how(
    number: signal.Signals, told: str, vectors: Floats
) -> None:
    def ended() -> Iterator[tuple[Floats, NDArray[np.float64]]]:
        [process] = children(PROGRAM)
        os.kill(process.pid, number)
        wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE, "its end")
        yield vectors, TIMES

    with pytest.raises(FitFailed, match=f"the process that fitted a baseline ended {told}"):
        fit_process.fit(vectors, TIMES, POSITIONS, ended())


def test_a_process_that_the_service_ends_has_not_failed(vectors: Floats) -> None:
    def ended() -> Iterator[tuple[Floats, NDArray[np.float64]]]:
        fit_process.kill()
        yield vectors, TIMES

    with pytest.raises(FitStopped):
        fit_process.fit(vectors, TIMES, POSITIONS, ended())


def test_a_fault_of_the_program_is_an_error_that_says_so(
    vectors: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scipy.py").write_text("raise AttributeError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FitFailed, match="ended with code 1; see its traceback"):
        fit_process.fit(vectors, TIMES, POSITIONS, ())


def test_it_lets_requests_and_scrapes_go_first_and_is_the_first_to_be_killed(
    vectors: Floats,
) -> None:
    niceness = psutil.Process().nice()
    found: list[int] = []

    def batches() -> Iterator[tuple[Floats, NDArray[np.float64]]]:
        [process] = children(PROGRAM)
        adjustment = Path(f"/proc/{process.pid}/oom_score_adj")
        wait_for(lambda: adjustment.read_text() == "1000\n", "its place among the killed")
        found.append(process.nice())
        yield vectors, TIMES

    fit_process.fit(vectors, TIMES, POSITIONS, batches())
    assert found == [min(niceness + 10, 19)]


def test_two_fits_at_once_do_not_disturb_each_other(vectors: Floats) -> None:
    with ThreadPoolExecutor(2) as threads:
        scaled = [vectors, vectors * np.float32(3)]
        fits = [threads.submit(fit_process.fit, each, TIMES, POSITIONS, ()) for each in scaled]
    for each, found in zip(scaled, fits, strict=True):
        direct = Detector.fit(each, timestamps=TIMES, positions=POSITIONS)
        assert found.result().detector.to_bytes() == direct.to_bytes()
