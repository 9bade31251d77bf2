"""Checks of JSON values that come from outside."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from crossmodal import limits
from crossmodal.errors import RequestError

__all__ = ["checked_id", "checked_text", "plain_json", "read_json", "shown", "whole_number"]

_LARGEST_EXACT = 2**53
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*", re.ASCII)

# Only an escape can put half of a surrogate pair into a text that is UTF-8.
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def shown(value: object, characters: int = limits.SHOWN_CHARACTERS) -> str:
    """A value as it may be quoted in a sentence: on one line, printable, and short."""
    if isinstance(value, str):
        return limits.quoted(value, characters)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits.
        return repr(value) if abs(value) < 10**18 else "a number of more than 18 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def read_json(raw: bytes, name: str = "The body") -> object:
    """The JSON value in a request's body (UTF-8, with or without a byte order mark); ``name`` is for errors.

    Raises RequestError, status 400, for anything else, for NaN and Infinity, for half of a surrogate pair and
    for excessive nesting, and status 413 for more than half a million commas.
    """

    def refuse(constant: str) -> NoReturn:
        raise RequestError(f"{name} holds {constant}, which is not JSON; send a number or null.")

    if not raw.strip():
        raise RequestError(f"{name} is empty; send JSON.")
    # Reading JSON stops everything else in the process. A photo as a data URI has one comma.
    if (commas := raw.count(b",")) > limits.COMMAS.most:
        raise RequestError(limits.COMMAS.exceeded(name, commas), 413)
    try:
        value: object = json.loads(raw.decode("utf-8-sig"), parse_constant=refuse)
        if _SURROGATE_ESCAPE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise RequestError(f"{name} holds half of a surrogate pair, which is not Unicode text.") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}.") from None
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except (ValueError, RecursionError):
        # An integer of more than 4,300 digits, or thousands of nested brackets.
        raise RequestError(
            f"{name} holds a number with too many digits or too many nested brackets."
        ) from None


def whole_number(value: object, name: str, *, minimum: int, maximum: int) -> int:
    """An integer from 5, 5.0 or "5" (jina's clients send floats, forms send strings).

    Raises RequestError that names the value and the limits.
    """
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and math.isfinite(value) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        number = int(float(value)) if "." in value else int(value)
    if number is None or not minimum <= number <= maximum:
        raise RequestError(
            f"{name} is {shown(value)}; it has to be a whole number from {minimum} to {maximum:,}."
        )
    return number


def checked_text(value: object, name: str) -> str:
    """A sentence without space around it, not too long (``limits``); raises RequestError otherwise."""
    if not isinstance(value, str):
        raise RequestError(f"{name} is {shown(value)}; it has to be a string.")
    text = value.strip()
    if not text:
        raise RequestError(f"{name} is empty; it needs at least one word.")
    if len(text) > limits.SENTENCE.most:
        raise RequestError(limits.SENTENCE.exceeded(name, len(text)))
    if _SURROGATE.search(text):
        raise RequestError(f"{name} holds half of a surrogate pair, which is not Unicode text.")
    return text


def checked_id(value: object, name: str, limit: limits.Limit = limits.ID) -> str:
    """An id of UTF-8 without control characters, not too long; raises RequestError otherwise.

    ``limit`` is ``limits.STORED_ID`` where it is asked for and not given.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"{name} is {shown(value)}; it has to be a string that is not empty.")
    if _CONTROL.search(value) or _SURROGATE.search(value):
        raise RequestError(f"{name} is {shown(value)}; it may not hold control characters or surrogates.")
    if len(value.encode()) > limit.most:
        raise RequestError(limit.exceeded(name, len(value.encode())))
    return value


def plain_json(value: object, name: str, *, depth: int = limits.DEPTH.most, exact: bool = False) -> Any:
    """A copy of a JSON value that can be stored and sent again.

    Raises RequestError for NaN and infinities, surrogates, types that JSON lacks, more than 16 levels, and
    with ``exact`` for whole numbers beyond 2**53, which most readers of JSON round (RFC 8259, section 6).
    """
    if depth == 0:
        raise RequestError(f"{name} is nested deeper than {limits.DEPTH.most} levels.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if exact and abs(value) > _LARGEST_EXACT:
            raise RequestError(
                f"{name} hold {shown(value)}; whole numbers are exact up to {_LARGEST_EXACT:,}. Send a "
                "larger one as text, in quotation marks."
            )
        if abs(value) >= 10**300:
            raise RequestError(f"{name} holds a number of more than 300 digits.")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RequestError(f"{name} holds {value!r}, which is not JSON; send a number or null.")
        return value
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise RequestError(f"{name} holds half of a surrogate pair, which is not Unicode text.")
        return value
    if isinstance(value, list | tuple):
        return [plain_json(item, name, depth=depth - 1, exact=exact) for item in value]
    if isinstance(value, dict):
        return {
            plain_json(str(key), name, depth=depth): plain_json(item, name, depth=depth - 1, exact=exact)
            for key, item in value.items()
        }
    raise RequestError(f"{name} holds a {type(value).__name__}, which is not JSON.")
