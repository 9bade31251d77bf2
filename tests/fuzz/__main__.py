"""``python -m tests.fuzz TARGET --seconds N``: fuzzes one target with atheris; 1 where an input was found.

Such an input is written to ``workspace/fuzz``; put into the corpus, the tests replay it ever after.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crossmodal", "python_multipart"]):
    from .targets import TARGETS

from .corpus import CORPUS

_FOUND = Path("workspace") / "fuzz"

# An input that takes longer is a finding, and so is one that makes the process this large.
_SLOW_SECONDS = 10
_LARGE_MEGABYTES = 2048


def main() -> None:
    """Fuzzes until the time is over or something is found; atheris ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    asked = parser.parse_args()
    _FOUND.mkdir(parents=True, exist_ok=True)
    # What is new goes into a folder of its own; the corpus in the repository stays small.
    new = tempfile.mkdtemp(prefix=f"fuzz-{asked.target}-")
    atheris.Setup(
        [
            sys.argv[0],
            new,
            str(CORPUS / asked.target),
            f"-max_total_time={asked.seconds}",
            f"-timeout={_SLOW_SECONDS}",
            f"-rss_limit_mb={_LARGE_MEGABYTES}",
            "-max_len=4096",
            f"-artifact_prefix={_FOUND}/{asked.target}-",
            "-print_final_stats=1",
        ],
        TARGETS[asked.target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
