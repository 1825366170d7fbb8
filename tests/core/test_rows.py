"""Output moments against autograd of the whole model; rounding row after row against formulas of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.errors import ArtifactError
from dareq_edge.progress import silent
from dareq_edge.rounding.codes import dequantize, nearest
from dareq_edge.rounding.descent import descend
from dareq_edge.rounding.rows import descend_rows, feedback_rows
from dareq_edge.rounding.search import absmax_scales
from dareq_edge.spec import QuantSpec
from tiny_sources import make, open_source
from tolerances import DESCENT, OUTPUT_MOMENTS


def opened(folder: Path, family: str) -> Decoder:
    return Decoder.open(open_source(make(folder / "model", family)))


def literal_moments(folder: Path, ids: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    """One backward pass through transformers' own model per window."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    generator, found, outputs = torch.Generator().manual_seed(3), {}, {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: outputs.__setitem__(name, y))
    model.get_input_embeddings().weight.requires_grad_()
    for window in ids:
        logits = model(input_ids=window[None], use_cache=False).logits[0]
        labels = torch.multinomial(torch.softmax(logits.detach(), dim=-1), 1, generator=generator)[:, 0]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        for name, grad in zip(names, torch.autograd.grad(loss, [outputs[n] for n in names]), strict=True):
            rows = grad.flatten(0, -2).double()
            found[name] = found.get(name, 0) + rows.T @ rows / ids.numel()
    return found


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_output_moments_are_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    decoder = opened(tmp_path, family)
    ids = torch.randint(3, 96, (10, 12), generator=torch.Generator().manual_seed(1))
    outputs = Outputs(tmp_path / "work", "settings")
    measure_outputs(decoder, ids, 3, outputs, silent)
    names = [name for name in decoder.skeleton.source.plan if name.startswith(decoder.skeleton.path)]
    literal = literal_moments(tmp_path / "model", ids, names)
    for index in range(decoder.count):
        prefix = f"{decoder.path(index)}."
        moments = outputs.load(index)
        assert moments is not None
        assert {f"{prefix}{name}" for name in moments} == {f"{n}:0" for n in names if n.startswith(prefix)}
        for name, got in moments.items():
            want = literal[f"{prefix}{name.removesuffix(':0')}"]
            assert (got - want).abs().max() <= OUTPUT_MOMENTS * want.abs().max()


def test_files_of_other_settings_are_none_and_damaged_ones_are_named(tmp_path: Path) -> None:
    Outputs(tmp_path, "a").save(0, {"fc1:0": torch.eye(3)})
    assert Outputs(tmp_path, "b").load(0) is None
    assert Outputs(tmp_path, "a").load(1) is None
    (tmp_path / "outputs-0.safetensors").write_bytes(b"broken")
    with pytest.raises(ArtifactError, match=r"outputs-0\.safetensors cannot be read .* remove it and run again"):
        Outputs(tmp_path, "a").load(0)


def problem(n: int = 70, k: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """W, H, G of correlated inputs and outputs; N = 70 is two strips and a short one."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(n, k, generator=generator)
    found = []
    for size in (k, n):
        x = torch.randn(400, size, generator=generator) @ torch.randn(size, size, generator=generator)
        found.append(x.T @ x / len(x))
    return weight, *found


SPEC = QuantSpec(4)


def rounded(rows: torch.Tensor, _: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    scales = absmax_scales(rows, SPEC)
    return nearest(rows, scales, SPEC), scales


def test_without_correlation_every_row_is_rounded_for_itself() -> None:
    weight, _, _ = problem()
    q, scales = feedback_rows(weight, torch.diag(torch.rand(70) + 0.1), rounded, SPEC, damping=0.0)
    want_q, want_s = rounded(weight)
    assert torch.equal(q, want_q)
    assert torch.equal(scales, want_s)


def test_rows_that_are_left_make_up_for_the_errors_of_those_before() -> None:
    weight, _, output = problem()
    seen: list[torch.Tensor] = []
    given: list[torch.Tensor] = []

    def quantize(rows: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(rows.clone())
        given.append(importance)
        return rounded(rows)

    q, scales = feedback_rows(weight, output, quantize, SPEC, damping=0.1)
    order = torch.argsort(output.diagonal(), descending=True, stable=True)
    g = output.double()[order][:, order]
    g.diagonal().add_(0.1 * g.diagonal().mean())
    error = (weight - dequantize(q, scales, SPEC)).double()[order]
    for start in (32, 64):  # the best continuous answer to all errors so far
        want = weight.double()[order][start:] + torch.linalg.solve(
            g[start:, start:], g[start:, :start] @ error[:start]
        )
        assert torch.allclose(seen[start // 32].double(), want[:32], rtol=0, atol=1e-4)
    left = [1 / torch.linalg.inv(g[i:, i:])[0, 0] for i in range(70)]  # what later rows cannot make up for
    assert torch.allclose(torch.cat(given).double(), torch.stack(left), rtol=1e-4)


def cost(weight: torch.Tensor, second: torch.Tensor, output: torch.Tensor, q: torch.Tensor, s: torch.Tensor) -> float:
    d = (weight - dequantize(q, s, SPEC)).double()
    return float(torch.trace(output.double() @ d @ second.double() @ d.T))


def test_feedback_and_descent_lower_the_cost_in_turn() -> None:
    weight, second, output = problem()
    settings = {"refit": True, "damping": 0.0}
    q, s = rounded(weight)
    plain = cost(weight, second, output, *descend(weight, second, q, s, SPEC, sweeps=4, **settings))
    q, s = feedback_rows(weight, output, rounded, SPEC, damping=0.01)
    before = cost(weight, second, output, q, s)
    for _ in range(3):
        q, s = descend_rows(weight, second, output, q, s, SPEC, sweeps=1, row_damping=0.0, **settings)
        after = cost(weight, second, output, q, s)
        assert after <= before * (1 + DESCENT)
        before = after
    assert before < 0.9 * plain
