"""``evaluate --gap``: how far photos and captions lie apart, and what centring does about it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossmodal.cli.evaluation_input import encode_in_halves
from crossmodal.cli.output_folder import make_output_folder
from crossmodal.cli.present.failures import print_failures
from crossmodal.engine.model_choice import chosen_model
from crossmodal.errors import SettingsError
from crossmodal.evaluation.gap import GapMeasurement, measure_gap
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
    require_package("matplotlib", "The picture of --gap")
    model = chosen_model(settings)
    adaptation = parse_adaptation(model)
    if adaptation is not None and adaptation.centering is not None:
        raise SettingsError("--gap measures vectors before and after centring; leave out the centring file.")
    data_set, encoded, fitted = encode_in_halves(settings, model)
    measured = measure_gap(encoded, fitted)
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
        "failures": [asdict(failure) for failure in encoded.failures],
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
    from crossmodal.cli.present.plots import write_gap

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
