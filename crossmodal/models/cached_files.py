"""Files in the model cache, which several processes may write at once: each is replaced as a whole."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

__all__ = ["read_object", "replace_file"]


def replace_file(path: Path, *parts: bytes) -> None:
    """Make ``path`` hold ``parts``, one after the other; its folder is made if it isn't there.

    Others may read it as far as the umask lets them, since a cache can be shared. Raises OSError and leaves
    what was there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile's would be for this user alone.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; an empty one where it cannot be read or holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
