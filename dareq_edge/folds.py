"""Folds: factors that move from the inputs of linear layers into what computes those inputs, exactly.

With y = f(x) W2ᵀ and any t > 0 per channel, f(x / t) (W2 t)ᵀ is the same if the division passes through f: through a
norm's gain and bias, another layer's rows, attention (which mixes tokens, not channels), ReLU, or one side of a gated
product. Which module feeds which is a fact of an architecture, kept here as data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig

from dareq_edge.errors import UnsupportedArchitectureError
from dareq_edge.matrix import LINEARS, matrix_of


@dataclass(frozen=True, slots=True)
class Fold:
    """One place where a factor per channel can move; modules by name in the decoder layer.

    Attributes:
        before: What is divided: a norm, or a linear layer.
        after: What is multiplied: linear layers that share an input.
        within: The smallest module whose output tells what the layers in ``after`` do together.
        parts: Of a fused ``before`` with this many times as many rows, the last part counts (v of q, k, v).
        offset: The norm multiplies by its weight plus this (Gemma).
        relu: Setting of the configuration that has to be "relu".
        pre_norm: Setting of the configuration that, if it exists, has to be true: else the norm feeds the residual.
    """

    before: str
    after: tuple[str, ...]
    within: str
    parts: int = 1
    offset: float = 0.0
    relu: str | None = None
    pre_norm: str | None = None


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATED = ("mlp.gate_proj", "mlp.up_proj")


def _opt(activation: str) -> tuple[Fold, ...]:
    flag = "do_layer_norm_before"
    return (
        Fold("self_attn_layer_norm", _QKV, "self_attn", pre_norm=flag),
        Fold("self_attn.v_proj", ("self_attn.out_proj",), "self_attn.out_proj"),
        Fold("final_layer_norm", ("fc1",), "fc1", pre_norm=flag),
        Fold("fc1", ("fc2",), "fc2", relu=activation),
    )


def _llama(second_norm: str = "post_attention_layernorm", offset: float = 0.0) -> tuple[Fold, ...]:
    return (
        Fold("input_layernorm", _QKV, "self_attn", offset=offset),
        Fold("self_attn.v_proj", ("self_attn.o_proj",), "self_attn.o_proj"),
        Fold(second_norm, _GATED, "mlp", offset=offset),
        Fold("mlp.up_proj", ("mlp.down_proj",), "mlp.down_proj"),
    )


FOLDS: dict[str, tuple[Fold, ...]] = {
    "opt": _opt("activation_function"),
    "biogpt": _opt("hidden_act"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama()),
    "gemma": _llama(offset=1.0),
    **dict.fromkeys(("gemma2", "gemma3_text"), _llama("pre_feedforward_layernorm", 1.0)),
    "phi3": (
        Fold("input_layernorm", ("self_attn.qkv_proj",), "self_attn"),
        Fold("self_attn.qkv_proj", ("self_attn.o_proj",), "self_attn.o_proj", parts=3),
        Fold("post_attention_layernorm", ("mlp.gate_up_proj",), "mlp"),
        Fold("mlp.gate_up_proj", ("mlp.down_proj",), "mlp.down_proj", parts=2),
    ),
    "gpt2": (
        Fold("ln_1", ("attn.c_attn",), "attn"),
        Fold("attn.c_attn", ("attn.c_proj",), "attn.c_proj", parts=3),
        Fold("ln_2", ("mlp.c_fc",), "mlp"),
        Fold("mlp.c_fc", ("mlp.c_proj",), "mlp.c_proj", relu="activation_function"),
    ),
    "gpt_neox": (  # rows of q, k and v are interleaved by heads, so v is not the last part
        Fold("input_layernorm", ("attention.query_key_value",), "attention"),
        Fold("post_attention_layernorm", ("mlp.dense_h_to_4h",), "mlp"),
    ),
}
"""By model type (``config.model_type``)."""


def folds(config: PretrainedConfig, block: nn.Module) -> list[Fold]:
    """The folds that are exact in a decoder layer.

    Left out: norms that feed the residual too (OPT-350m), activations other than ReLU, and v into o where key-value
    heads are shared, so that shapes differ.

    Args:
        config: The model's.
        block: A decoder layer, on any device.

    Raises:
        UnsupportedArchitectureError: Nothing is known about this model type.
    """
    text = config.get_text_config(decoder=True)
    if text.model_type not in FOLDS:
        raise UnsupportedArchitectureError(
            f"which norm feeds which layer is not known for model type {text.model_type!r} (known: "
            f"{', '.join(sorted(FOLDS))}); use a recipe that folds nothing, e.g. gptq"
        )
    return [fold for fold in FOLDS[text.model_type] if _exact(fold, text, block)]


def apply_fold(block: nn.Module, fold: Fold, factors: torch.Tensor) -> list[str]:
    """Divide what comes before, multiply what comes after, in place.

    Args:
        block: A decoder layer with floating-point weights.
        fold: From ``folds``.
        factors: t, floating [K], positive.

    Returns:
        Names in the block of the parameters that changed.
    """
    before, names = block.get_submodule(fold.before), [f"{name}.weight" for name in fold.after]
    with torch.no_grad():
        if isinstance(before, LINEARS):
            matrix_of(before)[-len(factors) :] /= factors[:, None]
        else:
            gain = before.weight
            assert isinstance(gain, torch.Tensor)
            gain.copy_((gain + fold.offset) / factors - fold.offset)
        names.append(f"{fold.before}.weight")
        bias = getattr(before, "bias", None)
        if isinstance(bias, torch.Tensor):
            bias[-len(factors) :] /= factors
            names.append(f"{fold.before}.bias")
        for name in fold.after:
            matrix_of(block.get_submodule(name)).mul_(factors)
    return names


def _exact(fold: Fold, config: PretrainedConfig, block: nn.Module) -> bool:
    if fold.pre_norm is not None and not getattr(config, fold.pre_norm, True):
        return False
    if fold.relu is not None and getattr(config, fold.relu, None) != "relu":
        return False
    before, after = block.get_submodule(fold.before), block.get_submodule(fold.after[0])
    weight = before.weight
    assert isinstance(weight, torch.Tensor), "an affine norm or a linear layer"
    rows = len(matrix_of(before) if isinstance(before, LINEARS) else weight)
    return rows == fold.parts * matrix_of(after).shape[1]
