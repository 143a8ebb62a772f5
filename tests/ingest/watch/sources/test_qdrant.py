"""A collection of Qdrant, over HTTP: which vectors are read, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import UUID

import pytest
from qdrant_client import AsyncQdrantClient, models

from ingest.runtime.errors import SettingsError, SourceUnavailable
from ingest.watch.sources import qdrant as source
from ingest.watch.sources.source import Location, Row
from tests.qdrant import Qdrant

TWO = models.VectorParams(size=2, distance=models.Distance.DOT)
MANY = models.VectorParams(
    size=2,
    distance=models.Distance.DOT,
    multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
)
ID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def read(qdrant: Qdrant, location: Location, level: int = 0) -> list[Row]:
    found = source.find(qdrant.source, location)

    async def main() -> list[Row]:
        async with found.connected():
            assert await found.count() == qdrant.local.count(location.table).count
            return [row async for rows in found.rows(level) for row in rows]

    return asyncio.run(main())


def test_the_chosen_vectors_of_a_collection_are_read_with_the_chosen_payload(
    qdrant: Qdrant,
) -> None:
    sparse = {"words": models.SparseVectorParams()}
    qdrant.local.create_collection(
        "docs",
        vectors_config={"text": TWO, "title": TWO, "tokens": MANY},
        sparse_vectors_config=sparse,
    )
    points = [
        models.PointStruct(
            id=7,
            vector={"text": [1.0, 2.0], "title": [3.0, 4.0]},
            payload={"tenant": "a", "n": [1], "other": 1},
        ),
        models.PointStruct(id=UUID(ID).hex, vector={"title": [5.0, 6.0]}, payload={}),
        models.PointStruct(id=9, vector={}, payload={"tenant": "b"}),
    ]
    qdrant.local.upsert("docs", points)
    location = Location("docs", "title", metadata=("tenant", "n"))
    rows = {row.key: row for row in read(qdrant, location)}
    assert {key.replace("-", "") for key in rows} == {"7", ID.replace("-", "")}
    assert not isinstance(rows["7"].vector, str)
    assert rows["7"].vector.tolist() == [3, 4]
    assert rows["7"].metadata == b'{"tenant":"a","n":[1]}'
    for wanted, message in (
        (None, "docs has the vectors text, title; name one"),
        ("words", "docs has the vectors text, title; 'words' is not one of them"),
        ("tokens", "'tokens' is not one of them"),
    ):
        with pytest.raises(SettingsError, match=f"^--column: .*{message}"):
            source.find(qdrant.source, Location("docs", wanted))


SPARSE = models.SparseVector(indices=[1], values=[0.5])


@pytest.mark.parametrize("column", [None, ""])
@pytest.mark.parametrize("vectors", [{"": TWO}, TWO], ids=["by the empty name", "without a name"])
@pytest.mark.parametrize("with_sparse", [False, True])
def test_vectors_without_a_name_are_read_however_the_collection_was_made(
    qdrant: Qdrant,
    vectors: dict[str, models.VectorParams] | models.VectorParams,
    column: str | None,
    with_sparse: bool,
) -> None:
    sparse = {"words": models.SparseVectorParams()} if with_sparse else None
    qdrant.local.create_collection("docs", vectors_config=vectors, sparse_vectors_config=sparse)
    points = [
        models.PointStruct(id=1, vector=[1.0, 2.0]),
        models.PointStruct(id=2, vector={"": [3.0, 4.0]}),
    ]
    if with_sparse:
        points += [
            models.PointStruct(id=3, vector={"": [5.0, 6.0], "words": SPARSE}),
            models.PointStruct(id=4, vector={"words": SPARSE}),
        ]
    qdrant.local.upsert("docs", points)
    rows = {row.key: row.vector for row in read(qdrant, Location("docs", column))}
    found = {key: [] if isinstance(v, str) else v.tolist() for key, v in rows.items()}
    assert found == {"1": [1, 2], "2": [3, 4]} | ({"3": [5, 6]} if with_sparse else {})
    assert str(source.find(qdrant.source, Location("docs", column))).endswith("/docs in samples")


def test_the_unnamed_vectors_beside_named_ones_are_chosen_by_an_empty_name(qdrant: Qdrant) -> None:
    qdrant.local.create_collection("docs", vectors_config={"": TWO, "title": TWO})
    qdrant.local.upsert("docs", [models.PointStruct(id=1, vector={"": [1.0, 2.0]})])
    [row] = read(qdrant, Location("docs", ""))
    assert not isinstance(row.vector, str)
    assert row.vector.tolist() == [1, 2]
    assert read(qdrant, Location("docs", "title")) == []
    wanted = r"has the vectors '' \(without a name\), title; name one"
    with pytest.raises(SettingsError, match=wanted):
        source.find(qdrant.source, Location("docs"))


@pytest.mark.parametrize(
    ("name", "vector", "fault"),
    [
        ("title", [1.0, 2.0], "has a vector without a name, not one with the name 'title'"),
        (None, [[1.0, 2.0], [3.0, 4.0]], r"has a vector of shape \(2, 2\)"),
        ("title", {"title": SPARSE}, "has a vector of shape"),
    ],
)
def test_a_point_with_other_vectors_than_the_collection_had_is_a_fault_of_its_row(
    name: str | None, vector: Any, fault: str
) -> None:
    found = source.Collection("a", AsyncQdrantClient, "docs", name)
    row = found._row(models.Record(id=1, vector=vector))
    assert row is not None
    assert isinstance(row.vector, str)
    assert re.match(fault, row.vector)


def test_texts_and_values_within_objects_are_read_and_a_misspelt_key_is_told(
    qdrant: Qdrant,
) -> None:
    """LangChain's payload."""
    location = Location(
        "docs", metadata=("metadata.source", "metadata.a.n", "metadata.sorce"), text="page_content"
    )
    qdrant.local.create_collection("docs", vectors_config={"": TWO})
    assert source.find(qdrant.source, location).advice[1:] == ()
    payload = {"page_content": "a text", "metadata": {"source": "s", "a": {"n": 1}}}
    points = [
        models.PointStruct(id=1, vector=[1.0, 2.0], payload=payload),
        models.PointStruct(id=2, vector=[1.0, 2.0], payload={"metadata": "none"}),
    ]
    qdrant.local.upsert("docs", points)
    rows = {row.key: json.loads(row.metadata or b"") for row in read(qdrant, location)}
    assert rows == {
        "1": {"metadata.source": "s", "metadata.a.n": 1, "text": "a text"},
        "2": {},
    }
    told = source.find(qdrant.source, location).advice[1:]
    assert told == ("metadata: none of 2 points has metadata.sorce",)


def test_more_points_than_one_page_are_read_in_the_order_of_a_hash(
    qdrant: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_IDS", 100)
    monkeypatch.setattr(source, "_BLOCK", 70)
    qdrant.local.create_collection("docs", vectors_config=TWO)
    points = [models.PointStruct(id=n, vector=[float(n), 2.0]) for n in range(450)]
    qdrant.local.upsert("docs", points)
    everything, half = (
        [row.key for row in read(qdrant, Location("docs"), level)] for level in (0, 1)
    )
    assert sorted(everything, key=int) == [str(n) for n in range(450)]
    assert everything != sorted(everything, key=int)
    assert 160 < len(half) < 290
    assert [key for key in everything if key in half] == half


@pytest.mark.parametrize(
    ("address", "location", "message"),
    [
        ("qdrant://u:hunter2@a", Location("t"), "everyone on this machine can read it"),
        ("qdrant://u:hunter2@a:99999", Location("t"), "everyone on this machine can read it"),
        ("qdrant://u:hunter2/x@a", Location("t"), "everyone on this machine can read it"),
        ("qdrant://a:b?api-key=hunter2", Location("t"), "set a key in QDRANT_API_KEY"),
        ("qdrant://a?api-key=hunter2", Location("t"), "set a key in QDRANT_API_KEY"),
        ("qdrant://", Location("t"), "--source has no host"),
        ("qdrant://a:b", Location("t"), "--source qdrant://a:b: "),
        ("qdrant://a", Location("t", time="x"), "--time is not for Qdrant"),
        ("qdrant://a", Location("t", id="x"), "--id is not for Qdrant"),
    ],
)
def test_a_wrong_address_or_option_is_refused(
    address: str, location: Location, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        source.find(address, location)
    assert "hunter2" not in str(caught.value)


def test_what_cannot_be_watched_is_refused(qdrant: Qdrant) -> None:
    with pytest.raises(SettingsError, match=r"--table docs: .* there are none"):
        source.find(qdrant.source, Location("docs"))
    qdrant.local.create_collection("one", vectors_config=TWO)
    with pytest.raises(SettingsError, match=r"--table docs: .* there are one"):
        source.find(qdrant.source, Location("docs"))
    with pytest.raises(SettingsError, match="--column: the vectors of this collection have no nam"):
        source.find(qdrant.source, Location("one", "text"))
    qdrant.local.create_collection("tokens", vectors_config=MANY)
    with pytest.raises(SettingsError, match="collection tokens has no dense vectors"):
        source.find(qdrant.source, Location("tokens"))


def test_a_key_comes_from_the_environment(qdrant: Qdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    qdrant.local.create_collection("docs", vectors_config=TWO)
    qdrant.key = "secret"
    with pytest.raises(SourceUnavailable, match=r"the server with collection docs: .*401"):
        source.find(qdrant.source, Location("docs"))
    monkeypatch.setenv(source.API_KEY, "secret")
    with pytest.warns(UserWarning, match="insecure connection"):
        found = source.find(qdrant.source, Location("docs"))
    assert str(found) == f"http://127.0.0.1:{qdrant.port}/docs in samples"


def test_a_server_that_is_away_and_a_collection_that_goes_are_reported(qdrant: Qdrant) -> None:
    with pytest.raises(SourceUnavailable, match=r"the server with collection docs: .* not answer"):
        source.find("qdrant://127.0.0.1:1", Location("docs"))
    qdrant.local.create_collection("docs", vectors_config=TWO)
    found = source.find(qdrant.source, Location("docs"))
    qdrant.local.delete_collection("docs")

    async def main() -> None:
        async with found.connected():
            with pytest.raises(SourceUnavailable, match="there is no collection docs"):
                [row async for row in found.rows(0)]

    asyncio.run(main())


def test_https_and_other_ports_are_allowed() -> None:
    assert source._url("qdrant+https://db.example") == "https://db.example:6333"
    assert source._url("qdrant://[::1]:7000/prefix/") == "http://[::1]:7000/prefix"
