"""Word pieces are BERT's: the same pieces as transformers finds, with our own numbers and vocabulary file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_checkpoints import PIECES, toy_captions

from crossmodal.errors import ModelError
from crossmodal.models.native.vocabularies import MAX_PIECES, PADDING, SPECIAL_PIECES, WordPieces

NASTY = [
    "A DOG Runs",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m cr\u00e8me",
    "cafe\u0301 with a combining accent",
    "\u72d7\u5728 running \u8dd1dog",
    "don't, stop... (woman's) dog-runs; 50% $5 <run> a_b",
    "the woman\u2019s dog \u2014 \u201crunning\u201d\u2026",
    "a \U0001f415\U0001f3fd dog \u2764\ufe0f run",
    "x" * 100 + " " + "x" * 101 + " dog",
    "tabs\tand\nlines\r\nand\u00a0spaces\u3000here",
    "zero\u200bwidth \u0000null \ufffdreplaced \u202eleft",
    "\u0130stanbul \u1e9e\u00df \ufb01sh \u2460 \u00bd \u0e01\u0e32 \u05d0\u05d1 \u0645",
    "",
    "   ",
]


@pytest.fixture(scope="module")
def words() -> WordPieces:
    return WordPieces(PIECES)


@pytest.mark.parametrize("text", [*NASTY, *toy_captions()[:8]])
def test_pieces_are_those_of_both_tokenizers_of_transformers(
    words: WordPieces, text: str, tmp_path: Path
) -> None:
    from transformers import BertTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    vocabulary = tmp_path / "vocab.txt"
    words.save(vocabulary)
    compiled = BertTokenizer(vocab={piece: n for n, piece in enumerate([*SPECIAL_PIECES, *PIECES])})
    in_python = BertTokenizerLegacy(str(vocabulary))
    numbers = words.numbers_of(text)
    cut = {"truncation": True, "max_length": MAX_PIECES}
    assert numbers == compiled(text, **cut)["input_ids"]
    pieces = ["[CLS]", *in_python.tokenize(text)[: MAX_PIECES - 2], "[SEP]"]
    assert numbers == in_python.convert_tokens_to_ids(pieces)


def test_some_pieces_by_hand(words: WordPieces) -> None:
    names = [*SPECIAL_PIECES, *PIECES]

    def pieces(text: str) -> list[str]:
        return [names[number] for number in words.numbers_of(text)]

    assert pieces("A Woman runs!") == ["[CLS]", "a", "woman", "run", "##s", "!", "[SEP]"]
    assert pieces("running") == ["[CLS]", "run", "##ning", "[SEP]"]
    assert pieces("D\u00d3G \u72d7") == ["[CLS]", "dog", "[UNK]", "[SEP]"]
    assert pieces("") == ["[CLS]", "[SEP]"]
    # No text can end itself or become padding.
    assert pieces("[SEP]") == ["[CLS]", "[", "s", "##e", "##p", "]", "[SEP]"]
    assert SPECIAL_PIECES.index("[PAD]") == PADDING


def test_a_long_text_is_cut_and_keeps_its_end_mark() -> None:
    words = WordPieces(PIECES, longest=8)
    class_number, separator = words.numbers_of("")
    cut = words.numbers_of("dog " * 500)
    assert cut == [class_number, *[words.numbers_of("dog")[1]] * 6, separator]
    assert len(WordPieces(PIECES).numbers_of("dog " * 500)) == MAX_PIECES


@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_has_numbers_that_exist(text: str) -> None:
    words = WordPieces(PIECES, longest=16)
    numbers = words.numbers_of(text)
    assert 2 <= len(numbers) <= 16
    assert (numbers[0], numbers[-1]) == (SPECIAL_PIECES.index("[CLS]"), SPECIAL_PIECES.index("[SEP]"))
    assert all(0 < number < len(words) for number in numbers)


def test_a_vocabulary_file_is_read_back(words: WordPieces, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.txt"
    words.save(path)
    read = WordPieces.load(path, longest=10)
    assert (read.pieces, read.longest, len(read)) == (PIECES, 10, len(words))
    assert path.read_text(encoding="utf-8").splitlines()[4] == PIECES[0]


def test_a_wrong_vocabulary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.txt"
    with pytest.raises(ModelError, match=r"vocabulary\.txt cannot be read"):
        WordPieces.load(path)
    path.write_text("<pad>\n<unk>\n<start>\n<end>\ndog\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"must start with the lines \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        WordPieces.load(path)
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ndog\ncat\ndog\n", encoding="utf-8")
    with pytest.raises(ModelError, match="'dog' twice"):
        WordPieces.load(path)
