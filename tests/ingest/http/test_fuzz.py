"""Random bodies of all formats: the store has exactly the acknowledged vectors."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings

LIMITS = {
    "ingest.max_body_bytes": 20_000,
    "ingest.max_batch_vectors": 4,
    "ingest.max_dimension": 6,
    "ingest.max_metadata_bytes": 500,
    "ingest.max_models": 2,
}
JSON, RAW, NPY = "application/json", "application/octet-stream", "application/x-npy"


@dataclass(frozen=True)
class Request:
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One stored vector. ``vector`` is little-endian float32."""

    model_name: str
    vector: bytes
    id: str | None = None
    metadata: Any = None
    embedded_at: float | None = None


# What was sent, read by other means than the service's own.


def rows(request: Request) -> list[Row]:
    """The vectors of an accepted request."""
    assert request.headers.get("Content-Encoding", "") in ("", "identity")
    name = request.headers.get("X-Model-Name", request.query.get("model_name"))
    if request.content_type == JSON:
        body = numbers_kept(request.body)
        return rows_of_json(body | ({} if name is None else {"model_name": name}))
    assert name is not None
    if request.content_type == NPY or request.body.startswith(npy.MAGIC_PREFIX):
        vectors = np.atleast_2d(np.load(io.BytesIO(request.body), allow_pickle=False))
    else:
        dimension = int(request.headers.get("X-Dimension", request.query.get("dimension", "")))
        vectors = np.frombuffer(request.body, "<f4").reshape(-1, dimension)
    return [Row(name, vector.astype("<f4").tobytes()) for vector in vectors]


def numbers_kept(document: bytes | str) -> Any:
    """Decode JSON without rounding. Integers have no negative zero, and NaN is no value."""
    return json.loads(
        document,
        parse_int=lambda digits: Decimal("0" if digits == "-0" else digits),
        parse_float=Decimal,
        parse_constant=lambda _: None,
    )


def rows_of_json(body: Any) -> list[Row]:
    if "embedding" in body:
        columns = [[body["embedding"]], [body.get("id")], [body.get("metadata")]]
    else:
        none = [None] * len(body["embeddings"])
        columns = [body["embeddings"], body.get("ids") or none, body.get("metadata") or none]
    return [
        Row(body["model_name"], vector_of_json(embedding), id_, metadata, moment(metadata))
        for embedding, id_, metadata in zip(*columns, strict=True)
    ]


def vector_of_json(embedding: Any) -> bytes:
    if isinstance(embedding, str):
        return base64.b64decode(embedding, validate=True)
    return np.array([float(number) for number in embedding], "<f4").tobytes()


def moment(metadata: Any) -> float | None:
    given: Any = (metadata or {}).get("timestamp")
    try:
        return None if given is None else float(given)
    except ValueError:
        return datetime.fromisoformat(given).timestamp()


def same(sent: Any, stored: Any) -> bool:
    """Compare JSON. Numbers with a fraction or an exponent are doubles."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        return sent.keys() == stored.keys() and all(same(sent[k], stored[k]) for k in sent)
    if isinstance(sent, list) and isinstance(stored, list):
        return len(sent) == len(stored) and all(map(same, sent, stored))
    if isinstance(sent, Decimal) and isinstance(stored, Decimal):
        return sent == stored or (sent.as_tuple().exponent != 0 and float(sent) == float(stored))
    return type(sent) is type(stored) and bool(sent == stored)


def same_row(sent: Row, stored: Row) -> bool:
    one, other = sent.embedded_at, stored.embedded_at
    return (
        replace(sent, metadata=None, embedded_at=None)
        == replace(stored, metadata=None, embedded_at=None)
        and same(sent.metadata, stored.metadata)
        # The store counts microseconds.
        and (one == other or (one is not None and other is not None and abs(one - other) <= 1e-6))
    )


def revises(after: bytes, before: bytes) -> bool:
    """Whether a vector differs from another by more than the noise of an encoder."""
    new, old = (np.frombuffer(vector, "<f4").astype(np.longdouble) for vector in (after, before))
    lengths = np.sqrt(new @ new), np.sqrt(old @ old)
    if 0 in lengths:
        return bool(max(lengths) > 0)
    is_turned = new @ old < (1 - 1e-6) * lengths[0] * lengths[1]
    return bool(is_turned or max(lengths) - min(lengths) > 1e-6 * max(lengths))


class Ledger:
    """What the store must contain after the answers so far."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self._keys: dict[tuple[str, str], Any] = {}

    def note(self, request: Request, answer: httpx2.Response) -> None:
        sent, said = rows(request), answer.json()
        name = sent[0].model_name
        key = request.headers.get("Idempotency-Key")
        if "Idempotency-Replayed" in answer.headers:
            assert key is not None
            assert said == self._keys[name, key]
            return
        known = self.rows.setdefault(name, [])
        newest = {row.id: row.vector for row in known if row.id is not None}
        new = [row for row in sent if row.id not in newest or revises(row.vector, newest[row.id])]
        assert said == {
            "model_name": name,
            "stored": len(new),
            "revisions": sum(row.id in newest for row in new),
            "duplicates": len(sent) - len(new),
            "sampled_out": 0,
        }
        known += new
        if key is not None:
            self._keys[name, key] = said


def stored(connection: psycopg.Connection) -> dict[str, list[Row]]:
    """The stored vectors by model, in their order."""
    found: dict[str, list[Row]] = {}
    for name, seq, id_, metadata, at, vector in connection.execute(
        "select model_name, seq, id, metadata::text, extract(epoch from embedded_at)::float8,"
        " embedding::real[] from embedding order by model_name, seq",
        binary=True,
    ):
        decoded = metadata and numbers_kept(metadata)
        of_model = found.setdefault(name, [])
        of_model.append(Row(name, np.array(vector, "<f4").tobytes(), id_, decoded, at))
        assert seq == len(of_model)
    return found


# What is sent.


def rarely(hostile: st.SearchStrategy[Any], usual: st.SearchStrategy[Any]) -> st.SearchStrategy:
    return st.integers(0, 19).flatmap(lambda n: hostile if n == 13 else usual)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
NUMBERS = rarely(st.floats(), st.floats(width=32, allow_nan=False, allow_infinity=False))
NAMES = rarely(st.text(max_size=6), st.sampled_from(["m", "a/b"]))
IDS = st.none() | st.sampled_from(["a", "b", "c"]) | rarely(st.text(max_size=300), st.just("d"))
TIMESTAMPS = st.one_of(
    st.sampled_from([0, -0.0, 1703980800, 1703980800.123456, 1703980800123, 4e9, -1, 5e-324]),
    st.floats(0, 1.7e9),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.sampled_from(["2024-01-01T00:00:00Z", "2024-06-30t23:59:60z", "2024-01-01", "", "1.7e9"]),
    ANYTHING,
)


@st.composite
def metadata(draw: st.DrawFn) -> Any:
    item = draw(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=2))
    if draw(st.booleans()):
        item["timestamp"] = draw(TIMESTAMPS)
    return item


def encoded(vector: list[float]) -> str:
    with np.errstate(over="ignore"):
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """JSON bodies of both requests, some with arbitrary values."""
    dimension = draw(st.integers(1, 3))
    count = draw(st.integers(1, 3))

    def embedding() -> Any:
        size = draw(rarely(st.integers(0, 7), st.just(dimension)))
        vector = draw(st.lists(NUMBERS, min_size=size, max_size=size))
        return encoded(vector) if draw(st.booleans()) else vector

    document: dict[str, Any] = {"model_name": draw(NAMES)}
    if draw(st.booleans()):
        document |= {"embedding": embedding(), "id": draw(IDS)}
        document["metadata"] = draw(st.none() | metadata())
    else:
        document["embeddings"] = [embedding() for _ in range(count)]
        if draw(st.booleans()):
            document["ids"] = [draw(IDS) for _ in range(count)]
        if draw(st.booleans()):
            document["metadata"] = [draw(st.none() | metadata()) for _ in range(count)]
    if draw(st.integers(0, 9)) == 7:
        document[draw(st.sampled_from([*document, "ids", "x"]))] = draw(ANYTHING)
    return document


VALUES = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|\"[^\"\\]*\"")
HOSTILE = [
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e400", b"1e39", b"-0", b"0.1e-400", b"01"),
    *(b"3.4028235677973366e38", b"9" * 400, b"9" * 5_000, b"18446744073709551616", b"+1", b"1."),
    *(rb'"\ud800"', rb'"\udc00\ud800"', rb'"\ud83d\ude00"', rb'"\u0000"', b'"\0"', b'"\xff"'),
    *(b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b"\xef\xbb\xbf1", b'"AACAPw=="', b'"AACAPw="'),
    *(b"true", b"null", b"{}", b"[]", b'""', b"[" * 5_000, b"[" * 900 + b"]" * 900, b"'a'"),
    *(b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"[[[1]]]", b'"timestamp"', b"/**/1", b"1,"),
]


@st.composite
def replaced_values(draw: st.DrawFn, body: bytes) -> bytes:
    places = list(VALUES.finditer(body))
    if not places:
        return body
    place = draw(st.sampled_from(places))
    return body[: place.start()] + draw(st.sampled_from(HOSTILE)) + body[place.end() :]


@st.composite
def doubled_keys(draw: st.DrawFn, body: bytes) -> bytes:
    other = json.dumps(draw(documents()), ensure_ascii=False).encode("utf-8", "surrogatepass")
    joined = [body.strip()[1:-1], other[1:-1]]
    return b"{" + b",".join(draw(st.permutations(joined))) + b"}"


@st.composite
def changed_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    flipped = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(flipped)))
        flipped[place : place + 1] = draw(st.binary(max_size=2))
    return bytes(flipped)


@st.composite
def truncated(draw: st.DrawFn, body: bytes) -> bytes:
    return body[: draw(st.integers(0, len(body)))]


def prefixed(body: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"\xef\xbb\xbf", b" \r\n\t", b"\0", b"{}"]).map(lambda p: p + body)


def in_utf_16(body: bytes) -> st.SearchStrategy[bytes]:
    return st.just(body.decode("utf-8", "replace").encode("utf-16"))


MUTATIONS: list[Callable[[bytes], st.SearchStrategy[bytes]]] = [
    *(st.just, st.just, st.just, changed_bytes, truncated),
    lambda body: st.binary(max_size=20).map(lambda more: body + more),
]
MUTATIONS_OF_TEXT = [
    *(*MUTATIONS, replaced_values, replaced_values, replaced_values),
    *(doubled_keys, prefixed, in_utf_16),
]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    document = draw(documents())
    body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return draw(draw(st.sampled_from(MUTATIONS_OF_TEXT))(body))


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    shape = draw(rarely(st.tuples(st.integers(0, 6), st.integers(0, 8)), st.just((2, 3))))
    size = shape[0] * shape[1]
    numbers = draw(st.lists(NUMBERS, min_size=size, max_size=size))
    return np.array(numbers, np.float64).reshape(shape)


@st.composite
def raw_bodies(draw: st.DrawFn) -> bytes:
    with np.errstate(over="ignore"):
        body = draw(matrices()).astype("<f4").tobytes()
    return draw(draw(st.sampled_from(MUTATIONS))(body))


DTYPES = ["<f4", ">f4", "<f2", "<f8", "f4", "=f4"]
HOSTILE_DTYPES = ["<f16", "<i4", "|O", "<U9", "V4", "<c8", "<M8[s]", "", "\ud800", "f4,f4", 7, None]
SHAPES = st.one_of(
    st.tuples(st.integers(-2, 5), st.integers(-2, 5)),
    st.lists(st.integers(0, 3), max_size=4).map(tuple),
    st.sampled_from([(10**18, 3), (2, 10**18), (2**63, 1), (True, 3), ("a", 3), (2.0, 3), 6]),
)


@st.composite
def headers_of_npy(draw: st.DrawFn) -> bytes:
    """Headers that numpy would not write, some with a wrong length or version."""
    fields = {
        "descr": draw(st.sampled_from([*DTYPES, *HOSTILE_DTYPES, [("a", "<f4")], ("<f4", (3,))])),
        "fortran_order": draw(st.sampled_from([True, False, 1, None])),
        "shape": draw(SHAPES),
    }
    written = [repr(fields), "(" * 9_000, "{" * 50, "", "__import__('os')", "'" * 300]
    written += [repr(fields).replace("2", "0x" + "f" * 8_000)]
    text: str = draw(rarely(st.sampled_from(written), st.just(written[0])))
    header = text.encode("latin-1", "replace") + b"\n"
    version = draw(rarely(st.sampled_from([3, 0, 255]), st.sampled_from([1, 2])))
    length: int = draw(rarely(st.integers(0, 65_535), st.just(len(header))))
    start = npy.MAGIC_PREFIX + bytes([version, 0])
    return start + length.to_bytes(4 if version == 2 else 2, "little") + header


@st.composite
def npy_bodies(draw: st.DrawFn) -> bytes:
    vectors = draw(matrices())
    if draw(st.booleans()):
        return draw(headers_of_npy()) + draw(st.binary(max_size=48) | st.just(bytes(24)))
    with np.errstate(over="ignore"):
        array = vectors.astype(draw(st.sampled_from(DTYPES)))
    file = io.BytesIO()
    np.save(file, draw(st.sampled_from([array, array.T, array[0] if len(array) else array])))
    return draw(draw(st.sampled_from(MUTATIONS))(file.getvalue()))


DIMENSIONS = rarely(st.sampled_from(["0", "-1", "3.0", " 3", "", "\xb3", "9" * 60]), st.just("3"))
KEYS = st.none() | rarely(st.sampled_from(["", "a b", "\xe9", "x" * 256]), st.just("k"))
HEADER_NAMES = rarely(st.sampled_from(["", "\xe9", "a b", "m" * 129, "a/b"]), st.just("m"))
ENCODINGS = st.sampled_from([*[None] * 6, "identity", "gzip", "\xe9"])
HEADERS = ("X-Model-Name", "X-Dimension")
QUERY = ("model_name", "dimension")


@st.composite
def requests(draw: st.DrawFn) -> Request:
    content_type = draw(st.sampled_from([JSON, RAW, NPY]))
    body = draw({JSON: texts(), RAW: raw_bodies(), NPY: npy_bodies()}[content_type])
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    for parameters, names in ((headers, HEADERS), (query, QUERY)):
        if draw(rarely(st.just(False), st.just(True))):
            parameters |= dict(zip(names, (draw(HEADER_NAMES), draw(DIMENSIONS)), strict=True))
    if (key := draw(KEYS)) is not None:
        headers["Idempotency-Key"] = key
    if (encoding := draw(ENCODINGS)) is not None:
        headers["Content-Encoding"] = encoding
    others = st.sampled_from([JSON, RAW, NPY, "", "text/csv"])
    return Request(body, draw(rarely(others, st.just(content_type))), headers, query)


@pytest.fixture
def client(store: str) -> Iterator[TestClient]:
    registry, live = CollectorRegistry(), LiveSettings(lambda: load(None, None, LIMITS))
    app = application.application(
        registry, live, Ingest(Pipeline(store, live.settings, registry), live.settings)
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def send(client: TestClient, request: Request) -> httpx2.Response:
    headers = {"Content-Type": request.content_type, **request.headers}
    return client.post(
        "/embeddings",
        content=request.body,
        headers={name.encode(): value.encode("latin-1") for name, value in headers.items()},
        params=request.query,
    )


# The pool draws one whenever it connects, in the service's thread.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_the_store_has_exactly_the_acknowledged_vectors(
    client: TestClient, connection: psycopg.Connection, long: bool
) -> None:
    @settings(max_examples=10_000 if long else 300, derandomize=not long)
    @given(st.lists(requests(), min_size=1, max_size=3))
    def holds(sent: list[Request]) -> None:
        connection.execute("delete from embedding")
        connection.execute("delete from embedding_id")
        connection.execute("delete from idempotency_key")
        connection.execute("delete from model")
        ledger = Ledger()
        for request in sent:
            answer = send(client, request)
            assert answer.status_code == 201 or 400 <= answer.status_code < 500, answer.text
            if answer.status_code == 201:
                ledger.note(request, answer)
        found = stored(connection)
        assert found.keys() == ledger.rows.keys()
        for name, acknowledged in ledger.rows.items():
            assert len(found[name]) == len(acknowledged)
            for row, row_stored in zip(acknowledged, found[name], strict=True):
                assert same_row(row, row_stored), f"{row} became {row_stored}"

    holds()
