"""ViT-B/32 with random weights in the forms that other projects read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from bench.harness import Options
from bench.models import ARCHITECTURE, PlainClip, vit_name

__all__ = ["hugging_face_folder", "onnx_folder", "torch_file"]


def hugging_face_folder(options: Options) -> Path:
    """The model as transformers saves it, with its tokenizer and its preprocessing."""
    folder = options.workspace / "models" / f"{ARCHITECTURE}-transformers"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".tmp")
        _save_for_transformers(unfinished)
        unfinished.rename(folder)
    return folder


def onnx_folder(options: Options) -> Path:
    """The photo tower as fastembed wants it: an ONNX file, and the preprocessing."""
    folder = options.workspace / "models" / f"{ARCHITECTURE}-onnx"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".tmp")
        unfinished.mkdir(parents=True, exist_ok=True)
        _export_photo_tower(unfinished / "model.onnx", options)
        preprocessing = (hugging_face_folder(options) / "preprocessor_config.json").read_text(
            encoding="utf-8"
        )
        # fastembed reads what older transformers wrote, where a crop's size was an object.
        values = {**json.loads(preprocessing), "image_processor_type": "CLIPImageProcessor"}
        (unfinished / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
        unfinished.rename(folder)
    return folder


def torch_file(options: Options) -> Path:
    """open_clip's weights in a file that ``torch.load`` reads, as its older versions want them."""
    import torch
    from safetensors.torch import load_file

    source = Path(vit_name(options).split("/", 1)[1])
    path = source.with_suffix(".pt")
    if not path.is_file():
        unfinished = path.with_suffix(".tmp")
        torch.save(load_file(source), unfinished)
        unfinished.replace(path)
    return path


def _save_for_transformers(folder: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    from crossmodal.models.libraries import import_open_clip

    words = import_open_clip().get_tokenizer(ARCHITECTURE)
    torch.manual_seed(0)
    # The configuration's defaults are those of ViT-B/32.
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    end = "<end_of_text>"
    tokenizer = CLIPTokenizer(
        vocab=dict(words.encoder),
        merges=list(words.bpe_ranks),
        bos_token="<start_of_text>",
        eos_token=end,
        unk_token=end,
        pad_token=end,
    )
    tokenizer.model_max_length = words.context_length
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def _export_photo_tower(path: Path, options: Options) -> None:
    import torch

    tower = PlainClip.load(options).network.visual
    with warnings.catch_warnings():
        # The exporter that doesn't need another package warns that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            (torch.zeros(1, 3, 224, 224),),
            str(path),
            dynamo=False,
            input_names=["pixel_values"],
            output_names=["image_embeds"],
            dynamic_axes={"pixel_values": {0: "photos"}, "image_embeds": {0: "photos"}},
        )
