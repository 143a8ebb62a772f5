"""Codec: dataclasses of arrays come back as they were, and nothing else is read."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import codec
from exporter.detector.detector import Detector


@dataclass(frozen=True)
class Inner:
    values: NDArray[np.float64]
    share: float


@dataclass(frozen=True)
class Outer:
    number: int
    first: Inner
    second: Inner
    small: NDArray[np.uint8]


VALUE = Outer(
    3,
    Inner(np.arange(6.0).reshape(2, 3), 0.25),
    Inner(np.empty(0), 1e-300),
    np.arange(4, dtype="u1"),
)


def test_nested_dataclasses_come_back() -> None:
    found = codec.unpack(Outer, codec.pack(VALUE, 5), 5)
    assert type(found) is Outer
    assert (found.number, type(found.number)) == (3, int)
    assert (found.first.share, found.second.share) == (0.25, 1e-300)
    assert type(found.first.share) is float
    np.testing.assert_array_equal(found.first.values, VALUE.first.values)
    assert found.second.values.shape == (0,)
    assert found.small.dtype == np.uint8
    assert found.small.tolist() == [0, 1, 2, 3]


def test_arrays_in_the_order_of_fortran_come_back() -> None:
    value = Inner(np.asfortranarray(np.arange(6.0).reshape(2, 3)), 0.5)
    found = codec.unpack(Inner, codec.pack(value, 5), 5)
    np.testing.assert_array_equal(found.values, value.values)
    assert found.values.flags.f_contiguous


def test_what_comes_back_is_aligned_and_cannot_be_changed() -> None:
    found = codec.unpack(Outer, codec.pack(VALUE, 5), 5)
    with pytest.raises(ValueError, match="read-only"):
        found.first.values[0, 0] = 1
    assert found.first.values.flags.aligned


def test_what_comes_back_is_not_a_copy() -> None:
    value = Inner(np.zeros(1_000_000), 0.5)
    data = codec.pack(value, 5)
    tracemalloc.start()
    try:
        found = codec.unpack(Inner, data, 5)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert np.shares_memory(found.values, np.frombuffer(data, np.uint8))


def test_the_bytes_are_the_same_each_time() -> None:
    assert codec.pack(VALUE, 5) == codec.pack(VALUE, 5)


def test_each_end_and_each_changed_byte_is_an_error() -> None:
    data = codec.pack(VALUE, 5)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 32]) + data[at + 1 :]
        for broken in (data[:at], changed):
            with pytest.raises(ValueError, match=r"damaged|not a detector|of version"):
                codec.unpack(Outer, broken, 5)


def test_a_missing_field_is_damage() -> None:
    with pytest.raises(ValueError, match=r"^detector is damaged or truncated$"):
        codec.unpack(Outer, codec.pack(VALUE.first, 5), 5)


def test_other_versions_are_refused_by_name() -> None:
    assert codec.pack(VALUE, 12).startswith(b"embedding-drift detector\n12\n")
    with pytest.raises(
        ValueError, match=r"^detector of version b'12', this program reads 2$"
    ) as later:
        codec.unpack(Outer, codec.pack(VALUE, 12), 2)
    with pytest.raises(ValueError, match="version b'123456789', "):
        codec.unpack(Outer, codec.pack(VALUE, 12345678901), 1)
    assert not isinstance(later.value, codec.Outdated)


def test_an_earlier_version_is_an_error_of_its_own() -> None:
    for version in (1, 2):
        with pytest.raises(codec.Outdated, match=r"this program reads 3$"):
            codec.unpack(Outer, codec.pack(VALUE, version), 3)


def test_objects_are_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match=r"^object arrays cannot be written: values$"):
        codec.pack(Inner(np.array([None]), 1.0), 5)
    data = codec.pack(VALUE.first, 5).replace(b"<f8", b"|O8")
    line = len(b"embedding-drift detector\n5\n")
    data = data[:line] + struct.pack("<I", zlib.crc32(data[line + 4 :])) + data[line + 4 :]
    with pytest.raises(ValueError, match=r"^detector is damaged or truncated$"):
        codec.unpack(Inner, data, 5)


def test_bytes_of_something_else_are_refused(detector: Detector) -> None:
    data = detector.to_bytes()
    with pytest.raises(ValueError, match=r"^not a detector$"):
        Detector.from_bytes(b"PK" + data)
    with pytest.raises(ValueError, match="version b'999', this program reads 10"):
        Detector.from_bytes(data.replace(b"\n10\n", b"\n999\n", 1))
    for end in (len(data) - 1, len(data) // 2, 40, 26, 3, 0):
        with pytest.raises(ValueError, match=r"damaged|not a detector|version"):
            Detector.from_bytes(data[:end])
