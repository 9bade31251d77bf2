"""IPTC-IIM, the oldest of the formats for words about photos (IIM 4.2, iptc.org)."""

from __future__ import annotations

from crossmodal.metadata.dates import from_iptc
from crossmodal.metadata.found import MAX_LISTED, Found, text_of, texts_of

__all__ = ["read_iptc"]

_TITLE, _KEYWORD, _DATE, _TIME, _CITY, _REGION, _COUNTRY, _HEADLINE, _CAPTION = (
    5,
    25,
    55,
    60,
    90,
    95,
    101,
    105,
    120,
)
_READ = frozenset({_TITLE, _KEYWORD, _DATE, _TIME, _CITY, _REGION, _COUNTRY, _HEADLINE, _CAPTION})
_UTF8 = b"\x1b%G"


def read_iptc(block: bytes) -> Found:
    """What the data sets of a block say; those behind one that is cut off are left out."""
    values: dict[int, list[bytes]] = {}
    utf8 = False
    at = 0
    while block[at : at + 1] == b"\x1c" and at + 5 <= len(block):
        record, number = block[at + 1], block[at + 2]
        length = int.from_bytes(block[at + 3 : at + 5])
        if length & 0x8000:
            # Extended: the length of a value that is too long for anything read here.
            break
        value = block[at + 5 : at + 5 + length]
        at += 5 + length
        if (record, number) == (1, 90):
            utf8 = value == _UTF8
        elif record == 2 and number in _READ and len(listed := values.setdefault(number, [])) < MAX_LISTED:
            listed.append(value)

    def texts(number: int) -> list[str]:
        return texts_of(_decoded(value, utf8) for value in values.get(number, ()))

    def first(number: int) -> str:
        return next(iter(texts(number)), "")

    found = Found()
    found.say("taken", from_iptc(first(_DATE), first(_TIME)))
    found.say("title", text_of(first(_TITLE)))
    found.say("title", text_of(first(_HEADLINE)))
    found.say("description", text_of(first(_CAPTION)))
    found.say("keywords", texts(_KEYWORD))
    found.say("city", text_of(first(_CITY)))
    found.say("region", text_of(first(_REGION)))
    found.say("country", text_of(first(_COUNTRY)))
    return found


def _decoded(value: bytes, utf8: bool) -> str:
    """Text of a data set: many programs write UTF-8 without saying so."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("utf-8" if utf8 else "cp1252", "replace")
