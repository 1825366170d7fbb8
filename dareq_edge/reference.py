"""The torch reference: a float or quantized folder as plain fp32 transformers, scored like every other runtime."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig
from transformers.modeling_utils import no_init_weights

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress, silent
from dareq_edge.quantized import read_plan, read_quantized


@dataclass(frozen=True, slots=True, eq=False)
class TorchReference:
    """A Scorer (see ``dareq_runtime.scorer``) over a plain fp32 transformers model.

    Attributes:
        label: "torch fp32" for a float folder, "torch dareq" for a quantized one.
        model: The model; every quantized weight is an ordinary fp32 parameter equal to ``dequantize()``.
        context_length: Positions the model can take.
        vocab_size: Width of the logits.
    """

    label: str
    model: torch.nn.Module
    context_length: int
    vocab_size: int

    @torch.inference_mode()
    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = 128) -> Iterator[NDArray[np.float32]]:
        """Logits of one window, a chunk of positions at a time through the key-value cache.

        Args:
            ids: int64 [T], at most ``context_length``.
            chunk: Positions per step; bounds the memory.

        Yields:
            float32 [t, V], t <= chunk, in order.
        """
        tokens = torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64))[None]
        cache = DynamicCache()
        for start in range(0, tokens.shape[1], chunk):
            end = min(start + chunk, tokens.shape[1])
            step = self.model(
                input_ids=tokens[:, start:end],
                attention_mask=torch.ones(1, end, dtype=torch.int64),
                past_key_values=cache,
                use_cache=True,
            )
            yield step.logits[0].numpy()

    @torch.inference_mode()
    def greedy(self, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The ``count`` tokens that greedy decoding appends; end-of-sequence does not stop it.

        Args:
            ids: int64 [T], the prompt.
            count: Tokens to generate.

        Returns:
            int64 [count].
        """
        prompt = torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64))[None]
        rule = GenerationConfig(do_sample=False, max_new_tokens=count, use_cache=True)
        out = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=rule)  # type: ignore[operator]
        return out[0, prompt.shape[1] :].numpy()  # type: ignore[no-any-return]


def load_reference(
    source: str | Path, revision: str | None = None, *, trust_remote_code: bool = False, progress: Progress = silent
) -> TorchReference:
    """Load a float or quantized folder (or hub id) in fp32 on the CPU.

    Args:
        source: A local folder or a hub id.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Let transformers run code that comes with the model.
        progress: Called per tensor.

    Raises:
        CheckpointError: Missing, incomplete or corrupt files, or quantized by another tool.
        UnsupportedArchitectureError: Not a causal language model.
    """
    checkpoint = Checkpoint.open(str(source), revision, trust_remote_code=trust_remote_code)
    plan = read_plan(checkpoint)
    empty = checkpoint.empty_model(trust_remote_code=trust_remote_code)
    names = checkpoint.bind(empty, given={f"{module}.weight" for module in plan})
    model = _uninitialised(checkpoint, trust_remote_code=trust_remote_code)
    state = model.state_dict()
    with torch.no_grad():
        for done, (target, name) in enumerate(names.items()):
            progress("loading", done, len(names) + len(plan))
            state[target].copy_(checkpoint.tensor(name))
        for done, (module, spec) in enumerate(plan.items(), start=len(names)):
            progress("loading", done, len(names) + len(plan))
            weight = matrix_of(model.get_submodule(module), state[f"{module}.weight"])
            weight.copy_(torch.from_numpy(read_quantized(checkpoint, module, spec, weight.shape[1]).dequantize()))
    progress("loading", len(names) + len(plan), len(names) + len(plan))
    label, vocab_size = "torch dareq" if plan else "torch fp32", int(checkpoint.config.get_text_config().vocab_size)
    return TorchReference(label, model.eval(), checkpoint.context_length, vocab_size)


def _uninitialised(checkpoint: Checkpoint, *, trust_remote_code: bool) -> torch.nn.Module:
    """The plain fp32 model with untouched parameter memory; computed buffers are real, tied weights are tied."""
    config = copy.deepcopy(checkpoint.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    model.generation_config = (
        GenerationConfig()
    )  # transformers would fill in an end-of-sequence token from the model's
    model.tie_weights()
    return model  # type: ignore[no-any-return]
