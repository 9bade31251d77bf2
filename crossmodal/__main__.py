"""The command line of the installed package: ``python -m crossmodal COMMAND``."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> int:
    """Runs the command line; Ctrl-C ends it with a word also while what it needs is being imported."""
    try:
        from crossmodal.cli import main

        return main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
