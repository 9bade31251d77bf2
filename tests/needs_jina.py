"""Tests of the extra jina run on Python 3.11, where a missing jina fails them; later ones skip them."""

from __future__ import annotations

import sys

import pytest

__all__ = ["needs_jina", "skip_module_without_jina"]

_MISSING = sys.version_info >= (3, 12)
_REASON = "jina has no packages for Python 3.12 and newer"

needs_jina = pytest.mark.skipif(_MISSING, reason=_REASON)


def skip_module_without_jina() -> None:
    """Skips the whole module that is being imported; call it before jina or docarray are."""
    if _MISSING:
        pytest.skip(_REASON, allow_module_level=True)
