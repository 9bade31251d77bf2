"""``evaluate --calibrate``: the score in 0 to 1 beside the cosine, and how far it can be believed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossmodal.cli.evaluation_input import encode_in_halves
from crossmodal.cli.output import make_folder, print_failures, print_json
from crossmodal.engine.model_choice import chosen_model
from crossmodal.errors import SettingsError
from crossmodal.evaluation.calibration import measure_calibration
from crossmodal.models import identify_model
from crossmodal.models.adaptation import parse_adaptation
from crossmodal.query.calibration import CALIBRATION_FILE
from crossmodal.settings import Settings

_FOLDER = "calibration"


def run(settings: Settings) -> int:
    """Prints the calibration with its reliability and writes it; 1 where some of the data cannot be used."""
    model = chosen_model(settings)
    if parse_adaptation(model) is not None:
        raise SettingsError(
            f"--calibrate is for a model's own vectors, and {model} changes them; leave out its "
            "options. An index of such vectors estimates its calibration from itself."
        )
    data_set, encoded, fitted = encode_in_halves(settings, model)
    split = f", split {settings.split}" if settings.split else ""
    measured = measure_calibration(
        encoded,
        fitted,
        model=identify_model(model, cache=settings.model_cache),
        # The file may be given away together with the model; where the data lay is of no use there.
        data=f"{Path(data_set.name).name}{split}",
    )
    path = (settings.output or settings.workspace / _FOLDER) / CALIBRATION_FILE
    result = {
        "model": model,
        "data_set": data_set.name,
        "split": settings.split,
        "fitted": measured.fitted.counts(),
        "scored": measured.scored.counts(),
        "calibration": measured.calibration.to_json(),
        "reliability": measured.reliability,
        "file": str(path),
        "failures": [asdict(failure) for failure in encoded.failures],
    }
    _tell(result, settings)
    make_folder(path.parent)
    measured.calibration.save(path)
    print(f"calibration: {path}", file=sys.stderr)
    return 1 if encoded.failures else 0


def _tell(result: dict[str, Any], settings: Settings) -> None:
    """Prints the result before the file is written, so that a full disk costs only that."""
    if settings.json:
        print_json(result)
    else:
        from crossmodal.cli.present.calibration import print_calibration

        print_calibration(result)
    print_failures(result["failures"])
