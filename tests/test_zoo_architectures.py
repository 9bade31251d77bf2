"""Each architecture of the zoo that open_clip builds, at reduced size, from local files by its zoo name.

The reference is open_clip: its network, its transform with its record of published weights, its tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from model_samples import PHOTOS, SENTENCES, WORDS, assert_vectors, save_tokenizer
from photos import toy_photo
from safetensors.torch import save_file

from crossmodal.errors import ModelError
from crossmodal.models import identify_model, load_image_encoder, load_text_encoder
from crossmodal.models.libraries import import_open_clip
from crossmodal.models.zoo import find_record

# The same classes of timm with fewer and narrower layers.
SMALL_TIMM: dict[str, dict[str, Any]] = {
    "vit_base_patch16_siglip_224": {"depth": 2, "embed_dim": 64, "num_heads": 2},
    "fastvit_mci0": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 64)},
    "fastvit_mci1": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 64)},
    "vit_base_mci_224": {"depth": 1},
}
DIMENSION = 64
VOCABULARY = 200

# SigLIP pads with its end token's number, SigLIP 2 with one of its own.
SPECIAL_TOKENS = {
    "siglip-b-16": {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>"},
    "siglip2-b-16": {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"},
    "xlm-roberta-b-32": {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    },
}


def shrink(config: dict[str, Any], text_model: Path) -> None:
    """Makes open_clip's configuration of an architecture small; what kind of network it is stays."""
    config["embed_dim"] = DIMENSION
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" not in vision:
        vision.update(layers=2, width=64, head_width=64)
    if "hf_model_name" in text:
        from transformers import XLMRobertaConfig

        XLMRobertaConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=100,
            type_vocab_size=1,
        ).save_pretrained(text_model)
    else:
        text.update(layers=2, width=64, heads=2)
        if "hf_tokenizer_name" in text:
            text["vocab_size"] = VOCABULARY


@pytest.fixture
def small_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's models of the zoo at reduced size."""
    import_open_clip()
    import open_clip.timm_model

    create: Callable[..., Any] = open_clip.timm_model.timm.create_model

    def create_small(name: str, **options: Any) -> Any:
        return create(name, **options, **SMALL_TIMM[name])

    monkeypatch.setattr(open_clip.timm_model.timm, "create_model", create_small)


def make_sensitive(model: Any, pixels: torch.Tensor) -> None:
    """Lets different photos have different vectors, as training would: a new FastViT makes all of them alike.

    Its layers are scaled by 1e-5, and its batch normalisation knows nothing yet of what it normalises.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for key, value in model.state_dict().items():
        if key.endswith(".gamma"):
            value.fill_(1)
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        model.train().encode_image(pixels)
    model.eval()


def reference(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Random weights of the architecture into ``folder``; what open_clip makes of photos and sentences."""
    open_clip = import_open_clip()
    record = find_record(name)
    assert record is not None
    config = copy.deepcopy(open_clip.get_model_config(record.architecture))
    shrink(config, folder)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, record.architecture, config)
    published = open_clip.pretrained.get_pretrained_cfg(record.architecture, record.pretrained)
    text = config["text_cfg"]
    if name in SPECIAL_TOKENS:
        save_tokenizer(folder, SPECIAL_TOKENS[name], lower_case=True)
        tokenize = open_clip.tokenizer.HFTokenizer(
            str(folder), context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
    else:
        tokenize = open_clip.get_tokenizer(record.architecture)
    changes = {}
    if "hf_model_name" in text:
        changes = {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = open_clip.create_model(
            record.architecture,
            pretrained_text=False,
            force_quick_gelu=bool(published.get("quick_gelu")),
            **changes,
        ).eval()
    settings = open_clip.transform.merge_preprocess_dict(
        {**open_clip.transform.asdict(open_clip.transform.PreprocessCfg()), "size": model.visual.image_size},
        published,
    )
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**settings), is_train=False
    )
    pixels = torch.stack([transform(toy_photo(photo)) for photo in PHOTOS])
    make_sensitive(model, pixels)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(tokenize(SENTENCES), normalize=True).numpy()
    return images, texts


@pytest.mark.parametrize(
    "name",
    [
        "clip-vit-b-32",
        "openclip-vit-b-32",
        "dfn-b-16",
        "siglip-b-16",
        "siglip2-b-16",
        "mobileclip-s1",
        "mobileclip-b",
        "mobileclip2-s0",
        "xlm-roberta-b-32",
    ],
)
@pytest.mark.usefixtures("small_timm", "without_bfloat16")
def test_an_architecture_equals_open_clip(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    images, texts = reference(name, folder, monkeypatch)
    file = folder / "open_clip_model.safetensors"
    assert_vectors(f"{name}:{file}", images, texts, tmp_path / "cache")
    # A folder means the same weights, so the same vectors.
    assert identify_model(f"{name}:{folder}", cache=tmp_path / "cache") == identify_model(
        f"{name}:{file}", cache=tmp_path / "cache"
    )


@pytest.mark.usefixtures("small_timm")
def test_siglip_pads_with_its_pad_token_to_the_whole_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, padding in (("siglip-b-16", 1), ("siglip2-b-16", 0)):
        folder = tmp_path / name
        folder.mkdir()
        reference(name, folder, monkeypatch)
        encoder: Any = load_text_encoder(
            f"{name}:{folder / 'open_clip_model.safetensors'}", cache=tmp_path / "cache"
        )
        rows = encoder._tokenize(["A cat, on a sofa!", "word " * 300])
        assert [len(row) for row in rows] == [64, 64]
        # open_clip's canonical form has no capitals and no punctuation: five words, and the end is 1.
        first = len(set(SPECIAL_TOKENS[name].values()))
        words = [first + WORDS.index(word) for word in ("a", "cat", "on", "a", "sofa")]
        assert rows[0] == [*words, 1, *[padding] * 58]
        assert rows[1] == [*[first + WORDS.index("word")] * 63, 1]


@pytest.mark.usefixtures("small_timm")
def test_a_tokenizer_that_is_nowhere_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    reference("siglip-b-16", tmp_path, monkeypatch)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    name = f"siglip-b-16:{tmp_path / 'open_clip_model.safetensors'}"
    assert load_image_encoder(name, cache=tmp_path / "cache").identity.dimension == DIMENSION
    with pytest.raises(ModelError) as caught:
        load_text_encoder(name, cache=tmp_path / "cache")
    for part in ("tokenizer.json", "timm/ViT-B-16-SigLIP", "127.0.0.1:9 cannot be reached", "-m NAME:FOLDER"):
        assert part in str(caught.value)


def test_a_folder_without_weights_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"neither open_clip_config\.json nor one of open_clip_model\.safe.*FILE"
    ):
        identify_model(f"clip-vit-b-32:{tmp_path}")
