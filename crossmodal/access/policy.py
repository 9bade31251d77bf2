"""What a caller may do, with a key or without: the one check of every protocol."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crossmodal.access.keys import Key, KeyFile, allows, checked_secret, digest_of, write_private
from crossmodal.errors import RequestError, StoreUnwritable
from crossmodal.hosts import is_loopback
from crossmodal.settings import Scope, Settings

__all__ = ["Access", "Caller", "IndexState", "is_reachable", "mark_public", "marked_public", "require"]

# The id of an index and the number of commits that changed it; None where there is no index.
IndexState = tuple[str, int]

_PUBLIC_FILE = "public.json"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of the key (None without one), what it may do, and the key's SHA-256."""

    name: str | None
    scope: Scope
    sha256: str | None = None


class Access:
    """Who may do what on one server, which holds for HTTP and gRPC alike.

    Keys are those of the workspace's file, read again where it has changed, and the one of ``settings.key``
    (CROSSMODAL_KEY), which may do everything. Once there is one, nobody gets in without. Where there is none,
    a server that only this machine reaches is open, and so is one that was started with --insecure-no-auth;
    an index that was marked as public can be read. ``index_state`` says what the index is now. Raises
    SettingsError for a key of the environment that cannot be used.
    """

    def __init__(
        self, settings: Settings, index_state: Callable[[], IndexState | None] = lambda: None
    ) -> None:
        self._settings = settings
        # Asked for each request.
        self.is_reachable = is_reachable(settings)
        self._file = KeyFile(settings.workspace)
        self._index_state = index_state
        self._own: Key | None = None
        if settings.key:
            secret = checked_secret(settings.key, "The variable CROSSMODAL_KEY")
            self._own = Key("CROSSMODAL_KEY", "admin", "", digest_of(secret))
        # Whoever removes the file of a running server does not open it.
        self._had_keys = False

    @property
    def has_keys(self) -> bool:
        """Whether there is a key, or was one while this server runs; raises StoreError as ``KeyFile``."""
        if not self._had_keys:
            self._had_keys = self._own is not None or self._file.keys() is not None
        return self._had_keys

    def without_key(self) -> Scope | None:
        """What everybody may do; None where nobody gets in without a key."""
        if self.has_keys:
            return None
        if self._settings.insecure_no_auth or not self.is_reachable:
            return "admin"
        return "read" if self._is_public() else None

    def identify(self, secret: str | None) -> Caller:
        """Who has the key ``secret``, or asks without one (None).

        Raises RequestError, 401, where a key is needed, for one that is none and without one.
        """
        if (scope := self.without_key()) is not None:
            # No key is known here, so one that a client brings all the same says nothing.
            return Caller(None, scope)
        if secret is None:
            raise RequestError(
                "This server needs a key: send it as Authorization: Bearer KEY. `crossmodal keys add "
                "NAME` makes one.",
                status=401,
            )
        key = self._find(secret)
        if key is None:
            raise RequestError(
                "The key is not known here; it was mistyped, or revoked. `crossmodal keys list` names "
                "those that there are.",
                status=401,
            )
        return Caller(key.name, key.scope, key.sha256)

    def check(self, secret: str | None, scope: Scope) -> Caller:
        """Who has the key ``secret`` and may do what needs ``scope``; raises RequestError, 401 or 403."""
        caller = self.identify(secret)
        require(caller, scope)
        return caller

    def by_digest(self, sha256: str) -> Caller | None:
        """Who logged in with the key of that SHA-256; None where it was revoked since."""
        keys = [*(self._file.keys() or ()), *((self._own,) if self._own else ())]
        key = next((key for key in keys if hmac.compare_digest(key.sha256, sha256)), None)
        return None if key is None else Caller(key.name, key.scope, key.sha256)

    def _find(self, secret: str) -> Key | None:
        found = self._file.find(secret)
        if self._own is not None and hmac.compare_digest(self._own.sha256, digest_of(secret)):
            return self._own
        return found

    def _is_public(self) -> bool:
        marked = marked_public(self._settings.workspace)
        return marked is not None and marked == self._index_state()


def require(caller: Caller, scope: Scope) -> None:
    """Raises RequestError, 403, where ``caller`` may not do what needs ``scope``."""
    if allows(caller.scope, scope):
        return
    who = "Without a key everybody" if caller.name is None else f"The key {caller.name!r}"
    raise RequestError(
        f"{who} may only {caller.scope} here, and this needs the scope {scope}; make a key for it with: "
        f"crossmodal keys add NAME --scope {scope}",
        status=403,
    )


def is_reachable(settings: Settings) -> bool:
    """Whether other machines reach the server: by its address, or through a proxy that it was told of."""
    return not is_loopback(settings.host) or bool(settings.trusted_proxy)


def mark_public(workspace: Path, state: IndexState) -> None:
    """Lets everybody read the index of ``workspace`` without a key as long as it stays as ``state`` says.

    Raises StoreUnwritable where the mark cannot be written.
    """
    content = json.dumps({"index": state[0], "sequence": state[1]}) + "\n"
    path = Path(workspace) / _PUBLIC_FILE
    try:
        write_private(path, content)
    except OSError as error:
        raise StoreUnwritable(
            f"The mark {path} cannot be written ({error.strerror or error}); give write permission for "
            "the folder."
        ) from None


def marked_public(workspace: Path) -> IndexState | None:
    """The state of the index in ``workspace`` when it was marked as public; None where it was not."""
    try:
        marked = json.loads((Path(workspace) / _PUBLIC_FILE).read_bytes())
        return str(marked["index"]), int(marked["sequence"])
    except (OSError, ValueError, TypeError, KeyError):
        # What cannot be read opens nothing.
        return None
