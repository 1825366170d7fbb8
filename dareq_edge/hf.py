"""DARE-Q as a transformers quantization method; importing this module registers it.

    import dareq_edge.hf  # also before loading a saved folder: transformers must know "dareq"
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=DareqConfig(bits=4))
    model.save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)

Weights are always read in float32 and cast to the requested dtype after quantization (or after loading), because
transformers casts every floating tensor it reads, and rounded scales would not be the ones the codes were chosen for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.nn import QuantMatrix
from dareq_edge.plan import Entropy, QuantOptions, config_json, plan_model
from dareq_edge.spec import QuantSpec, ScaleDtype
from dareq_edge.surgery import apply_plan, install_empty

METHOD = "dareq"


@register_quantization_config(METHOD)
@dataclass
class DareqConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers is untyped
    """What config.json holds under "quantization_config"; see ``dareq_edge.plan.QuantOptions`` for the options.

    Attributes:
        plan: Spec per module name in ``QuantSpec.to_json`` form, written when a model was quantized: the single truth
            for readers. ``None`` before that.
        recipe: Label and settings of the recipe that made the folder, for people; nothing is read from it.
        quant_method: Always "dareq".

    Raises:
        SpecError: An option's value cannot work.
    """

    bits: int = 4
    group_size: int | None = None
    scale_dtype: ScaleDtype = "float32"
    method: str = "dareq"
    entropy: Entropy = "density"
    bins: int = 128
    lambda_weight: float = 1.0
    lambda_entropy: float = 0.1
    candidates: int = 20
    skip: list[str] = field(default_factory=list)
    table_bits: int | None = None
    position_bits: int | None = None
    plan: dict[str, dict[str, Any]] | None = None
    recipe: dict[str, Any] | None = None
    quant_method: str = METHOD

    def __post_init__(self) -> None:
        if self.quant_method != METHOD:
            raise SpecError(f"quant_method is {self.quant_method!r}; DareqConfig reads {METHOD!r} only")
        self.skip = list(self.skip)
        _ = self.options(), self.specs()

    def options(self) -> QuantOptions:
        """The user's choices as the frozen record the rest of the package takes."""
        return QuantOptions(**{f.name: getattr(self, f.name) for f in fields(QuantOptions)})

    def specs(self) -> dict[str, QuantSpec]:
        """The plan as specs; empty before a model was quantized."""
        return {name: QuantSpec.from_json(spec) for name, spec in (self.plan or {}).items()}

    def to_diff_dict(self) -> dict[str, Any]:
        """All fields: a saved folder says everything, defaults included."""
        return dict(self.to_dict())


def make_config(options: QuantOptions, plan: Mapping[str, QuantSpec]) -> DareqConfig:
    """The config of a quantized checkpoint, for readers that want the class and not ``plan.config_json``'s dict.

    Args:
        options: The user's choices.
        plan: Spec per module name.
    """
    return DareqConfig(**cast("dict[str, Any]", config_json(options, plan)))


@register_quantizer(METHOD)
class DareqHfQuantizer(HfQuantizer):  # type: ignore[misc]  # transformers is untyped
    """What transformers calls around weight loading; see the module's docstring for the order of things."""

    requires_calibration = False
    quantization_config: DareqConfig

    def __init__(self, quantization_config: DareqConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._wanted: torch.dtype | str | None = None

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Refuse what would leave weights where they cannot be quantized.

        Raises:
            SpecError: A device map that offloads to disk.
            CheckpointError: A saved folder without a plan.
        """
        device_map = kwargs.get("device_map")
        if isinstance(device_map, Mapping) and "disk" in device_map.values():
            raise SpecError("device_map offloads to disk, which dareq does not support; use memory devices only")
        if self.pre_quantized and not self.quantization_config.plan:
            raise CheckpointError("config.json has no quantization_config.plan; quantize the model again")

    def update_dtype(self, dtype: torch.dtype | str | None) -> torch.dtype:
        """Load in float32, remember what was asked for."""
        self._wanted = dtype
        return torch.float32

    def update_tp_plan(self, config: Any) -> Any:
        """The only hook that sees the config while its dtype is still the stored one: resolves dtype="auto"."""
        if self._wanted == "auto":
            self._wanted = getattr(config, "dtype", None)
        return config

    def update_missing_keys(self, model: nn.Module, missing_keys: list[str], prefix: str) -> list[str]:
        """Weights that are to be quantized, or were, must be there: random ones would pass unnoticed.

        Raises:
            CheckpointError: A planned tensor is missing.
        """
        config = self.quantization_config
        planned = config.specs() if self.pre_quantized else plan_model(model, config.options())
        for key in missing_keys:
            if key.rpartition(".")[0] in planned:
                raise CheckpointError(f"the checkpoint has no tensor {key}; it is incomplete or of another model")
        return missing_keys

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        if self.pre_quantized:
            install_empty(model, self.quantization_config.specs())

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        config = self.quantization_config
        if not self.pre_quantized:
            plan = plan_model(model, config.options())
            apply_plan(model, plan, config.options().quantizer())
            config.plan = {name: dict(spec.to_json()) for name, spec in plan.items()}
        dtype = self._wanted if self._wanted is not None else torch.float32
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        _cast(model, dtype)
        model.config.dtype = dtype
        model.config.quantization_config = config
        return model

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        """Whether ``save_pretrained`` may write the model."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Codes have no gradients."""
        return False


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Cast what transformers would have cast while loading: parameters and stored buffers, but never scales."""
    if dtype == torch.float32:
        return
    keep = list(getattr(model, "_keep_in_fp32_modules_strict", None) or [])
    if dtype == torch.float16:
        keep += getattr(model, "_keep_in_fp32_modules", None) or []
    kept = re.compile("|".join(rf"((^|\.){name}($|\.))" for name in keep)) if keep else None
    for name, module in model.named_modules():
        if isinstance(module, QuantMatrix):
            module.cast(dtype)
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point() and not (kept and kept.search(f"{name}.{leaf}")):
                parameter.data = parameter.data.to(dtype)
        for leaf, buffer in list(module.named_buffers(recurse=False)):
            stored = leaf not in module._non_persistent_buffers_set and not isinstance(module, QuantMatrix)
            if stored and buffer.is_floating_point():
                module._buffers[leaf] = buffer.to(dtype)
