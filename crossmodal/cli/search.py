"""``search``: sentences find photos, photos find captions, expressions what they say; then it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

from crossmodal.cli.output import write
from crossmodal.cli.present.console import printable
from crossmodal.cli.questions import (
    STDIN,
    Answer,
    Answers,
    Question,
    check_depth,
    question_batches,
    read_filter,
    read_order,
)
from crossmodal.errors import SettingsError
from crossmodal.filters import Filter
from crossmodal.settings import Settings

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Answers the questions one after the other; returns 0 if every one could be answered, else 1."""
    if settings.null and settings.print != "paths":
        raise SettingsError(f"--null has no meaning with --print {settings.print}; add --print paths.")
    check_depth(settings)
    filter = read_filter(settings)
    read_order(settings)
    batches = question_batches(settings)
    first = next(batches)
    # A question that cannot be read needs no index; lines of stdin come later.
    readable = (
        not settings.questions or STDIN in settings.questions or not all(question.error for question in first)
    )
    failed = False
    answered: list[Answer] = []
    with _open(settings, filter) if readable else nullcontext(_Unread()) as answers:

        def found() -> Iterator[Answer]:
            """Each answer as it comes; an error goes to stderr behind what was printed before it."""
            nonlocal failed
            for batch in chain([first], batches):
                for answer in answers.ask(batch):
                    if settings.picture is not None:
                        answered.append(answer)
                    yield answer
                    if answer.error is not None:
                        failed = True
                        print(f"error: {_described(answer, settings)}", file=sys.stderr)

        _print(found(), answers, settings)
        if settings.picture is not None:
            from crossmodal.cli.present.picture import write_picture

            write_picture(answered, settings.picture, content_of=answers.thumbnail)
            print(f"picture: {settings.picture}", file=sys.stderr)
    return 1 if failed else 0


def _open(settings: Settings, filter: Filter | None) -> AbstractContextManager[Answers]:
    if settings.url is None:
        from crossmodal.cli.local_engine import open_index

        return open_index(settings, filter)
    from crossmodal.cli.ask_server import open_server

    return open_server(settings.url, settings, filter)


class _Unread:
    """Answers to questions none of which could be read."""

    model = None

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(question, error=question.error) for question in questions]

    def thumbnail(self, photo_id: str) -> bytes | None:
        return None


def _print(found: Iterator[Answer], answers: Answers, settings: Settings) -> None:
    from crossmodal.cli.present import results

    if settings.json:
        written = results.as_report(found, lambda: answers.model)
    elif settings.print == "table":
        results.print_results(found)
        return
    elif settings.print == "paths":
        written = results.as_paths(found, end=b"\0" if settings.null else b"\n")
    else:
        written = {"json": results.as_json, "jsonl": results.as_json_lines, "csv": results.as_csv}[
            settings.print
        ](found)
    for content in written:
        write(content)


def _described(answer: Answer, settings: Settings) -> str:
    """The error of an answer, with its question where there are several."""
    alone = len(settings.questions) == 1 and settings.questions[0] != STDIN
    return str(answer.error) if alone else f"{printable(answer.question.asked)}: {answer.error}"
