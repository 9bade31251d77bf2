"""ColPali, ColQwen2 and jina-reranker-m0 of random weights, in folders as the model hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_blip import WORDS

__all__ = ["save_small_colpali", "save_small_colqwen2", "save_small_jina"]

# Ids of the prompt's tokens, and the words behind them: jina's score token has the id 100.
_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
_PADS = ("<|image_pad|>", "<|video_pad|>")
_PROMPT = ("**", "Document", "Query", ":", "Describe", "image", ".", "Question", "\n")
_FILLED = 120

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def save_small_colpali(folder: Path) -> Path:
    """ColPali over a PaliGemma of two layers a tower: 16 regions a photo, 8 components each."""
    library = _library()
    words = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>")
    tokenizer = _tokenizer(
        words,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.image_token, tokenizer.image_token_id = "<image>", 4
    vision = {key: value for key, value in _TEXT.items() if key != "num_key_value_heads"}
    paligemma = library.PaliGemmaConfig(
        text_config={"model_type": "gemma", **_TEXT, "head_dim": 8, "vocab_size": _FILLED + 10},
        vision_config={
            "model_type": "siglip_vision_model",
            **vision,
            "image_size": 64,
            "patch_size": 16,
            "projection_dim": 32,
        },
        image_token_index=4,
        projection_dim=32,
    )
    network = library.ColPaliForRetrieval(library.ColPaliConfig(vlm_config=paligemma, embedding_dim=8))
    _save(network, folder)
    images = library.SiglipImageProcessor(size={"height": 64, "width": 64})
    images.image_seq_length = 16
    library.ColPaliProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def save_small_colqwen2(folder: Path) -> Path:
    """ColQwen2 over a Qwen2-VL of two layers a tower: 8 components a region."""
    library = _library()
    network = library.ColQwen2ForRetrieval(
        library.ColQwen2Config(vlm_config=_qwen_config(library), embedding_dim=8)
    )
    _save(network, folder)
    library.ColQwen2Processor(_qwen_images(library), _qwen_tokenizer()).save_pretrained(folder)
    return folder


def save_small_jina(folder: Path) -> Path:
    """A Qwen2-VL of two layers a tower with jina's head, its weights named as in the published files."""
    import torch
    from safetensors.torch import save_file

    library = _library()
    network = library.Qwen2VLForConditionalGeneration(_qwen_config(library))
    _save(network, folder)
    weights = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): weight.clone()
        for name, weight in network.state_dict().items()
        if not name.startswith("lm_head")
    }
    for name, shape in {"0.weight": (32, 32), "0.bias": (32,), "2.weight": (1, 32), "2.bias": (1,)}.items():
        weights[f"score.{name}"] = torch.randn(shape)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    library.Qwen2VLProcessor(
        _qwen_images(library), _qwen_tokenizer(), library.Qwen2VLVideoProcessor()
    ).save_pretrained(folder)
    return folder


def _library() -> Any:
    import torch

    from crossmodal.models.libraries import import_transformers

    torch.manual_seed(5)
    return import_transformers()


def _save(network: Any, folder: Path) -> None:
    import torch

    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 or "bias" in name:
                weight.normal_(0, 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)


def _tokenizer(special: tuple[str, ...], **roles: str) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    words = list(dict.fromkeys((*special, *_PROMPT, *WORDS)))
    words += [f"filler{number}" for number in range(len(words), _FILLED)]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\*\*|\w+|\n|[.:]"), "isolated")
    library = _library()
    return library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=[word for word in special if word not in roles.values()],
        **roles,
    )


def _qwen_tokenizer() -> Any:
    return _tokenizer(
        (*_QWEN, *_PADS, "<unk>"),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
    )


def _qwen_images(library: Any) -> Any:
    return library.Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 12544})


def _qwen_config(library: Any) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    return library.Qwen2VLConfig(
        text_config={**_TEXT, "vocab_size": _FILLED, "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2},
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
