"""``-t query``: a sentence finds photos, a photo finds captions, an expression what it says; then it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from crossmodal.cli.questions import Question, read_filter, read_questions
from crossmodal.errors import SettingsError
from crossmodal.settings import Settings

__all__ = ["Answers", "run"]


class Answers(Protocol):
    """Where answers come from: an index on this machine, or a server."""

    def ask(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """One entry of ``--json`` for each question, in their order."""

    def thumbnail(self, photo_id: str) -> bytes | None:
        """An indexed photo as a small image file, None where there is none."""

    @property
    def model(self) -> str | None:
        """The model that the answers were found with; None before anything was asked."""


def run(settings: Settings) -> int:
    """Answers the queries given; returns 0 if every one could be answered, else 1."""
    questions = read_questions(settings)
    with _open(settings) as answers:
        results = answers.ask(questions)
        _tell(settings, answers.model, results)
        if settings.picture is not None:
            _draw(questions, results, answers, settings.picture)
            print(f"picture: {settings.picture}", file=sys.stderr)
    for result in results:
        if result["error"]:
            print(f"error: {result['error']}", file=sys.stderr)
    return 1 if any(result["error"] for result in results) else 0


def _open(settings: Settings) -> AbstractContextManager[Answers]:
    filter = read_filter(settings)
    if settings.url is None:
        from crossmodal.cli.ask_index import open_index

        return open_index(settings, filter)
    for option in ("model", "dim", "centering"):
        if getattr(settings, option) is not None:
            raise SettingsError(f"--url asks a server, which has a model already; leave out --{option}.")
    from crossmodal.cli.ask_server import open_server

    return open_server(settings.url, settings.top_k, filter)


def _tell(settings: Settings, model: str | None, results: list[dict[str, Any]]) -> None:
    if settings.json:
        print(json.dumps({"model": model, "results": results}, ensure_ascii=False))
    else:
        from crossmodal.cli.present.tables import print_results

        print_results(results)


def _draw(questions: Sequence[Question], results: list[dict[str, Any]], answers: Answers, path: Path) -> None:
    from crossmodal.cli.present.picture import PictureQuery, write_picture

    write_picture(
        [
            PictureQuery.from_json(result, photo=question.image, content_of=answers.thumbnail)
            for question, result in zip(questions, results, strict=True)
        ],
        path,
    )
