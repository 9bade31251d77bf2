"""Keys of callers: made once, shown once, and stored as hashes in the workspace."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path

from crossmodal.errors import SettingsError, StoreError, StoreUnwritable
from crossmodal.private_files import make_private_folder
from crossmodal.settings import SCOPES, Scope

__all__ = [
    "KEYS_FILE",
    "Key",
    "KeyFile",
    "allows",
    "checked_secret",
    "digest_of",
    "new_secret",
    "write_private",
]

KEYS_FILE = "keys.json"

_FORMAT = 1

# Known by their beginning, to people, to scanners for leaked secrets and to the log, which leaves them out.
_BEGINNING = "crossmodal_"
_RANDOM_BYTES = 32

# A key from the environment is whatever somebody chose.
_LEAST_CHARACTERS = 16
_MOST_CHARACTERS = 256

_MAX_NAME_CHARACTERS = 80


def allows(held: Scope, wanted: Scope) -> bool:
    """Whether a key of the scope ``held`` may do what needs ``wanted``."""
    return SCOPES.index(held) >= SCOPES.index(wanted)


def new_secret() -> str:
    """A key that nobody has yet: 256 random bits, in letters that can stand in a header and an address."""
    return _BEGINNING + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(secret: str) -> str:
    """SHA-256 of a key in hexadecimal digits, as the file holds it.

    A slow, salted hash protects passwords, which can be guessed. Nobody guesses 256 random bits, however fast
    the hash is, and a slow one would let anybody keep the server busy with wrong keys.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def checked_secret(secret: str, origin: str) -> str:
    """``secret`` where it can be sent in a header and not be guessed quickly.

    Raises SettingsError, which names ``origin`` and never the key.
    """
    if not _LEAST_CHARACTERS <= len(secret) <= _MOST_CHARACTERS or not all("!" <= c <= "~" for c in secret):
        raise SettingsError(
            f"{origin} has to hold a key of {_LEAST_CHARACTERS} to {_MOST_CHARACTERS} printable ASCII "
            f"characters without spaces; what it holds has {len(secret)}. `crossmodal keys add NAME` makes "
            "one."
        )
    return secret


def write_private(path: Path, content: str) -> None:
    """Replaces the file at ``path`` as a whole by one that only its owner can read; raises OSError."""
    # mkstemp gives the mode 0600 from the first moment on.
    file, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(file, "w", encoding="utf-8") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is stored: everything but the key. ``created`` is ISO 8601, UTC."""

    name: str
    scope: Scope
    created: str
    sha256: str


class KeyFile:
    """The keys of the workspace folder ``workspace``, in a file that only its owner can read (mode 0600).

    Each call sees what other processes have changed. Where the file exists, keys are needed, also where none
    is left in it. Raises StoreError where the file cannot be read, so that nobody gets in by damaging it.
    """

    def __init__(self, workspace: Path) -> None:
        self.path = Path(workspace) / KEYS_FILE
        self._read: tuple[tuple[int, int, int], tuple[Key, ...]] | None = None

    def keys(self) -> tuple[Key, ...] | None:
        """All keys in the order in which they were made; None where there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        # It is replaced as a whole, so another content is another inode.
        version = found.st_ino, found.st_mtime_ns, found.st_size
        if self._read is None or self._read[0] != version:
            self._read = version, self._parsed()
        return self._read[1]

    def find(self, secret: str) -> Key | None:
        """The key that ``secret`` is, compared in a time that says nothing about the others; None if none."""
        digest = digest_of(secret)
        found: Key | None = None
        # To the end, so that neither the number nor the place of what fits shows in the time.
        for key in self.keys() or ():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def add(self, name: str, scope: Scope) -> str:
        """Makes a key and returns it, the only time that it can be read.

        Raises SettingsError for a name that is taken or cannot be used, StoreUnwritable where the file cannot
        be written.
        """
        if not name.strip() or len(name) > _MAX_NAME_CHARACTERS or not name.isprintable():
            raise SettingsError(
                f"{name[:_MAX_NAME_CHARACTERS]!r} is no name for a key: it takes 1 to {_MAX_NAME_CHARACTERS} "
                "printable characters."
            )
        secret = new_secret()
        created = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise SettingsError(
                    f"There is a key {name!r} already; choose another name, or revoke that one with: "
                    f"crossmodal keys revoke {name}"
                )
            self._write([*keys, Key(name, scope, created, digest_of(secret))])
        return secret

    def revoke(self, name: str) -> None:
        """Ends the key of that name at once; raises SettingsError where there is none."""
        with self._changing() as keys:
            if all(key.name != name for key in keys):
                names = ", ".join(repr(key.name) for key in keys) or "none"
                raise SettingsError(f"There is no key {name[:_MAX_NAME_CHARACTERS]!r}; there are: {names}.")
            self._write([key for key in keys if key.name != name])

    @contextmanager
    def _changing(self) -> Iterator[tuple[Key, ...]]:
        """The keys, while no other process changes them."""
        try:
            make_private_folder(self.path.parent)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            try:
                flock(folder, LOCK_EX)
            except OSError as error:
                raise self._unwritable(error) from None
            yield self.keys() or ()
        finally:
            os.close(folder)

    def _parsed(self) -> tuple[Key, ...]:
        try:
            content = json.loads(self.path.read_bytes())
            if content["format"] != _FORMAT:
                raise self._unreadable(f"its format is {content['format']!r}, not {_FORMAT}")
            keys = tuple(Key(**key) for key in content["keys"])
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        except (ValueError, TypeError, KeyError):
            raise self._unreadable("it is not what `crossmodal keys` writes") from None
        if any(key.scope not in SCOPES or not isinstance(key.sha256, str) for key in keys):
            raise self._unreadable("it is not what `crossmodal keys` writes")
        return keys

    def _write(self, keys: Sequence[Key]) -> None:
        content = json.dumps({"format": _FORMAT, "keys": [asdict(key) for key in keys]}, indent=1) + "\n"
        try:
            write_private(self.path, content)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unreadable(self, reason: str) -> StoreError:
        return StoreError(
            f"The keys in {self.path} cannot be read ({reason}), so nobody is let in. Give the server "
            "permission for the file, or remove it and make new keys with: crossmodal keys add NAME"
        )

    def _unwritable(self, error: OSError) -> StoreUnwritable:
        return StoreUnwritable(
            f"The keys cannot be written to {self.path} ({error.strerror or error}); free some space or give "
            "write permission for the folder, or give one key with the variable CROSSMODAL_KEY."
        )
