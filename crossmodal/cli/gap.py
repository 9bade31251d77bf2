"""``evaluate --gap``: how far photos and captions lie apart, and what centring does about it."""

from __future__ import annotations

import json
import shlex
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from crossmodal.cli.output_folder import make_output_folder
from crossmodal.cli.present.failures import print_failures
from crossmodal.data_sets import open_data_set
from crossmodal.engine.model_choice import chosen_model
from crossmodal.errors import SettingsError
from crossmodal.evaluation.encoding import encode_records
from crossmodal.evaluation.gap import GapMeasurement, PhotoHalves, measure_gap
from crossmodal.extras import require_package
from crossmodal.models import identify_model
from crossmodal.models.adaptation import parse_adaptation
from crossmodal.models.centering import Centering
from crossmodal.settings import Settings

_FOLDER = "modality-gap"
_PICTURE = "modality-gap.png"
_CENTERING = "centering.safetensors"


def run(settings: Settings) -> int:
    """Prints the measurement, writes the means and the picture; returns 1 where some data cannot be used."""
    from crossmodal.cli.present.evaluation import EvaluationProgress

    require_package("matplotlib", "The picture of --gap")
    model = chosen_model(settings)
    adaptation = parse_adaptation(model)
    if adaptation is not None and adaptation.centering is not None:
        raise SettingsError("--gap measures vectors before and after centring; leave out the centring file.")
    data_set = open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
    halves = PhotoHalves()
    hint, limit = data_set.len_hint(), settings.num_docs
    total = min(hint, limit) if hint is not None and limit is not None else hint or limit
    with EvaluationProgress(total, enabled=not settings.json) as progress:
        encoded = encode_records(
            model,
            halves.watch(islice(data_set, settings.num_docs)),
            cache=settings.model_cache,
            trust_remote_code=settings.trust_remote_code,
            runtime=settings.runtime,
            max_pixels=settings.max_pixels,
            progress=lambda done: progress.advance(added=done - progress.done),
        )
    measured = measure_gap(encoded, halves.fitted)
    folder = settings.output or settings.workspace / _FOLDER
    result = {
        "model": model,
        "data_set": data_set.name,
        "split": settings.split,
        "dimension": len(measured.image),
        "means_of": measured.fitted.counts(),
        "scored": measured.scored.counts(),
        "before": measured.before,
        "after": measured.after,
        "centering": str(folder / _CENTERING),
        "picture": str(folder / _PICTURE),
        "failures": [{"source": failure.source, "reason": failure.reason} for failure in encoded.failures],
    }
    _tell(result, settings)
    _write(result, measured, folder, settings)
    return 1 if encoded.failures else 0


def _tell(result: dict[str, Any], settings: Settings) -> None:
    """Prints the result before files are written, so that a full disk costs only those."""
    if settings.json:
        print(json.dumps(result))
    else:
        from crossmodal.cli.present.gap import print_gap

        print_gap(result)
    print_failures(result["failures"])


def _write(result: dict[str, Any], measured: GapMeasurement, folder: Path, settings: Settings) -> None:
    from crossmodal.cli.present.gap_plot import write_gap

    make_output_folder(folder)
    made_of = result["means_of"]
    split = f", split {result['split']}" if result["split"] else ""
    Centering(
        identify_model(result["model"], cache=settings.model_cache),
        measured.image,
        measured.text,
        f"{made_of['photos']} photos and {made_of['captions']} captions of {result['data_set']}{split}",
    ).save(folder / _CENTERING)
    write_gap(result, measured, folder / _PICTURE)
    command = ["crossmodal", "index", settings.data_set]
    command += ["-m", result["model"], "--centering", str(folder / _CENTERING)]
    print(f"picture: {folder / _PICTURE}", file=sys.stderr)
    print(f"means: {folder / _CENTERING}; to search with centred vectors, index with", file=sys.stderr)
    print(f"  {shlex.join(command)}", file=sys.stderr)
