"""open_clip's networks as towers of ``towers``, recognised by their structure.

What isn't known to the last detail is not described at all, and is computed by open_clip itself.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossmodal.models.clip.towers import (
    Activation,
    Block,
    ImageTower,
    Linear,
    Norm,
    Reading,
    TextTower,
    Transformer,
)
from crossmodal.models.libraries import import_open_clip

__all__ = ["image_tower", "text_tower"]


def image_tower(network: Any) -> ImageTower | None:
    """The photo's side of an open_clip network in its own tensors, or None where it isn't of this kind."""
    visual: Any = getattr(network, "visual", None)
    if type(visual) is not _parts().VisionTransformer or visual.attn_pool is not None or visual.output_tokens:
        return None
    transformer = _transformer(visual.transformer)
    norm_before = None if type(visual.ln_pre) is nn.Identity else _norm(visual.ln_pre)
    norm_after = _norm(visual.ln_post)
    pools: dict[str, Literal["first", "mean"]] = {"tok": "first", "avg": "mean"}
    if (
        transformer is None
        or norm_after is None
        or (norm_before is None and type(visual.ln_pre) is not nn.Identity)
        or visual.pool_type not in pools
    ):
        return None
    return ImageTower(
        patches=visual.conv1.weight.detach(),
        first=visual.class_embedding.detach(),
        positions=visual.positional_embedding.detach(),
        norm_before=norm_before,
        transformer=transformer,
        pool=pools[visual.pool_type],
        norm_after=norm_after,
        norm_pooled=visual.final_ln_after_pool,
        projection=_projection(visual.proj),
    )


def text_tower(network: Any) -> TextTower | None:
    """The sentence's side of an open_clip network in its own tensors, or None where it isn't of this kind."""
    text: Any = getattr(network, "text", None)
    if type(text) is _parts().TextTransformer:
        if text.cls_emb is not None or text.use_pad_mask or text.output_tokens:
            return None
        pool, end, mask = text.pool_type, text.eos_id, text.attn_mask
    elif text is None and hasattr(network, "text_pool_type"):
        # open_clip's CLIP holds the parts of this tower itself.
        text = network
        pool, end, mask = text.text_pool_type, text.text_eos_id, text.attn_mask
    else:
        return None
    transformer, norm = _transformer(text.transformer), _norm(text.ln_final)
    pools: dict[str, Literal["first", "last", "argmax", "end"]] = {
        "first": "first",
        "last": "last",
        "argmax": "argmax",
        "eos": "end",
    }
    if transformer is None or norm is None or pool not in pools or not _plain_mask(mask):
        return None
    return TextTower(
        words=text.token_embedding.weight.detach(),
        positions=text.positional_embedding.detach(),
        transformer=transformer,
        reading=Reading(causal=mask is not None, pool=pools[pool], end=end if pool == "eos" else None),
        norm=norm,
        projection=_projection(text.text_projection),
    )


def _plain_mask(mask: Tensor | None) -> bool:
    """Whether a mask hides nothing, or from each place exactly those after it."""
    if mask is None:
        return True
    hidden = torch.ones_like(mask).triu(1).bool()
    return bool((mask[hidden] == -torch.inf).all() and (mask[~hidden] == 0).all())


def _projection(found: Any) -> Linear | None:
    if found is None:
        return None
    return _linear(found) if isinstance(found, nn.Linear) else Linear(found.detach().T, None)


def _transformer(found: Any) -> Transformer | None:
    if type(found) is not _parts().Transformer:
        return None
    blocks = [_block(block) for block in found.resblocks]
    known = [block for block in blocks if block is not None]
    kinds = {(block.attn.num_heads, _activation(block.mlp.gelu)) for block in found.resblocks if known}
    if len(known) != len(found.resblocks) or len(kinds) != 1:
        return None
    heads, activation = kinds.pop()
    return None if activation is None else Transformer(tuple(known), heads, activation)


def _block(block: Any) -> Block | None:
    attention = getattr(block, "attn", None)
    if (
        type(block) is not _parts().ResidualAttentionBlock
        or hasattr(block, "ln_1_kv")
        or type(attention) is not nn.MultiheadAttention
        or attention.in_proj_weight is None
        or attention.bias_k is not None
        or attention.add_zero_attn
    ):
        return None
    attention_norm, feed_norm = _norm(block.ln_1), _norm(block.ln_2)
    attention_scale, feed_scale = _scale(block.ls_1), _scale(block.ls_2)
    if attention_norm is None or feed_norm is None or attention_scale is None or feed_scale is None:
        return None
    bias = attention.in_proj_bias
    return Block(
        attention_norm=attention_norm,
        attention_in=Linear(attention.in_proj_weight.detach(), None if bias is None else bias.detach()),
        attention_out=_scaled(_linear(attention.out_proj), attention_scale),
        feed_norm=feed_norm,
        feed_in=_linear(block.mlp.c_fc),
        feed_out=_scaled(_linear(block.mlp.c_proj), feed_scale),
    )


def _activation(module: Any) -> Activation | None:
    if type(module) is _parts().QuickGELU:
        return "quick"
    if type(module) is nn.GELU:
        return "tanh" if module.approximate == "tanh" else "erf"
    return None


def _norm(module: Any) -> Norm | None:
    if type(module) not in (_parts().LayerNorm, _parts().LayerNormFp32, nn.LayerNorm) or module.bias is None:
        return None
    return Norm(module.weight.detach(), module.bias.detach(), module.eps)


def _linear(module: nn.Linear) -> Linear:
    return Linear(module.weight.detach(), None if module.bias is None else module.bias.detach())


def _scale(module: Any) -> Tensor | float | None:
    """The factors of a layer scale (Touvron et al., 2021); 1 where there is none, None for anything else."""
    if type(module) is nn.Identity:
        return 1.0
    return module.gamma.detach() if type(module) is _parts().LayerScale else None


def _scaled(linear: Linear, factor: Tensor | float) -> Linear:
    """A linear layer whose outputs are multiplied by ``factor`` (outputs,)."""
    if not isinstance(factor, Tensor):
        return linear
    bias = None if linear.bias is None else linear.bias * factor
    return Linear(linear.weight * factor[:, None], bias)


def _parts() -> Any:
    """The module of open_clip that has the classes of both towers' parts."""
    return import_open_clip().transformer
