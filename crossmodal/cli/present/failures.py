"""The records that an evaluation could not use."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

__all__ = ["print_failures"]

_SHOWN = 20


def print_failures(failures: Sequence[Mapping[str, str]]) -> None:
    """Print ``source`` and ``reason`` of the first 20 on stderr, and how many more there are."""
    for failure in failures[:_SHOWN]:
        print(f"failed: {failure['source']}: {failure['reason']}", file=sys.stderr)
    if len(failures) > _SHOWN:
        print(f"and {len(failures) - _SHOWN} more; --json tells all of them", file=sys.stderr)
