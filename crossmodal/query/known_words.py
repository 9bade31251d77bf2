"""How much of a sentence a model has words for: gibberish and languages that it never saw have none.

A model gives every text a vector, and some photo is always the nearest one. Among a thousand photos a
sentence that means nothing to the model reaches scores of 0.3 and more, so that the score alone doesn't tell.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import filterfalse

from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.models.native.vocabularies import WordPieces, words_of
from crossmodal.models.registry import find_native

__all__ = ["FEW_WORDS", "KnownWords", "known_words_of"]

# Below this share a model doesn't know what a sentence says.
FEW_WORDS = 0.5

# What fits a sentence of unknown pieces all the same, as pieces say something: of 1,000 captions of
# Flickr8k's dev split the best of 1,000 photos has a lower score for none that has few known words; for 60 of
# 65 sentences in 24 other languages nothing fits then, and for all of 30 that are no language.
_CONVINCING = 0.3

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class KnownWords:
    """The ``words`` that a model has learned as wholes, and how it takes a text apart.

    From the score ``convincing`` on something fits a text of unknown words too; above 1, nothing does.
    """

    words: frozenset[str]
    words_of: Callable[[str], Sequence[str]]
    convincing: float

    def share(self, texts: Sequence[str]) -> float:
        """The share of the letters in ``texts`` that belong to known words; 0 where there are no words."""
        found = [word for text in texts for word in self.words_of(text)]
        letters = sum(map(len, found))
        return sum(map(len, filter(self.words.__contains__, found))) / letters if letters else 0.0


def known_words_of(model: str) -> KnownWords | None:
    """The words that the model called ``model`` knows; None where that cannot be told.

    Of a model of our own with a vocabulary of words, those; of the shipped ones with word pieces, the pieces
    that are words of the English that they were trained on. Published models come with texts of the whole
    web, and split common words of many languages alike. Raises ModelError where the model is not known.
    """
    checkpoint = find_native(model.partition("?")[0])
    if checkpoint is None:
        return None
    vocabulary = checkpoint.vocabulary()
    if not isinstance(vocabulary, WordPieces):
        # All other words are one to it.
        return KnownWords(frozenset(vocabulary.words), words_of, math.inf)
    if checkpoint.folder not in SHIPPED.values():
        # It may have learned another language, of the same pieces.
        return None
    # The pieces that continue a word begin with ##, as no word does.
    return KnownWords(frozenset(filter(str.isascii, vocabulary.pieces)), _plain_words, _CONVINCING)


def _plain_words(text: str) -> list[str]:
    """The words of ``text`` in lower case without accents, as BERT's word pieces are."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return _WORD.findall("".join(filterfalse(unicodedata.combining, decomposed)))
