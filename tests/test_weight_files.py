"""Weights on disk: fp16, or int8 with scales; close to what was trained, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from native_checkpoints import PIECES, SQUASH, padded, random_tower, toy_captions

from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import NativeCheckpoint, save_checkpoint
from crossmodal.models.native.text_config import TransformerConfig
from crossmodal.models.native.towers import load_text_tower
from crossmodal.models.native.vocabularies import WordPieces
from crossmodal.models.native.weight_files import GROUP, dequantize, quantize, read_weights, weights_as_bytes

VALUES = st.floats(-100, 100, width=32)
MATRICES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.sampled_from([1, 5, GROUP, GROUP + 3])), elements=VALUES
)


@given(MATRICES)
def test_no_value_moves_by_more_than_half_a_scale(matrix: np.ndarray) -> None:
    values, scales = quantize(matrix)
    assert (values.dtype, scales.dtype) == (np.int8, np.float16)
    assert scales.shape == (len(matrix), -(-matrix.shape[1] // GROUP))
    step = np.repeat(scales.astype(np.float64), GROUP, axis=1)[:, : matrix.shape[1]]
    largest = np.abs(values).max(initial=0)
    assert largest <= 127
    # A scale is rounded to fp16: by 1/2048, or by 2**-25 where it is too small for that; times 127.
    allowed = 0.5 * step + 127 * np.maximum(step / 2048, 2.0**-25) + 1e-9
    assert (np.abs(dequantize(values, scales) - matrix) <= allowed).all()


def test_one_large_column_costs_only_its_neighbours_their_precision() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(8, 4 * GROUP)).astype(np.float32)
    matrix[:, 5] *= 100
    error = np.abs(dequantize(*quantize(matrix)) - matrix)
    assert error[:, :GROUP].max() > 0.1
    assert error[:, GROUP:].max() < 0.02


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(4, 6)).astype(np.float32) for name in ("b", "a", "c")}
    weights["bias"] = rng.normal(size=6).astype(np.float32)
    for quantized in (False, True):
        first = weights_as_bytes(weights, quantized=quantized)
        assert weights_as_bytes(dict(reversed(weights.items())), quantized=quantized) == first
        path = tmp_path / "weights.safetensors"
        path.write_bytes(first)
        read = read_weights(path)
        assert read.keys() == weights.keys()
        assert {value.dtype for value in read.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(read["bias"], weights["bias"].astype(np.float16).astype(np.float32))
        for name in ("a", "b", "c"):
            np.testing.assert_allclose(read[name], weights[name], atol=0.015 if quantized else 0.002)
        # Storing what was stored changes nothing any more.
        path.write_bytes(weights_as_bytes(read, quantized=quantized))
        for name, value in read_weights(path).items():
            np.testing.assert_array_equal(value, read[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_weights_of_a_diverged_training_are_refused(value: float) -> None:
    with pytest.raises(ModelError, match=r"weight projection\.bias cannot be stored"):
        weights_as_bytes({"projection.bias": np.array([0, value], np.float32)})


def test_scales_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "text.safetensors"
    values = np.ones((3, GROUP), np.int8)
    for stored in ({"a": values}, {"a": values, "a.scale": np.ones((2, 1), np.float16)}):
        save_file(stored, path)
        with pytest.raises(ModelError, match=r"weight file .*text\.safetensors cannot be read"):
            read_weights(path)


def test_captions_keep_their_vectors_in_int8(tmp_path: Path) -> None:
    """MiniLM's widths, and as in MiniLM a few columns that are ten times as large as the others."""
    config = TransformerConfig(layers=2, positions=32)
    vocabulary = WordPieces(PIECES, config.positions)
    tower = random_tower(config, len(vocabulary), 256)
    with torch.no_grad():
        for layer in tower.layers:
            layer.feed_out.weight[:, ::400] *= 10
    save_checkpoint(
        tmp_path,
        image_weights={},
        text_weights={name: value.numpy() for name, value in tower.state_dict().items()},
        text=config,
        vocabulary=vocabulary,
        dimension=256,
        preprocessing=SQUASH,
        training={},
        quantize_text=True,
    )
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    assert (tmp_path / "text.safetensors").stat().st_size < 1.04 * parameters
    stored = load_text_tower(NativeCheckpoint.open(tmp_path, "small"))
    batch = padded(vocabulary, toy_captions())
    with torch.inference_mode():
        cosines = (stored(*batch) * tower(*batch)).sum(dim=1)
    assert cosines.min() >= 0.999
    assert cosines.min() < 1
