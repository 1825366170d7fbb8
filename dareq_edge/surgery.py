"""Replacing a model's float modules by quantized ones, in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from dareq_edge.errors import CheckpointError
from dareq_edge.lookup import QuantLookup
from dareq_edge.matrix import LINEARS, embed_scale, matrix_of
from dareq_edge.nn import DAREQuantLinear, QuantEmbedding, QuantMatrix, TiedQuantLinear
from dareq_edge.plan import Entropy, QuantOptions, config_json, is_tied, output_head, plan_model, token_table
from dareq_edge.progress import Progress, silent
from dareq_edge.quantizers import Quantizer
from dareq_edge.quantizers._grid import check
from dareq_edge.spec import QuantSpec, ScaleDtype

ModelT = TypeVar("ModelT", bound=nn.Module)


def apply_dareq(
    model: ModelT,
    bits: int = 4,
    skip: tuple[str, ...] | list[str] = (),
    *,
    bins: int = 128,
    lambda_weight: float = 1.0,
    lambda_entropy: float = 0.1,
    entropy: Entropy = "density",
    candidates: int = 20,
    group_size: int | None = None,
    scale_dtype: ScaleDtype = "float32",
    method: str = "dareq",
    table_bits: int | None = None,
    progress: Progress = silent,
    position_bits: int | None = None,
) -> ModelT:
    """Replace every linear layer (``nn.Linear``, GPT-2's ``Conv1D``) of a model by a ``DAREQuantLinear``, in place.

    The token embedding and the output head stay float unless ``table_bits`` is set. They are the layers most
    sensitive to rounding, and a head that shares its table with the embedding must not be quantized alone, which
    would untie it and *add* a table. With ``table_bits`` the table is quantized once, and a tied head stays tied.
    Learned positions stay float unless ``position_bits`` is set; norms always do. Of a module that is no transformers
    model every linear is replaced, because nothing tells which one is the head: name it in ``skip``.

    A transformers model is also marked (``config.quantization_config``), so that ``save_pretrained`` writes a folder
    which ``from_pretrained`` loads again after ``import dareq_edge.hf``.

    Args:
        model: Changed in place; all weights are checked before the first is replaced.
        bits: Bits per code, 2 to 8.
        skip: fnmatch patterns of module names that stay float.
        bins: See ``QuantOptions``; so for all below.
        lambda_weight: Weight of the squared error.
        lambda_entropy: Weight of the entropy.
        entropy: "density" or "probability".
        candidates: Scales tried per row or group.
        group_size: Input channels per scale; ``None`` is per output channel.
        scale_dtype: "float32" or "bfloat16".
        method: Quantizer plug-in.
        table_bits: Bits of token embedding and head, 4 or 8; ``None`` keeps them float.
        progress: Called after every module.
        position_bits: Bits of learned position tables, 4 or 8; ``None`` keeps them float.

    Returns:
        The same model.

    Raises:
        SpecError: An option's value cannot work.
        UnsupportedArchitectureError: Nothing to quantize.
        CheckpointError: A weight holds NaN or infinity; the message names it.
    """
    options = QuantOptions(
        bits, group_size, scale_dtype, method, entropy, bins, lambda_weight, lambda_entropy, candidates,
        tuple(skip), table_bits, position_bits,
    )  # fmt: skip
    plan = plan_model(model, options)
    apply_plan(model, plan, options.quantizer(), progress)
    config: Any = getattr(model, "config", None)
    if hasattr(config, "model_type"):
        config.quantization_config = config_json(options, plan)
    return model


def apply_plan(
    model: nn.Module, plan: Mapping[str, QuantSpec], quantizer: Quantizer, progress: Progress = silent
) -> None:
    """Quantize the planned modules of a loaded model, in place.

    Args:
        model: With real weights.
        plan: From ``plan_model``.
        quantizer: Chooses scales and codes.
        progress: Called after every module.

    Raises:
        CheckpointError: A planned module does not exist, or its weight cannot be quantized (nothing was changed).
    """
    for name in plan:
        check(matrix_of(_submodule(model, name)), f"{name}.weight")
    tied = is_tied(model)
    for done, (name, spec) in enumerate(plan.items(), start=1):
        old = _submodule(model, name)
        weight = matrix_of(old)
        tensor = quantizer(weight, spec, f"{name}.weight")
        new: QuantMatrix
        if old is token_table(model) and isinstance(old, nn.Embedding):
            new = QuantEmbedding.from_quantized(tensor, weight, old.padding_idx, embed_scale(name, old))
        elif isinstance(old, nn.Embedding):
            new = QuantLookup.from_quantized(tensor, old)
        else:
            new = DAREQuantLinear.from_quantized(tensor, _bias(old), weight)
        _replace(model, old, new, tied)
        progress("quantizing", done, len(plan))


def install_empty(model: nn.Module, plan: Mapping[str, QuantSpec]) -> None:
    """Replace the planned modules by empty quantized ones, in place, for a state dict to be loaded into.

    Args:
        model: On any device, meta included; its weights are not read.
        plan: From config.json.

    Raises:
        CheckpointError: A planned module does not exist.
    """
    tied = is_tied(model)
    for name, spec in plan.items():
        old = _submodule(model, name)
        weight = matrix_of(old)
        n, k = weight.shape
        new: QuantMatrix
        if old is token_table(model) and isinstance(old, nn.Embedding):
            new = QuantEmbedding.empty(
                n, k, spec, old.padding_idx, embed_scale(name, old), device=weight.device, dtype=weight.dtype
            )
        elif isinstance(old, nn.Embedding):
            new = QuantLookup.empty(spec, old)
        else:
            new = DAREQuantLinear.empty(k, n, spec, _bias(old), device=weight.device, dtype=weight.dtype)
        _replace(model, old, new, tied)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"the plan names {name!r}, which {type(model).__name__} does not have") from error
    if not isinstance(module, (*LINEARS, nn.Embedding)):
        raise CheckpointError(f"{name} is a {type(module).__name__}; only linear layers and tables are quantized")
    return module


def _bias(module: nn.Module) -> nn.Parameter | None:
    return module.bias if isinstance(module.bias, nn.Parameter) else None


def _replace(model: nn.Module, old: nn.Module, new: QuantMatrix, tied: bool) -> None:
    """Put ``new`` wherever ``old`` is used; a tied head follows the table."""
    head = output_head(model) if tied and isinstance(new, QuantEmbedding) and old is token_table(model) else None
    swaps: dict[nn.Module, nn.Module] = {old: new.train(old.training)}
    if head is not None and isinstance(new, QuantEmbedding):
        swaps[head] = TiedQuantLinear(new, _bias(head)).train(head.training)
    for parent in list(model.modules()):
        for leaf, child in list(parent._modules.items()):  # named_children() hides a module's second name
            if child is not None and child in swaps:
                setattr(parent, leaf, _with_hooks(swaps[child], child))


def _with_hooks(new: nn.Module, old: nn.Module) -> nn.Module:
    """Carry over accelerate's hook, which moves inputs between devices in a model with a device map."""
    hook = getattr(old, "_hf_hook", None)
    if hook is not None:
        from accelerate.hooks import add_hook_to_module  # type: ignore[import-untyped]  # made the hook

        add_hook_to_module(new, hook)
    return new
