"""Skeleton: a transformers model without weights, whose parts are filled from the checkpoint one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.integrations.accelerate import init_empty_weights
from transformers.modeling_utils import no_init_weights

from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from dareq_edge.layers import decoder_layers
from dareq_edge.recipes import Source


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """The model with its parameters on the meta device and its computed buffers in memory, in evaluation mode.

    Attributes:
        source: Where weights come from.
        model: The causal language model.
        path: Name of the list of decoder layers, e.g. "model.decoder.layers".
    """

    source: Source
    model: nn.Module
    path: str

    @classmethod
    def open(cls, source: Source) -> Skeleton:
        """Build the structure; no weight is read.

        Raises:
            UnsupportedArchitectureError: No list of decoder layers can be found.
        """
        with no_init_weights(), init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(
                copy.deepcopy(source.checkpoint.config),
                dtype=torch.float32,
                trust_remote_code=source.trust_remote_code,
            )
        model.generation_config = GenerationConfig()
        model.tie_weights()
        model.eval().requires_grad_(False)
        return cls(source, model, _layers_path(model))

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers; their parameters are on the meta device."""
        found = self.model.get_submodule(self.path)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def base(self) -> nn.Module:
        """The model without its output head."""
        found: nn.Module = self.model.base_model  # type: ignore[assignment]  # transformers is untyped
        return found

    def block(self, index: int) -> nn.Module:
        """A copy of one decoder layer with its weights in float32.

        Raises:
            CheckpointError: A weight file can no longer be read.
        """
        block = copy.deepcopy(self.layers[index])
        vars(block).pop("forward", None)  # what ``walk`` puts over it while it listens
        self._fill(block, f"{self.path}.{index}.")
        return block

    @contextmanager
    def surroundings(self, *, head: bool) -> Iterator[None]:
        """Inside: everything that is not a decoder layer has its weights, in float32; after: none has.

        Args:
            head: Also the output head.
        """
        root = self.model if head else self.base
        stem = next(n for n, m in self.model.named_modules() if m is root)
        modules = [(n, m) for n, m in root.named_modules(prefix=stem) if not f"{n}.".startswith(f"{self.path}.")]
        before = [(m, dict(m._parameters)) for _, m in modules]
        try:
            done: dict[str, nn.Parameter] = {}
            for name, module in modules:
                self._fill(module, f"{name}." if name else "", done, recurse=False)
            yield
        finally:
            for module, parameters in before:
                module._parameters.update(parameters)

    def _fill(
        self, root: nn.Module, prefix: str, done: dict[str, nn.Parameter] | None = None, *, recurse: bool = True
    ) -> None:
        """Give ``root``'s parameters and stored buffers the values of the checkpoint; tied ones stay tied."""
        canonical = _canonical(self.source.model)
        done = {} if done is None else done
        for path, module in root.named_modules() if recurse else [("", root)]:
            stem = f"{prefix}{path}." if path else prefix
            for leaf in [n for n, p in module._parameters.items() if p is not None]:
                name = canonical[f"{stem}{leaf}"]
                if name not in done:
                    done[name] = nn.Parameter(self._tensor(name), requires_grad=False)
                module._parameters[leaf] = done[name]
            for leaf, buffer in module._buffers.items():
                name = canonical.get(f"{stem}{leaf}", "")
                if buffer is not None and name in self.source.names:
                    module._buffers[leaf] = self._tensor(name)

    def _tensor(self, name: str) -> torch.Tensor:
        if name not in self.source.names:
            raise CheckpointError(
                f"tensor {name!r} is missing from {self.source.checkpoint.folder}; calibrated recipes need every "
                "weight, get the folder again"
            )
        stored = self.source.tensor(name)
        # clone: a float32 tensor would otherwise be the file's own mapping
        return stored.to(torch.float32, copy=True) if stored.is_floating_point() else stored.clone()


def _canonical(model: nn.Module) -> dict[str, str]:
    """The first name of every stored tensor: ``Source.names`` knows tied weights by that one only."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in model.state_dict(keep_vars=True).items()}


def _layers_path(model: nn.Module) -> str:
    path = decoder_layers(model)
    if path is None:
        raise UnsupportedArchitectureError(
            f"{type(model).__name__} has no list of decoder layers, so it cannot be walked block by block; "
            "use a recipe that treats every matrix alone, e.g. mse"
        )
    return path
