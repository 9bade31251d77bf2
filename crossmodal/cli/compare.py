"""``evaluate --compare a,b,c``: several models on the same data, with their speed and size."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from crossmodal.cli.evaluation_input import chosen_protocol, open_listed, open_one, retrieve_in_memory
from crossmodal.cli.output import print_failures, print_json
from crossmodal.engine.opening import chosen_model
from crossmodal.errors import CrossmodalError, MissingExtra, ModelError, SettingsError
from crossmodal.evaluation.compare import (
    CAPTIONS,
    PARETO_RULE,
    PHOTOS,
    QUALITY,
    mark_pareto,
    measure_speeds,
    quality_of,
)
from crossmodal.evaluation.protocols import choose
from crossmodal.evaluation.retrieval import report
from crossmodal.extras import require_package
from crossmodal.models import identify_model, weights_size
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.settings import Settings, exported

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_FOLDER = "comparison"
_PICTURE = "comparison.png"

# What the libraries under numpy and torch read when they are loaded.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run(settings: Settings) -> int:
    """Prints the models side by side and draws them; returns 1 where a model or some data cannot be used."""
    require_package("matplotlib", "The picture of --compare")
    names = _names(settings)
    protocol = chosen_protocol(settings)
    data_set, listing = open_listed(settings)
    folds = choose(protocol, listing, num_indexed=settings.num_indexed, num_queries=settings.num_docs)
    models: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    failures: dict[Failure, None] = {}
    for name in names:
        _say(f"evaluating {name}", settings)
        try:
            found, unusable = retrieve_in_memory(settings, name, data_set, folds, listing)
            models.append(
                {
                    "model": name,
                    "dimension": identify_model(name, cache=settings.model_cache).dimension,
                    "weights_bytes": weights_size(name, cache=settings.model_cache),
                    **report(found),
                    "quality": quality_of(found),
                }
            )
            failures.update(dict.fromkeys(unusable))
        except (ModelError, MissingExtra) as error:
            problems.append({"model": name, "reason": str(error)})
    result = {
        "data_set": data_set.name,
        "split": settings.split,
        "protocol": protocol.name,
        "protocol_source": protocol.source,
        "folds": len(folds),
        "models": models,
        "problems": problems,
        "failures": [asdict(failure) for failure in failures],
    }
    if models:
        _add_speeds(result, settings)
    _print(result, settings)
    return 1 if problems or failures else 0


def _names(settings: Settings) -> list[str]:
    """The models of ``--compare`` with ``--dim`` and ``--centering``; raises SettingsError for a bad list."""
    given = [name.strip() for name in (settings.compare or "").split(",")]
    if not all(given):
        raise SettingsError(
            f"--compare {settings.compare!r} has an empty name; write --compare vse,clip-mini."
        )
    names = [chosen_model(replace(settings, model=name)) for name in given]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"--compare names {name} twice.")
    return names


def _add_speeds(result: dict[str, Any], settings: Settings) -> None:
    names = [model["model"] for model in result["models"]]
    _say(f"measuring the speed of {', '.join(names)}", settings)
    speeds = _in_a_process_of_its_own(names, *_sample(settings), settings)
    for model in result["models"]:
        model.update(speeds["models"][model["model"]])
    mark_pareto(result["models"])
    result["speed"] = {key: value for key, value in speeds.items() if key != "models"}
    result["quality_rule"] = QUALITY
    result["pareto_rule"] = PARETO_RULE


def _sample(settings: Settings) -> tuple[list[bytes], list[str]]:
    """The first photos, as bytes, and the first captions that the speed is measured on."""

    def records(content: bool) -> Iterator[Record]:
        return (record for record in open_one(settings, content=content) if isinstance(record, Record))

    photos = (record.content for record in records(True) if record.modality == IMAGE and record.content)
    captions = (record.text for record in records(False) if record.modality == TEXT and record.text)
    return list(islice(photos, PHOTOS)), list(islice(captions, CAPTIONS))


def _in_a_process_of_its_own(
    names: Sequence[str], photos: Sequence[bytes], captions: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """``measure_speeds`` where numpy is limited to one thread, which must be settled before it is loaded."""
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(sending, names, photos, captions, settings), daemon=True, name="speed"
    )
    with exported(_ONE_THREAD):
        process.start()
    sending.close()
    try:
        measured: dict[str, Any] | CrossmodalError = receiving.recv()
    except EOFError:
        process.join()
        raise ModelError(
            f"The process that measured the speed of {', '.join(names)} ended with {process.exitcode}; if "
            "memory was short, compare fewer models at once."
        ) from None
    finally:
        process.kill()
        process.join()
    if isinstance(measured, CrossmodalError):
        raise measured
    return measured


def _measure(
    sending: Connection,
    names: Sequence[str],
    photos: Sequence[bytes],
    captions: Sequence[str],
    settings: Settings,
) -> None:
    # Ctrl-C reaches the whole terminal; the parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sending.send(
            measure_speeds(
                names,
                photos,
                captions,
                cache=settings.model_cache,
                trust_remote_code=settings.trust_remote_code,
                runtime=settings.runtime,
            )
        )
    except CrossmodalError as error:
        sending.send(error)


def _print(result: dict[str, Any], settings: Settings) -> None:
    """Prints the result before the picture is drawn, so that a full disk costs only the picture."""
    picture = (settings.output or settings.workspace / _FOLDER) / _PICTURE if result["models"] else None
    if settings.json:
        print_json({**result, "picture": None if picture is None else str(picture)})
    elif picture is not None:
        from crossmodal.cli.present.evaluation import print_comparison

        print_comparison(result)
    for problem in result["problems"]:
        print(f"error: {problem['model']}: {problem['reason']}", file=sys.stderr)
    print_failures(result["failures"])
    if picture is not None:
        from crossmodal.cli.present.plots import write_comparison

        write_comparison(result, picture)
        print(f"picture: {picture}", file=sys.stderr)


def _say(line: str, settings: Settings) -> None:
    if not settings.json:
        print(line, file=sys.stderr)
