"""One traced run of a transformers model whose linears and attention emit the operators we want."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.export import _trace as torch_trace
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.modeling_utils import no_init_weights

from dareq_edge.embeddings import check_lookup
from dareq_edge.errors import CheckpointError, ExportError, UnsupportedArchitectureError
from dareq_edge.kernel_layout import BlockLayout, choose_layout
from dareq_edge.matrix import LINEARS, embed_scale, matrix_of
from dareq_edge.spec import QuantSpec
from dareq_export.capture.attention import AttentionTrace, PassThroughCache, attention_bias, group_query_attention
from dareq_export.capture.modules import FloatLinear, GatherLookup, GatherTable, NBitsLinear
from dareq_export.columns import ColumnLayout

OPSET = 21
ROOT = "model"  # the wrapper's attribute that holds the captured model; prefixes every initializer's name


@dataclass(frozen=True)
class Captured:
    """A graph without weights.

    Attributes:
        model: Parameters are initializers named as in the checkpoint (``<module>.qweight``, ``<module>.scales``, …).
        layouts: Layout of every lowered module, by module name; a tied head's is under its own name. As captured,
            all of them are ``BlockLayout``.
        tied: Head module name → embedding module name, when they share a table.
        parameters: Names of the initializers that the checkpoint must fill.
    """

    model: ir.Model
    layouts: Mapping[str, BlockLayout | ColumnLayout]
    tied: Mapping[str, str]
    parameters: frozenset[str]


def read_config(folder: Path) -> PretrainedConfig:
    """The transformers configuration of a model folder.

    Raises:
        CheckpointError: transformers does not know it.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)  # without it, transformers may ask
    except Exception as error:  # whatever a configuration class makes of values it was not made for
        path = folder / "config.json"
        raise CheckpointError(f"{path} is not a configuration transformers knows: {_first_line(error)}") from error


class _Decoder(nn.Module):
    """The signature of design decision D5 around a transformers causal LM."""

    def __init__(self, model: nn.Module, mailbox: list[AttentionTrace]) -> None:
        super().__init__()
        self.model = model
        self._mailbox = mailbox

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        batch, length = input_ids.shape
        total = attention_mask.shape[1]
        seqlens = torch.full((batch,), total - 1, dtype=torch.int32)
        trace = AttentionTrace(seqlens, torch.full((), total, dtype=torch.int32), past)
        self._mailbox[:] = [trace]
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_bias(attention_mask, length),
            position_ids=position_ids,
            past_key_values=PassThroughCache(past[0][0].shape[2]),
            use_cache=True,
        )
        missing = [i for i in range(len(past)) if i not in trace.present]
        if missing:
            raise UnsupportedArchitectureError(
                f"layer {missing[0]} does not attend through transformers' AttentionInterface; "
                "this architecture needs another export"
            )
        return out.logits, [trace.present[i] for i in range(len(past))]


def capture(config: PretrainedConfig, plan: Mapping[str, QuantSpec]) -> Captured:
    """Capture the architecture ``config`` describes with the linears in ``plan`` lowered.

    Args:
        config: The Hugging Face config; its ``quantization_config`` is ignored.
        plan: Module name → spec, as in the quantized checkpoint.

    Raises:
        UnsupportedArchitectureError: transformers or torch.export cannot run this model this way.
        ExportError: A planned module does not exist or cannot be lowered.
    """
    mailbox: list[AttentionTrace] = []
    with group_query_attention(mailbox) as attention:
        model = _empty_model(config, attention)
        tied = _tied_head(model)
        layouts = _replace_modules(model, plan, tied)
        program = _export(_Decoder(model, mailbox), config)
    names = {f"{ROOT}.{n}" for n, _ in [*model.named_parameters(), *_persistent_buffers(model)]}
    for name in [n for n in program.graph.initializers if n.startswith(f"{ROOT}.")]:
        program.graph.initializers[name].name = name.removeprefix(f"{ROOT}.")
    found = frozenset(n.removeprefix(f"{ROOT}.") for n in names)
    return Captured(program, layouts, tied, found & frozenset(program.graph.initializers))


def _persistent_buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    kept = set(model.state_dict(keep_vars=True))
    return ((n, b) for n, b in model.named_buffers() if n in kept)


def _empty_model(config: PretrainedConfig, attention: str) -> nn.Module:
    """The model with uninitialised fp32 parameters, whose pages are never touched."""
    config = type(config).from_dict({k: v for k, v in config.to_dict().items() if k != "quantization_config"})
    try:
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
        model.tie_weights()
    except Exception as error:  # as above
        if isinstance(error, KeyError) and error.args == (attention,):  # a table of classes of its own
            raise UnsupportedArchitectureError(
                f"model type {config.model_type!r} does not attend through transformers' AttentionInterface, so its "
                "attention cannot be replaced by GroupQueryAttention; this architecture needs another export"
            ) from error
        raise UnsupportedArchitectureError(
            f"transformers cannot build a causal language model of type {config.model_type!r} with our attention: "
            f"{_first_line(error)}"
        ) from error
    ready: nn.Module = model.eval().requires_grad_(False)
    return ready


def _tied_head(model: nn.Module) -> dict[str, str]:
    """{head: embedding} when the output head shares the embedding's table."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    names = {id(module): name for name, module in model.named_modules()}
    shared = head is not None and head.weight is table.weight
    return {names[id(head)]: names[id(table)]} if shared else {}


def _replace_modules(
    model: nn.Module, plan: Mapping[str, QuantSpec], tied: Mapping[str, str]
) -> dict[str, BlockLayout]:
    """Swap every planned module (and every other linear) for one that emits its operator."""
    modules, token_table = dict(model.named_modules()), model.get_input_embeddings()  # type: ignore[operator]
    specs = dict(plan) | {head: plan[table] for head, table in tied.items() if table in plan}
    unknown = sorted(set(specs) - set(modules))
    if unknown:
        raise ExportError(
            f"the plan names {unknown[0]}, which the model does not have; quantize the checkpoint again"
        )
    layouts: dict[str, BlockLayout] = {}
    for name, module in modules.items():
        spec = specs.get(name)
        if spec and isinstance(module, (*LINEARS, nn.Embedding)):
            n, k = matrix_of(module).shape
            layouts[name] = choose_layout((n, k), spec)
        if spec and isinstance(module, nn.Embedding) and module is not token_table:
            check_lookup(name, module)
            _set_module(model, name, GatherLookup.under(module, layouts[name]))
        elif isinstance(module, nn.Embedding) and spec:
            scale = embed_scale(name, module)
            _set_module(model, name, GatherTable(layouts[name], None if scale is None else float(scale)))
        elif isinstance(module, LINEARS) and spec:
            _set_module(model, name, NBitsLinear(layouts[name], bias=module.bias is not None))
        elif isinstance(module, nn.Linear):
            _set_module(model, name, FloatLinear(module.weight, module.bias))
        elif spec:
            raise ExportError(
                f"{name} is a {type(module).__name__}, which cannot be lowered to int{spec.bits}; skip it"
            )
    return layouts


def _set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def cache_shape(config: PretrainedConfig) -> tuple[int, int]:
    """(kv heads, head dim) of the key/value cache."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    return kv_heads, getattr(text, "head_dim", None) or text.hidden_size // heads


def _example(config: PretrainedConfig) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Example inputs (batch 2: sizes 0 and 1 would be specialised) and their dynamic shapes."""
    batch, length, past_length = 2, 3, 5
    total = past_length + length
    kv_heads, head_dim = cache_shape(config)
    layers = config.get_text_config().num_hidden_layers
    past = [tuple(torch.zeros(batch, kv_heads, past_length, head_dim) for _ in range(2)) for _ in range(layers)]
    ids = torch.zeros(batch, length, dtype=torch.int64)
    mask = torch.ones(batch, total, dtype=torch.int64)
    positions = torch.arange(past_length, total).expand(batch, length).contiguous()
    b, s, t, p = "batch_size", "sequence_length", "total_sequence_length", "past_sequence_length"
    cache = [({0: b, 2: p}, {0: b, 2: p}) for _ in range(layers)]
    return (ids, mask, positions, past), ({0: b, 1: s}, {0: b, 1: t}, {0: b, 1: s}, cache)


def _export(decoder: nn.Module, config: PretrainedConfig) -> ir.Model:
    inputs, shapes = _example(config)
    layers = range(config.get_text_config().num_hidden_layers)
    past = [f"past_key_values.{i}.{kind}" for i in layers for kind in ("key", "value")]
    present = [f"present.{i}.{kind}" for i in layers for kind in ("key", "value")]
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                decoder,
                inputs,
                input_names=["input_ids", "attention_mask", "position_ids", *past],
                output_names=["logits", *present],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except UnsupportedArchitectureError:
        raise
    except Exception as error:  # torch.export raises many unrelated classes
        raise UnsupportedArchitectureError(
            f"a model of type {config.model_type!r} cannot be captured: {_first_line(error)}"
        ) from error
    if program is None:
        raise UnsupportedArchitectureError(f"torch.onnx returned nothing for model type {config.model_type!r}")
    return program.model


def _first_line(error: BaseException) -> str:
    """The first line of the innermost cause: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's and transformers' warnings: what matters becomes an error."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers", "torch.export")]
    levels = [logger.level for logger in loggers]
    # torch prints the half-made graph of a failed trace; redirecting stderr would freeze the progress display.
    vars(torch_trace)["print"] = lambda *args, **kwargs: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            del vars(torch_trace)["print"]
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
