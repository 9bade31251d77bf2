"""Virtual environments for other projects' packages, made once and kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.options import Options
from crossmodal.errors import ServiceError

__all__ = ["environment"]

_INSTALL_SECONDS = 600


def environment(name: str, requirements: Sequence[str], options: Options) -> Path:
    """The Python of an environment with ``requirements``, which is made if it isn't there.

    Raises ServiceError, with what pip said, where they can't be installed within ten minutes, and in a quick
    run where they aren't.
    """
    folder = options.workspace / "environments" / name
    python = folder / "bin" / "python"
    # Written last: an installation that was stopped begins anew.
    installed = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    if options.quick:
        raise ServiceError("it isn't installed yet, which a run without --quick does")
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    installed.write_text(wanted, encoding="utf-8")
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"pip found no versions that fit together in {_INSTALL_SECONDS} seconds") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr]
        raise ServiceError(errors[-1].strip())
