"""Tuning: streamed gradients are autograd's, predictions come nearer to the float model's; it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.errors import ArtifactError, CheckpointError, SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.tuning.divergence import divergence
from dareq_edge.tuning.gradients import gather, graph_bytes
from dareq_edge.tuning.numbers import Gains
from dareq_edge.tuning.settings import Tuning
from dareq_edge.tuning.student import opened
from dareq_edge.tuning.tune import batches, tune
from fast import slow
from tiny_models import SPECIAL
from tiny_sources import OPTS, make, open_source
from tolerances import TUNING_BF16, TUNING_GRADIENT, TUNING_STORIES

STORIES = Path(__file__).parents[2] / "../shared/data/stories260k"
FAMILIES = [*OPTS, "llama-tied", "qwen3", "gemma2", "gpt-neox", *SPECIAL]


class Case:
    """A random model, rounded to nearest, and what the float model makes of a text."""

    def __init__(
        self,
        folder: Path,
        family: str = "llama-tied",
        *,
        compute: Compute = "float32",
        dtype: torch.dtype = torch.float32,
        ids: torch.Tensor | None = None,
        **options: object,
    ) -> None:
        self.folder = folder / family
        if not Path(family).is_absolute():
            make(self.folder, family, dtype)
        self.source = open_source(self.folder, folder / "work", method="rtn", **options)
        self.decoder = Decoder.open(self.source, compute=compute)
        generator = torch.Generator().manual_seed(1)
        self.ids = torch.randint(3, 96, (6, 12), generator=generator) if ids is None else ids
        self.teacher = self.decoder.embed(self.ids)
        for i in range(self.decoder.count):
            self.decoder.advance(self.decoder.block(i), i, self.teacher)
        self.quantized = [self._block(i) for i in range(self.decoder.count)]

    def _block(self, index: int) -> list[Change]:
        quantizer, plan = self.source.options.quantizer(), self.source.plan
        return [
            (f"{n}.weight", quantizer(self._matrix(n), plan[n], n))
            for n in plan
            if n.startswith(f"{self.decoder.path(index)}.")
        ]

    def _matrix(self, name: str) -> torch.Tensor:
        return matrix_of(self.source.model.get_submodule(name), self.source.tensor(f"{name}.weight").float())

    def tune(self, **settings: object) -> dict[str, torch.Tensor | QuantizedTensor]:
        save_every = settings.pop("save_every", 10)
        made = Tuning(**{"steps": 6, "batch": 4, "warmup": 1} | settings)
        found = list(tune(self.decoder, self.quantized, self.teacher, self.ids, made, save_every=save_every))
        assert len(dict(found)) == len(found)
        return dict(found)

    def loss(self, changes: dict[str, torch.Tensor | QuantizedTensor] | None = None) -> float:
        """Of the whole model in memory."""
        model, values = reference(self, changes or {})
        return float(whole_loss(self, model, values))


def reference(
    case: Case, changes: dict[str, torch.Tensor | QuantizedTensor]
) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """transformers' model in float32, and all that replaces its parameters."""
    model = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32).eval().requires_grad_(False)
    values = {}
    for name, value in (dict(c for b in case.quantized for c in b) | changes).items():
        if isinstance(value, QuantizedTensor):
            module = model.get_submodule(name.removesuffix(".weight"))
            weight = torch.from_numpy(value.dequantize())
            values[name] = weight if matrix_of(module) is module.weight else weight.T
        else:
            values[name] = value.float()
    return model, values


def whole_loss(case: Case, model: torch.nn.Module, values: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        want = model(case.ids, use_cache=False).logits.double().log_softmax(-1)
    got = functional_call(model, values, (case.ids,), {"use_cache": False}).logits.double().log_softmax(-1)
    return (want.exp() * (want - got)).sum(-1).mean()


@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_gradients_are_those_of_the_whole_model(tmp_path: Path, family: str, group_size: int | None) -> None:
    case = Case(tmp_path, family, group_size=group_size)
    model, values = reference(case, {})
    leaves: dict[str, torch.Tensor] = {}
    for name, value in (c for b in case.quantized for c in b):
        k, gain = value.shape[1], torch.ones(value.shape[0]).requires_grad_()
        leaves[name], s = gain, torch.from_numpy(value.scales) * gain[:, None]
        q = torch.from_numpy(value.codes).float() - value.spec.zero_point
        weight = q * (s if group_size is None else s.repeat_interleave(group_size, 1)[:, :k])
        module = model.get_submodule(name.removesuffix(".weight"))
        values[name] = weight if matrix_of(module) is module.weight else weight.T
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            values[name] = leaves[name] = parameter.detach().clone().requires_grad_()
    want = whole_loss(case, model, values)
    want.backward()
    with opened(case.decoder, case.quantized) as student:
        got = gather(student, case.ids, case.teacher)
        assert {n.target for n in student.numbers} == set(leaves)
        scale = max(float(v.grad.abs().max()) for v in leaves.values())
        for number in student.numbers:
            grad, expected = number.parameter.grad, leaves[number.target].grad
            grad = torch.zeros_like(expected) if grad is None else grad
            assert (grad - expected).abs().max() <= TUNING_GRADIENT * max(expected.abs().max(), 0.01 * scale), (
                number.target
            )
    assert abs(got - float(want.detach())) <= TUNING_GRADIENT * float(want.detach())


@pytest.mark.parametrize("rows", [1, 70])
def test_divergence_is_autograds(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (4 * torch.randn(rows, 50, generator=generator, dtype=torch.float64) for _ in range(2))
    s.requires_grad_()
    log_s, log_t = s.log_softmax(-1), t.log_softmax(-1)
    want = 0.25 * (log_t.exp() * (log_t - log_s)).sum()
    want.backward()
    loss, slope = divergence(s.detach().float(), t.float(), 0.25)
    assert abs(loss - float(want.detach())) <= TUNING_GRADIENT * float(want.detach())
    assert (slope - s.grad).abs().max() <= TUNING_GRADIENT * s.grad.abs().max()


@pytest.mark.parametrize(("dtype", "scales"), [slow((torch.float32, "float32")), (torch.bfloat16, "bfloat16")])
@pytest.mark.parametrize("family", ["opt", "opt-post", "llama-tied", "gpt2", "gemma3"])
@pytest.mark.parametrize("group_size", [None, 32])
def test_the_loss_falls_and_codes_stay(
    tmp_path: Path, family: str, dtype: torch.dtype, scales: str, group_size: int | None
) -> None:
    case = Case(tmp_path, family, dtype=dtype, scale_dtype=scales, group_size=group_size)
    tuned = case.tune(steps=8, rate_scales=5e-3, rate_norms=5e-3)
    assert case.loss(tuned) < 0.97 * case.loss()
    moved = 0
    for name, old in (c for b in case.quantized for c in b):
        new = tuned[name]
        assert (new.codes == old.codes).all()
        assert new.spec == old.spec
        s = torch.from_numpy(new.scales)
        assert scales == "float32" or torch.equal(s, s.bfloat16().float())
        moved += not (new.scales == old.scales).all()
    assert moved == len(dict(c for b in case.quantized for c in b))
    vectors = {n: v for n, v in tuned.items() if isinstance(v, torch.Tensor)}
    assert vectors
    assert all(v.dtype == dtype and v.ndim == 1 for v in vectors.values())
    assert all(v.shape == case.source.tensor(n).shape for n, v in vectors.items())
    assert any(not n.startswith(case.decoder.skeleton.path) for n in vectors) or family == "opt-post"


def test_vectors_a_recipe_changed_are_where_tuning_starts(tmp_path: Path) -> None:
    case = Case(tmp_path, "opt")
    name = f"{case.decoder.path(1)}.fc1.bias"
    given = torch.full((128,), 0.5, dtype=torch.float16)
    case.quantized[1].append((name, given))
    assert case.tune(rate_norms=0.0)[name] is given
    moved = case.tune(rate_norms=1e-3)[name]
    assert moved.dtype == torch.float16
    assert 0 < (moved.float() - 0.5).abs().max() < 0.05


def same(a: dict[str, torch.Tensor | QuantizedTensor], b: dict[str, torch.Tensor | QuantizedTensor]) -> bool:
    def pair(x: object, y: object) -> bool:
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else bool((x.scales == y.scales).all())

    return list(a) == list(b) and all(pair(a[n], b[n]) for n in a)


def test_no_steps_and_no_rates_change_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path)
    given = dict(c for b in case.quantized for c in b)
    assert case.tune(steps=0) == given  # the very objects
    assert same(case.tune(rate_scales=0.0, rate_norms=0.0), given)


class _Interrupted(Exception):  # noqa: N818  # stands for what a user does
    pass


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    case = Case(tmp_path)
    want = case.tune(save_every=100)
    steps: list[int] = []

    def until(_: str, done: int, __: int) -> None:
        steps.append(done)
        if len(steps) == stop + 1:
            raise _Interrupted

    settings = Tuning(steps=6, batch=4, warmup=1)
    run = [case.decoder, case.quantized, case.teacher, case.ids]
    with pytest.raises(_Interrupted):
        list(tune(*run, settings, until, save_every=2))
    later: list[int] = []
    again = dict(tune(*run, settings, lambda _, done, __: later.append(done), save_every=2))
    assert same(again, want)
    assert later[0] == {1: 0, 3: 2, 5: 4}[stop]
    assert not same(again, case.tune(seed=1))


def test_a_state_of_other_settings_is_not_used(tmp_path: Path) -> None:
    case = Case(tmp_path)
    want = case.tune(seed=1)
    case.tune(seed=0, save_every=2)
    assert same(case.tune(seed=1), want)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.tune(save_every=2)
    path = case.source.work / "tuning.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match=r"tuning\.safetensors cannot be read .*; remove it"):
        case.tune(save_every=2)


def test_bfloat16_is_near(tmp_path: Path) -> None:
    gradients = []
    for compute in ("float32", "bfloat16"):
        case = Case(tmp_path, "opt", compute=compute)
        with opened(case.decoder, case.quantized) as student:
            gather(student, case.ids, case.teacher)
            gradients.append(torch.cat([n.gradient() for n in student.numbers if isinstance(n, Gains)]))
    a, b = gradients
    assert 0 < (a - b).norm() <= TUNING_BF16 * a.norm()


def test_nothing_stays_in_memory(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.tune()
    assert all(p.device.type == "meta" for p in case.decoder.skeleton.model.parameters())


def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.teacher[0, 0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="tuning step 0 gave a loss of nan"):
        case.tune(batch=6)


@pytest.mark.parametrize(("field", "value"), [("steps", -1), ("batch", 0), ("rate_scales", -1.0), ("seed", True)])
def test_settings_are_checked(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=field):
        Tuning(**{field: value})


def test_every_window_has_its_turn() -> None:
    got = torch.cat(list(batches(10, Tuning(steps=5, batch=4))))
    assert sorted(got.tolist()) == sorted([*range(10), *range(10)])
    assert [len(x) for x in batches(3, Tuning(steps=2, batch=4))] == [3, 3]
    other = torch.cat(list(batches(10, replace(Tuning(steps=5, batch=4), seed=1))))
    assert not torch.equal(got, other)


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs shared/data/stories260k beside the checkout")
def test_it_helps_on_text_of_the_model_that_it_has_not_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32).eval()
    first = torch.full((24, 1), 1)
    ids = model.generate(first, do_sample=True, top_k=0, min_new_tokens=127, max_new_tokens=127, pad_token_id=0)
    case = Case(tmp_path, str(STORIES.resolve()), ids=ids[:16])
    tuned = case.tune(steps=12, rate_scales=3e-3, rate_norms=3e-3)
    case.ids = ids[16:]
    assert case.loss(tuned) < TUNING_STORIES * case.loss()


def test_what_a_graph_holds_grows_with_the_batch(tmp_path: Path) -> None:
    case = Case(tmp_path)
    with opened(case.decoder, case.quantized) as student:
        one, two, four = (graph_bytes(student, case.ids[:rows]) for rows in (1, 2, 4))
    rows = 12 * (64 + 3 * 100) * 4  # at least what the block's norms and its MLP make of a window
    assert two - one > rows
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


@pytest.mark.parametrize("graphs", [1, 99, None])
def test_keeping_graphs_changes_no_bit(tmp_path: Path, graphs: int | None) -> None:
    case = Case(tmp_path)
    settings, run = Tuning(steps=2), [case.decoder, case.quantized, case.teacher, case.ids]
    assert same(dict(tune(*run, settings, graphs=graphs)), dict(tune(*run, settings, graphs=0)))
