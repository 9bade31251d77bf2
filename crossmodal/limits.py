"""The one table of limits: how much of each thing one request, document or line may bring.

The same limit holds over HTTP, gRPC, from Python and for files that are indexed, wherever the thing can come
that way. Checks, their messages and docs/limits.md are made from ``LIMITS``; ``python -m crossmodal.limits``
writes the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["LIMITS", "Limit", "limits_page", "photo_limit", "quoted"]

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30

# A value that is quoted in a message is cut to so many characters.
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Limit:
    """The ``most`` that there may be of ``what``, counted in ``unit``; ``advice`` says what to do beyond it.

    ``where`` names the protocols it holds for, where that is not all of them, and ``note`` the reason for the
    number.
    """

    what: str
    most: int
    unit: str
    advice: str
    note: str = ""
    where: str = "everywhere"

    def exceeded(self, what: str, found: int, *, verb: str = "has") -> str:
        """The sentences that refuse ``what``, which has ``found`` of the unit."""
        return f"{what} {verb} {self.said(found, found)}; the limit is {self.said(self.most)}. {self.advice}"

    def said(self, number: int, found: int = 0) -> str:
        """``number`` with its unit, in MiB or KiB where bytes are many."""
        if self.unit != "bytes":
            return f"{number:,} {self.unit}" if found else f"{number:,}"
        if self.most >= _MIB:
            return f"{number / _MIB:,.1f} MiB" if found else f"{number // _MIB} MiB"
        if self.most >= _KIB:
            return f"{number / _KIB:,.1f} KiB" if found else f"{number // _KIB} KiB"
        return f"{number:,} bytes" if found else f"{number:,}"


# Documents and queries

SENTENCE = Limit(
    "a sentence asked, a caption, an expression",
    2000,
    "characters",
    "Shorten it.",
    "encoders read about the first 50 words",
)
ID = Limit(
    "an id that is given to a document",
    256,
    "bytes",
    "Shorten it.",
    "a caption's own id may be longer by a dash and its number",
)
STORED_ID = Limit("an id that is asked for", 511, "bytes", "Shorten it.", "the longest that an index holds")
URI = Limit(
    "the path or address of a photo", 4096, "bytes", "Shorten it.", "the longest path that Linux opens"
)
MIME_TYPE = Limit("a media type", 255, "bytes", "Send the type alone, such as image/jpeg.", "RFC 6838")
TAGS = Limit(
    "the tags of a document, as JSON",
    64 * _KIB,
    "bytes",
    "Keep long texts elsewhere and tag the document with their name.",
    "each match of a search carries its tags",
)
TAG_KEYS = Limit(
    "the names in the tags of a document, those inside others included",
    1024,
    "names",
    "Leave some of them out.",
    "each is a row of the index",
)
TAG_KEY = Limit("the name of a tag", 512, "bytes", "Shorten it.")
DEPTH = Limit("objects and lists inside each other", 16, "levels", "Write the tags flatter.")
CAPTIONS = Limit("the captions of a photo in one document", 1000, "captions", "Send the rest by themselves.")
PHOTO = Limit(
    "the file of a photo",
    64 * _MIB,
    "bytes",
    "Send a smaller copy, or allow more with --max-photo-bytes.",
    "--max-photo-bytes sets another one, but for bodies and lines; width, height and pixels have limits of "
    "their own",
)
LARGEST_PHOTO = Limit(
    "the file of a photo, whatever --max-photo-bytes says",
    512 * _MIB,
    "bytes",
    "Send a smaller copy.",
    "a photo is held in memory as a whole",
)
VIDEO = Limit(
    "the file of a video",
    16 * _GIB,
    "bytes",
    "Allow more with --max-video-bytes, or cut it into parts.",
    "--max-video-bytes sets another one; it is read in parts",
    where="files",
)
MOMENTS = Limit(
    "the moments of a video, as --moments sets them",
    200,
    "moments",
    "Cut the video into parts.",
    "as many as one page of the list of documents, so that the page shows all of them",
    where="files",
)
TOP_K = Limit("the matches of one query", 1000, "matches", "Ask for fewer.", "offset and top_k together")
HYBRID_DEPTH = Limit(
    "the matches of one query that searches words too",
    200,
    "matches",
    "Ask for fewer.",
    "offset and top_k together",
)
TERMS = Limit("the terms of a query", 16, "terms", "Ask several queries.", "each is encoded by itself")
WEIGHT = Limit("the weight of a term, without its sign", 10, "", "Make it smaller.")
NAMED = Limit("the ids in like, unlike or exclude", 64, "ids", "Name fewer.", where="HTTP")
DIMENSION = Limit("a vector", 65_536, "numbers", "Send the vector of the index's model.")
FILTER_LEVELS = Limit("conditions inside each other", 16, "levels", "Join conditions in one $and or $or.")
FILTER_CONDITIONS = Limit("the conditions of a filter", 256, "conditions", "Use $in for several values.")
FILTER_VALUES = Limit("the values of one list in a filter", 1000, "values", "Split them with $or.")
FILTER_VALUES_TOGETHER = Limit(
    "the values of all lists in a filter",
    10_000,
    "values",
    "Give the documents a tag that says what they have in common, and ask for that.",
)

# Requests and answers

BODY = Limit(
    "the body of a request that is read as a whole",
    88 * _MIB,
    "bytes",
    "Send fewer or smaller photos.",
    "64 MiB as base64, whatever --max-photo-bytes says; bodies with documents have no limit of their own, as "
    "they are read a document at a time",
    "HTTP, gRPC",
)
COMMAS = Limit(
    "the commas of a JSON body or line",
    500_000,
    "commas",
    "Send several smaller requests.",
    "reading so many takes half a second",
    "HTTP",
)
LINE = Limit(
    "one line of JSON lines",
    PHOTO.most * 3 // 2,
    "bytes",
    "Send a smaller copy of the photo, or send it in a form.",
    "64 MiB as base64, captions and tags, whatever --max-photo-bytes says",
    "HTTP",
)
QUERIES = Limit("one search request", 64, "queries", "Send several requests.", where="HTTP")
EMBEDDED = Limit(
    "one request for embeddings",
    2048,
    "sentences and photos",
    "Send several requests.",
    "as many as OpenAI's clients send",
    "HTTP",
)
MESSAGES = Limit(
    "one request of jina's clients",
    1024,
    "documents",
    "Choose a smaller request_size.",
    "jina's clients send 100 at a time unless told otherwise",
    "gRPC",
)
DOCUMENTS = Limit(
    "one request to /v1/documents", 10_000, "documents", "Send the rest in another one.", where="HTTP"
)
LEGACY_DOCUMENTS = Limit(
    "one request to /index, /update or /delete", 1000, "documents", "Send several requests.", where="HTTP"
)
DELETED = Limit(
    "one deletion by ids", 10_000, "documents", "Delete the rest in another request.", where="HTTP"
)
ARCHIVE = Limit("one archive of photos", 10_000, "photos", "Ask for the rest in another one.", where="HTTP")
LISTED = Limit("one page of the list of documents", 200, "documents", "Ask for the next page.", where="HTTP")
FACET = Limit("the values of one tag that are counted", 10_000, "values", "Ask with a filter.", where="HTTP")
SUGGESTIONS = Limit("what is suggested for the beginning of a word", 50, "values", "Type on.", where="HTTP")
PLACED = Limit("the photos of a map", 100_000, "photos", "Ask for fewer.", where="HTTP")
FORM_PARTS = Limit("a form that is searched for", 256, "parts", "Send several requests.", where="HTTP")
FORM_TEXT = Limit("a text part of a form", 8 * _MIB, "bytes", "Send less at once.", where="HTTP")
FILE_NAME = Limit(
    "the name of an uploaded file", 1024, "characters", "Rename it.", "the rest is cut off", "HTTP"
)
REQUEST_ID = Limit(
    "the id of a jina request", 128, "characters", "Shorten it.", "a longer one is replaced", "HTTP"
)
MCP_MESSAGE = Limit("a message of an agent", 4 * _MIB, "bytes", "Send less at once.", where="MCP")
BODIES_TOGETHER = Limit(
    "the bodies of all requests that a serving process reads at the same time",
    256 * _MIB,
    "bytes",
    "Try again in a moment.",
    where="HTTP",
)
ANSWER = Limit(
    "the texts, captions and tags of one query's matches",
    4 * _MIB,
    "bytes",
    "Ask for fewer with top_k and for the rest with offset, or leave tags and captions out with 'return'.",
    "the answer says 'truncated' where matches were left out for it; one match always comes. Over gRPC a "
    "match without its tags says '$left_out'",
)
ANSWER_TOGETHER = Limit(
    "those of all queries of one request",
    8 * _MIB,
    "bytes",
    "Ask fewer queries in one request.",
    "as above; also the documents of one page of the list",
    "HTTP",
)

# Files that are indexed

CSV_LINE = Limit("a line of CSV", 1 << 20, "characters", "Shorten it.", where="files")
CSV_ROW = Limit("a row of CSV", 100, "lines", "Close its quotation marks.", where="files")
JSON_VALUE = Limit("one value of a JSON file", 64 << 20, "characters", "Split it.", where="files")

LIMITS: tuple[Limit, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Limit))


def photo_limit(most: int) -> Limit:
    """The limit on the bytes of a photo's file where ``--max-photo-bytes`` says ``most``."""
    return replace(PHOTO, most=most)


def quoted(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """``text`` in quotation marks as a message may hold it: on one line, printable, and short."""
    # Cut before quoting: the text may have millions of characters.
    whole = repr(text[:characters])
    return whole if len(text) <= characters else whole[:-1] + "..." + whole[-1]


_PAGE = Path(__file__).parents[1] / "docs" / "limits.md"


def limits_page() -> str:
    """docs/limits.md."""
    lines = [
        "# Limits",
        "",
        "How much of each thing one request, document or line may bring. What has more is refused with a "
        "sentence that",
        "names the value and the limit; of many documents only the one in question. Made by "
        "`python -m crossmodal.limits`.",
        "",
        "| of | at most | where | beyond it | why |",
        "|---|---|---|---|---|",
    ]
    for limit in LIMITS:
        most = limit.said(limit.most)
        unit = "" if limit.unit == "bytes" and limit.most >= _KIB else f" {limit.unit}"
        lines.append(
            f"| {limit.what} | {most}{unit.rstrip()} | {limit.where} | {limit.advice} | {limit.note} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    _PAGE.write_text(limits_page(), encoding="utf-8")
