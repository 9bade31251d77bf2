"""What ``search`` is asked, checked before anything is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.data_sets import read_photo_file
from crossmodal.data_sets.values import has_lone_surrogate
from crossmodal.errors import DataError, SettingsError
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.settings import Settings

__all__ = ["Question", "read_filter", "read_questions"]


@dataclass(frozen=True, slots=True)
class Question:
    """One query, as ``asked`` on the command line: a ``text``, an ``image`` (bytes) or an ``expression``."""

    asked: str
    text: str | None = None
    image: bytes | None = None
    expression: str | None = None

    def modality(self, target: Modality | None) -> Modality:
        """What the query counts as, where ``target`` was searched (None: nothing was): "text" or "image".

        An expression counts as what would search the same: a sentence finds photos, a photo finds captions.
        """
        if self.expression is None:
            return TEXT if self.text is not None else IMAGE
        return IMAGE if target == TEXT else TEXT


def read_questions(settings: Settings) -> list[Question]:
    """The queries of ``--query-text``, ``--query-image`` and ``--query``, in this order.

    Raises SettingsError where there is none, DataError for text that isn't Unicode or a photo that cannot be
    read.
    """
    questions = []
    if settings.query_text is not None:
        questions.append(Question(_checked(settings.query_text), text=settings.query_text))
    if settings.query_image is not None:
        questions.append(Question(str(settings.query_image), image=read_photo_file(settings.query_image)))
    if settings.query is not None:
        if _is_file(settings.query):
            raise SettingsError(
                f"{settings.query!r} is a file, and an expression holds sentences and ids; search by a photo "
                "with --query-image FILE."
            )
        questions.append(Question(_checked(settings.query), expression=settings.query))
    if not questions:
        raise SettingsError(
            'Nothing to search for: write a sentence, as in search "a dog on a beach", or give --query-text '
            "TEXT, --query-image FILE or --query EXPRESSION."
        )
    return questions


def read_filter(settings: Settings) -> Mapping[str, Any] | None:
    """The JSON object of ``--filter``, None without one; raises SettingsError for anything else."""
    if settings.filter is None:
        return None
    try:
        value = json.loads(settings.filter)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--filter {settings.filter!r} is not JSON ({error}); {_EXAMPLE}.") from None
    if not isinstance(value, dict):
        raise SettingsError(f"--filter {settings.filter!r} is no JSON object; {_EXAMPLE}.")
    return value


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # Too long for a path, or with a NUL: words.
        return False


_EXAMPLE = """write it like --filter '{"place": "harbour"}'"""


def _checked(text: str) -> str:
    if has_lone_surrogate(text):
        raise DataError(f"The query {text!r} is not text: some of its bytes are not UTF-8.")
    if not text.strip():
        raise DataError(f"The query {text!r} is empty; it needs at least one word.")
    return text
