"""Quantizing in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dareq_edge import dequantized, recipes
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.floats import write_dequantized
from dareq_edge.comparison.produce import Order, ProductionError, peak_resident, produce
from dareq_edge.container import coded_bytes
from dareq_edge.manifest import Manifest
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.recipes import Change, Source
from dareq_edge.recipes._matrix import MatrixRecipe
from dareq_edge.reference import load_reference
from fast import slow
from tiny_models import SPECIAL, save_random, tiny_opt


@dataclass(frozen=True, slots=True)
class Hungry(MatrixRecipe):
    """Fills memory for a moment, or dies of it."""

    method: str | None = "rtn"
    megabytes: int = 300
    dies: bool = False
    breaks: bool = False

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.breaks:
            raise ZeroDivisionError("a bug")
        torch.ones(self.megabytes * 250_000).sum()
        yield from MatrixRecipe.changes(self, source, progress)


def order(folder: Path, method: object, **options: object) -> Order:
    chosen = QuantOptions(**options)  # type: ignore[arg-type]
    return Order(str(folder / "m"), None, folder / "q", chosen, method, storable=True, threads=1)  # type: ignore[arg-type]


def test_a_production(tmp_path: Path) -> None:
    tiny_opt(tmp_path / "m")
    ballast = np.ones(100_000_000)  # 800 MB that the other process must not be charged for
    seen: list[tuple[str, int, int]] = []
    found = produce(order(tmp_path, Hungry(), group_size=32), lambda *step: seen.append(step))
    assert ballast[-1] == 1
    assert ("coding", 12, 12) in seen
    assert seen[-1] == ("measuring weights", 12, 12)
    assert found.base_bytes + 200e6 < found.peak_bytes < peak_resident()
    assert found.seconds > 0
    tensors = Manifest.read(tmp_path / "q").tensors
    assert found.weight_bytes == sum(t.bytes for t in tensors.values())
    assert found.bits_per_weight == 5.0  # 4 bits, and 32 bits of scale for 32 weights
    assert load_reference(tmp_path / "q").label == "torch dareq"
    checkpoint = Checkpoint.open(str(tmp_path / "q"))
    coded, weights = 0, 0
    for module, spec in read_plan(checkpoint).items():
        n, k = tensors[f"{module}.weight"].shape
        value = read_quantized(checkpoint, module, spec, k)
        coded, weights = coded + coded_bytes(value.codes, value.scales, 4), weights + n * k
    assert found.coded_bits_per_weight == 8 * coded / weights
    assert found.coded_bytes == found.weight_bytes - weights * 5 // 8 + coded


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Hungry(dies=True), "most likely because memory ran out"),
        slow((Hungry(breaks=True), "unexpected ZeroDivisionError: a bug")),
        (MatrixRecipe("nothing"), "unknown quantizer 'nothing'"),
    ],
)
def test_failures_are_sentences(tmp_path: Path, method: object, words: str) -> None:
    tiny_opt(tmp_path / "m")
    with pytest.raises(ProductionError, match=words):
        produce(order(tmp_path, method))
    assert not (tmp_path / "q").exists()


def test_tables_do_not_count_as_linears(tmp_path: Path) -> None:
    tiny_opt(tmp_path / "m")
    found = produce(order(tmp_path, recipes.build("rtn"), bits=3, group_size=64, table_bits=8))
    assert found.bits_per_weight == 3.5
    assert found.coded_bits_per_weight is not None
    assert 2 < found.coded_bits_per_weight < 3.5


@pytest.mark.parametrize("architecture", ["opt", *SPECIAL])
def test_a_dequantized_model(tmp_path: Path, architecture: str) -> None:
    tiny_opt(tmp_path / "m") if architecture == "opt" else save_random(SPECIAL[architecture], tmp_path / "m")
    checkpoint = Checkpoint.open(str(tmp_path / "m"))
    method = dequantized.build("nf4")
    size, bits = write_dequantized(checkpoint, tmp_path / "q", QuantOptions(group_size=64), method)
    assert bits == 4.5
    before, after = (dict(load_reference(tmp_path / x).model.named_parameters()) for x in "mq")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linears = {n for n, p in before.items() if p.ndim == 2 and n.endswith("weight") and "emb" not in n}
    linears = {n for n in linears if not n.startswith(("transformer.wt", "transformer.wp", "lm_head", "output"))}
    assert changed == linears
    spec = replace(QuantOptions(group_size=64).spec)
    name = sorted(changed)[0]
    w = before[name].T if architecture == "gpt2" else before[name]
    expected = method(w.detach(), spec, name)
    assert torch.equal(after[name].T if architecture == "gpt2" else after[name], expected)
    whole = sum(info.bytes for info in checkpoint.tensors.values())
    saved = sum(before[name].numel() for name in changed) * (32 - 4.5) / 8
    assert size == pytest.approx(whole - saved, abs=1)
