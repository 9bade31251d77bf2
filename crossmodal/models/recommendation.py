"""Which published model finds most of those that this machine computes in reasonable time; makes no request.

How long a photo takes depends on a network's shapes and not on its weights, so it is measured without them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.errors import ModelError
from crossmodal.extras import extra_for, how_to_install
from crossmodal.machine import available_cores, available_memory
from crossmodal.models.adaptation import Adaptation, adapted_name, parse_adaptation
from crossmodal.models.cache import read_object, replace_file, user_cache
from crossmodal.models.runtimes.forms import instruction_sets
from crossmodal.models.zoo import ModelRecord, find_record, is_cached, zoo

__all__ = ["BEST", "SLOWEST", "Measured", "better_model", "recommend", "resolve_best"]

_log = logging.getLogger(__name__)

# What ``-m`` takes for the recommended model.
BEST = "best"

# Seconds that a thousand photos may take: ten thousand are indexed in less than an hour.
SLOWEST = 300.0

# Weights that may be used for anything.
_FREE = ("MIT", "Apache-2.0")

# While a model is loaded its weights are in memory twice.
_MEMORY = 2

# The measured models, in the model cache.
_FILE = "recommendation.json"

# What is offered as long as nothing was measured: of the models that a laptop computes in reasonable time,
# the one with the best published results on COCO, most languages and a licence for any use (docs/models.md).
_SUGGESTED = "siglip2-b-16"

# A model is timed for so many seconds at least, unless one photo alone takes so many times what is allowed:
# many at once, on all cores, aren't that much quicker.
_TIMED_SECONDS = 2.0
_HOPELESS = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """A model of the zoo, and how many seconds it computes a thousand decoded photos on this machine."""

    name: str
    seconds: float

    @property
    def quick(self) -> bool:
        """Whether a thousand photos take ``SLOWEST`` seconds at most."""
        return self.seconds <= SLOWEST

    @property
    def record(self) -> ModelRecord:
        """What is known of the model."""
        record = find_record(self.name)
        assert record is not None, "what is measured is one of the zoo"
        return record


def recommend(
    cache: Path | None,
    *,
    again: bool = False,
    measure: Callable[[ModelRecord], float] | None = None,
    begin: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Those models that were measured, the recommended one last, or all of them, too slow for this machine.

    Of the models with weights for any use that fit into memory, the one with the best published results on
    COCO comes first; the next is measured as long as none is quick. It takes seconds a model, and is
    remembered in ``cache`` for this machine until it is asked for ``again``. ``measure`` returns the seconds
    of a thousand photos; ``begin`` gets the name of a model before it is measured.

    Raises ModelError where no model fits into memory, and MissingExtra without open_clip, which computes
    them.
    """
    candidates = _candidates(available_memory())
    if not candidates:
        raise ModelError(
            "No published model that may be used for anything fits into this machine's memory of "
            f"{available_memory() >> 20:,} MiB. Leave out -m for the model that is shipped."
        )
    measured = [] if again else _remembered(cache)
    names = [record.name for record in candidates[: len(measured)]]
    # Another version of this program may have other candidates.
    if not measured or [each.name for each in measured] != names:
        measured = []
        for record in candidates:
            begin(record.name)
            measured.append(Measured(record.name, round((measure or _seconds_of_a_thousand)(record), 1)))
            if measured[-1].quick:
                break
        _remember(cache, measured)
    return measured


def resolve_best(name: str, cache: Path | None, built_by: str | None = None) -> str:
    """``name`` with the recommended model in place of ``best``, as ``best`` or ``best?dim=256`` have it.

    For an index it is ``built_by``, the model that built it, with the options that ``name`` has.

    Raises ModelError as ``recommend`` does, and where every model is too slow for this machine.
    """
    adaptation = parse_adaptation(name) or Adaptation(name)
    if adaptation.model != BEST:
        return name
    if built_by is not None:
        return adapted_name(
            built_by, dim=adaptation.dim, centering=adaptation.centering, views=adaptation.views
        )
    last = recommend(cache)[-1]
    if not last.quick:
        raise ModelError(
            f"No published model computes a thousand photos in {SLOWEST:.0f} s on this machine; {last.name} "
            f"takes {last.seconds:,.0f} s. Name it with -m {last.name}, or leave out -m for the "
            "model that is shipped."
        )
    _log.info("The model %s is the best that this machine computes in reasonable time.", last.name)
    return Adaptation(last.name, adaptation.dim, adaptation.centering, adaptation.views).name


def better_model(used: str, cache: Path) -> str:
    """The line that offers a published model to somebody whose new index is built by the default, ``used``.

    It is the recommended one where that was measured, else one that suits most machines. ``cache`` is the
    folder of ``--model-cache``.
    """
    known = [each.name for each in _remembered(cache) if each.quick]
    record = find_record(known[-1] if known else _SUGGESTED)
    assert record is not None, "the suggested model is one of the zoo"
    size = f"{(record.download_size or 0) / 1e6:,.0f} MB"
    here = (
        f"its {size} are downloaded already"
        if is_cached(record, cache)
        else f"{size} are downloaded at its first use, and nothing was tried now"
    )
    install = "" if find_spec("open_clip") else f", after {how_to_install('open_clip')}"
    return (
        f"{used} is small and reads English. {record.name} finds more, in {record.languages} languages: "
        f"index into a new workspace with -m {record.name}{install} ({here})."
    )


def _candidates(memory: int) -> list[ModelRecord]:
    """The models to choose from, the best first."""
    rated = [
        (result.text_to_image + result.image_to_text, record)
        for record in zoo()
        if record.library == "open_clip"
        and record.licence in _FREE
        and (result := record.result("coco")) is not None
        and _MEMORY * (record.download_size or 0) <= memory
    ]
    return [record for _, record in sorted(rated, key=lambda pair: -pair[0])]


def _seconds_of_a_thousand(record: ModelRecord) -> float:
    """Measured on all cores that this process may use, with the runtime that would be taken first."""
    with extra_for("The recommendation of a published model"):
        from crossmodal.models.clip.encoders import untrained_image_runner
        from crossmodal.models.clip.source import find_source
    source = find_source(record.name, None)
    assert source is not None, "open_clip's models of the zoo have a source"
    runner = untrained_image_runner(source)
    size = source.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (runner.batch, size, size, 3), dtype=np.uint8)
    # The first run compiles and allocates.
    runner.run(pixels[:1])
    begun = time.perf_counter()
    runner.run(pixels[:1])
    one = time.perf_counter() - begun
    if one > _HOPELESS * SLOWEST / 1000:
        return one * 1000
    photos, begun = 0, time.perf_counter()
    with ThreadPoolExecutor(runner.concurrency) as threads:
        while (passed := time.perf_counter() - begun) < _TIMED_SECONDS:
            list(threads.map(runner.run, [pixels] * runner.concurrency))
            photos += len(pixels) * runner.concurrency
    return passed / photos * 1000


def _key() -> str:
    """What makes a machine: figures of another one say nothing."""
    return f"{available_cores()} cores, {available_memory() >> 30} GiB, {instruction_sets()}"


def _remembered(cache: Path | None) -> list[Measured]:
    """What was measured on this machine, the recommended one last; nothing where nothing was."""
    values: Any = read_object(user_cache(cache) / _FILE).get(_key())
    try:
        found = [Measured(str(each["name"]), float(each["seconds"])) for each in values]
    except (TypeError, KeyError, ValueError):
        return []
    return found if all(find_record(each.name) for each in found) else []


def _remember(cache: Path | None, measured: list[Measured]) -> None:
    path = user_cache(cache) / _FILE
    try:
        known = {**read_object(path), _key(): [asdict(each) for each in measured]}
        replace_file(path, (json.dumps(known, indent=1) + "\n").encode())
    except OSError as error:
        _log.warning("What was measured cannot be stored in %s: %s.", path, error)
