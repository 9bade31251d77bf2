"""JSON objects to frozen dataclasses, with a sentence for each key or value that doesn't fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from crossmodal.errors import SettingsError

__all__ = ["check_bounds", "read_fields"]

Config = TypeVar("Config")


def read_fields(kind: type[Config], value: object, place: str) -> Config:
    """A ``kind`` (a dataclass, whose fields may be dataclasses or tuples of them) from a JSON object.

    ``place`` is what messages call it, such as "training setting". Raises SettingsError for a key that isn't
    known, one that is missing and a value of another type; ``kind`` itself checks ranges.
    """
    if not isinstance(value, Mapping):
        raise SettingsError(f"The {place} cannot be {value!r}; it is a JSON object.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(value) - set(known)):
        raise SettingsError(
            f"There is no {place} {', '.join(unknown)}; there are {', '.join(sorted(known))}."
        )
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"The {place} {name} is missing.")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], item, f"{place} {name}") for name, item in value.items()})


def check_bounds(config: object, bounds: Mapping[str, tuple[float, float]], place: str) -> None:
    """Raises SettingsError for the first of ``config``'s fields outside its bounds; None is always inside."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise SettingsError(f"The {place} {name} is {value}; it must be from {low} to {high}.")


def _read(hint: Any, value: object, place: str) -> Any:
    """``value`` as the annotated type: a whole number is a float too, and true is not a number."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal and value in options:
        return value
    if origin in (Union, UnionType):
        if value is None and type(None) in options:
            return None
        return _read(next(option for option in options if option is not type(None)), value, place)
    if origin is tuple and isinstance(value, list | tuple):
        repeated = options[-1] is Ellipsis
        if not repeated and len(value) != len(options):
            raise SettingsError(f"The {place} cannot be {value!r}; it is a list of {len(options)}.")
        kinds = [options[0]] * len(value) if repeated else options
        return tuple(
            _read(kind, item, f"{place}[{number}]")
            for number, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if hasattr(hint, "__dataclass_fields__"):
        return read_fields(hint, value, place)
    number = isinstance(value, int) and not isinstance(value, bool)
    if (hint is float and (number or isinstance(value, float))) or (hint is int and number):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    raise SettingsError(f"The {place} cannot be {value!r}.")
