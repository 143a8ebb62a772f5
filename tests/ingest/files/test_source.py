"""Find files."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.files import reader
from ingest.files.remote import filesystem_of
from ingest.files.source import Source, partitions, stem
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import VECTORS, whole

SUFFIXES = (".parquet", ".jsonl")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Hive-style folders, and files that are not data beside the data."""
    for lang in ("en", "de"):
        folder = tmp_path / "lake" / f"lang={lang}" / "day=1"
        folder.mkdir(parents=True)
        parquet.write_table(pa.table({"embedding": VECTORS.tolist()}), folder / "x.parquet")
    for name in ("_SUCCESS", ".x.parquet", "_temporary.parquet", "readme.txt", "state.json"):
        (tmp_path / "lake" / name).write_text("{}")
    return tmp_path / "lake"


def test_a_folder_is_read_whole_and_the_names_of_its_folders_are_columns(lake: Path) -> None:
    rows = whole(lake)
    np.testing.assert_array_equal(rows.vectors, np.concatenate([VECTORS, VECTORS]))
    assert [row["lang"] for row in rows.metadata] == ["de"] * 3 + ["en"] * 3
    assert whole(lake, drop=("lang", "day")).metadata == []


def test_a_folder_of_models_names_them(lake: Path) -> None:
    assert whole(lake, model="lang").models == ["de"] * 3 + ["en"] * 3


def test_vectors_are_in_the_file_and_not_in_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "embedding=minilm"
    folder.mkdir(parents=True)
    np.savetxt(folder / "v.csv", VECTORS, delimiter=",", header="a,b", comments="")
    rows = whole(tmp_path / "lake" / "**" / "*.csv")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.metadata == [{"embedding": "minilm"}] * 3
    with pytest.raises(
        PayloadError,
        match="--vector-column 'embedding' is the name of a folder, one value for the whole file; "
        "its columns are 'embedding', 'a', 'b'",
    ):
        whole(folder / "v.csv", vector="embedding")


def test_what_a_file_says_of_each_row_is_not_replaced_by_the_name_of_its_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "id=all" / "lang=en"
    folder.mkdir(parents=True)
    columns = {"id": ["a", None, "c"], "lang": ["de", "fr", None], "v": VECTORS.tolist()}
    parquet.write_table(pa.table(columns), folder / "v.parquet")
    rows = whole(folder / "v.parquet")
    assert rows.ids == ["a", "all", "c"]
    assert [row["lang"] for row in rows.metadata] == ["de", "fr", "en"]


def test_the_folder_of_rows_without_a_value_gives_none(tmp_path: Path) -> None:
    folder = tmp_path / "lang=__HIVE_DEFAULT_PARTITION__" / "id=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    columns = {"id": ["a", None, "c"], "v": VECTORS.tolist()}
    parquet.write_table(pa.table(columns), folder / "v.parquet")
    rows = whole(tmp_path)
    assert (rows.ids, rows.metadata) == (["a", None, "c"], [])
    assert whole(tmp_path, drop=("lang",)).metadata == []
    rows = whole(tmp_path, model="lang")
    assert rows.faults == [f"row {row} has no model in column 'lang'" for row in range(3)]


@pytest.mark.parametrize("kind", ["M8[s]", "M8[us]"])
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_typed_times_stay_what_they_are_in_a_folder_of_their_name(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / "timestamp=2026-01-02T00:00:00Z" / f"v{suffix}"
    path.parent.mkdir()
    times = np.array(["2026-01-01", "2026-01-01T12:00", "NaT"], kind)
    if suffix == ".npz":
        np.savez(path, timestamp=times, embedding=VECTORS)
    else:
        parquet.write_table(pa.table({"timestamp": times, "embedding": VECTORS.tolist()}), path)
    first = 1_767_225_600
    assert whole(path).times == [first, first + 43_200, first + 86_400]


def test_ids_that_merge_are_refused_in_a_folder_of_their_name(tmp_path: Path) -> None:
    path = tmp_path / "id=all" / "v.npz"
    path.parent.mkdir()
    np.savez(path, id=np.array([1, 2**24, np.nan], np.float32), embedding=VECTORS)
    rows = whole(path)
    assert rows.ids == ["1", "all"]
    assert "cannot tell it from others" in rows.faults[0]


def test_a_pattern_chooses_files(lake: Path) -> None:
    found = Source.find(f"{lake}/lang=e*/**/*.parquet", SUFFIXES)
    assert found.files == (str(lake / "lang=en" / "day=1" / "x.parquet"),)


def test_a_folder_has_its_own_title_whatever_is_in_it_and_a_pattern_has_none(lake: Path) -> None:
    file = lake / "lang=en" / "day=1" / "x.parquet"
    fsspec.filesystem("memory").pipe("/shelf/v.jsonl", b"{}")
    titles = {
        str(file): "x",
        str(file.parent): "day=1",
        f"{lake}/": "lake",
        f"{lake}/lang=en/*/*.parquet": None,
        "memory://shelf": "shelf",
        "memory://shelf/*.jsonl": None,
    }
    assert {place: Source.find(place, SUFFIXES).title for place in titles} == titles
    named = lake / "x[1]?.parquet"
    file.rename(named)
    assert Source.find(str(named), SUFFIXES).title == "x[1]?"


def test_a_dataset_of_hugging_face_is_its_arrow_files(tmp_path: Path) -> None:
    table = pa.table({"embedding": VECTORS.tolist()})
    for number in range(2):
        path = tmp_path / f"data-{number:05}-of-00002.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text('{"_data_files": []}')
    np.testing.assert_array_equal(whole(tmp_path).vectors, np.concatenate([VECTORS, VECTORS]))
    left_out = Source.find(str(tmp_path), reader.SUFFIXES).left_out
    assert [Path(each).name for each in left_out] == ["dataset_info.json", "state.json"]


def test_a_folder_of_nothing_but_files_beside_data_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"embedding": [1, 2]}')
    with pytest.raises(PayloadError, match=r"\.json, .* and are not named .* or metadata\.json$"):
        Source.find(str(tmp_path), reader.SUFFIXES)
    assert whole(tmp_path / "metadata.json").vectors.tolist() == [[1, 2]]
    assert whole(tmp_path / "*.json").vectors.tolist() == [[1, 2]]


def test_empty_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").touch()
    (tmp_path / "part-1.jsonl").write_text('{"embedding": [1, 2]}')
    assert whole(tmp_path).vectors.tolist() == [[1, 2]]


EMPTY = {
    "": b"",
    ".gz": gzip.compress(b""),
    ".bz2": bz2.compress(b""),
    ".xz": lzma.compress(b""),
    ".zst": pa.compress(b"", "zstd", asbytes=True),
}


@pytest.mark.parametrize("codec", EMPTY)
def test_empty_files_beside_others_are_left_out_compressed_or_not(
    codec: str, tmp_path: Path
) -> None:
    empty = tmp_path / f"part-1.json{codec}"
    empty.write_bytes(EMPTY[codec])
    (tmp_path / "part-2.json").write_text('{"embedding": [1, 2]}')
    for place in (tmp_path, tmp_path / "part-*"):
        assert whole(place).vectors.tolist() == [[1, 2]]
    with pytest.raises(PayloadError, match=r"part-1.*: is empty"):
        whole(empty)


def test_folders_that_a_pattern_matches_are_read_as_folders_are(lake: Path) -> None:
    rows = whole(lake / "lang=*")
    assert [row["lang"] for row in rows.metadata] == ["de"] * 3 + ["en"] * 3
    unfinished = lake / "_temporary" / "x.jsonl"
    unfinished.parent.mkdir()
    unfinished.write_text("{}")
    assert str(unfinished) not in Source.find(f"{lake}/*", SUFFIXES).files
    (lake / "lang=de" / "readme.txt").write_text("not data")
    files = [str(lake / f"lang={lang}" / "day=1" / "x.parquet") for lang in ("de", "en")]
    # Each file once, also if the folder around it matches, too.
    assert Source.find(f"{lake}/lang=*/**/day*", SUFFIXES).files == tuple(files)
    assert Source.find(f"{lake}/lang=*", SUFFIXES).files == tuple(files)


def test_a_name_may_have_brackets(tmp_path: Path) -> None:
    path = tmp_path / "runs[1]" / "v[2].jsonl"
    path.parent.mkdir()
    path.write_text('{"embedding": [1, 2]}')
    for place in (path.parent, path, tmp_path / "runs*"):
        assert whole(place).vectors.tolist() == [[1, 2]]
    assert Source.find(str(path.parent), SUFFIXES).title == stem("runs[1]")


def test_any_file_system_of_fsspec_can_be_used() -> None:
    fsspec.filesystem("memory").pipe("/folder/v.jsonl", b'{"embedding": [1, 2]}')
    assert whole("memory://folder").vectors.tolist() == [[1, 2]]
    assert whole("memory://folder/*.jsonl").vectors.tolist() == [[1, 2]]


def test_a_place_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="absent does not exist"):
        Source.find(str(tmp_path / "absent"), SUFFIXES)
    for place in (tmp_path, tmp_path / "*.npy"):
        with pytest.raises(PayloadError, match=r"has no files that end in \.parquet, \.jsonl"):
            Source.find(str(place), SUFFIXES)
    with pytest.raises(PayloadError, match=r"^nowhere://x cannot be read: Protocol not known"):
        Source.find("nowhere://me:secret@x?key=SECRET", SUFFIXES)


@pytest.mark.parametrize("password", ["hunter/2", "hunter?2", "hunter#2", "1?hunter2"])
def test_a_password_that_became_another_part_of_the_url_is_not_quoted(password: str) -> None:
    with pytest.raises(PayloadError, match=r"^http://x/v\.csv cannot be read: .*%2F") as caught:
        Source.find(f"http://me:{password}@x/v.csv", SUFFIXES)
    assert "hunter" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "url", ["memory://h:80/a@b", "memory://b/a:c/d@e.csv", "memory://o:r@b/f@g"]
)
def test_a_path_may_have_an_at_sign(url: str) -> None:
    _, path = filesystem_of(url)
    assert path == url.removeprefix("memory:/")


def test_names_of_folders_and_files_are_taken_apart() -> None:
    assert partitions("a/day=2/lang=en%2Fus/b=c.parquet") == {"day": "2", "lang": "en/us"}
    assert [stem(name) for name in ("a/b.jsonl.gz", "a/b.parquet", "a/b/", "s3://x/b")] == ["b"] * 4
