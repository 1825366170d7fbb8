"""Drop-in modules that hold a quantized matrix: ``DAREQuantLinear``, ``QuantEmbedding`` and a tied head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from dareq_edge.errors import CheckpointError
from dareq_edge.matrix import matrix_of
from dareq_edge.packing import packed_width
from dareq_edge.plan import Entropy, QuantOptions
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec, ScaleDtype
from dareq_edge.torch_format import dequantize

_BLOCK = 1 << 24  # weights dequantized at a time: bounds scratch memory in the forward pass of large heads


class QuantMatrix(nn.Module):
    """A packed matrix [N, K]; base of the modules here.

    Attributes:
        qweight: Buffer uint8 [N, ceil(K*bits/8)], see ``dareq_edge.packing``.
        scales: Buffer float32 [N, G]; stays float32 through ``.half()``, ``.bfloat16()`` and ``.to(dtype)``.
        spec: Bits, group size and method.
        in_features: K.
        out_features: N.
    """

    qweight: torch.Tensor
    scales: torch.Tensor
    _dtype_probe: torch.Tensor

    def __init__(
        self, qweight: torch.Tensor, scales: torch.Tensor, k: int, spec: QuantSpec, dtype: torch.dtype
    ) -> None:
        nn.Module.__init__(self)  # of several bases, the others make no weight
        n = scales.shape[0]
        if qweight.shape != (n, packed_width(k, spec.bits)) or scales.shape[1] != spec.groups(k):
            raise CheckpointError(
                f"qweight {tuple(qweight.shape)} and scales {tuple(scales.shape)} do not fit K={k}, {spec}"
            )
        self.in_features, self.out_features, self.spec = k, n, spec
        self.register_buffer("qweight", qweight)
        self.register_buffer("scales", scales)
        # Follows .to(dtype) as a float weight would; holds no data, so it lives on the CPU even in a meta model.
        self.register_buffer("_dtype_probe", torch.empty(0, dtype=dtype, device="cpu"), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype a float weight would have: follows ``.half()`` and friends."""
        return self._dtype_probe.dtype

    @property
    def weight(self) -> torch.Tensor:
        """The dequantized weight [N, K] in ``dtype``: computed at every access and never kept."""
        return dequantize(self.qweight, self.scales, self.in_features, self.spec, self.dtype)

    def dequantize(self) -> torch.Tensor:
        """W_q, float32 [N, K]."""
        return dequantize(self.qweight, self.scales, self.in_features, self.spec)

    def cast(self, dtype: torch.dtype) -> None:
        """Set ``dtype``, as ``.to(dtype)`` does, without touching the bias."""
        self._buffers["_dtype_probe"] = torch.empty(0, dtype=dtype, device="cpu")

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        # .half() must not round the scales: what is stored is what the codes were chosen for.
        exact = self._buffers.get("scales")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = self._buffers.get("scales")
        if exact is not None and moved is not None and moved.dtype != torch.float32:
            self._buffers["scales"] = exact.to(moved.device)
        return self

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Dequantized rows: integer [...], each in [0, N), to ``dtype`` [..., K]."""
        flat = ids.reshape(-1)
        rows = dequantize(self.qweight[flat], self.scales[flat], self.in_features, self.spec, self.dtype)
        return rows.reshape(*ids.shape, self.in_features)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        spec = self.spec
        return f"{self.in_features}, {self.out_features}, bits={spec.bits}, {spec.scheme}, method={spec.method}"


class DAREQuantLinear(QuantMatrix):
    """Drop-in for ``nn.Linear`` and ``Conv1D``: codes, scales and a full-precision bias; no float weight is kept.

    ``forward`` dequantizes on the fly to the activation's dtype (float32, float16 or bfloat16), on any device.

    Args:
        linear: The layer to quantize; its bias parameter is reused, its weight is not kept.
        bits: Bits per code, 2 to 8.
        bins: Histogram bins (DARE-Q).
        lambda_weight: Weight of the squared error (DARE-Q).
        lambda_entropy: Weight of the entropy (DARE-Q).
        entropy: "density" (published code) or "probability" (paper), see ``quantizers/dareq.py``.
        candidates: Scales tried per row or group (DARE-Q).
        group_size: Input channels per scale: 16, 32, 64, 128, 256, or ``None`` for one scale per output channel.
        scale_dtype: "bfloat16" rounds scales to bf16-exact values before codes are chosen.
        method: Quantizer plug-in.
        name: The layer's name, for error messages.

    Raises:
        SpecError: An option's value cannot work.
        CheckpointError: The weight holds NaN or infinity.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        linear: nn.Linear | Conv1D,
        bits: int = 4,
        bins: int = 128,
        lambda_weight: float = 1.0,
        lambda_entropy: float = 0.1,
        *,
        entropy: Entropy = "density",
        candidates: int = 20,
        group_size: int | None = None,
        scale_dtype: ScaleDtype = "float32",
        method: str = "dareq",
        name: str = "weight",
    ) -> None:
        options = QuantOptions(
            bits, group_size, scale_dtype, method, entropy, bins, lambda_weight, lambda_entropy, candidates
        )
        weight = matrix_of(linear)
        super().__init__(*packed_like(options.quantizer()(weight, options.spec, name), weight))
        self.register_parameter("bias", linear.bias)
        self.train(linear.training)

    @classmethod
    def from_quantized(
        cls, tensor: QuantizedTensor, bias: nn.Parameter | None = None, like: torch.Tensor | None = None
    ) -> Self:
        """Wrap a matrix that is quantized already.

        Args:
            tensor: The matrix [N, K].
            bias: [N], used as it is.
            like: A tensor that gives device and dtype; ``None`` is CPU float32.
        """
        return cls._make(*packed_like(tensor, torch.empty(0) if like is None else like), bias)

    @classmethod
    def empty(
        cls,
        in_features: int,
        out_features: int,
        spec: QuantSpec,
        bias: nn.Parameter | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A layer with uninitialized codes and scales, to load a state dict into (``device="meta"`` works)."""
        return cls._make(*empty_packed(out_features, in_features, spec, device), in_features, spec, dtype, bias)

    @classmethod
    def _make(
        cls,
        qweight: torch.Tensor,
        scales: torch.Tensor,
        k: int,
        spec: QuantSpec,
        dtype: torch.dtype,
        bias: nn.Parameter | None,
    ) -> Self:
        self = cls.__new__(cls)
        QuantMatrix.__init__(self, qweight, scales, k, spec, dtype)
        self.register_parameter("bias", bias)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute y = x W_q^T + b.

        Args:
            x: Floating [..., K].

        Returns:
            x's dtype [..., N].
        """
        bias = None if self.bias is None else self.bias.to(x.dtype)
        step = max(1, _BLOCK // self.in_features)
        if step >= self.out_features:
            return nn.functional.linear(x, self._rows(0, self.out_features, x.dtype), bias)
        parts = []
        for start in range(0, self.out_features, step):
            stop = min(start + step, self.out_features)
            part_bias = None if bias is None else bias[start:stop]
            parts.append(nn.functional.linear(x, self._rows(start, stop, x.dtype), part_bias))
        return torch.cat(parts, dim=-1)

    def _rows(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Dequantized rows [stop - start, K]."""
        return dequantize(self.qweight[start:stop], self.scales[start:stop], self.in_features, self.spec, dtype)


class QuantEmbedding(QuantMatrix):
    """Token embedding that gathers packed rows and dequantizes only those.

    Attributes:
        num_embeddings: N, the vocabulary.
        embedding_dim: K.
        padding_idx: As in ``nn.Embedding``; has no effect without gradients.
        embed_scale: What rows are multiplied by, see ``matrix.embed_scale``; the table itself (``weight``, and a tied
            head) is not. No part of a state dict: the model's constructor computes it.
    """

    embed_scale: float | torch.Tensor | None

    def __init__(
        self,
        qweight: torch.Tensor,
        scales: torch.Tensor,
        k: int,
        spec: QuantSpec,
        dtype: torch.dtype = torch.float32,
        padding_idx: int | None = None,
        embed_scale: float | torch.Tensor | None = None,
    ) -> None:
        super().__init__(qweight, scales, k, spec, dtype)
        self.num_embeddings, self.embedding_dim, self.padding_idx = self.out_features, k, padding_idx
        if isinstance(embed_scale, torch.Tensor):
            self.register_buffer("embed_scale", embed_scale, persistent=False)
        else:
            self.embed_scale = embed_scale

    @classmethod
    def from_quantized(
        cls,
        tensor: QuantizedTensor,
        like: torch.Tensor | None = None,
        padding_idx: int | None = None,
        embed_scale: float | torch.Tensor | None = None,
    ) -> Self:
        """Wrap a table that is quantized already; ``like`` gives device and dtype (``None``: CPU float32)."""
        return cls(*packed_like(tensor, torch.empty(0) if like is None else like), padding_idx, embed_scale)

    @classmethod
    def empty(
        cls,
        num_embeddings: int,
        embedding_dim: int,
        spec: QuantSpec,
        padding_idx: int | None = None,
        embed_scale: float | torch.Tensor | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A table with uninitialized codes and scales, to load a state dict into."""
        packed = empty_packed(num_embeddings, embedding_dim, spec, device)
        return cls(*packed, embedding_dim, spec, dtype, padding_idx, embed_scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the table, scaled.

        Args:
            ids: Integer [...], each in [0, N).

        Returns:
            ``self.dtype`` [..., K].
        """
        rows, scale = self.rows(ids), self.embed_scale
        if scale is None:
            return rows
        return rows * (scale.to(rows.dtype) if isinstance(scale, torch.Tensor) else scale)


class TiedQuantLinear(DAREQuantLinear):
    """Output head that reads the token embedding's table; it owns no matrix, so state dicts hold the table once."""

    def __init__(self, table: QuantEmbedding, bias: nn.Parameter | None = None) -> None:
        nn.Module.__init__(self)
        self._table = (table,)  # a tuple hides the module from named_modules(): the table has one owner
        self.in_features, self.out_features, self.spec = table.in_features, table.out_features, table.spec
        self.register_parameter("bias", bias)

    @property
    def qweight(self) -> torch.Tensor:  # type: ignore[override]
        """The table's packed codes, uint8 [N, ceil(K*bits/8)]."""
        return self._table[0].qweight

    @property
    def scales(self) -> torch.Tensor:  # type: ignore[override]
        """The table's scales, float32 [N, G]."""
        return self._table[0].scales

    @property
    def dtype(self) -> torch.dtype:
        """The table's dtype."""
        return self._table[0].dtype

    def cast(self, dtype: torch.dtype) -> None:
        """Set the table's dtype."""
        self._table[0].cast(dtype)

    @property
    def weight(self) -> torch.Tensor:
        """The dequantized table [N, K]."""
        return self._table[0].weight

    @weight.setter
    def weight(self, value: Any) -> None:
        """Ignored: transformers' ``tie_weights`` assigns the embedding's weight, which this head already uses."""


def packed_like(
    tensor: QuantizedTensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int, QuantSpec, torch.dtype]:
    """Arguments of ``QuantMatrix`` for a quantized tensor, on the device and in the dtype of ``like``."""
    qweight = torch.from_numpy(tensor.packed()).to(like.device)
    return qweight, torch.from_numpy(tensor.scales).to(like.device), tensor.shape[1], tensor.spec, like.dtype


def empty_packed(n: int, k: int, spec: QuantSpec, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Uninitialized codes uint8 [N, ceil(K*bits/8)] and scales float32 [N, G]."""
    qweight = torch.empty(n, packed_width(k, spec.bits), dtype=torch.uint8, device=device)
    return qweight, torch.empty(n, spec.groups(k), dtype=torch.float32, device=device)
