"""Objects of NumPy, pandas, PyTorch and the standard library are converted or refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from embedding_drift_client.rows import Given, read
from embedding_drift_client.values import as_id, as_object, as_timestamp
from ingest.files.reader import id_text, wrong_id
from ingest.files.table import Array, Objects

NAN = float("nan")
SOME_UUID = UUID("12345678-1234-5678-1234-567812345678")
EAST = timezone(timedelta(hours=2))


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Place:
    name: str
    size: Decimal


class Tensor:
    """A tensor that raises where PyTorch does, and records which methods are called.

    PyTorch refuses to convert a tensor to NumPy if it requires gradients, is not in the memory of
    the CPU, or has a type that NumPy lacks.
    """

    def __init__(
        self,
        values: Any,
        *,
        requires_grad: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
        calls: list[str] | None = None,
    ) -> None:
        self._values = np.asarray(values)
        self._state: dict[str, Any] = {
            "requires_grad": requires_grad,
            "device": device,
            "dtype": dtype,
        }
        self.calls: list[str] = [] if calls is None else calls

    def _with(self, call: str, **state: Any) -> Tensor:
        self.calls.append(call)
        return Tensor(self._values, **self._state | state, calls=self.calls)

    def detach(self) -> Tensor:
        return self._with("detach", requires_grad=False)

    def cpu(self) -> Tensor:
        return self._with("cpu", device="cpu")

    def float(self) -> Tensor:
        return self._with("float", dtype="float32")

    def numpy(self) -> np.ndarray:
        self.calls.append("numpy")
        if self._state["requires_grad"]:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self._state["device"] != "cpu":
            raise TypeError(f"can't convert {self._state['device']} device type tensor to numpy.")
        if self._state["dtype"] == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        found: np.ndarray = self._values.astype(self._state["dtype"])
        return found

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        return self.numpy()

    def tolist(self) -> Any:
        return self._values.tolist()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: int) -> Tensor:
        return Tensor(self._values[at], **self._state, calls=self.calls)


TENSORS: list[dict[str, Any]] = [
    {},
    {"requires_grad": True},
    {"device": "cuda:0"},
    {"dtype": "bfloat16"},
    {"dtype": "float16"},
    {"dtype": "int64"},
    {"requires_grad": True, "device": "cuda:0", "dtype": "bfloat16"},
]


def vectors(given: Given) -> list[list[list[float]]]:
    assert given.problems == []
    return [rows.vectors.tolist() for rows in given.rows]


@pytest.mark.parametrize("state", TENSORS, ids=str)
@pytest.mark.parametrize("shape", ["one", "many", "list", "scalars"])
def test_tensors_are_vectors(state: dict[str, Any], shape: str) -> None:
    made = {
        "one": Tensor([1, 2], **state),
        "many": Tensor([[1, 2]], **state),
        "list": [Tensor([1, 2], **state)],
        "scalars": [Tensor(1, **state), Tensor(2, **state)],
    }[shape]
    assert vectors(read(made, None, None, None)) == [[[1, 2]]]


def test_a_tensor_is_detached_and_copied_to_the_host_before_it_is_converted() -> None:
    tensor = Tensor([1, 2], requires_grad=True, device="cuda:0")
    read(tensor, None, None, None)
    assert tensor.calls == ["detach", "cpu", "numpy"]
    narrow = Tensor([1, 2], device="cuda:0", dtype="bfloat16")
    read(narrow, None, None, None)
    assert narrow.calls == ["detach", "cpu", "numpy", "float", "numpy"]


def test_tensors_of_several_dimensions_are_read_one_by_one() -> None:
    made = [Tensor([1, 2], requires_grad=True), Tensor([3]), "x"]
    given = read(made, None, None, None)
    assert [rows.vectors.tolist() for rows in given.rows] == [[[1, 2]], [[3]]]
    assert [problem.pointer for problem in given.problems] == ["/embeddings/2"]


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_a_tensor_that_is_not_made_of_numbers_is_refused(dtype: str) -> None:
    [problem] = read(Tensor([1, 0], dtype=dtype), None, None, None).problems
    assert problem.reason == f"has components of type {dtype}; components must be numbers"


@pytest.mark.parametrize("state", TENSORS, ids=str)
def test_tensors_are_ids_metadata_and_timestamps(state: dict[str, Any]) -> None:
    [rows] = read(
        np.ones((2, 3)),
        Tensor([7, 8], **state),
        [{"score": Tensor(0.5, **state)}, {"list": Tensor([[1], [2]], **state)}],
        Tensor([1.5, 2.5], **state),
    ).rows
    assert rows.ids == ["7", "8"]
    assert rows.metadata == [
        b'{"score":0.5,"timestamp":1.5}',
        b'{"list":[[1],[2]],"timestamp":2.5}',
    ]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (pd.Series([1.0, 2.0]), [[[1, 2]]]),
        (pd.Series([1, 2], dtype="Float32"), [[[1, 2]]]),
        (pd.Series([1, 2], dtype="Int64"), [[[1, 2]]]),
        (pd.Series([[1.0, 2.0], [3.0, 4.0]]), [[[1, 2], [3, 4]]]),
        (pd.Series([np.array([1.0, 2.0]), np.array([3.0])]), [[[1, 2]], [[3]]]),
        (pd.DataFrame({"x": [1, 3], "y": [2.5, 4]}), [[[1, 2.5], [3, 4]]]),
        (pd.DataFrame({"x": [1, 3], "y": [2, 4]}, dtype="Int64"), [[[1, 2], [3, 4]]]),
        ([row for _, row in pd.DataFrame({"x": [1], "y": [2]}).iterrows()], [[[1, 2]]]),
        (list(pd.DataFrame({"x": [1], "y": [2]}).itertuples(index=False)), [[[1, 2]]]),
        (np.array([[1, 2]], object), [[[1, 2]]]),
        ([np.float64(1), np.int8(2)], [[[1, 2]]]),
        (np.ma.array([1.0, 2.0]), [[[1, 2]]]),
    ],
)
def test_pandas_and_numpy_objects_are_vectors(made: object, expected: object) -> None:
    assert vectors(read(made, None, None, None)) == expected


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([Decimal(1), Decimal(2)], "has components of type Decimal"),
        ([1.0, Decimal(2)], "has components of type Decimal"),
        (np.array([1, pd.NA], object), "has components of type NAType"),
        ([1.0, pd.NaT], "has components of type NaTType"),
        (pd.Series(pd.to_datetime(["2024-01-01"])), "has components of type datetime64"),
        ([date(2024, 1, 1)], "has components of type date"),
        ({1, 2}, "has components of type set"),
        (b"12", "has components of type |S2"),
        (SimpleNamespace(), "has components of type SimpleNamespace"),
    ],
)
def test_what_is_not_made_of_numbers_is_refused_by_the_name_of_its_type(
    made: object, reason: str
) -> None:
    [problem] = read(made, None, None, None).problems
    assert problem.reason.startswith(reason)
    assert problem.reason.endswith("; components must be numbers")


def test_a_data_frame_that_has_a_bad_row_costs_this_row_only() -> None:
    frame = pd.DataFrame({"x": [1, pd.NA, 3], "y": [2, 2, 4]}, dtype="Int64")
    given = read(frame, None, None, None)
    assert [rows.vectors.tolist() for rows in given.rows] == [[[1, 2]], [[3, 4]]]
    assert [problem.pointer for problem in given.problems] == ["/embeddings/1"]
    assert given.count == 3


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("a", "a"),
        (np.str_("a"), "a"),
        (7, "7"),
        (np.int64(7), "7"),
        (SOME_UUID, str(SOME_UUID)),
        (Decimal("1.50"), "1.50"),
        (date(2024, 1, 2), "2024-01-02"),
        (pd.Timestamp("2024-01-02"), "2024-01-02 00:00:00"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (Word.YES, "yes"),
        (Tensor(7), "7"),
    ],
)
def test_ids_become_text(made: object, text: str) -> None:
    assert as_id(made) == text


@pytest.mark.parametrize(
    "made",
    [
        *(7, 7.0, -0.0, 7.5, 2.0**53 - 1, -(2.0**53), 2.0**53, 1e300, float("inf"), True, "7.0"),
        *map(np.float16, (7, 0.1, 2047, 2048)),
        *map(np.float32, (7, 0.1, 2**24 - 1, 2**24, float("inf"))),
        *map(np.float64, (7, 0.1, 2**53 - 1, 2**53)),
        *(np.bool_(False), np.int64(2**62), np.uint8(7), Decimal("7.0"), SOME_UUID),
    ],
    ids=repr,
)
def test_an_id_has_the_text_that_it_has_in_files_and_is_refused_where_they_refuse_it(
    made: object,
) -> None:
    column = Array(np.array([made])) if isinstance(made, np.generic) else Objects([made])
    [value] = column.values()
    for given in (made, np.array(made), np.array(made, object)):
        if wrong_id(value, column.inexact_from) is None:
            assert as_id(given) == id_text(value)
        else:
            with pytest.raises((TypeError, ValueError), match=r"truth value|cannot tell it from"):
                as_id(given)


@pytest.mark.parametrize("dtype", ["float64", "Int64", "Float32", "float32", "object"])
def test_an_id_of_a_column_is_the_same_whether_others_are_missing_or_not(dtype: str) -> None:
    column = pd.Series([1, 2**24 - 1, None], dtype=dtype)
    [rows] = read(np.eye(3), column, None, None).rows
    assert rows.ids == ["1", "16777215", None]


@pytest.mark.parametrize("dtype", ["float32", "Float32"])
@pytest.mark.parametrize("of", [pd.Series, pd.Index, Tensor])
def test_ids_that_a_column_of_float32_cannot_tell_apart_are_refused(of: Any, dtype: str) -> None:
    ids = of([2**24 - 1, 2**24 + 1], dtype=dtype.lower() if of is Tensor else dtype)
    given = read(np.eye(2), ids, None, None)
    assert [rows.ids for rows in given.rows] == [["16777215"]]
    [problem] = given.problems
    assert problem.pointer == "/ids/1"
    assert problem.reason == (
        "is 16777216.0, a float32 that cannot tell it from others; pass integers or text"
    )


MISSING = [None, NAN, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "s"), Tensor(NAN)]


@pytest.mark.parametrize("made", MISSING, ids=lambda made: type(made).__name__)
def test_missing_ids_and_timestamps_are_left_out(made: object) -> None:
    assert as_id(made) is None
    assert as_timestamp(made) is None
    assert as_object(None, made) is None


@pytest.mark.parametrize("made", MISSING[:-1], ids=lambda made: type(made).__name__)
def test_missing_metadata_is_left_out(made: object) -> None:
    assert as_object(made, None) is None
    assert as_object({"a": made, "timestamp": made}, None) == b'{"a":null,"timestamp":null}'


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (b"a", r"is bytes; decode it to text first"),
        (bytearray(b"a"), r"is bytearray; decode it"),
        ({1}, "is a set; an id is text, a number or a UUID"),
        (["a"], "is a list; an id"),
        ({"a": 1}, "is a dict; an id"),
        (np.array([1]), "is a ndarray; an id"),
        (pd.Series([1]), "is a Series; an id"),
        (Tensor([1]), "is a list; an id"),
        ("", "'' is not allowed; an id is 1 to 255 characters"),
        ("\udcff", "surrogates not allowed"),
    ],
)
def test_what_cannot_be_an_id_is_refused(made: object, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        as_id(made)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (np.int32(3), 3),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array(3.0), 3.0),
        (np.array([1.0, NAN]), [1.0, None]),
        (np.array(["2024-01-01", "NaT"], "datetime64[s]"), ["2024-01-01T00:00:00", None]),
        (np.array("2024-01-01", "datetime64[ns]"), "2024-01-01T00:00:00.000000000"),
        (np.array("2024-01-01", "datetime64[D]"), "2024-01-01"),
        (np.timedelta64(1500, "ms"), "PT1.5S"),
        (np.array([Decimal(1)], object), ["1"]),
        (NAN, None),
        (float("inf"), None),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series(pd.to_datetime(["2024-01-01", None])), ["2024-01-01T00:00:00", None]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (pd.Timestamp("2024-01-01 12:00:00.123456789", tz="UTC"), "2024-01-01T12:00:00.123456Z"),
        (pd.Timedelta(seconds=90), "PT90S"),
        (pd.NaT, None),
        (pd.NA, None),
        (datetime(2024, 1, 1), "2024-01-01T00:00:00"),
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        (datetime(2024, 1, 1, 0, 0, 0, 5, EAST), "2024-01-01T00:00:00.000005+02:00"),
        (date(2024, 1, 1), "2024-01-01"),
        (time(12, 30), "12:30:00"),
        (timedelta(days=-1), "-PT86400S"),
        (Decimal("1.50"), "1.50"),
        (SOME_UUID, str(SOME_UUID)),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (b"\x00\xff", "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        ({3}, [3]),
        (frozenset({3}), [3]),
        ((1, "a"), [1, "a"]),
        (Point(1, 2), [1, 2]),
        (Place("x", Decimal(2)), {"name": "x", "size": "2"}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({1: 2}), {"1": 2}),
        ({Colour.RED: 1, SOME_UUID: 2, date(2024, 1, 1): 3, np.int8(4): 4},
         {"red": 1, str(SOME_UUID): 2, "2024-01-01": 3, "4": 4}),
        ("é", "é"),
        (10**30, 10**30),
    ],
)  # fmt: skip
def test_metadata_becomes_json(made: object, expected: object) -> None:
    encoded = as_object({"a": made}, None)
    assert encoded is not None
    assert json.loads(encoded) == {"a": expected}
    assert json.loads(as_object({"a": [{"b": made}]}, None) or b"") == {"a": [{"b": expected}]}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("text", "it is a str; must be a mapping$"),
        ([1], "it is a list; must be a mapping$"),
        (pd.Series({"a": 1}), "it is a Series; must be a mapping; pass what its to_dict method"),
        ({"a": object()}, "the value of 'a' is of type object, which has no JSON form$"),
        ({"a": 1j}, "the value of 'a' is of type complex, which has no JSON form$"),
        (
            {"a": pd.DataFrame()},
            "is of type DataFrame, which has no JSON form; pass what its to_dict",
        ),
        ({"a": {(1, 2): 3}}, "the value of 'a' a key is a tuple; keys must be text"),
        ({(1, 2): 3}, "^a key is a tuple; keys must be text"),
        ({"a": "\ud800"}, "surrogates not allowed"),
    ],
)
def test_what_has_no_json_form_is_refused_by_the_name_of_its_type(
    made: object, reason: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        as_object(made, None)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (7, 7.0),
        (np.float32(1.5), 1.5),
        (np.int64(7), 7.0),
        (Decimal("1.5"), 1.5),
        (Tensor(1.5, requires_grad=True, device="cuda:0"), 1.5),
        (datetime(2024, 1, 1, tzinfo=EAST), "2024-01-01T00:00:00+02:00"),
        (pd.Timestamp("2024-01-01", tz="UTC"), "2024-01-01T00:00:00Z"),
    ],
)
def test_timestamps_are_moments_in_time(made: object, expected: object) -> None:
    assert as_timestamp(made) == expected


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (datetime(2024, 1, 1), "timestamp is a datetime without a time zone; set its time zone"),
        (pd.Timestamp("2024-01-01"), "timestamp is a Timestamp without a time zone"),
        (np.datetime64("2024-01-01"), "timestamp is a numpy.datetime64, which has no time zone"),
        (date(2024, 1, 1), "timestamp is date; must be a number or a datetime"),
        ("2024-01-01T00:00:00Z", "timestamp is str; must be a number or a datetime"),
        (float("inf"), "timestamp is inf; must be finite"),
    ],
)
def test_a_timestamp_that_is_not_a_moment_in_time_is_refused(made: object, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        as_object(None, made)


@pytest.mark.parametrize("made", [datetime(2024, 1, 1), pd.Timestamp("2024-01-01")])
def test_a_timestamp_without_a_zone_is_refused_in_metadata_too(made: object) -> None:
    with pytest.raises(TypeError, match="without a time zone"):
        as_object({"timestamp": made}, None)


def test_columns_of_a_data_frame_are_ids_metadata_and_timestamps() -> None:
    frame = pd.DataFrame(
        {
            "embedding": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
            "id": ["a", None, "c"],
            "time": pd.to_datetime(["2024-01-01", None, "2024-01-03"], utc=True),
            "language": ["de", "en", None],
            "size": [1, 2, 3],
        }
    )
    given = read(
        frame["embedding"],
        frame["id"],
        frame[["language", "size"]].to_dict("records"),
        frame["time"],
    )
    assert given.problems == []
    [rows] = given.rows
    assert rows.ids == ["a", None, "c"]
    assert rows.metadata == [
        b'{"language":"de","size":1,"timestamp":"2024-01-01T00:00:00Z"}',
        b'{"language":"en","size":2}',
        b'{"language":null,"size":3,"timestamp":"2024-01-03T00:00:00Z"}',
    ]


@pytest.mark.parametrize("column", ["ids", "metadata", "timestamps"])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"a", "b"}, "is a set, which has no order; pass a list"),
        (pd.DataFrame({"a": [1], "b": [2]}), "is a DataFrame; pass one column"),
    ],
)
def test_a_column_without_an_order_of_rows_is_refused(
    column: str, made: object, reason: str
) -> None:
    columns: dict[str, Any] = {"ids": None, "metadata": None, "timestamps": None}
    given = read(np.ones((2, 3)), **columns | {column: made})
    assert (given.count, given.invalid) == (2, 2)
    [problem] = given.problems
    assert problem.pointer == f"/{column}"
    assert problem.reason.startswith(reason)
