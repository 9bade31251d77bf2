"""Libraries for LD_PRELOAD that stand between a program and its system, compiled for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

__all__ = ["compile_library"]


def compile_library(name: str, folder: Path) -> Path:
    """The library of ``tests/NAME.c``, in ``folder``; skips the test where there is no C compiler."""
    made = folder / f"{name}.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert "CI" not in os.environ, "these tests need a C compiler"
        pytest.skip("there is no C compiler")
    source = REPOSITORY / "tests" / f"{name}.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made
