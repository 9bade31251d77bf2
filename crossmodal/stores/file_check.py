"""Looks at ``data.mdb`` with plain reads before LMDB maps it.

A mapped file that is shorter than its own header says ends the process with SIGBUS at the first
touch of a missing page, which no exception handler can catch; so a truncated file is found here.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from crossmodal.errors import StoreFormat

__all__ = ["DATA_FILE", "check_data_file", "damage_advice", "is_blank", "structural_damage"]

DATA_FILE = "data.mdb"

# LMDB 0.9, data version 1, 64-bit (struct MDB_page's header, then MDB_meta, in mdb.c): page number u64,
# padding u16, flags u16, 4 more bytes; magic u32, version u32, address u64, map size u64, two MDB_db of 48
# bytes (of which the first u32 of the first is the page size), last page number u64, transaction number u64.
_META = struct.Struct("<QHH4xIIQQI44x48xQQ")
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_META_FLAG = 0x08
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))
_ROOT_ENTRIES_OFFSET = 16 + 24 + 48 + 32  # MDB_db.md_entries of the main database


def damage_advice(folder: Path) -> str:
    """The second sentence of every message about a damaged store in ``folder``."""
    return f"Delete {folder.parent} and index again, or restore it from a copy."


class _Meta:
    def __init__(self, page: bytes) -> None:
        (_, _, flags, magic, version, _, _, self.page_size, self.last_page, self.transaction) = (
            _META.unpack_from(page)
        )
        self.entries = int.from_bytes(page[_ROOT_ENTRIES_OFFSET : _ROOT_ENTRIES_OFFSET + 8], "little")
        self.valid = (
            flags & _META_FLAG != 0
            and magic == _MAGIC
            and version == _DATA_VERSION
            and self.page_size in _PAGE_SIZES
        )


def _newest_meta(data_file: Path) -> _Meta | None:
    with data_file.open("rb") as file:
        page = file.read(_META.size)
        if len(page) < _META.size:
            return None
        first = _Meta(page)
        if not first.valid:
            return None
        file.seek(first.page_size)
        page = file.read(_META.size)
        if len(page) < _META.size:
            return None
        second = _Meta(page)
        if not second.valid or second.page_size != first.page_size:
            return None
        return max(first, second, key=lambda meta: meta.transaction)


def is_blank(data_file: Path) -> bool:
    """Whether LMDB made this file but nothing was ever committed to it (its maker was killed)."""
    if data_file.stat().st_size == 0:
        return True
    meta = _newest_meta(data_file)
    return meta is not None and meta.entries == 0


def structural_damage(data_file: Path) -> list[str]:
    """Every broken page, one sentence each, found by walking the file with plain reads (py-lmdb's verifier).

    Only meaningful while nobody writes. Takes about a second for 100,000 documents.
    """
    from lmdb.verify import VerifyError, verify

    try:
        return [str(problem) for problem in verify(str(data_file))]
    except VerifyError as error:
        return [str(error)]


def check_data_file(data_file: Path) -> None:
    """Raise ``StoreFormat`` if ``data_file`` is not an LMDB file or is shorter than it says it is."""
    folder = data_file.parent
    meta = _newest_meta(data_file)
    if meta is None:
        # A writer may just have been replacing the header page that was read.
        time.sleep(0.02)
        meta = _newest_meta(data_file)
    size = data_file.stat().st_size
    if meta is None:
        raise StoreFormat(
            f"{data_file} ({size:,} bytes) is not a readable LMDB file: it is damaged, or something else. "
            f"{damage_advice(folder)}"
        )
    needed = (meta.last_page + 1) * meta.page_size
    # LMDB may leave free pages at the very end unwritten, so a short file is damaged only if a page in use
    # is missing. Writers here pad the file after each commit: the walk is for one killed just before that.
    if size < needed and (problems := structural_damage(data_file)):
        raise StoreFormat(
            f"{data_file} is truncated: it has {size:,} bytes of {needed:,} ({problems[0]}). "
            f"{damage_advice(folder)}"
        )
