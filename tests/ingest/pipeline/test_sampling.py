"""Sampling: which vectors are selected, and how many."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.pipeline.sampling import Sampler
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

COUNT = 20_000


def settings(**fields: object) -> IngestSettings:
    return IngestSettings.model_validate(fields)


def batch(model_name: str = "m", **fields: object) -> Batch:
    vectors = np.arange(COUNT, dtype=np.float32)[:, np.newaxis]
    return Batch(model_name, vectors, **fields)  # type: ignore[arg-type]


IDS: list[str | None] = [f"document {n}" for n in range(COUNT)]


def test_all_vectors_are_selected_by_default() -> None:
    whole = batch()
    assert Sampler(settings()).sample(whole) is whole


@pytest.mark.parametrize("ids", [IDS, None], ids=["by id", "without ids"])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.9])
def test_the_selected_share_is_the_configured_one(
    ids: list[str | None] | None, ratio: float
) -> None:
    taken = len(Sampler(settings(sample_ratio=ratio)).sample(batch(ids=ids)))
    five_standard_errors = 5 * (ratio * (1 - ratio) / COUNT) ** 0.5
    assert taken / COUNT == pytest.approx(ratio, abs=five_standard_errors)


def test_an_id_is_selected_in_every_process_and_model_or_in_none() -> None:
    some = settings(sample_ratio=0.5)
    first = Sampler(some).sample(batch(ids=IDS)).ids
    assert Sampler(some).sample(batch("other", ids=IDS)).ids == first


def test_a_larger_share_contains_a_smaller_one() -> None:
    few = Sampler(settings(sample_ratio=0.1)).sample(batch(ids=IDS)).ids
    many = Sampler(settings(sample_ratio=0.2)).sample(batch(ids=IDS)).ids
    assert set(few or ()) < set(many or ())


def test_a_periodic_stream_is_sampled_evenly() -> None:
    taken = Sampler(settings(sample_ratio=0.5)).sample(batch()).vectors[:, 0]
    even = float((taken % 2 == 0).mean())
    assert even == pytest.approx(0.5, abs=0.03)


def test_a_selected_vector_keeps_its_id_and_metadata() -> None:
    whole = batch(
        ids=IDS,
        metadata=[str(n).encode() for n in range(COUNT)],
        timestamps=[float(n) for n in range(COUNT)],
    )
    taken = Sampler(settings(sample_ratio=0.01)).sample(whole)
    numbers = [int(value) for value in taken.vectors[:, 0]]
    assert taken.ids == [f"document {n}" for n in numbers]
    assert taken.metadata == [str(n).encode() for n in numbers]
    assert taken.timestamps == [float(n) for n in numbers]


def test_a_model_may_have_its_own_share() -> None:
    sampler = Sampler(settings(sample_ratio=0.01, models={"rare": {"sample_ratio": 1.0}}))
    assert len(sampler.sample(batch("rare"))) == COUNT
    assert len(sampler.sample(batch("busy"))) < COUNT / 10
