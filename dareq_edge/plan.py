"""The plan: which modules of a model are quantized, and how. Decided in one place, before any work starts.

Plan keys are names from ``model.named_modules()``. A head that is tied to the token embedding has no entry of its
own: it follows the embedding's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from torch import nn

from dareq_edge.embeddings import check_lookup
from dareq_edge.errors import SpecError, UnsupportedArchitectureError
from dareq_edge.matrix import LINEARS, embed_scale
from dareq_edge.quantizers import Quantizer, build, check_form
from dareq_edge.spec import QuantSpec, ScaleDtype

Entropy = Literal["density", "probability"]
"""Which residual entropy DARE-Q uses: the published code's density histogram, or the paper's probabilities."""


@dataclass(frozen=True, slots=True)
class QuantOptions:
    """Everything a user can choose about quantizing a model; the fields of ``DareqConfig``.

    Attributes:
        bits: Bits per code of the linear layers, 2 to 8.
        group_size: Input channels per scale; ``None`` is per output channel.
        scale_dtype: "bfloat16" rounds scales to bf16-exact values before codes are chosen.
        method: Quantizer plug-in.
        entropy: DARE-Q only: "density" or "probability".
        bins: DARE-Q only: histogram bins B.
        lambda_weight: DARE-Q only: weight of the squared error.
        lambda_entropy: DARE-Q only: weight of the entropy.
        candidates: DARE-Q only: scales tried per row or group.
        skip: fnmatch patterns of module names that stay float.
        table_bits: Bits of the token embedding and the output head (4 or 8); ``None`` keeps both float.
        position_bits: Bits of every other embedding, i.e. of learned positions (4 or 8); ``None`` keeps them float.

    Raises:
        SpecError: A value cannot work, or the method does not exist, or not in this form.
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
    skip: tuple[str, ...] = ()
    table_bits: int | None = None
    position_bits: int | None = None

    def __post_init__(self) -> None:
        if self.entropy not in get_args(Entropy):
            raise SpecError(f"entropy is {self.entropy!r}; use one of {', '.join(get_args(Entropy))}")
        for name in ("table_bits", "position_bits"):
            if (value := getattr(self, name)) not in (None, 4, 8):
                raise SpecError(f"{name} is {value!r}; use 4, 8, or None for a float table")
        skip: object = self.skip  # callers and JSON may hand over anything
        if not isinstance(skip, (tuple, list)) or not all(isinstance(p, str) for p in skip):
            raise SpecError(f"skip is {skip!r}; use a list of name patterns, e.g. ['*.fc2']")
        object.__setattr__(self, "skip", tuple(skip))
        _ = self.spec, self.quantizer()
        check_form(self.method, self.spec)
        if self.table_bits is not None:
            check_form(self.method, self.table_spec)
        if self.position_bits is not None:
            check_form(self.method, self.position_spec)

    @property
    def spec(self) -> QuantSpec:
        """Spec of a linear layer."""
        return QuantSpec(self.bits, self.group_size, self.scale_dtype, self.method)

    @property
    def table_spec(self) -> QuantSpec:
        """Spec of the token table and the head; only meaningful when ``table_bits`` is set."""
        return QuantSpec(self.table_bits or self.bits, self.group_size, self.scale_dtype, self.method)

    @property
    def position_spec(self) -> QuantSpec:
        """Spec of position tables; only meaningful when ``position_bits`` is set."""
        return QuantSpec(self.position_bits or self.bits, self.group_size, self.scale_dtype, self.method)

    def quantizer(self) -> Quantizer:
        """The quantizer with these hyper-parameters."""
        return build(self.method, asdict(self))


def config_json(options: QuantOptions, plan: Mapping[str, QuantSpec]) -> dict[str, object]:
    """What config.json of a quantized checkpoint holds under "quantization_config"."""
    chosen = asdict(options) | {"skip": list(options.skip)}
    return {"quant_method": "dareq", **chosen, "plan": {name: spec.to_json() for name, spec in plan.items()}}


def token_table(model: nn.Module) -> nn.Module | None:
    """The token embedding, or ``None`` for a module that has none (not a transformers model)."""
    getter = getattr(model, "get_input_embeddings", None)
    try:
        return getter() if callable(getter) else None
    except NotImplementedError:
        return None


def output_head(model: nn.Module) -> nn.Module | None:
    """The output head, or ``None``."""
    getter = getattr(model, "get_output_embeddings", None)
    return getter() if callable(getter) else None


def is_tied(model: nn.Module) -> bool:
    """Whether the head uses the token embedding's table (by configuration, or because it already does)."""
    table, head = token_table(model), output_head(model)
    if table is None or head is None:
        return False
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    shared = getattr(table, "weight", None)
    return bool(getattr(text, "tie_word_embeddings", False)) or (
        shared is not None and getattr(head, "weight", None) is shared
    )


def matrices(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that hold a matrix, by name in the model's order: linear layers, embeddings, a tied head too."""
    table: Any = token_table(model)
    kinds = (*LINEARS, nn.Embedding)
    return {n: m for n, m in model.named_modules() if n and (isinstance(m, kinds) or m is table)}


def plan_model(model: nn.Module, options: QuantOptions) -> dict[str, QuantSpec]:
    """Decide what is quantized; works on a real or a meta-device model and reads no weights.

    Every linear layer (``matrix.LINEARS``) is planned except those matching ``options.skip``. The token embedding and
    the output head are planned only when ``table_bits`` is set: they are the layers most sensitive to rounding, and a
    head that shares its table with the embedding must stay one table. Every other embedding, which is to say learned
    positions, is planned when ``position_bits`` is set.

    Args:
        model: Any module; transformers models are asked for their embedding and head.
        options: The user's choices.

    Returns:
        Spec per module name, in the model's order.

    Raises:
        UnsupportedArchitectureError: Nothing to quantize, or a table that does more than look rows up (positions may
            be computed before and rows changed after that).
        SpecError: A skip pattern matches no module.
    """
    table, head, tied = token_table(model), output_head(model), is_tied(model)
    named = matrices(model)
    _check_skip(list(named), options.skip)
    plan: dict[str, QuantSpec] = {}
    for name, module in named.items():
        if any(fnmatchcase(name, pattern) for pattern in options.skip):
            continue
        if isinstance(module, nn.Embedding) and module is not table:
            if options.position_bits is not None:
                check_lookup(name, module)
                plan[name] = options.position_spec
        elif module is not table and module is not head:
            plan[name] = options.spec
        elif options.table_bits is not None and not (tied and module is head):
            _check_table(name, module)
            plan[name] = options.table_spec
    if not plan:
        raise UnsupportedArchitectureError(
            f"{type(model).__name__} contains no linear layer left to quantize; check skip, or use another model"
        )
    return plan


def check_plan(model: nn.Module, plan: Mapping[str, QuantSpec], method: str) -> dict[str, QuantSpec]:
    """Check a plan that was made elsewhere; every matrix may have a spec of its own, what is not named stays float.

    Args:
        model: A real or a meta-device model; no weights are read.
        plan: Spec per module name. Its specs say bits, groups and precision of scales, ``method`` who chooses scales.
        method: Quantizer plug-in, in place of the specs' own.

    Returns:
        The plan in the model's order.

    Raises:
        SpecError: A name is not a matrix of the model, or a form does not exist in this method.
        UnsupportedArchitectureError: A table that does more than look rows up, or an empty plan.
    """
    table, head = token_table(model), output_head(model)
    named = matrices(model)
    for name in plan:
        if name not in named:
            raise SpecError(
                f"the plan names {name}, which is no linear layer or embedding of {type(model).__name__}; use names "
                "from model.named_modules()"
            )
        if named[name] is head and is_tied(model):
            raise SpecError(f"the plan names {name}, which is tied; name the token embedding, whose matrix it uses")
    if not plan:
        raise UnsupportedArchitectureError("the plan is empty; name one matrix or more")
    for name, spec in plan.items():
        check_form(method, spec, name)
        if named[name] is table or named[name] is head:
            _check_table(name, named[name])
        elif isinstance(named[name], nn.Embedding):
            check_lookup(name, named[name])
    return {name: replace(plan[name], method=method) for name in named if name in plan}


def _check_skip(module_names: list[str], skip: tuple[str, ...]) -> None:
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in module_names):
            raise SpecError(
                f"skip pattern {pattern!r} matches no linear layer or embedding; see model.named_modules()"
            )


def _check_table(name: str, module: nn.Module | None) -> None:
    # A subclass may mask in its own forward, which a plain table or head would silently drop.
    if module is not None and type(module) not in LINEARS:
        embed_scale(name, module)
