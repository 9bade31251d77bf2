"""``-t evaluate``: how well a model finds what belongs together, on a data set with captions."""

from __future__ import annotations

import json
import sys
from itertools import islice

from crossmodal.data_sets import open_data_set
from crossmodal.evaluation.evaluate import evaluate
from crossmodal.models import DEFAULT_MODEL
from crossmodal.settings import Settings

_FAILURES_SHOWN = 20


def run(settings: Settings) -> int:
    """Prints the metrics as a table or as JSON; returns 1 where some of the data could not be used."""
    data_set = open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
    model = settings.model or DEFAULT_MODEL
    result = evaluate(
        model,
        islice(data_set, settings.num_docs),
        direction=settings.direction,  # type: ignore[arg-type]  # one of DIRECTIONS, as the parser checks
        cache=settings.model_cache,
    )
    result |= {"data_set": data_set.name, "split": settings.split}
    failures = result["failures"]
    if settings.json:
        print(json.dumps(result))
        return 1 if failures else 0
    from commands.present.tables import EvaluationRow, print_evaluation

    rows = [
        EvaluationRow(
            direction, result["queries"][direction], result["gallery"][direction], result[direction]
        )
        for direction in ("text2image", "image2text")
        if direction in result
    ]
    split = f", split {settings.split}" if settings.split else ""
    print_evaluation(rows, title=f"{model} on {data_set.name}{split}")
    for failure in failures[:_FAILURES_SHOWN]:
        print(f"failed: {failure['source']}: {failure['reason']}", file=sys.stderr)
    if len(failures) > _FAILURES_SHOWN:
        print(f"and {len(failures) - _FAILURES_SHOWN} more; --json tells all of them", file=sys.stderr)
    return 1 if failures else 0
