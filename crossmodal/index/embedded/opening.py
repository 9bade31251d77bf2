"""Where the documents of an index are: in the file of its folder, or in the database that this names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from crossmodal.errors import SettingsError, StoreError, StoreMissing, StoreUnwritable
from crossmodal.extras import extra_for
from crossmodal.index.embedded.connections import Connections, sync_folder
from crossmodal.index.embedded.dialect import Connected
from crossmodal.index.embedded.schema import DOCUMENTS_FILE, INDEX_FILE
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.private_files import make_private_folder, private_opener

__all__ = ["documents_address", "name_documents", "open_for_reading", "open_for_writing"]

_ADDRESS = re.compile(r"postgres(?:ql)?://(?:(?P<user>[^/@]*)@)?[^/@]*/[^/?]+(?:\?.*)?")


def documents_address(folder: Path) -> str | None:
    """The address of the database with the documents of the index in ``folder``; None for its own file.

    Raises StoreError where the folder's file ``documents`` cannot be read, or holds no address.
    """
    path = folder / DOCUMENTS_FILE
    try:
        address = path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not os.access(folder, os.X_OK):
            # Nothing in it can be opened, which whoever tries says.
            return None
        raise StoreError(f"{path} cannot be read ({error.strerror}). Give permission for it.") from error
    if _ADDRESS.fullmatch(address) is None:
        raise StoreError(f"{path} holds no address of a database. Delete it, and give --documents again.")
    return address


def name_documents(folder: Path, address: str) -> None:
    """Has the index in ``folder`` keep its documents at ``address``, as ``--documents``.

    Raises SettingsError for what is no address, or has a password in it, or where the folder has an index of
    its own or names another database; StoreUnwritable.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        # Without what was given, which may have a password in it.
        raise SettingsError("--documents must be postgresql://USER@HOST/DATABASE, and is something else.")
    if ":" in unquote(found["user"] or "") or "password" in unquote(address):
        raise SettingsError(
            "--documents has a password in it, where others can see it. Set $PGPASSWORD, or write it into "
            "~/.pgpass."
        )
    if (known := documents_address(folder)) == address:
        return
    if known is not None:
        raise SettingsError(
            f"The index in {folder} has its documents at {known}, not at {address}. Choose another "
            f"--workspace, or if that was never right, delete {folder / DOCUMENTS_FILE}."
        )
    if (folder / INDEX_FILE).exists():
        raise SettingsError(
            f"The index in {folder} has its documents in {INDEX_FILE}. Choose another --workspace, and take "
            "them there with: crossmodal dump, and crossmodal load"
        )
    try:
        make_private_folder(folder)
        written = folder / f"{DOCUMENTS_FILE}.{os.getpid()}"
        with open(written, "w", encoding="utf-8", opener=private_opener) as file:
            file.write(f"{address}\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(folder / DOCUMENTS_FILE)
        sync_folder(folder)
    except OSError as error:
        raise StoreUnwritable(f"{folder / DOCUMENTS_FILE} cannot be written ({error.strerror}).") from error


def open_for_reading(folder: Path) -> Connected:
    """Raises ``StoreMissing`` where there is no index."""
    if (address := documents_address(folder)) is None:
        return Connections.open(folder)
    connections = _postgres(folder, address)
    if not connections.initialised:
        connections.close()
        raise StoreMissing("There is no index in that database yet. Make one with: crossmodal index")
    return connections


def open_for_writing(folder: Path) -> tuple[Connected, WriterLock | None]:
    """A database has a lock for each transaction, a file one for the process that writes it."""
    if (address := documents_address(folder)) is not None:
        return _postgres(folder, address), None
    lock = WriterLock(folder)
    try:
        return Connections.open_writer(folder), lock
    except BaseException:
        lock.release()
        raise


def _postgres(folder: Path, address: str) -> Connected:
    with extra_for("--documents"):
        from crossmodal.index.embedded.postgres import PostgresConnections
    return PostgresConnections(folder, address)
