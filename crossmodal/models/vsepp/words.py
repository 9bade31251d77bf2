"""A caption's words as the original VSE++ code cuts them.

That code lower-cases a caption and calls ``nltk.word_tokenize``: Punkt's sentence boundaries, then the rules
of the Penn Treebank. Here are those rules for lower-cased text, without NLTK and its data. What differs:
Punkt knows abbreviations from a corpus, here a period ends a sentence unless it follows a single letter or
one of a few, so a caption with another one in its middle ("approx. ten men") is cut into one token more.
"""

from __future__ import annotations

import re

__all__ = ["words_of"]

_ABBREVIATIONS = frozenset(
    {"mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "mt", "no", "e.g", "i.e", "u.s", "a.m", "p.m"}
)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")

_OPENING_QUOTE = re.compile(r'(^|[\s(\[{<])"|^\'\'|(?<=[\s(\[{<])``')
_FINAL_PERIOD = re.compile(r"(?<!\.)\.([\])}>\"'\u00bb\u201d\u2019 ]*)\s*$")
_ALONE = re.compile(r"\.{2,}|--|[;@#$%&?!\u00ab\u00bb\u201c\u201d\[\](){}<>]|[:,](?!\d)|[:,]$")
_APOSTROPHE = re.compile(r"(?<=[^'\s])'(?=\s|$)")
_CLITIC = re.compile(r"(?<=[^\s'])('s|'m|'d|'ll|'re|'ve|n't)(?=\s|$)")
_SPLIT_WORDS = {
    "cannot": ("can", "not"),
    "d'ye": ("d", "'ye"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "more'n": ("more", "'n"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
    "wanna": ("wan", "na"),
}


def words_of(caption: str) -> list[str]:
    """The tokens of a caption: words, punctuation and clitics, in lower case."""
    words: list[str] = []
    for sentence in _sentences(caption.lower()):
        for word in _cut(sentence):
            words.extend(_SPLIT_WORDS.get(word, (word,)))
    return words


def _sentences(text: str) -> list[str]:
    parts: list[str] = []
    for part in _SENTENCE_END.split(text.strip()):
        if parts and _is_abbreviation(parts[-1]):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return parts


def _is_abbreviation(sentence: str) -> bool:
    last = sentence.rsplit(maxsplit=1)[-1] if sentence.split() else ""
    if not last.endswith(".") or last.endswith(".."):
        return False
    word = last[:-1].lstrip("(\"'")
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())


def _cut(sentence: str) -> list[str]:
    text = _OPENING_QUOTE.sub(r"\1 `` ", sentence)
    text = _FINAL_PERIOD.sub(r" . \1", text)
    text = _ALONE.sub(r" \g<0> ", text)
    text = text.replace('"', " '' ")
    text = _CLITIC.sub(r" \1", _APOSTROPHE.sub(" '", text))
    return text.split()
