"""One training run: data in, a model that ``-m`` takes out."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from crossmodal.errors import DataSetError, SettingsError
from crossmodal.home_folder import expanded
from crossmodal.models.hubness import Banks
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.registry import find_native, load_preprocessing
from crossmodal.models.runtimes.forms import set_torch_threads
from crossmodal.records import Failure, Record
from crossmodal.training.config import TrainingConfig
from crossmodal.training.model_card import model_card
from crossmodal.training.pairs import Pairs, collect_pairs, input_store
from crossmodal.training.reports import Epoch, Hooks, Metrics, Outcome, Preparation, Step
from crossmodal.training.sources import dev_records, training_records

if TYPE_CHECKING:
    from crossmodal.training.content_store import ContentStore
    from crossmodal.training.trainable.base import Trainable

__all__ = ["HISTORY", "MODEL_CARD", "TrainingResult", "train", "train_on"]

MODEL_CARD = "MODEL_CARD.md"
HISTORY = "history.json"

# Photos and captions that go through the finished model's encoders at once.
_BATCH = 256

_NO_DEV_PHOTOS = (
    "No photo is held out to choose the epoch by; give more photos with captions, or in a configuration "
    "another dev_share or dev_split"
)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished run.

    ``metrics`` are those of the dev photos for the model as it is stored (fp16 or int8), ``start`` those of
    the weights that the run started with. ``best_stage`` and ``best_epoch`` say which epoch's weights these
    are; both are 0 where nothing was better than the start. ``epochs`` counts all epochs of all stages.
    """

    folder: Path
    metrics: Metrics
    start: Metrics
    best_stage: int
    best_epoch: int
    epochs: int
    seconds: float
    failures: list[Failure]


Report = Callable[[Preparation | Step | Epoch], None]


@dataclass(frozen=True)
class Run:
    """How a run is carried out; nothing here changes its result.

    ``output`` gets the model, its card, ``history.json``, and while it isn't finished ``training-state.pt``.
    ``cache`` stores model inputs and features for further runs (None: they are deleted after this one);
    ``models`` is the registry's folder of downloads. ``threads`` and ``trust_remote_code`` (for teachers) are
    as in ``load_image_encoder``; ``command`` is noted in the model card. ``progress`` gets reports, and
    ``should_stop`` is called after each photo and step: when it is true the state is saved and
    KeyboardInterrupt raised. The state is also saved every ``save_seconds``.
    """

    output: Path
    cache: Path | None = None
    models: Path | None = None
    threads: int | None = None
    trust_remote_code: bool = False
    command: str = ""
    progress: Report = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    save_seconds: float = 300.0


def train(config: TrainingConfig, run: Run, *, data_root: Path) -> TrainingResult:
    """Train on the data sets that ``config`` names, below ``data_root`` if it is known by name.

    A run that was stopped or killed goes on when it is started again with the same configuration and output.
    Raises DataSetError for the data, ModelError for models and weights, SettingsError for settings that don't
    fit them or belong to another run than the one in ``output``. Photos that cannot be read are left out and
    listed in the result.
    """
    return train_on(config, training_records(config, data_root), dev_records(config, data_root), run)


def train_on(
    config: TrainingConfig,
    training: Iterable[Record | Failure],
    dev: Iterable[Record | Failure],
    run: Run,
) -> TrainingResult:
    """``train`` on records that are at hand; ``config.data`` and the splits are then only noted."""
    import torch

    from crossmodal.training.loop import fit
    from crossmodal.training.pairs import extra_texts
    from crossmodal.training.stage_data import Resources
    from crossmodal.training.state import StateFile
    from crossmodal.training.trainable.building import build_model

    _check_output(config, run.output)
    with ExitStack() as stack:
        threads = stack.enter_context(_threads(run.threads))
        cache = run.cache or Path(stack.enter_context(TemporaryDirectory()))
        inputs = _input_stores(config, cache, run.models)
        train_pairs = collect_pairs(training, inputs, progress=_photos(run, "training photos"))
        _check_contrast(config, train_pairs)
        dev_pairs = collect_pairs(dev, inputs, progress=_photos(run, "dev photos"), nothing=_NO_DEV_PHOTOS)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            texts = [path for stage in config.stages for path in stage.texts]
            words = [*train_pairs.captions, *extra_texts(texts, dev_pairs.captions)]
            model = build_model(config, words, run.models).to(device)
        resources = Resources(
            inputs=inputs,
            folder=cache,
            withheld=dev_pairs.captions,
            models=run.models,
            threads=run.threads,
            trust_remote_code=run.trust_remote_code,
            bfloat16=_bfloat16(config, device),
            progress=lambda doing, done, total: _report(run, Preparation(doing, done, total)),
        )
        if config.widen is not None:
            from crossmodal.training.widening import widened

            model = widened(model, config, train_pairs, resources).to(device)
        state = StateFile(run.output, config, train_pairs.fingerprint() + dev_pairs.fingerprint())
        hooks = Hooks(run.progress, run.progress, run.should_stop, run.save_seconds)
        outcome = fit(model, config, train_pairs, dev_pairs, resources, state, hooks)
        notes = _notes(config, run, outcome, train_pairs, dev_pairs, model, threads)
        metrics = _store(model, outcome, notes, run, inputs[model.preprocessing], train_pairs, dev_pairs)
    history = {"config": config.to_json(), "epochs": [asdict(epoch) for epoch in outcome.epochs]}
    (run.output / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    state.delete()
    return TrainingResult(
        folder=run.output,
        metrics=metrics,
        start=outcome.epochs[0].metrics,
        best_stage=outcome.best.stage,
        best_epoch=outcome.best.number,
        epochs=len(outcome.epochs) - 1,
        seconds=outcome.seconds,
        failures=[*train_pairs.failures, *dev_pairs.failures],
    )


def _check_output(config: TrainingConfig, output: Path) -> None:
    """Raises SettingsError where the run would overwrite what it starts from."""
    sources = [
        config.model,
        config.image_weights,
        *(name for stage in config.stages for name in stage.teachers),
    ]
    for source in sources:
        if source is not None and expanded(source).resolve() == output.resolve():
            raise SettingsError(
                f"{output} is what the run starts from: choose another --output, so that it can be stopped "
                "and taken up again."
            )


def _check_contrast(config: TrainingConfig, training: Pairs) -> None:
    """Raises DataSetError where there is a single photo, which leaves nothing to contrast it with."""
    if len(training.digests) < 2 and any(stage.needs_photos for stage in config.stages):
        raise DataSetError(
            f"There is one photo with captions to train on in {config.data}: a loss compares photos, and "
            "needs two at least."
        )


def _store(
    model: Trainable,
    outcome: Outcome,
    notes: dict[str, Any],
    run: Run,
    inputs: ContentStore,
    training: Pairs,
    dev: Pairs,
) -> Metrics:
    """Write the model, its banks and its card, with the dev metrics of what was written, which are
    returned."""
    model.save(run.output, learned=outcome.learned, training=notes)
    banks = None
    if (checkpoint := find_native(str(run.output.absolute()))) is not None:
        from crossmodal.models.native.encoders import write_probe_vectors
        from crossmodal.training.banks import write_banks

        # With them the model's runtimes are checked without torch wherever it is used.
        write_probe_vectors(checkpoint)
        banks = write_banks(
            checkpoint,
            inputs,
            training,
            data="those it was trained on",
            threads=run.threads,
            cache=run.models,
        )
    notes["metrics"], ranked = _as_stored(run, inputs, dev, banks)
    if banks is not None:
        notes["search_metrics"] = ranked
    model.save(run.output, learned=outcome.learned, training=notes)
    (run.output / MODEL_CARD).write_text(model_card(notes, banks), encoding="utf-8")
    metrics: Metrics = notes["metrics"]
    return metrics


def _input_stores(
    config: TrainingConfig, cache: Path, models: Path | None
) -> dict[ImagePreprocessing, ContentStore]:
    """Where photos go as the model wants them, and as those teachers do that look at photos."""
    from crossmodal.training.trainable.building import preprocessing_of

    wanted = [preprocessing_of(config, models)]
    for stage in config.stages:
        if stage.distil_photos:
            wanted += [load_preprocessing(teacher, cache=models) for teacher in stage.teachers]
    return {preprocessing: input_store(cache, preprocessing) for preprocessing in wanted}


def _report(run: Run, sign: Preparation) -> None:
    run.progress(sign)
    if run.should_stop():
        raise KeyboardInterrupt


def _photos(run: Run, doing: str) -> Callable[[int], None]:
    return lambda done: _report(run, Preparation(doing, done, None))


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Torch with ``count`` threads an operation (None: its own number, but no more than there are cores) for
    the time being; yields how many."""
    import torch

    before = torch.get_num_threads()
    set_torch_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _bfloat16(config: TrainingConfig, device: str) -> bool:
    """Whether to compute in bfloat16: as configured, or where it is done in hardware."""
    import torch

    if config.bfloat16 is not None:
        return config.bfloat16
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _as_stored(run: Run, inputs: ContentStore, dev: Pairs, banks: Banks | None) -> tuple[Metrics, Metrics]:
    """The dev metrics of the model in ``run.output``, through the encoders that a search uses: by cosine
    alone, and ranked as a search ranks."""
    import numpy as np

    from crossmodal.models.registry import load_image_encoder, load_text_encoder
    from crossmodal.training.dev import metrics_of

    # Absolute: a bare "vse" is the shipped model's name, whatever lies in the current folder.
    name = str(run.output.absolute())
    images = load_image_encoder(name, threads=run.threads, cache=run.models)
    texts = load_text_encoder(name, threads=run.threads, cache=run.models)
    rows, numbers = inputs.rows(), inputs.numbers(dev.digests)
    photos = [images.encode(rows[numbers[at : at + _BATCH]]) for at in range(0, len(numbers), _BATCH)]
    captions = [texts.encode(dev.captions[at : at + _BATCH]) for at in range(0, len(dev.captions), _BATCH)]
    vectors = np.concatenate(photos), np.concatenate(captions)
    return metrics_of(*vectors, dev.photos), metrics_of(*vectors, dev.photos, banks)


def _notes(
    config: TrainingConfig,
    run: Run,
    outcome: Outcome,
    training: Pairs,
    dev: Pairs,
    model: Trainable,
    threads: int,
) -> dict[str, Any]:
    """What the checkpoint says of how it came about, without anybody's folders."""
    return {
        "config": _without_folders(config.to_json()),
        "command": run.command,
        "kind": model.kind,
        "dimension": model.dimension,
        "resize": model.preprocessing.mode,
        "train": {"photos": len(training.digests), "captions": len(training.captions)},
        "dev": {"photos": len(dev.digests), "captions": len(dev.captions)},
        "epochs": len(outcome.epochs) - 1,
        "best_stage": outcome.best.stage,
        "best_epoch": outcome.best.number,
        "origin_shares": outcome.origin_shares,
        "model_share": outcome.model_share,
        "seconds": round(outcome.seconds, 1),
        "threads": threads,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }


def _without_folders(value: Any) -> Any:
    """``value`` with every absolute path in it reduced to its last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
