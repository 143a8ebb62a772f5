from __future__ import annotations

import numpy as np
import pytest

from demo import incident
from demo.incident import DATA, Incident


@pytest.fixture(scope="module")
def new_topic() -> set[str]:
    with np.load(DATA) as data:
        return set(data["text"][data["section"] == incident.NEW_SECTION].tolist())


def test_the_new_topic_starts_after_the_quiet_phase_and_ends_at_its_final_share(
    new_topic: set[str],
) -> None:
    story = Incident()
    assert new_topic.isdisjoint(row["text"] for row in story.baseline().metadata)
    shares = [
        np.mean([row["text"] in new_topic for row in batch.metadata]) for batch in story.stream()
    ]
    assert set(shares[: incident.QUIET_SECONDS]) == {0}
    assert shares[incident.QUIET_SECONDS] > 0
    assert shares == sorted(shares)
    assert shares[-1] == incident.FINAL_SHARE


def test_there_are_enough_vectors_for_every_batch_without_repeats() -> None:
    story = Incident()
    batches = list(story.stream())
    assert {len(batch) for batch in batches} == {incident.RATE}
    sent = np.concatenate([story.baseline().vectors, *(batch.vectors for batch in batches)])
    assert len(np.unique(sent, axis=0)) == len(sent)
    assert len(story.baseline()) == incident.BASELINE_VECTORS


def test_the_swapped_encoder_gives_vectors_of_the_same_lengths_and_distances() -> None:
    story = Incident()
    batches = list(story.swap())
    assert len(batches) == 2 * incident.SWAP_SECONDS
    with np.load(DATA) as data:
        known = dict(zip(data["text"], data["embedding"], strict=True))
    for number, batch in enumerate(batches):
        usual = np.array([known[row["text"]] for row in batch.metadata], np.float32)
        has_changed = number >= incident.SWAP_SECONDS
        assert np.allclose(batch.vectors, usual) != has_changed
        np.testing.assert_allclose(batch.vectors @ batch.vectors.T, usual @ usual.T, atol=1e-4)
