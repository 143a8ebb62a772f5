"""Canaries, from the client to the metrics and the commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedding_drift_client import Client
from ingest.runtime.thresholds import CANARY
from ingest.store.canaries import distances
from tests.service import command, drift, metrics, serving, wait_for

CONFIG = """
monitoring: {poll_interval: 0.1}
database: {connection_string: "%s"}
server: {port: 0}
"""
ENCODERS = Path(__file__).with_name("encoders.npz")
"""32 package descriptions under one encoder (``original``) and variants of it."""


@pytest.fixture(scope="module")
def encoders() -> dict[str, NDArray[np.float32]]:
    with np.load(ENCODERS) as data:
        return {name: np.asarray(data[name], np.float32) for name in data.files}


def bfloat16(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    bits = vectors.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


# Each assertion is about every text, so it holds for the median of any choice of texts, too.
@pytest.mark.parametrize("changed", ["fp16_weights", "bf16", "float16 vectors", "bfloat16 vectors"])
def test_rounding_to_16_bits_never_counts_as_moved(
    encoders: dict[str, NDArray[np.float32]], changed: str
) -> None:
    original = encoders["original"]
    encoders |= {
        "float16 vectors": original.astype(np.float16).astype(np.float32),
        "bfloat16 vectors": bfloat16(original),
    }
    moved = distances(original, encoders[changed])
    assert moved.max() * 5 < CANARY["median", "warning"] < CANARY["max", "warning"]


@pytest.mark.parametrize(
    "changed",
    [
        "int8_per_row",
        "no_special_tokens",
        "prefix",
        "cls_pooling",
        "fine_tuned",
        "other_encoder",
    ],
)
def test_int8_weights_and_anything_stronger_always_count_as_moved(
    encoders: dict[str, NDArray[np.float32]], changed: str
) -> None:
    moved = distances(encoders["original"], encoders[changed])
    assert moved.min() > 5 * CANARY["median", "warning"]
    # Quantisation alone does not explain drift; every stronger change does.
    assert (np.median(moved) > CANARY["median", "critical"]) == (changed != "int8_per_row")


@pytest.mark.parametrize("changed", ["no_special_tokens", "prefix", "fine_tuned", "other_encoder"])
def test_a_change_of_a_single_text_counts_as_moved(
    encoders: dict[str, NDArray[np.float32]], changed: str
) -> None:
    moved = distances(encoders["original"], encoders[changed])
    assert moved.min() > 4 * CANARY["max", "warning"]


@pytest.fixture
def config(store: str, tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG % store)
    return file


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, *arguments), capture_output=True, text=True, timeout=240, check=False
    )


def metric(url: str, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", metrics(url), re.M)
    return None if found is None else float(found[1])


def test_canaries_come_from_the_client_to_the_metrics_and_are_accepted(
    config: Path, encoders: dict[str, NDArray[np.float32]]
) -> None:
    texts = [f"text {number}" for number in range(32)]

    def encode(_: Sequence[str]) -> NDArray[np.float32]:
        return encoders[now]

    def shown(aggregate: str) -> float:
        name = f'embedding_drift_canary_distance{{aggregate="{aggregate}",model_name="m"}}'
        found = metric(service.url, name)
        return np.nan if found is None else found

    def comes(expected: float, what: str) -> None:
        wait_for(lambda: shown("median") == pytest.approx(expected, abs=1e-12), what)

    with serving(config) as service, Client(service.url, "m", raise_errors=True) as client:
        now = "original"
        assert np.isnan(shown("median"))
        client.canary(encode, texts)
        comes(0, "the reference")
        now = "int8_per_row"
        moved = distances(encoders["original"], encoders[now])
        answer = client.canary(encode, texts)
        assert answer is not None
        assert answer.median_distance == np.median(moved)
        comes(np.median(moved), "the distance of int8 weights")
        assert shown("max") == moved.max()
        report = drift(service.url)
        assert report["canaries"]["median_distance"] == np.median(moved)
        assert report["vectors"] == 0
        accepted = run(config, "canary", "accept", "m")
        assert accepted.stdout.startswith("m: the newest canaries are the reference ("), accepted
        comes(0, "the new reference")
        assert run(config, "canary", "remove", "m").stdout == "m: canaries removed\n"
        wait_for(lambda: np.isnan(shown("median")), "the removal")
        assert drift(service.url)["canaries"] is None
        missing = run(config, "canary", "accept", "m")
        assert missing.returncode == 1
        assert missing.stderr.endswith("Error: model 'm' has no canaries\n")
