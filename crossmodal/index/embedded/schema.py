"""The tables of an index: one SQLite file, ``index.sqlite``, that any tool can open.

A document's ``row`` is its number: given once, ascending, and another one when the document changes, so that
a search index in memory follows the file by reading the rows above the last one it knows and the
``tombstones`` of those that went. ``vectors`` lie in a table for each modality, so that one is read without
the other. ``words`` stores no text: it indexes what ``words.searchable`` makes of a document, and finds rows;
``seen_words`` those of ``seen_texts``, which are never captions.
Originals and thumbnails stand as bytes in the columns ``content`` and ``thumbnail``, or as text that says
which object of an object store they are (``objects.Reference``).
Text columns may hold what is no UTF-8, such as names of files; see ``connections.storable``.
"""

from __future__ import annotations

from crossmodal.records import MODALITIES, Modality, checked_modality
from crossmodal.videos.formats import VIDEO_TYPES

__all__ = [
    "APPLICATION_ID",
    "BANKS",
    "COLOURS",
    "DOCUMENTS_FILE",
    "FORMAT",
    "HUBNESS",
    "INDEX_FILE",
    "IS_VIDEO",
    "LIBRARY",
    "LIBRARY_INDEXES",
    "PAGE_BYTES",
    "SCHEMA",
    "SEEN_TEXTS",
    "TOKENIZER",
    "UPGRADABLE",
    "WORDS",
    "vector_table",
]

# Grows whenever what lies on disk changes its meaning; each change ships its conversion.
FORMAT = 8

# Formats of earlier versions that are converted in place.
UPGRADABLE = (4, 5, 6, 7)

INDEX_FILE = "index.sqlite"

# Says which database has the documents of an index that has no such file.
DOCUMENTS_FILE = "documents"

# What `file` shows of the file: "crsm".
APPLICATION_ID = 0x6372736D

# The quickest of SQLite's sizes for photos of 50 KB and for reading all vectors (docs/performance.md).
PAGE_BYTES = 16_384


# Of a document, as ``videos.formats.is_video_type`` says it; false, not NULL, of what has no type.
IS_VIDEO = f"coalesce(mime_type, '') IN ({', '.join(repr(each) for each in sorted(VIDEO_TYPES))})"


def vector_table(modality: Modality) -> str:
    """The table with the vectors of one modality."""
    return f"{checked_modality(modality, 'What is asked for')}_vectors"


# Of each document, beside its vector; see ``hubness_rows``.
HUBNESS = "hubness REAL NOT NULL DEFAULT 0"

_VECTORS = "\n".join(
    f"CREATE TABLE {vector_table(modality)}"
    " (row INTEGER PRIMARY KEY, id TEXT NOT NULL, vector BLOB NOT NULL, checksum INTEGER NOT NULL,"
    f" {HUBNESS});"
    for modality in MODALITIES
)

# What the hubness is computed with: one row, or none.
BANKS = "CREATE TABLE IF NOT EXISTS banks (fingerprint TEXT PRIMARY KEY, content BLOB NOT NULL)"

# ``tokens`` has folded the words already; FTS5 stems them, and leaves vowel signs in them.
TOKENIZER = """tokenize = "porter unicode61 remove_diacritics 0 categories 'L* N* Co M*'\""""

# Captions, and whatever else is part of a photo, by that photo. What stands here, in ``LIBRARY``,
# ``SEEN_TEXTS``, ``COLOURS`` and ``BANKS`` may come to an index that has some of it already, when it is
# converted.
LIBRARY_INDEXES = """
CREATE INDEX IF NOT EXISTS parts_of_photos ON documents (photo_id) WHERE photo_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS photos_by_digest ON documents (digest) WHERE digest IS NOT NULL;
CREATE INDEX IF NOT EXISTS captions_by_origin ON documents (origin) WHERE origin IS NOT NULL;
""".strip()

# Where photos lie on this machine, and what the disk lost. ``uri`` of a photo with a file is NULL.
LIBRARY = """
CREATE TABLE IF NOT EXISTS roots (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);

CREATE TABLE IF NOT EXISTS files (
    root INTEGER NOT NULL,
    path TEXT NOT NULL,              -- below the root
    photo TEXT NOT NULL,             -- the id of the photo
    signature TEXT NOT NULL,         -- size, time and inode when it was read
    PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_photos ON files (photo);

CREATE TABLE IF NOT EXISTS trash (
    photo TEXT PRIMARY KEY,
    deleted REAL NOT NULL,           -- seconds since 1970
    file TEXT NOT NULL,              -- where it was
    digest TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trash_by_digest ON trash (digest);

CREATE TABLE IF NOT EXISTS trashed (
    photo TEXT NOT NULL,
    number INTEGER NOT NULL,         -- 0 is the photo, the others are its captions and moments
    record TEXT NOT NULL,            -- JSON
    vector BLOB, content BLOB, thumbnail BLOB,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (photo, number)
);
""".strip()

WORDS = f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', {TOKENIZER})"

# What was read in photos, also in those that are in the trash.
SEEN_TEXTS = f"""
CREATE TABLE IF NOT EXISTS seen_texts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    photo TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,            -- of what was read; a photo with another one is read again
    text TEXT NOT NULL               -- its lines; empty where there are none
);
CREATE VIRTUAL TABLE IF NOT EXISTS seen_words USING fts5 (text, content = '', {TOKENIZER})
""".strip()

# The average colours of thumbnails, 0xRRGGBB; a photo whose thumbnail cannot be decoded has none.
COLOURS = "CREATE TABLE IF NOT EXISTS colours (row INTEGER PRIMARY KEY, colour INTEGER NOT NULL)"

SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    sequence INTEGER NOT NULL,       -- the number of commits that changed something
    next_row INTEGER NOT NULL,
    tombstones_from INTEGER NOT NULL -- tombstones of this sequence and of those before are forgotten
);

CREATE TABLE counts (
    modality TEXT PRIMARY KEY,
    documents INTEGER NOT NULL,
    vectors INTEGER NOT NULL,
    bytes INTEGER NOT NULL,          -- of originals, thumbnails and vectors
    last_change REAL                 -- seconds since 1970
) WITHOUT ROWID;

CREATE TABLE documents (
    row INTEGER PRIMARY KEY,
    modality TEXT NOT NULL,
    id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    text TEXT,
    uri TEXT,
    mime_type TEXT,
    photo_id TEXT,                   -- of a caption: its photo; of a moment: its video
    tags TEXT NOT NULL,              -- JSON: what people gave
    metadata TEXT NOT NULL,          -- JSON: what was found in the file
    digest TEXT,                     -- of a photo: the SHA-256 of its file
    origin TEXT,                     -- of a caption: the file that gave it
    uploaded INTEGER NOT NULL,       -- whether it came without a file on this machine
    has_vector INTEGER NOT NULL,
    content_bytes INTEGER,           -- NULL: the original is not stored
    thumbnail_bytes INTEGER,
    checksum INTEGER NOT NULL,
    UNIQUE (modality, id)
);
{LIBRARY_INDEXES}
{LIBRARY}

{_VECTORS}
{BANKS};
CREATE TABLE contents (row INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE thumbnails (row INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL);
{COLOURS};

CREATE TABLE tags (
    modality TEXT NOT NULL,
    name TEXT NOT NULL,              -- the keys on the way to the value, joined by dots
    kind INTEGER NOT NULL,           -- see tags.Kind
    value NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (modality, name, kind, value, row)
) WITHOUT ROWID;

CREATE TABLE tombstones (
    sequence INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (sequence, row)
) WITHOUT ROWID;

{WORDS};
{SEEN_TEXTS};
"""
