"""The checks that formats share: names, ids, timestamps, and lists of problems."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ingest.formats import checks
from ingest.runtime.errors import (
    NonFinite,
    PayloadError,
)
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import (
    NOW,
    NPY,
    npy,
    one,
    read,
    refusal,
    several,
)


@pytest.mark.parametrize(
    "name",
    ["m", "sentence-transformers/all-MiniLM-L6-v2", "text-embedding-3:2024@eu", "A" * 128],
)
def test_common_model_names_are_allowed(name: str) -> None:
    assert read(one() | {"model_name": name}).model_name == name


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (0, 0.0),
        (1703980800.5, 1703980800.5),
        ("2023-12-31T00:00:00Z", 1703980800.0),
        ("2023-12-31T01:00:00+01:00", 1703980800.0),
        ("2023-12-31 00:00:00+00", 1703980800.0),
        (NOW + 86_400, NOW + 86_400),
    ],
)
def test_timestamps_are_seconds_or_rfc_3339(timestamp: object, seconds: float) -> None:
    assert read(one(metadata={"timestamp": timestamp})).timestamps == [seconds]


def test_a_timestamp_that_is_null_is_the_time_of_arrival() -> None:
    assert read(one(metadata={"timestamp": None})).timestamps is None
    both = [{"timestamp": None}, {"timestamp": 7}]
    assert read(several(metadata=both)).timestamps == [None, 7]


def test_a_long_list_of_wrong_vectors_is_cut_and_counted() -> None:
    limits = IngestSettings(max_dimension=8)
    refused = refusal({"model_name": "m", "embeddings": [[]] * 250}, limits=limits)
    assert len(refused.problems) == 100
    assert "249 more, of which 150 are not listed" in refused.detail


def test_vectors_that_are_not_finite_have_a_separate_error() -> None:
    for body, arguments in [
        (one() | {"embedding": [1e39]}, {}),
        (npy(np.array([[np.nan]])), NPY),
    ]:
        assert type(refusal(body, **arguments)) is NonFinite
    assert type(refusal(one() | {"embedding": []})) is PayloadError


def test_ids_may_contain_anything_but_control_characters() -> None:
    assert read(one(id="a\u00a0\u200d\N{GRINNING FACE}")).ids == ["a\u00a0\u200d\N{GRINNING FACE}"]


def test_vectors_may_be_all_zeros() -> None:
    assert read(several() | {"embeddings": [[0, 0], [0.0, -0.0]]}).vectors.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(
    "number",
    [
        *("1e400", "-1.7976931348623157E+400", "1e-400", "[[1, 2e999]]", "1" * 401),
        *("1e5000", f"1e{'9' * 5000}", "1" * 5000, f"0.{'1' * 400}"),
    ],
)
def test_a_number_longer_than_any_of_float64_is_refused(number: str) -> None:
    encoded = f'{{"a": "\\\\", "n" : {number}}}'.encode()
    assert "at most 400 digits" in (checks.metadata(encoded, IngestSettings()) or "")


@pytest.mark.parametrize(
    "value",
    [
        0,
        12,
        -0.5,
        1e-9,
        6.02e23,
        1e22,
        2**64,
        1.7976931348623157e308,
        -2.2250738585072014e-308,
        5e-324,
    ],
)
def test_each_number_of_float64_may_be_in_metadata(value: float) -> None:
    assert read(one(metadata={"n": [value]}), limits=IngestSettings()).metadata is not None


def test_numbers_in_metadata_count_as_postgresql_stores_them() -> None:
    numbers = {"n": [1e308] * 10}
    limits = IngestSettings(max_metadata_bytes=3_000)
    assert checks.metadata(json.dumps(numbers).encode(), limits) == (
        "takes 3117 bytes; at most 3000 are allowed (ingest.max_metadata_bytes), where numbers"
        " count without an exponent: 1e308 has 309 digits"
    )
    assert checks.metadata(json.dumps({"n": [1e308] * 9}).encode(), limits) is None


@pytest.mark.parametrize(
    "text",
    [
        "1e308",
        '"1e308',
        'a\\"1e308',
        "\\",
        '",1e308,"',
        "1" * 99,
        "5f3e9099-77e4-4e11-9e99-8a1e4e2e9e99",
    ],
)
def test_a_text_may_look_like_a_long_number(text: str) -> None:
    assert read(one(metadata={text: [text, 12]}), limits=IngestSettings()).metadata is not None
