"""CLIP's towers computed apart from open_clip: the same vectors, and open_clip itself for what isn't known.

The networks are small and random. Their weights are scaled up, so that attention looks at some places more
than at others, as it does in a trained one.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import toy_photo
from safetensors.torch import save_file

from crossmodal.errors import ModelError
from crossmodal.models import ImagePreprocessing, load_image_encoder, load_text_encoder
from crossmodal.models.clip import torch_towers
from crossmodal.models.clip.recognition import image_tower, text_tower
from crossmodal.models.clip.runners import (
    cut_padding,
    image_runner,
    open_clip_image_runner,
    open_clip_text_runner,
    text_runner,
)
from crossmodal.models.clip.towers import ImageTower, TextTower, weight_bytes
from crossmodal.models.libraries import import_open_clip
from crossmodal.models.runtimes.choice import centred_cosine
from crossmodal.models.runtimes.forms import (
    ONNX_F32,
    OPENVINO_BF16,
    OPENVINO_F32,
    TORCH_BF16,
    TORCH_F32,
    Form,
)

Floats = npt.NDArray[np.float32]

SIZE = 32
PREPROCESSING = ImagePreprocessing(SIZE, "crop", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
CONTEXT, WORDS, END = 16, 60, 59
VISION = {"image_size": SIZE, "layers": 3, "width": 64, "patch_size": 8, "head_width": 16}
TEXT = {"context_length": CONTEXT, "vocab_size": WORDS, "width": 64, "heads": 4, "layers": 3}

# What the known kinds of towers differ in.
KNOWN_VISION: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean": {"pool_type": "avg", "no_ln_pre": True},
    "mean, norm after": {"pool_type": "avg", "final_ln_after_pool": True, "ls_init_value": 0.7},
    "tanh": {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}},
}
KNOWN_TEXT: dict[str, dict[str, Any]] = {
    "plain": {},
    "end": {"pool_type": "eos", "eos_id": END, "ls_init_value": 0.7},
    "last, both ways": {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
    "first": {"pool_type": "first", "no_causal_mask": True, "proj_type": "none"},
}
UNKNOWN_VISION: dict[str, dict[str, Any]] = {
    "attention pool": {"attentional_pool": True, "attn_pooler_heads": 4},
    "norm of queries": {"qk_norm": True},
    "CNN": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
}
UNKNOWN_TEXT: dict[str, dict[str, Any]] = {
    "class token": {"embed_cls": True},
    "padding mask": {"no_causal_mask": True, "pool_type": "first", "embed_cls": True, "pad_id": 0},
    "scaled cosine": {"scale_heads": True},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these wait for threads more than they gain by them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def network(vision: str = "plain", text: str = "plain", quick_gelu: bool = False) -> Any:
    """A random open_clip network of one of the kinds above."""
    open_clip = import_open_clip()
    vision_kind = {**KNOWN_VISION, **UNKNOWN_VISION}[vision]
    text_kind = {**KNOWN_TEXT, **UNKNOWN_TEXT}[text]
    kind = open_clip.model.CLIP if text == "plain" else open_clip.model.CustomTextCLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        found = kind(64, {**VISION, **vision_kind}, {**TEXT, **text_kind}, quick_gelu=quick_gelu).eval()
        with torch.no_grad():
            for name, value in found.named_parameters():
                if name.endswith("in_proj_weight"):
                    value *= 2
                elif "embedding" in name:
                    value *= 20
                elif name.endswith("conv1.weight") and value.shape[1] == 3:
                    value *= 10
                elif name.endswith("bias"):
                    value += 0.1 * torch.randn_like(value)
    return found


@cache
def pixels() -> npt.NDArray[np.uint8]:
    """Squares of toy photos: two whole ones and twelve details."""
    photos = [np.asarray(toy_photo(name)) for name in ("cat.jpg", "coffee.jpg")]
    details = [photos[0][40 * row :, 40 * row :][: 60 + row, : 60 + row] for row in range(6)]
    details += [photos[1][30 * row :, 50 * row :][: 80 + row, : 80 + row] for row in range(6)]
    return np.stack([PREPROCESSING.crop(np.ascontiguousarray(photo)) for photo in photos + details])


@cache
def tokens() -> torch.Tensor:
    """Sentences of 1 to 14 words between a beginning and an end, padded with 0."""
    generator = torch.Generator().manual_seed(8)
    rows = torch.zeros((14, CONTEXT), dtype=torch.int64)
    for row in range(14):
        rows[row, 0] = END - 1
        rows[row, 1 : row + 1] = torch.randint(1, END - 1, (row,), generator=generator)
        rows[row, row + 1] = END
    return rows


def by_form(tower: Any, form: Form) -> Floats:
    """The vectors of the photos or of the sentences, as ``tower`` has them in ``form``."""
    if isinstance(tower, ImageTower):
        return image_runner(tower, PREPROCESSING, form, threads=1).run(pixels())
    return text_runner(tower, form, threads=1).run(tower.reading.cut(tokens()))


def by_open_clip(model: Any, tower: Any) -> Floats:
    """The same by open_clip, for sentences with all of the context."""
    if isinstance(tower, ImageTower):
        return open_clip_image_runner(model, PREPROCESSING, TORCH_F32).run(pixels())
    return open_clip_text_runner(model, TORCH_F32).run(tokens().tolist())


TOWERS = [
    *(pytest.param(kind, "plain", False, id=f"photos, {kind}") for kind in KNOWN_VISION),
    *(pytest.param("plain", kind, True, id=f"sentences, {kind}") for kind in KNOWN_TEXT),
]


@pytest.mark.parametrize(("vision", "text", "of_sentences"), TOWERS)
@pytest.mark.parametrize("form", [TORCH_F32, OPENVINO_F32, ONNX_F32], ids=str)
def test_in_float32_a_tower_equals_open_clip(vision: str, text: str, of_sentences: bool, form: Form) -> None:
    model = network(vision, text, quick_gelu=of_sentences)
    tower = text_tower(model) if of_sentences else image_tower(model)
    expected = by_open_clip(model, tower)
    np.testing.assert_allclose(by_form(tower, form), expected, atol=1e-5 * np.abs(expected).max())
    # Vectors that hardly differ could not tell a right tower from a wrong one.
    assert (expected - expected.mean(0)).std() > 0.3 * expected.std()


@pytest.mark.parametrize("form", [TORCH_BF16, OPENVINO_BF16], ids=str)
def test_in_bfloat16_a_tower_is_close_to_open_clip(form: Form) -> None:
    if reason := form.unusable():
        pytest.skip(reason)
    model = network()
    for tower in (image_tower(model), text_tower(model)):
        assert centred_cosine(by_form(tower, form), by_open_clip(model, tower)) > 0.998


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, CONTEXT - 2), min_size=1, max_size=6), st.integers(0, 1000))
def test_what_follows_the_end_has_no_influence(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, END, (len(lengths), CONTEXT), generator=generator)
    for row, length in enumerate(lengths):
        rows[row, length] = END
    for kind in ("plain", "end"):
        model = network(text=kind)
        tower = text_tower(model)
        assert tower is not None
        cut = tower.reading.cut(rows)
        assert [len(row) for row in cut] == [length + 1 for length in lengths]
        expected = open_clip_text_runner(model, TORCH_F32).run(rows.tolist())
        found = text_runner(tower, TORCH_F32).run(cut)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_padding_is_cut_off_at_the_end_only() -> None:
    rows = torch.tensor([[5, 1, 6, 1], [5, 6, 7, 8], [1, 1, 1, 1], [5, 1, 1, 1]])
    assert cut_padding(rows, 1) == [[5, 1, 6], [5, 6, 7, 8], [1], [5]]


def test_other_networks_are_left_to_open_clip() -> None:
    for kind in UNKNOWN_VISION:
        assert image_tower(network(vision=kind)) is None, kind
    for kind in UNKNOWN_TEXT:
        assert text_tower(network(text=kind)) is None, kind
    # One that differs in a detail which no configuration tells.
    model = import_open_clip().model.CLIP(64, VISION, TEXT)
    assert image_tower(model) is not None
    assert text_tower(model) is not None
    model.visual.transformer.resblocks[1].mlp.gelu = torch.nn.ReLU()
    model.transformer.resblocks[2].ln_1 = torch.nn.Identity()
    assert image_tower(model) is None
    assert text_tower(model) is None


def test_weights_are_moved_to_a_type_and_a_device() -> None:
    tower = image_tower(network())
    assert tower is not None
    there = torch_towers.moved(tower, torch.bfloat16, "meta")
    block = there.transformer.blocks[0]
    for tensor in (there.patches, there.norm_after.bias, block.attention_in.weight):
        assert (tensor.dtype, tensor.device.type) == (torch.bfloat16, "meta")
    assert torch_towers.moved(tower, torch.float32).patches.data_ptr() == tower.patches.data_ptr()
    assert weight_bytes(tower) == 4 * sum(value.numel() for value in network().visual.parameters())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models as the hub has them: one with known towers, and one without."""
    found = {}
    for kind, vision, text in (("known", "plain", "plain"), ("unknown", "CNN", "class token")):
        folder = tmp_path_factory.mktemp(kind)
        words = {**TEXT, **KNOWN_TEXT.get(text, {}), **UNKNOWN_TEXT.get(text, {}), "vocab_size": 49408}
        config = {
            "embed_dim": 64,
            "vision_cfg": {**VISION, **KNOWN_VISION.get(vision, {}), **UNKNOWN_VISION.get(vision, {})},
            "text_cfg": {**words, "context_length": CONTEXT},
            "custom_text": text != "plain",
        }
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        classes = import_open_clip().model
        create = classes.CLIP if text == "plain" else classes.CustomTextCLIP
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            model = create(64, config["vision_cfg"], config["text_cfg"])
        for name, value in model.named_parameters():
            if "embedding" in name:
                value.data *= 20
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        found[kind] = folder
    return found


def test_each_runtime_ranks_alike_and_says_what_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    name = str(folders["known"])
    sentences = ["a cat", "two dogs run over the snow", "a cat", "", "a red bus", "word " * 40]
    vectors: dict[str, Floats] = {}
    for runtime in ("torch", "openvino", "onnx", "auto"):
        images = load_image_encoder(name, cache=tmp_path, runtime=runtime)
        texts = load_text_encoder(name, cache=tmp_path, runtime=runtime)
        assert runtime == "auto" or images.runtime.startswith(runtime)
        assert runtime == "auto" or texts.runtime.startswith(runtime)
        assert images.concurrency >= 1
        squares = pixels()[: 2 + len(vectors)]
        found = texts.encode(sentences)
        vectors[runtime] = found
        # In order again after buckets by length, and equal captions tie to the last bit.
        alone = np.concatenate([texts.encode([sentence]) for sentence in sentences])
        assert (found * alone).sum(axis=1).min() > 0.9995
        assert found[0].tobytes() == found[2].tobytes()
        assert images.encode(squares).tobytes() == images.encode(squares).tobytes()
    for found in vectors.values():
        assert (found * vectors["onnx"]).sum(axis=1).min() > 0.999


def test_a_graph_keeps_no_weights_but_its_own(folders: dict[str, Path], tmp_path: Path) -> None:
    def towers() -> int:
        gc.collect()
        return sum(type(found) in (ImageTower, TextTower) for found in gc.get_objects())

    name, before = str(folders["known"]), towers()
    images = load_image_encoder(name, cache=tmp_path, runtime="onnx")
    texts = load_text_encoder(name, cache=tmp_path, runtime="onnx")
    assert towers() == before
    assert images.encode(pixels()[:2]).shape == texts.encode(["a cat", ""]).shape == (2, 64)


def test_open_clip_itself_computes_what_is_not_known(folders: dict[str, Path], tmp_path: Path) -> None:
    name = str(folders["unknown"])
    for load, what in ((load_image_encoder, pixels()[:3]), (load_text_encoder, ["a cat", "", "a red bus"])):
        encoder: Any = load(name, cache=tmp_path)
        assert encoder.runtime.startswith("torch ")
        np.testing.assert_allclose(np.linalg.norm(encoder.encode(what), axis=1), 1, atol=1e-6)
        with pytest.raises(ModelError, match=r"--runtime openvino \(it has no such form\)"):
            load(name, cache=tmp_path, runtime="openvino")
