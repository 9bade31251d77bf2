"""YAML files, which every start reads some of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml", "yaml_text"]

# With libyaml, which PyYAML's packages bring: a server's description takes 0.03 s and 0.19 s without.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """The values in a YAML file; raises OSError, ValueError (no UTF-8), and yaml.YAMLError (no YAML)."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)


class _WithoutAliases(yaml.SafeDumper):
    """Writes each value where it stands, as people do."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_text(*documents: Any, width: int = 120) -> str:
    """The documents of one YAML file, keys in their order."""
    text: str = yaml.dump_all(documents, Dumper=_WithoutAliases, sort_keys=False, width=width)
    return text
