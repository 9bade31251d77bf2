"""Which open_clip model a name means, and where its weights and its configuration are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.clip.weight_files import HUB_WEIGHTS, find_weights, is_torchscript, read_torchscript
from crossmodal.models.libraries import import_open_clip
from crossmodal.models.preprocessing import OPENAI_MEAN, OPENAI_STD, ImagePreprocessing
from crossmodal.models.published import PublishedModel
from crossmodal.models.zoo import ModelRecord, split_name

__all__ = ["ClipSource", "find_source"]

_DEFAULT = "ViT-B-32/laion2b_s34b_b79k"
_PREFIX = "clip:"
_FOLDER_CONFIG = "open_clip_config.json"

# OpenAI's archives hold no architecture, only tensors: (patch size, width, side of the photo) of their ViTs.
_OPENAI_ARCHITECTURES = {
    (32, 768, 224): "ViT-B-32-quickgelu",
    (16, 768, 224): "ViT-B-16-quickgelu",
    (14, 1024, 224): "ViT-L-14-quickgelu",
    (14, 1024, 336): "ViT-L-14-336-quickgelu",
}


@dataclass(frozen=True)
class ClipSource(PublishedModel):
    """An architecture of open_clip with the weights to put into it.

    ``kind`` is ``tag`` (published weights ``tag``), ``file`` (``path`` is a checkpoint of ``architecture``),
    ``openai`` (``path`` is one of OpenAI's TorchScript archives) or ``folder`` (``path`` is a folder as the
    model hub has them, with a configuration of its own). A ``path`` beside a ``tag`` is a local copy of these
    weights. ``zoo_name`` is what the zoo calls the model, where it was found by that name.
    """

    kind: Literal["tag", "file", "openai", "folder"]
    architecture: str
    tag: str | None = None
    path: Path | None = None
    cache: Path | None = None
    zoo_name: str | None = None

    @property
    def name(self) -> str:
        """As ``PublishedModel.name``."""
        if self.zoo_name is not None:
            return self.zoo_name if self.path is None else f"{self.zoo_name}:{self.path.absolute()}"
        if self.tag is not None:
            return f"{_PREFIX}{self.architecture}/{self.tag}"
        assert self.path is not None
        path = self.path.absolute()
        return f"{_PREFIX}{self.architecture}/{path}" if self.kind == "file" else str(path)

    @cached_property
    def weights(self) -> Path:
        """The weight file, downloaded if need be. Raises ModelError where it is missing."""
        if self.kind == "folder":
            assert self.path is not None
            for file in HUB_WEIGHTS:
                if (self.path / file).is_file():
                    return self.path / file
            raise ModelError(f"The model folder {self.path} has none of the files {', '.join(HUB_WEIGHTS)}.")
        if self.path is not None:
            return self.path
        assert self.tag is not None
        return find_weights(self.architecture, self.tag, self._published[self.tag], self.cache)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """open_clip's description of the network: ``embed_dim``, ``vision_cfg``, ``text_cfg``."""
        if self.kind == "folder":
            configuration: dict[str, Any] = self._folder_config["model_cfg"]
        else:
            configuration = import_open_clip().get_model_config(self.architecture)
        return configuration

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """As ``PublishedModel.weight_files``."""
        return (self.weights,)

    @property
    def dimension(self) -> int:
        """As ``PublishedModel.dimension``."""
        return int(self.configuration["embed_dim"])

    @property
    def quick_gelu(self) -> bool:
        """Whether the weights were made with QuickGELU although the architecture's name doesn't say so."""
        return bool(self.tag and self._published[self.tag].get("quick_gelu", False))

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """The one that the weights were trained with.

        A checkpoint file doesn't state it: it gets what all published weights of its architecture agree on,
        and OpenAI's where they don't agree or there are none.
        """
        if self.kind == "folder":
            values = self._folder_config.get("preprocess_cfg", {})
        elif self.tag is not None:
            values = self._published[self.tag]
        else:
            values = self._agreed()
        return _preprocessing(values, self.configuration, self.name)

    def _agreed(self) -> dict[str, Any]:
        keys = ("mean", "std", "interpolation", "resize_mode")
        all_values = [{key: record[key] for key in keys} for record in self._published.values()]
        return all_values[0] if all_values and all(values == all_values[0] for values in all_values) else {}

    @cached_property
    def _published(self) -> dict[str, dict[str, Any]]:
        return _published_weights(self.architecture)

    @cached_property
    def _folder_config(self) -> dict[str, Any]:
        assert self.path is not None
        return _read_folder_config(self.path)


def find_source(name: str, cache: Path | None) -> ClipSource | None:
    """What a zoo name, ``clip``, ``clip:ARCH/PRETRAINED``, ``clip:ARCH/PATH`` or a path means, or None.

    Raises ModelError where it is one of these but the architecture, the weights or the path isn't known.
    """
    if found := split_name(name):
        return _from_zoo(*found, cache) if found[0].library == "open_clip" else None
    if name == "clip":
        name = _PREFIX + _DEFAULT
    if name.startswith(_PREFIX):
        return _named(name.removeprefix(_PREFIX), cache)
    path = expanded(name)
    if path.is_dir() and (path / _FOLDER_CONFIG).is_file():
        return ClipSource("folder", _folder_architecture(path), path=path, cache=cache)
    if path.is_file():
        return _bare_file(path, cache)
    return None


def _from_zoo(record: ModelRecord, path: Path | None, cache: Path | None) -> ClipSource:
    """Published weights, or a local copy of them: a file, or a folder as the model hub has them."""
    if path is not None and path.is_dir():
        if (path / _FOLDER_CONFIG).is_file():
            architecture = _folder_architecture(path)
            return ClipSource("folder", architecture, path=path, cache=cache, zoo_name=record.name)
        files = [path / file for file in HUB_WEIGHTS if (path / file).is_file()]
        if not files:
            raise ModelError(
                f"The folder {path} has neither {_FOLDER_CONFIG} nor one of {', '.join(HUB_WEIGHTS)}; "
                f"give the weight file itself, {record.name}:FILE."
            )
        path = files[0]
    kind: Literal["tag", "openai"] = "openai" if path is not None and is_torchscript(path) else "tag"
    return ClipSource(kind, record.architecture, record.pretrained, path, cache, record.name)


def _named(name: str, cache: Path | None) -> ClipSource:
    architecture, slash, weights = name.partition("/")
    if not slash or not weights:
        raise ModelError(
            f"The model {_PREFIX}{name} names no weights; write {_PREFIX}ARCH/PRETRAINED or clip:ARCH/PATH."
        )
    open_clip = import_open_clip()
    if open_clip.get_model_config(architecture) is None:
        import difflib

        known = open_clip.list_models()
        near = difflib.get_close_matches(architecture, known, n=3) or ["ViT-B-32", "ViT-B-16", "ViT-L-14"]
        raise ModelError(
            f"open_clip has no architecture {architecture!r}; {len(known)} are known, "
            f"for instance {', '.join(near)}."
        )
    tags = _published_weights(architecture)
    tag = weights.lower().replace("-", "_")
    if tag in tags:
        return ClipSource("tag", architecture, tag=tag, cache=cache)
    path = expanded(weights)
    if not path.is_file():
        raise ModelError(
            f"{weights!r} is neither a file nor published weights of {architecture}, which are: "
            f"{', '.join(tags) or 'none'}."
        )
    kind: Literal["openai", "file"] = "openai" if is_torchscript(path) else "file"
    return ClipSource(kind, architecture, path=path, cache=cache)


def _bare_file(path: Path, cache: Path | None) -> ClipSource:
    folder = path.parent
    if path.name in HUB_WEIGHTS and (folder / _FOLDER_CONFIG).is_file():
        return ClipSource("folder", _folder_architecture(folder), path=folder, cache=cache)
    if is_torchscript(path):
        return ClipSource("openai", _openai_architecture(path), path=path, cache=cache)
    raise ModelError(
        f"{path} doesn't state its architecture: name it, for instance {_PREFIX}ViT-B-32/{path}, or put the "
        f"model's {_FOLDER_CONFIG} beside it."
    )


def _openai_architecture(path: Path) -> str:
    state = read_torchscript(path)
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        side = round((len(state["visual.positional_embedding"]) - 1) ** 0.5) * patch
        return _OPENAI_ARCHITECTURES[patch, width, side]
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{path} is not one of OpenAI's ViT archives: name its architecture, {_PREFIX}ARCH/{path}."
        ) from error


def _folder_architecture(folder: Path) -> str:
    """A readable name for a network that only its own configuration describes."""
    configuration = _read_folder_config(folder)["model_cfg"]
    vision = configuration.get("vision_cfg", {})
    kind = vision.get("timm_model_name") or f"{vision.get('width')}x{vision.get('layers')}"
    return f"{kind}-{configuration.get('embed_dim')}"


def _read_folder_config(folder: Path) -> dict[str, Any]:
    path = folder / _FOLDER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["model_cfg"], dict):
            raise TypeError("model_cfg is not an object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The model's configuration {path} cannot be used: {error!r}.") from error
    return dict(config)


def _published_weights(architecture: str) -> dict[str, dict[str, Any]]:
    """Published weights of an architecture: open_clip's tags and its record of each."""
    import_open_clip()
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    return {tag: get_pretrained_cfg(architecture, tag) for tag in list_pretrained_tags_by_model(architecture)}


def _preprocessing(values: dict[str, Any], configuration: dict[str, Any], name: str) -> ImagePreprocessing:
    size = values.get("size") or configuration["vision_cfg"].get("image_size", 224)
    if isinstance(size, list | tuple):
        if len(set(size)) != 1:
            raise ModelError(f"The model {name} takes photos of {size} pixels; only squares are supported.")
        size = size[0]
    modes: dict[str, Literal["crop", "squash"]] = {"shortest": "crop", "squash": "squash"}
    mode = values.get("resize_mode") or "shortest"
    interpolation = values.get("interpolation") or "bicubic"
    if mode not in modes or interpolation not in ("bicubic", "bilinear", "random"):
        raise ModelError(
            f"The model {name} wants its photos resized by {mode!r} and {interpolation!r}, "
            "which is not supported."
        )
    red, green, blue = values.get("mean") or OPENAI_MEAN
    one, two, three = values.get("std") or OPENAI_STD
    return ImagePreprocessing(
        size=int(size),
        mode=modes[mode],
        mean=(red, green, blue),
        std=(one, two, three),
        # As open_clip does: "random" is for training, and bicubic otherwise.
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
    )
