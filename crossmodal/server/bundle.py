"""The modules of the page as one script.

Over HTTP/1.1 a browser has six connections, and thirty files take five round trips on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["bundled"]

_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def bundled(modules: Mapping[str, str], entry: str) -> str:
    """The module named ``entry`` and all that it imports, each in a function, in the order in which they run.

    ``modules`` has their texts by name. They import names as they are, from files beside them, and export
    functions, classes and constants where they define them; no two export the same name. Raises ValueError
    where one of them does anything else.
    """
    order: list[str] = []
    seen: set[str] = set()
    exports: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for imported in _IMPORT.findall(modules[name]):
            visit(imported)
        order.append(name)

    visit(entry)
    parts = []
    for name in order:
        body = _IMPORT.sub("", modules[name])
        names = [found[1] for found in _EXPORT.findall(body)]
        body = _EXPORT.sub(r"\1", body)
        if odd := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
            raise ValueError(f"{name} has {odd.group()!r}, which the bundle of the page does not know.")
        for each in names:
            if (other := exports.setdefault(each, name)) != name:
                raise ValueError(f"{name} and {other} both export {each!r}; one of them needs another name.")
        given = ", ".join(names)
        parts.append(
            f"const {{ {given} }} = (() => {{\n{body}return {{ {given} }};\n}})();\n"
            if names
            else f"(() => {{\n{body}}})();\n"
        )
    return "".join(parts)
