"""YAML files, which every start reads some of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml"]

# With libyaml, which PyYAML's packages bring: a server's description takes 0.03 s and 0.19 s without.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """The values in a YAML file; raises OSError, ValueError (no UTF-8), and yaml.YAMLError (no YAML)."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
