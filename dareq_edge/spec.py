"""QuantSpec: the one description of how a matrix is stored. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from dareq_edge.errors import SpecError

ScaleDtype = Literal["float32", "bfloat16"]
"""Precision that scales are rounded to before codes are chosen (they are stored as float32 either way)."""


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """How one weight matrix [N, K] is quantized: symmetric integers times scales.

    Attributes:
        bits: Bits per code, 2 to 8.
        group_size: Consecutive input channels (along K) that share a scale; ``None`` is per output channel.
        scale_dtype: ``"bfloat16"`` rounds every scale to a value bf16 holds exactly before codes are chosen,
            because ARM's KleidiAI kernels truncate scales to bf16; ``"float32"`` keeps the method's own scale.
        method: Name of the quantizer plug-in that chose the scales.

    Raises:
        SpecError: A field is out of range.

    Example:
        >>> spec = QuantSpec(bits=4, group_size=64)
        >>> spec.scheme, spec.zero_point, spec.groups(100)
        ('group 64', 8, 2)
        >>> QuantSpec(bits=9)
        Traceback (most recent call last):
        dareq_edge.errors.SpecError: bits is 9; use a whole number from 2 to 8
    """

    bits: int = 4
    group_size: int | None = None
    scale_dtype: ScaleDtype = "float32"
    method: str = "dareq"

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 8:
            raise SpecError(f"bits is {self.bits!r}; use a whole number from 2 to 8")
        size = self.group_size
        if size is not None and (type(size) is not int or size not in (16, 32, 64, 128, 256)):
            raise SpecError(f"group_size is {size!r}; use 16, 32, 64, 128, 256, or None for per channel")
        if not isinstance(self.method, str):
            raise SpecError(f"method is {self.method!r:.80}; use the name of a quantizer")
        if self.scale_dtype not in get_args(ScaleDtype):
            raise SpecError(f"scale_dtype is {self.scale_dtype!r}; use one of {', '.join(get_args(ScaleDtype))}")

    @property
    def zero_point(self) -> int:
        """The code that means 0: 2^(bits-1)."""
        return 1 << (self.bits - 1)

    @property
    def scheme(self) -> str:
        """Human-readable granularity: "per channel" or "group 64"."""
        return "per channel" if self.group_size is None else f"group {self.group_size}"

    def groups(self, k: int) -> int:
        """G, the number of scales per row of K input channels (the last group may be short)."""
        return 1 if self.group_size is None else -(-k // self.group_size)

    def to_json(self) -> dict[str, int | str | None]:
        """A plain dict; ``from_json`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> QuantSpec:
        """Read ``to_json``'s form.

        Raises:
            SpecError: A key is unknown, or a value is out of range.
        """
        if not isinstance(data, Mapping):
            raise SpecError(f"a quantization spec is {data!r:.80}, no object; quantize the model again")
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise SpecError(f"unknown quantization field {unknown[0]!r}; this file needs a newer dareq-edge")
        return cls(**data)  # type: ignore[arg-type]  # __post_init__ checks every value
