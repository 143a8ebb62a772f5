"""Read JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import whole


def test_ids_may_be_numbers_or_missing(tmp_path: Path) -> None:
    lines = ['{"embedding": [1, 2], "text": "one", "id": 7}', '{"embedding": [3, 4]}']
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    rows = whole(tmp_path / "v.jsonl")
    assert rows.ids == ["7", None]
    assert rows.metadata == [{"text": "one"}, {}]


def test_other_keys_are_added_to_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1], "lang": "en", "metadata": {"text": "x"}}')
    assert whole(tmp_path / "v.jsonl").metadata == [{"lang": "en", "text": "x"}]


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1]}\n\n{"embedding": [2]}\n\n')
    assert whole(tmp_path / "v.jsonl").vectors.tolist() == [[1], [2]]
    (tmp_path / "v.jsonl").write_text('{"embedding": [1]}\n\n{"embedding": 2}\n')
    with pytest.raises(PayloadError, match="line 3: Expected `array`"):
        whole(tmp_path / "v.jsonl")


WRONG = {
    "cut": (b'{"embedding": [1]}\n{"embedding": \n', "line 2: Input data was truncated"),
    "no vector": (b'{"embeddings": [1]}\n', "line 1: Object missing required field `embedding`"),
    "a word": (b'{"embedding": [1, "2"]}\n', "line 1: Expected `float`, got `str` - at `$.em"),
    "a boolean": (b'{"embedding": [true]}\n', "line 1: Expected `float`, got `bool`"),
    "a null": (b'{"embedding": [null]}\n', "line 1: Expected `float`, got `null`"),
    "two vectors": (b'{"embedding": [[1], [2]]}\n', "line 1: Expected `float`, got `array`"),
    "a huge number": (b'{"embedding": [%s]}\n' % (b"9" * 400), "line 1: Number out of range"),
    "deep nesting": (b'{"embedding": [1], "a": ' + b"[" * 20_000, "line 1: "),
    "metadata that is text": (
        b'{"embedding": [1], "metadata": "x"}',
        "line 1: Expected `object | null`",
    ),
    "bytes that are not UTF-8": (b'{"embedding": [1], "text": "\xff"}', "line 1: "),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    content, message = WRONG[mistake]
    (tmp_path / "v.jsonl").write_bytes(content)
    with pytest.raises(PayloadError) as raised:
        list(read(tmp_path / "v.jsonl"))
    assert f"{tmp_path / 'v.jsonl'}: {message}" in str(raised.value)
