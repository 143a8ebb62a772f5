"""Keywords are the words that set texts apart."""

from __future__ import annotations

import pytest

from exporter.explain.keywords import Vocabulary, keywords, terms

OTHERS = [f"the {colour} house of number {word}" for colour in ("red", "old", "new", "big")
          for word in ("one", "two", "six", "ten") * 10]  # fmt: skip
ANIMALS = [f"the {what} cat of the {where}" for what in ("lazy", "quick", "sad") for where in
           ("garden", "attic", "cellar", "farm")]  # fmt: skip


def found(texts: list[str], others: list[str]) -> list[str]:
    return keywords([terms(text) for text in texts], [terms(text) for text in others])


def test_the_word_of_all_texts_and_of_no_other_comes_first() -> None:
    assert found(ANIMALS, OTHERS)[0] in ("cat", "cat of")


def test_frequent_words_of_both_sides_are_no_keywords() -> None:
    assert "the" not in found(ANIMALS, OTHERS)
    assert found(OTHERS[::3], OTHERS) == []


def test_a_word_that_the_others_lack_counts_though_its_prior_is_small() -> None:
    # One of a hundred texts elsewhere has "cat"; none has "telegram".
    others = ["a cat sleeps"] * 40 + ["a dog sleeps"] * 4_000
    texts = ["a telegram for the cat"] * 5 + ["one telegram from the cat", "my telegram and cat"]
    assert "telegram" in found(texts, others)


def test_a_word_needs_three_texts_that_are_not_all_the_same() -> None:
    assert found(["zebra crossing", "zebra stripes"], OTHERS) == []
    assert found(["zebra crossing"] * 5, OTHERS) == []
    assert found(["zebra crossing", "zebra stripes", "zebra foal"], 20 * OTHERS) == ["zebra"]


@pytest.mark.parametrize(("share", "expected"), [(0.05, []), (0.15, ["zebra"])])
def test_a_word_of_few_texts_does_not_name_them_all(share: float, expected: list[str]) -> None:
    texts = [f"{'zebra' if at < 300 * share else 'usual'} {WORDS[at % 7]}" for at in range(300)]
    others = [f"usual {word}" for word in WORDS] * 400
    assert [term for term in found(texts, others) if "zebra" in term] == expected


def test_a_word_that_is_as_frequent_beside_the_texts_names_them_only_if_no_other_does() -> None:
    others = [terms(text) for text in 20 * OTHERS]
    houses = [terms(f"das haus und {word}") for word in WORDS]
    rest = [terms(f"das boot und {word}") for word in WORDS] + others[:10]
    assert keywords(houses, others, rest) == ["das haus"]
    assert keywords(houses, others, houses) == keywords(houses, others)
    assert "und" in keywords(houses, others)


def test_no_word_is_said_twice() -> None:
    words = [word for term in found(ANIMALS, OTHERS) for word in term.split()]
    assert len(words) == len(set(words))


def test_japanese_is_read_in_pairs_of_characters() -> None:
    assert terms("東京都 Python 3") == {"東京", "京都", "python"}


def test_of_a_long_text_only_the_beginning_is_read() -> None:
    japanese = "".join(map(chr, range(0x4E00, 0x4E00 + 5_000)))
    assert terms(japanese) == terms(japanese[:401])
    assert len(terms(japanese)) == 400
    english = " ".join(f"{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(600))
    assert terms(english) == terms(" ".join(english.split()[:400]))
    assert terms(f"cat {'7' * 10_000} dog") == {"cat"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("किताब की दुकान हिन्दी में", {"किताब", "की", "दुकान", "हिन्दी", "में"}),
        ("বাংলা ভাষার বই", {"বাংলা", "ভাষার", "বই"}),
        ("தமிழ் புத்தகம்", {"தமிழ்", "புத்தகம்"}),
        ("తెలుగు పుస్తకం", {"తెలుగు", "పుస్తకం"}),
        ("la cafe\u0301 q\u0307uo", {"la", "café", "q\u0307uo"}),
    ],
    ids=["Hindi", "Bengali", "Tamil", "Telugu", "combining accents"],
)
def test_a_word_keeps_its_marks(text: str, words: set[str]) -> None:
    assert {term for term in terms(text) if " " not in term} == words


def test_a_run_of_letters_that_is_longer_than_a_word_is_no_keyword() -> None:
    assert terms(f"cat {'x' * 41} 15 {'y' * 15_000}") == {"cat"}
    texts = [f"{animal} {'x' * 15_001}" for animal in ANIMALS]
    assert found(texts, OTHERS) == found(ANIMALS, OTHERS)


def test_long_compounds_of_german_are_keywords() -> None:
    word = "Rechtsschutzversicherungsgesellschaften"
    texts = [f"{word} {place}" for place in ("Bonn", "Berlin", "Kiel", "Jena")]
    assert found(3 * texts, OTHERS)[0] == word.lower()


def test_case_and_width_do_not_matter() -> None:
    assert terms("\uff30\uff24\uff26 Pdf pdf") == {"pdf", "pdf pdf"}


def test_observations_without_text_have_no_terms() -> None:
    vocabulary = Vocabulary(["one two", None, "three"])
    assert vocabulary[[1, 2]] == [{"three"}]


def test_without_other_texts_there_is_nothing_to_set_apart_from() -> None:
    assert found(ANIMALS, []) == []


def test_a_word_that_is_twice_as_frequent_is_no_keyword() -> None:
    texts = [f"{'often' if row % 10 < 6 else 'rarely'} {WORDS[row % 7]}" for row in range(1_000)]
    others = [f"{'often' if row % 10 < 3 else 'rarely'} {WORDS[row % 7]}" for row in range(4_000)]
    assert not any("often" in term.split() for term in found(texts, others))


WORDS = ("apple", "bread", "chalk", "drums", "eagle", "fence", "glass")
