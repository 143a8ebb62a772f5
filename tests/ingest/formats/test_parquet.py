"""Parquet files: what comes out of them, and what only looks like one."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from ingest.runtime.errors import BodyTooLarge, PayloadError
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import ROWS, parquet_file, read, refusal, table_of

PARQUET = "application/vnd.apache.parquet"


def test_a_parquet_file_is_refused_by_what_would_come_out() -> None:
    limits = IngestSettings(max_body_bytes=100_000)
    zeros = np.zeros((1_000, 100), np.float32)
    bomb = parquet_file(table_of(zeros))
    assert len(bomb) < 10_000
    refused = refusal(bomb, content_type=PARQUET, x_model_name="m", limits=limits)
    assert type(refused) is BodyTooLarge
    assert "decompressed, exceeds 100000 bytes" in refused.detail


def test_many_different_texts_count_once() -> None:
    table = table_of(np.ones((2_000, 2), np.float32), text=[f"{n:05000}" for n in range(2_000)])
    batch = read(parquet_file(table), PARQUET, limits=IngestSettings(), x_model_name="m")
    assert batch.metadata is not None
    assert {len(item or b"") for item in batch.metadata} == {5_011}


def test_a_parquet_file_with_a_damaged_footer_is_refused_by_a_process_that_lives() -> None:
    body = parquet_file(table_of(ROWS, id=["a", "b"], s=[{"a": 1}, {"a": 2}]))
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    for at in range(start, len(body) - 8):
        damaged = body[:at] + bytes([body[at] ^ 2]) + body[at + 1 :]
        with suppress(PayloadError):
            read(damaged, PARQUET, x_model_name="m")


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_a_long_text_that_every_row_has_counts_for_each(is_dictionary: bool) -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    text = pa.array(["x" * 10_000] * 1_000)
    rows = np.ones((1_000, 2), np.float32)
    table = table_of(rows, text=text.dictionary_encode() if is_dictionary else text)
    refused = refusal(parquet_file(table), content_type=PARQUET, x_model_name="m", limits=limits)
    assert "decompressed, exceeds 1000000 bytes" in refused.detail


def test_texts_in_a_dictionary_count_once() -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    text = pa.array([f"{n:0500}" for n in range(1_000)]).dictionary_encode()
    body = parquet_file(table_of(np.ones((1_000, 2), np.float32), text=text))
    assert len(read(body, PARQUET, limits=limits, x_model_name="m")) == 1_000


@pytest.mark.parametrize("between", [b"", b"\n", b"junk"])
@pytest.mark.parametrize("rows", [1, 2])
def test_several_files_in_one_body_are_refused(between: bytes, rows: int) -> None:
    body = parquet_file(table_of(ROWS[:rows])) + between + parquet_file(table_of(ROWS))
    refused = refusal(body, content_type=PARQUET, x_model_name="m")
    assert refused.detail == "the body has several Parquet files; send each by itself"


def test_a_file_that_begins_late_is_refused() -> None:
    refused = refusal(
        b"junk" + parquet_file(table_of(ROWS)), content_type=PARQUET, x_model_name="m"
    )
    assert "it does not begin with PAR1" in refused.detail


@pytest.mark.parametrize("text", ["PAR1", "PAR1PAR1"])
def test_a_text_may_have_what_ends_a_file(text: str) -> None:
    options = {"compression": "none", "use_dictionary": False}
    body = parquet_file(table_of(ROWS, text=[text, "PAR1"]), **options)
    assert text.encode() in body
    assert len(read(body, PARQUET, x_model_name="m")) == len(ROWS)


def test_a_body_of_nothing_but_ends_of_files_is_refused() -> None:
    refused = refusal(b"PAR1" * 100_001, content_type=PARQUET, x_model_name="m")
    assert type(refused) is BodyTooLarge
    assert "has PAR1, which ends a file, 100001 times; allowed are at most 100000" in refused.detail


def test_a_file_may_have_all_that_writers_put_between_its_rows_and_its_metadata() -> None:
    names = ["id", "text"]
    # pyarrow writes Bloom filters from version 24 on.
    has_filters = int(pa.__version__.partition(".")[0]) >= 24
    bloom = {"bloom_filter_options": dict.fromkeys(names, True)} if has_filters else {}
    body = parquet_file(
        table_of(np.ones((4, 3), np.float32), id=list("abcd"), text=["PAR1"] * 4),
        row_group_size=2,
        write_page_index=True,
        write_page_checksum=True,
        **bloom,
    )
    assert len(read(body, PARQUET, x_model_name="m")) == 4
