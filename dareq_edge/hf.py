"""DARE-Q as a transformers quantization method; importing this module registers it.

    import dareq_edge.hf  # also before loading a saved folder: transformers must know "dareq"
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=DareqConfig(bits=4))
    model.save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)

Weights are always read in float32 and cast to the requested dtype after quantization (or after loading), because
transformers casts every floating tensor it reads, and rounded scales would not be the ones the codes were chosen for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from dareq_edge.errors import SpecError
from dareq_edge.plan import Entropy, QuantOptions
from dareq_edge.spec import QuantSpec, ScaleDtype

METHOD = "dareq"


@register_quantization_config(METHOD)
@dataclass
class DareqConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers is untyped
    """What config.json holds under "quantization_config"; see ``dareq_edge.plan.QuantOptions`` for the options.

    Attributes:
        plan: Spec per module name in ``QuantSpec.to_json`` form, written when a model was quantized: the single truth
            for readers. ``None`` before that.
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
    plan: dict[str, dict[str, Any]] | None = None
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
    """The config of a quantized checkpoint.

    Args:
        options: The user's choices.
        plan: Spec per module name.
    """
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    return DareqConfig(**values, plan={name: dict(spec.to_json()) for name, spec in plan.items()})
