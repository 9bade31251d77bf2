"""One training run: data in, a checkpoint folder out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.data_sets import open_data_set
from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import save_checkpoint
from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.native.vocabulary import Vocabulary
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.registry import find_native
from crossmodal.records import Failure, Record
from crossmodal.training.config import TrainingConfig
from crossmodal.training.features import FeatureExtractor
from crossmodal.training.model_card import model_card
from crossmodal.training.pairs import Pairs, collect_pairs, hold_out

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from crossmodal.models.native.mobilenet import MobileNetEdgeTPU
    from crossmodal.training.loop import Epoch, Heads

__all__ = ["Progress", "TrainingResult", "train", "train_on"]

MODEL_CARD = "MODEL_CARD.md"

# What MobileNet-EdgeTPU was trained with: RGB in [-1, 1], 224 x 224.
_SIZE = 224
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life: ``done`` of ``total`` units of ``stage`` (None where it isn't known), and a message.

    Stages are ``train photos`` and ``dev photos`` (their features), ``steps`` (of the optimisation) and
    ``epochs``.
    """

    stage: str
    done: int
    total: int | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished run: where the checkpoint is, and the dev metrics of its weights as stored (fp16)."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    best_epoch: int
    epochs: int
    seconds: float
    failures: list[Failure]


def train(
    config: TrainingConfig,
    *,
    data_root: Path,
    output: Path,
    cache: Path | None = None,
    threads: int | None = None,
    command: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainingResult:
    """Train VSE++ on the data set that ``config`` names; write a checkpoint that ``-m`` takes to ``output``.

    ``data_root`` is where data sets known by name lie; ``cache`` a folder that keeps photos' features for
    further runs; ``threads`` as in ``load_image_encoder``; ``command`` is noted in the model card.

    Raises DataSetError for the data, ModelError for ``initial_cnn``. Photos that cannot be read are left out
    and listed in the result.
    """

    def records(split: str | None) -> Iterable[Record | Failure]:
        return open_data_set(config.data, data_root=data_root, split=split)

    if config.train_split is not None:
        training, dev = records(config.train_split), records(config.dev_split)
    else:
        training = hold_out(records(None), config.dev_share, held_out=False)
        dev = hold_out(records(None), config.dev_share, held_out=True)
    return train_on(
        config, training, dev, output=output, cache=cache, threads=threads, command=command, progress=progress
    )


def train_on(
    config: TrainingConfig,
    training: Iterable[Record | Failure],
    dev: Iterable[Record | Failure],
    *,
    output: Path,
    cache: Path | None = None,
    threads: int | None = None,
    command: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainingResult:
    """``train`` on records that are at hand; ``config.data`` and the splits are then only noted."""
    from crossmodal.training.loop import fit

    started = time.monotonic()
    preprocessing = ImagePreprocessing(_SIZE, config.resize, _HALF, _HALF)
    cnn = initial_cnn(config.initial_cnn)
    with _threads(threads) as used_threads:
        train_pairs = collect_pairs(
            training,
            FeatureExtractor(cnn, preprocessing, config.views, cache),
            progress=lambda done: progress(Progress("train photos", done, None)),
        )
        dev_pairs = collect_pairs(
            dev,
            FeatureExtractor(cnn, preprocessing, 1, cache),
            progress=lambda done: progress(Progress("dev photos", done, None)),
        )
        vocabulary = Vocabulary.of_captions(train_pairs.captions, min_count=config.min_word_count)
        heads, epochs = fit(
            config,
            vocabulary,
            train_pairs,
            dev_pairs,
            on_epoch=lambda epoch: progress(
                Progress("epochs", epoch.number, config.epochs, _describe(epoch))
            ),
            on_step=lambda step, steps, loss: progress(Progress("steps", step, steps, f"loss {loss:.3f}")),
        )
        metrics = _metrics_as_stored(heads, vocabulary, dev_pairs)
    result = TrainingResult(
        folder=output,
        metrics=metrics,
        best_epoch=max(epochs, key=lambda epoch: epoch.score).number,
        epochs=len(epochs),
        seconds=time.monotonic() - started,
        failures=[*train_pairs.failures, *dev_pairs.failures],
    )
    notes = {
        "config": config.to_json(),
        "command": command,
        "initial_cnn": _origin(config.initial_cnn),
        "train": _counts(train_pairs),
        "dev": _counts(dev_pairs),
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "seconds": round(result.seconds, 1),
        "threads": used_threads,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "metrics": metrics,
    }
    _save(output, cnn, heads, vocabulary, config, preprocessing, notes)
    return result


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Torch with ``count`` threads an operation (None: as it is) for the time being; yields how many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def initial_cnn(name: str) -> MobileNetEdgeTPU:
    """The CNN with the parameters that will be stored, which means rounded to fp16."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from crossmodal.models.native.mobilenet import MobileNetEdgeTPU, fold_batch_norm

    cnn = MobileNetEdgeTPU()
    if checkpoint := find_native(name):
        weights = checkpoint.image_weights().items()
        state = {
            key.removeprefix("cnn."): torch.from_numpy(value)
            for key, value in weights
            if key.startswith("cnn.")
        }
    else:
        try:
            state = fold_batch_norm(load_file(Path(name).expanduser()))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"The CNN's weights {name} cannot be read: {error}.") from error
        except KeyError as error:
            raise ModelError(
                f"{name} is not a timm state dict of mobilenet_edgetpu_100: it lacks {error}."
            ) from error
    try:
        cnn.load_state_dict({key: value.half().float() for key, value in state.items()})
    except RuntimeError as error:
        raise ModelError(f"The CNN's weights {name} don't fit mobilenet_edgetpu_100: {error}.") from error
    return cnn.eval()


def _origin(initial_cnn: str) -> str:
    """What the model card says about the CNN, without anybody's folders."""
    return "the VSE++ model `vse`" if initial_cnn == "vse" else f"`{Path(initial_cnn).name}`"


def _describe(epoch: Epoch) -> str:
    by_text, by_image = epoch.metrics["text2image"], epoch.metrics["image2text"]
    return (
        f"loss {epoch.loss:.3f}, dev hit@10 {by_text['hit@10']:.1%} text to image, "
        f"{by_image['hit@10']:.1%} image to text"
    )


def _counts(pairs: Pairs) -> dict[str, int]:
    return {"photos": len(pairs.features), "captions": len(pairs.captions)}


def _metrics_as_stored(heads: Heads, vocabulary: Vocabulary, dev: Pairs) -> dict[str, dict[str, float]]:
    import copy

    from crossmodal.training.loop import dev_metrics

    return dev_metrics(copy.deepcopy(heads).half().float(), vocabulary, dev)


def _save(
    output: Path,
    cnn: MobileNetEdgeTPU,
    heads: Heads,
    vocabulary: Vocabulary,
    config: TrainingConfig,
    preprocessing: ImagePreprocessing,
    notes: dict[str, Any],
) -> None:
    image = {f"cnn.{name}": value.numpy() for name, value in cnn.state_dict().items()}
    image |= {f"projection.{name}": _array(value) for name, value in heads.projection.state_dict().items()}
    text = {name: _array(value) for name, value in heads.text.state_dict().items()}
    save_checkpoint(
        output,
        image_weights=image,
        text_weights=text,
        text=GruConfig(config.word_dimension),
        vocabulary=vocabulary,
        dimension=config.dimension,
        preprocessing=preprocessing,
        training=notes,
    )
    (output / MODEL_CARD).write_text(model_card(notes), encoding="utf-8")


def _array(value: Any) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = value.detach().numpy()
    return array
