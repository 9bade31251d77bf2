"""The command line of the installed package: ``python -m crossmodal COMMAND``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; Ctrl-C ends it with a word also while what it needs is being imported."""
    try:
        from crossmodal import cli

        return cli.main(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        # The interpreter ends next, and would look several times for garbage in all that was ever imported:
        # a third of a second of a search.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
