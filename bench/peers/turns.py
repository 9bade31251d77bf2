"""How a peer is told what to encode, in turns with others: a line of JSON in, the seconds out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MARK", "answer"]

# Before what is meant for the benchmark: a library may print as well.
MARK = "measured:"


def answer(encoders: Mapping[str, Callable[[list[str]], Any]]) -> None:
    """Encodes what each line names, ``{"photos": [paths]}`` or ``{"texts": [sentences]}``, to the last line.

    Begins with a line that says it is ready, 0 seconds.
    """
    print(MARK, 0.0, flush=True)
    for line in sys.stdin:
        ((kind, items),) = json.loads(line).items()
        started = time.perf_counter()
        encoders[kind](items)
        print(MARK, time.perf_counter() - started, flush=True)
