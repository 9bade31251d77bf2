"""``search``: a sentence finds photos, a photo finds captions, an expression what it says; then it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager

from crossmodal.cli.answers import Answer, Answers
from crossmodal.cli.questions import read_filter, read_questions
from crossmodal.settings import Settings

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Answers the queries given; returns 0 if every one could be answered, else 1."""
    questions = read_questions(settings)
    with _open(settings) as answers:
        found = answers.ask(questions)
        _print(settings, answers.model, found)
        if settings.picture is not None:
            from crossmodal.cli.present.picture import write_picture

            write_picture(found, settings.picture, content_of=answers.thumbnail)
            print(f"picture: {settings.picture}", file=sys.stderr)
    for answer in found:
        if answer.error:
            print(f"error: {answer.error}", file=sys.stderr)
    return 1 if any(answer.error for answer in found) else 0


def _open(settings: Settings) -> AbstractContextManager[Answers]:
    filter = read_filter(settings)
    if settings.url is None:
        from crossmodal.cli.ask_index import open_index

        return open_index(settings, filter)
    from crossmodal.cli.ask_server import open_server

    return open_server(settings.url, settings.top_k, filter)


def _print(settings: Settings, model: str | None, answers: Sequence[Answer]) -> None:
    if settings.json:
        results = [answer.to_json() for answer in answers]
        print(json.dumps({"model": model, "results": results}, ensure_ascii=False))
    else:
        from crossmodal.cli.present.tables import print_results

        print_results(answers)
