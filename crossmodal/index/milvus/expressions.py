"""Conditions in Milvus's language of boolean expressions."""

from __future__ import annotations

import json

from crossmodal.index.following.conditions import AllOf, AnyOf, AnyValue, Bound, NoneOf, Rows, Wanted

__all__ = ["NUMBER_OPERATORS", "ROW", "TAGS", "expression"]

# The fields of a collection.
ROW, TAGS = "row", "tags"

NUMBER_OPERATORS = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}

# There is no constant.
_ALWAYS, _NEVER = f"{ROW} >= 0", f"{ROW} < 0"


def expression(wanted: Wanted) -> str:
    """``wanted`` as the text of an expression; all texts in it are ASCII without quotes or backslashes."""
    match wanted:
        case AllOf(parts):
            return " and ".join(f"({expression(part)})" for part in parts) or _ALWAYS
        case AnyOf(parts):
            return " or ".join(f"({expression(part)})" for part in parts) or _NEVER
        case NoneOf(part):
            return f"not ({expression(part)})"
        case AnyValue(values):
            return f'json_contains_any({TAGS}["values"], {json.dumps(values)})'
        case Bound(key, operator, bound):
            return f'{TAGS}["{wanted.side}"]["{key}"] {NUMBER_OPERATORS[operator]} {bound!r}'
        case Rows(rows, among):
            return f"{ROW} {'in' if among else 'not in'} {json.dumps(rows)}"
