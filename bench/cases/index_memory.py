"""``index-memory``: the peak of all processes of ``-t index``, for a data set and a larger one."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from bench import inputs, processes
from bench.harness import Rounds, in_turns
from bench.options import Options
from bench.results import Result, at_most, compared

__all__ = ["run"]

_GROWTH = 1.10


def run(options: Options) -> list[Result]:
    """The peak for 7,000 photos against that for 1,000, of anonymous memory: mapped files can be dropped.

    The two runs of a round go at once: memory, unlike time, doesn't suffer from that.
    """
    few, many = (20, 60) if options.quick else (1_000, 7_000)
    photos = inputs.small_photos(options)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        sets = [inputs.photo_set(folder / f"{items}", photos, items) for items in (few, many)]
        numbers = count()
        smaller: list[float] = []

        def peak(data: Path) -> int:
            workspace = folder / f"workspace-{next(numbers)}"
            try:
                return processes.run_peak(["-t", "index", "-d", data, "--workspace", workspace, "--json"])
            finally:
                shutil.rmtree(workspace, ignore_errors=True)

        def both() -> float:
            small, large = pool.map(peak, sets)
            smaller.append(float(small))
            return float(large)

        larger = in_turns({"larger": both}, warm_up=0, until=options.until())["larger"]
    return [
        compared(
            f"index-memory, {many:,} photos",
            "MB",
            larger.times(1e-6),
            f"{few:,} photos",
            Rounds(tuple(smaller)).times(1e-6),
            goal=at_most(_GROWTH, judged=not options.quick),
            note="too few to see growth" if options.quick else "",
        )
    ]
