"""``evaluate --gap`` and ``--calibrate``: measurements that are fitted to one half of the photos.

Both print their result before they write files, so that a full disk costs only those.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossmodal.cli.evaluation_input import encode_in_halves
from crossmodal.cli.output import make_folder, print_failures, print_json
from crossmodal.engine.opening import chosen_model
from crossmodal.errors import SettingsError
from crossmodal.evaluation.calibration import measure_calibration
from crossmodal.evaluation.gap import measure_gap
from crossmodal.extras import require_package
from crossmodal.models import identify_model
from crossmodal.models.adaptation import Centering, parse_adaptation
from crossmodal.query.calibration import CALIBRATION_FILE
from crossmodal.settings import Settings

__all__ = ["calibrate", "measure_gap_of_model"]

_CALIBRATION_FOLDER = "calibration"
_GAP_FOLDER = "modality-gap"
_PICTURE = "modality-gap.png"
_CENTERING = "centering.safetensors"


def calibrate(settings: Settings) -> int:
    """Prints the calibration with its reliability and writes it; 1 where some of the data cannot be used."""
    model = chosen_model(settings)
    if parse_adaptation(model) is not None:
        raise SettingsError(
            f"--calibrate is for a model's own vectors, and {model} changes them; leave out its "
            "options. An index of such vectors estimates its calibration from itself."
        )
    data_set, encoded, fitted = encode_in_halves(settings, model)
    measured = measure_calibration(
        encoded,
        fitted,
        model=identify_model(model, cache=settings.model_cache),
        # The file may be given away together with the model; where the data lay is of no use there.
        data=f"{Path(data_set.name).name}{_split(settings)}",
    )
    path = (settings.output or settings.workspace / _CALIBRATION_FOLDER) / CALIBRATION_FILE
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
    _print(result, settings)
    make_folder(path.parent)
    measured.calibration.save(path)
    print(f"calibration: {path}", file=sys.stderr)
    return 1 if encoded.failures else 0


def measure_gap_of_model(settings: Settings) -> int:
    """Prints the gap and what centring does about it, writes the means and a picture; returns as above."""
    require_package("matplotlib", "The picture of --gap")
    model = chosen_model(settings)
    adaptation = parse_adaptation(model)
    if adaptation is not None and adaptation.centering is not None:
        raise SettingsError("--gap measures vectors before and after centring; leave out the centring file.")
    data_set, encoded, fitted = encode_in_halves(settings, model)
    measured = measure_gap(encoded, fitted)
    folder = settings.output or settings.workspace / _GAP_FOLDER
    centering, picture = folder / _CENTERING, folder / _PICTURE
    means_of = measured.fitted.counts()
    made_of = f"{means_of['photos']} photos and {means_of['captions']} captions of {data_set.name}"
    result = {
        "model": model,
        "data_set": data_set.name,
        "split": settings.split,
        "dimension": len(measured.image),
        "means_of": means_of,
        "scored": measured.scored.counts(),
        "before": measured.before,
        "after": measured.after,
        "centering": str(centering),
        "picture": str(picture),
        "failures": [asdict(failure) for failure in encoded.failures],
    }
    _print(result, settings)
    from crossmodal.cli.present.plots import write_gap

    make_folder(folder)
    Centering(
        identify_model(model, cache=settings.model_cache),
        measured.image,
        measured.text,
        made_of + _split(settings),
    ).save(centering)
    write_gap(result, measured, picture)
    command = ["crossmodal", "index", settings.data_set, "-m", model, "--centering", str(centering)]
    print(f"picture: {picture}", file=sys.stderr)
    print(f"means: {centering}; to search with centred vectors, index with", file=sys.stderr)
    print(f"  {shlex.join(command)}", file=sys.stderr)
    return 1 if encoded.failures else 0


def _split(settings: Settings) -> str:
    return f", split {settings.split}" if settings.split else ""


def _print(result: dict[str, Any], settings: Settings) -> None:
    if settings.json:
        print_json(result)
    else:
        from crossmodal.cli.present.evaluation import print_calibration, print_gap

        (print_gap if settings.gap else print_calibration)(result)
    print_failures(result["failures"])
