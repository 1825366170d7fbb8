import copy

import pytest
import torch
from torch import nn

from dareq_edge import DAREQuantLinear, apply_dareq
from dareq_edge.errors import CheckpointError, SpecError, UnsupportedArchitectureError
from dareq_edge.nn import QuantEmbedding, TiedQuantLinear
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.quantizers import build
from dareq_edge.spec import QuantSpec
from dareq_edge.torch_format import dequantize
from tolerances import LINEAR_BY_DTYPE


def linear(k=100, n=24, *, bias=True, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(k, n, bias=bias)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group_size", [None, 16, 64])
def test_torch_format_equals_the_numpy_definition(bits, group_size):
    tensor = build("rtn")(linear().weight, QuantSpec(bits, group_size))
    layer = DAREQuantLinear.from_quantized(tensor)
    assert torch.equal(layer.dequantize(), torch.from_numpy(tensor.dequantize()))
    assert layer.qweight.dtype == torch.uint8
    assert layer.qweight.shape == (24, -(-100 * bits // 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_forward_in_every_dtype(dtype, bias):
    float_layer = linear(bias=bias)
    layer = DAREQuantLinear(float_layer, bits=4, group_size=32).to(dtype)
    x = torch.randn(2, 5, 100).to(dtype)
    y = layer(x)
    want = nn.functional.linear(x.double(), layer.dequantize().double(), float_layer.bias.double() if bias else None)
    assert y.dtype == dtype
    assert y.shape == (2, 5, 24)
    error = (y.double() - want).abs().max() / want.abs().max()
    assert error < LINEAR_BY_DTYPE[str(dtype).removeprefix("torch.")]


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, lambda m: m.to("cpu", torch.float16)])
def test_casting_keeps_the_scales(cast):
    layer = DAREQuantLinear(linear())
    before = layer.dequantize()
    cast(layer)
    assert layer.scales.dtype == torch.float32
    assert layer.bias.dtype == layer.dtype != torch.float32
    assert layer.weight.dtype == layer.dtype
    assert torch.equal(layer.float().dequantize(), before)


def test_no_float_weight_is_kept():
    layer = DAREQuantLinear(linear(k=256, n=64), bits=4)
    assert set(layer.state_dict()) == {"qweight", "scales", "bias"}
    held = sum(t.numel() * t.element_size() for t in [*layer.parameters(), *layer.buffers()])
    assert held == 64 * 128 + 64 * 4 + 64 * 4
    assert not any(isinstance(v, torch.Tensor) for v in vars(layer).values())


def test_state_dict_round_trip_through_a_meta_layer():
    layer = DAREQuantLinear(linear(), bits=3, group_size=16)
    bias = nn.Parameter(torch.empty(24, device="meta"))
    empty = DAREQuantLinear.empty(100, 24, layer.spec, bias, device="meta")
    empty.load_state_dict(layer.state_dict(), assign=True)
    x = torch.randn(3, 100)
    assert torch.equal(empty(x), layer(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        DAREQuantLinear.empty(100, 24, QuantSpec(4), nn.Parameter(torch.zeros(24))).load_state_dict(
            layer.state_dict()
        )


def test_large_matrices_are_multiplied_in_row_blocks(monkeypatch):
    layer, x = DAREQuantLinear(linear(), group_size=16), torch.randn(3, 100)
    whole = layer(x).detach()
    monkeypatch.setattr("dareq_edge.nn._BLOCK", 700)
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=LINEAR_BY_DTYPE["float32"] * float(whole.abs().max()))


def test_embedding_gathers_what_the_table_says():
    table = build("dareq")(linear(k=20, n=50).weight, QuantSpec(8, 16))
    embedding = QuantEmbedding.from_quantized(table)
    ids = torch.tensor([[0, 49, 7], [7, 7, 1]])
    assert torch.equal(embedding(ids), embedding.dequantize()[ids])
    assert embedding.half()(ids).dtype == torch.float16


def test_tied_head_follows_its_table():
    embedding = QuantEmbedding.from_quantized(build("rtn")(linear(k=20, n=50).weight, QuantSpec(4)))
    model = nn.ModuleDict({"table": embedding, "head": TiedQuantLinear(embedding)})
    twin = copy.deepcopy(model)
    assert set(model.state_dict()) == {"table.qweight", "table.scales"}
    twin["table"].scales *= 2
    x = torch.randn(2, 20)
    torch.testing.assert_close(twin["head"](x), 2 * model["head"](x))
    assert twin["head"].qweight is twin["table"].qweight


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(8, 8), nn.Linear(8, 4), nn.LayerNorm(4)
        self.again = self.first

    def forward(self, x):
        return self.norm(self.second(self.again(self.first(x))))


def test_apply_replaces_all_but_skipped_and_keeps_sharing():
    torch.manual_seed(0)
    net = apply_dareq(Net().eval(), bits=8, skip=("sec*",))
    assert isinstance(net.first, DAREQuantLinear)
    assert net.again is net.first
    assert not net.first.training
    assert isinstance(net.second, nn.Linear)
    assert net(torch.randn(2, 8)).shape == (2, 4)


def test_apply_checks_everything_before_it_changes_anything():
    net = Net()
    net.second.weight.data[1, 2] = float("nan")
    with pytest.raises(CheckpointError, match=r"second\.weight holds NaN"):
        apply_dareq(net)
    assert type(net.first) is nn.Linear


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "bits is 9"),
        ({"entropy": "x"}, "entropy is 'x'"),
        ({"bins": 0}, "bins is 0"),
        ({"lambda_weight": -1.0}, "lambda_weight is -1.0"),
        ({"candidates": 2.5}, "candidates is 2.5"),
        ({"group_size": 48}, "group_size is 48"),
        ({"method": "dare"}, "did you mean 'dareq'"),
        ({"table_bits": 3}, "table_bits is 3"),
        ({"position_bits": 5}, "position_bits is 5"),
        ({"skip": "first"}, "skip is"),
        ({"skip": ("nothing*",)}, "matches no linear layer"),
        ({"scale_dtype": "float16"}, "scale_dtype is"),
    ],
)
def test_wrong_options_say_so(options, message):
    with pytest.raises(SpecError, match=message):
        plan_model(Net(), QuantOptions(**options))


def test_nothing_to_quantize():
    with pytest.raises(UnsupportedArchitectureError, match="contains no linear layer"):
        plan_model(nn.Sequential(nn.ReLU()), QuantOptions())


class Masked(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * (ids > 2)[..., None]


@pytest.mark.parametrize("table", [Masked(9, 4), nn.Embedding(9, 4, max_norm=1.0)])
def test_tables_that_do_more_are_refused_with_both_remedies(table):
    net = Net()
    net.table, net.get_input_embeddings = table, lambda: table
    with pytest.raises(
        UnsupportedArchitectureError, match=r"table is a .*--table-bits 32 \(table_bits=None in Python\)"
    ):
        plan_model(net, QuantOptions(table_bits=8))
    assert "table" not in plan_model(net, QuantOptions())


def test_dequantize_rounds_once():
    tensor = build("rtn")(linear().weight, QuantSpec(4))
    qweight, scales = torch.from_numpy(tensor.packed()), torch.from_numpy(tensor.scales)
    half = dequantize(qweight, scales, 100, tensor.spec, torch.bfloat16)
    assert torch.equal(half, torch.from_numpy(tensor.dequantize()).bfloat16())
