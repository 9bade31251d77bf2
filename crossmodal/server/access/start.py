"""What is looked at before a server starts: who will get in, and whether what the options name is there."""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import replace

from crossmodal.access.keys import KeyFile, new_secret
from crossmodal.access.policy import Access, is_reachable, marked_public
from crossmodal.errors import SettingsError, StoreUnwritable
from crossmodal.settings import Settings

__all__ = ["checked_access"]

# The name of the key that --make-key makes.
_FIRST_KEY = "first"


def checked_access(settings: Settings) -> Settings:
    """The settings to serve with; makes and prints a key where --make-key asks for one and none exists.

    Raises SettingsError where other machines would reach the server and nobody has a key, unless that was
    asked for, and for a certificate or a key that cannot be used.
    """
    _check_certificate(settings)
    access = Access(settings)
    if access.has_keys or settings.insecure_no_auth or not is_reachable(settings) or _is_public(settings):
        return settings
    if settings.make_key:
        return _with_new_key(settings)
    where = (
        f"listens on {settings.host}, where other machines reach it"
        if not settings.trusted_proxy
        else "is behind a proxy, through which other machines reach it"
    )
    raise SettingsError(
        f"The server {where}, and there is no key. Make one with `crossmodal keys add NAME --workspace "
        f"{settings.workspace}`, or give one with the variable CROSSMODAL_KEY; --insecure-no-auth lets "
        "everybody in without."
    )


def _with_new_key(settings: Settings) -> Settings:
    try:
        secret = KeyFile(settings.workspace).add(_FIRST_KEY, "admin")
        lasts = "It is shown only now; `crossmodal keys` lists and revokes keys and makes others."
    except StoreUnwritable:
        secret = new_secret()
        settings = replace(settings, key=secret)
        lasts = (
            f"As {settings.workspace} cannot be written, it holds until the server ends; the variable "
            "CROSSMODAL_KEY gives one that stays."
        )
    print(f"This server needs a key, and there was none. This is one: {secret}", file=sys.stderr)
    print(lasts, file=sys.stderr, flush=True)
    return settings


def _is_public(settings: Settings) -> bool:
    """Whether everybody may read the index as it is.

    Asked in a process of its own: what reads an index would stay in the memory of this one, which only
    watches the others.
    """
    if marked_public(settings.workspace) is None:
        return False
    pid = os.fork()
    if pid == 0:
        public = False
        try:
            from crossmodal.workspace import Workspace

            with Workspace(settings.workspace) as workspace:
                access = Access(settings, workspace.state)
                public = access.without_key() is not None
        finally:
            os._exit(0 if public else 1)
    return os.waitpid(pid, 0)[1] == 0


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_cert, settings.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The certificate {settings.tls_cert} and its key {settings.tls_key} cannot be used "
            f"({error.strerror or error}); --tls-cert and --tls-key take PEM files that belong together."
        ) from None
