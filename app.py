"""The command line in a checkout: ``python app.py -t TASK``, or ``python app.py COMMAND``; see ``--help``."""

from __future__ import annotations

import sys

from crossmodal.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
