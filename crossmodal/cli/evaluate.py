"""``evaluate``: how well a model finds what belongs together, on a data set with captions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from crossmodal.cli.evaluation_input import (
    chosen_protocol,
    open_listed,
    retrieve_in_memory,
    retrieve_through_flows,
)
from crossmodal.cli.output import print_failures, print_json
from crossmodal.data_sets import DataSet
from crossmodal.engine.opening import chosen_model
from crossmodal.evaluation import Subset
from crossmodal.evaluation.protocols import Listing, choose, shared_captions
from crossmodal.evaluation.retrieval import Retrieval, report
from crossmodal.records import Failure
from crossmodal.settings import Settings


def run(settings: Settings) -> int:
    """Prints the metrics as a table or as JSON; returns 1 where some of the data could not be used."""
    if settings.compare is not None:
        from crossmodal.cli.compare import run as compare

        return compare(settings)
    if settings.gap or settings.calibrate:
        from crossmodal.cli.halves import calibrate, measure_gap_of_model

        return (measure_gap_of_model if settings.gap else calibrate)(settings)
    return _evaluate(settings)


def _evaluate(settings: Settings) -> int:
    started = time.monotonic()
    protocol = chosen_protocol(settings)
    data_set, listing = open_listed(settings)
    folds = choose(protocol, listing, num_indexed=settings.num_indexed, num_queries=settings.num_docs)
    model = chosen_model(settings)
    found, failures = (retrieve_in_memory if settings.direct else _through_flows)(
        settings, model, data_set, folds, listing
    )
    result = {
        "model": model,
        "data_set": data_set.name,
        "split": settings.split,
        **report(found),
        "folds": len(folds),
        "protocol": protocol.name,
        "protocol_source": protocol.source,
        "shared_captions": shared_captions(listing, folds),
        "through": "memory" if settings.direct else f"{settings.layout} Flows",
        **({} if settings.rerank is None else {"rerank": settings.rerank, "depth": settings.rerank_depth}),
        "seconds": round(time.monotonic() - started, 1),
        "failures": [asdict(failure) for failure in failures],
    }
    if settings.json:
        print_json(result)
    else:
        from crossmodal.cli.present.evaluation import print_evaluation

        print_evaluation(result)
        print_failures(result["failures"])
    return 1 if failures else 0


def _through_flows(
    settings: Settings, model: str, data_set: DataSet, folds: Sequence[Subset], listing: Listing
) -> tuple[list[dict[str, Retrieval]], list[Failure]]:
    from crossmodal.cli.present.progress import EvaluationProgress

    photos = frozenset(listing.photos)
    direction = settings.direction
    total = sum(len(fold.searched(direction, photos)) + len(fold.asking(direction, photos)) for fold in folds)
    with EvaluationProgress(total, enabled=not settings.json) as progress:
        chosen = replace(settings, model=model)
        return retrieve_through_flows(chosen, data_set, photos, folds, progress)
