"""Balance: factors move without changing what a block computes, and even out what columns cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes._balance import Balance, balanced, evened, find_fold, wanted_factors
from dareq_edge.rounding.codes import dequantize, nearest, to_quantized
from dareq_edge.rounding.feedback import factorize
from dareq_edge.spec import QuantSpec
from tiny_sources import make, open_source
from tolerances import FOLD

SPEC = QuantSpec(8, None, "bfloat16")
PLACES = [
    ("llama", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], False),
    ("llama", ["mlp.gate_proj", "mlp.up_proj"], False),
    ("llama", ["mlp.down_proj"], True),
    ("gemma3", ["mlp.gate_proj", "mlp.up_proj"], False),
    ("opt", ["fc1"], False),
    ("opt", ["fc2"], True),
]


def moment(k: int) -> torch.Tensor:
    x = torch.randn(4 * k, k, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.2, 3, k)
    return x.T @ x / len(x)


@pytest.mark.parametrize(("family", "group", "after_layer"), PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_computes_the_same(
    tmp_path: Path, family: str, group: list[str], after_layer: bool, dtype: torch.dtype
) -> None:
    decoder = Decoder.open(open_source(make(tmp_path / "m", family, dtype)))
    block, hidden = decoder.block(0), torch.randn(2, 5, decoder.outside.width)
    fold = find_fold(decoder, 0, block, group)
    assert fold is not None
    rows: QuantizedTensor | None = None
    if after_layer:
        before = matrix_of(block.get_submodule(fold.before))
        scales = (before.abs().amax(dim=1, keepdim=True) / 127).bfloat16().float()
        rows = to_quantized(nearest(before, scales, SPEC), scales, SPEC)
        before.copy_(torch.from_numpy(rows.dequantize()))
    bias = getattr(block.get_submodule(fold.before), "bias", None)
    if bias is not None:  # what a file of this type cannot hold is not meant here
        bias.data.zero_()
    want = decoder.forward(block, 0, hidden)
    balance = Balance(fold, block, decoder.path(0), dtype, rows)
    factors = balance.factors(factorize(moment(matrix_of(block.get_submodule(group[0])).shape[1])))
    assert float(factors.max() / factors.min()) > 2
    changes = dict(balance.apply(factors))
    for name in group:
        matrix_of(block.get_submodule(name)).mul_(factors)
    got = decoder.forward(block, 0, hidden)
    assert torch.allclose(got, want, rtol=FOLD, atol=FOLD)
    changed = changes[f"{decoder.path(0)}.{fold.before}.weight"]
    assert isinstance(changed, QuantizedTensor) == after_layer
    if isinstance(changed, torch.Tensor):
        assert changed.dtype == dtype


def test_every_column_costs_the_same_afterwards() -> None:
    second = moment(24)
    factor = factorize(second, damping=0.0, act_order=False)
    factors = wanted_factors(factor).float()
    after = factorize(balanced(second, factors), damping=0.0, act_order=False).variances()
    assert torch.allclose(after, after.mean().expand_as(after), rtol=1e-3)
    assert torch.allclose(evened(factor).variances(), after, rtol=1e-3)


def test_balanced_columns_err_less_at_the_same_bits() -> None:
    from dareq_edge.rounding.rate import entropy, rate_feedback, step_sizes

    second, weight = moment(64), torch.randn(512, 64, generator=torch.Generator().manual_seed(2))
    found = []
    for t in (torch.ones(64), wanted_factors(factorize(second)).float()):
        h, w = balanced(second, t), weight * t
        factor, importance, costs = factorize(h), torch.ones(512), []
        for slope in (0.003, 0.03):
            s = step_sizes(importance, factor, slope)[:, None]
            q = rate_feedback(w, s, importance, factor, torch.zeros(256), slope)
            d = (w - dequantize(q, s, SPEC)).double()
            costs.append(float(((d @ h.double()) * d).sum()) * 2.0 ** (2 * entropy(q)))
        found.append(costs)
    assert all(even < plain * 0.9 for plain, even in zip(*found, strict=True))


def test_no_place_no_balance(tmp_path: Path) -> None:
    post = Decoder.open(open_source(make(tmp_path / "post", "opt-post")))
    assert find_fold(post, 0, post.block(0), ["fc1"]) is None
    skipped = Decoder.open(open_source(make(tmp_path / "opt", "opt"), skip=("*.fc1",)))
    assert find_fold(skipped, 0, skipped.block(0), ["fc2"]) is None
    gated = Decoder.open(open_source(make(tmp_path / "llama", "llama"), skip=("*.up_proj",)))
    assert find_fold(gated, 0, gated.block(0), ["mlp.gate_proj"]) is None
