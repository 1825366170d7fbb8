"""What rounding activations as other CPUs' int8 kernels do is worth, in PyTorch: all tokens, no emulator.

    python examples/benchmarks/simulate_activations.py CHECKPOINT [--max-tokens 2048] [--window 256] [--each]

``blocks`` rounds as onnxruntime does on x86 (each block of K by its own largest magnitude), ``rows`` as KleidiAI does
on ARM (a whole row by its smallest and largest value), and ``disturbed`` as x86 does after inputs changed by 1e-7 of
themselves, as another order of float32 sums changes them: the distance of two CPUs with the same kernel. ``--each``
adds what lies between: rows for one kind of matrix only, and rows for all others. Only 4-bit matrices are rounded;
every line is compared with the same model in fp32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.quantized import read_plan
from dareq_edge.reference import TorchReference, load_reference
from dareq_runtime.parity import compare
from dareq_runtime.verdict import Link

Rounding = Callable[[torch.Tensor], torch.Tensor]


def by_block(x: torch.Tensor) -> torch.Tensor:
    """Symmetric, a scale for each block; blocks as the export cuts them."""
    size = next((n for n in (256, 128, 64, 32) if x.shape[-1] % n == 0), x.shape[-1])
    blocks = x.reshape(*x.shape[:-1], -1, size)
    scales = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return ((blocks / scales).round() * scales).reshape(x.shape)


def by_row(x: torch.Tensor) -> torch.Tensor:
    """Asymmetric, one scale and zero point for the whole row; zero is a code."""
    low, high = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    scales = (high - low).clamp_min(1e-30) / 255
    zeros = (-128 - low / scales).round().clamp(-128, 127)
    return (((x / scales).round() + zeros).clamp(-128, 127) - zeros) * scales


def disturbed(x: torch.Tensor) -> torch.Tensor:
    """By block, off by 1e-7 of each value at random."""
    return by_block(x * (1 + 1e-7 * torch.randn(x.shape)))


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A Scorer: the model with the inputs of some matrices rounded.

    Attributes:
        label: Its name.
        model: The fp32 model, shared by all.
        rounding: A matrix's module, and how its inputs are rounded.
    """

    label: str
    model: TorchReference
    rounding: Sequence[tuple[torch.nn.Module, Rounding]]

    @property
    def context_length(self) -> int:
        """Longest window, tokens."""
        return self.model.context_length

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.model.vocab_size

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = 128) -> Iterator[NDArray[np.float32]]:
        """See ``Scorer``; the hooks stand only while a chunk is computed, because the model is shared."""
        steps = self.model.chunk_logits(ids, chunk)
        while True:
            hooks = [
                module.register_forward_pre_hook(lambda _, given, rounded=rounded: (rounded(given[0]),))
                for module, rounded in self.rounding
            ]
            try:
                logits = next(steps, None)
            finally:
                for hook in hooks:
                    hook.remove()
            if logits is None:
                return
            yield logits


def scorers(folder: Path, *, each: bool) -> list[TorchReference | Rounded]:
    """fp32, all by block, all by row; and, for each kind of matrix, it alone and all others by row."""
    exact = load_reference(folder)
    plan = read_plan(Checkpoint.open(str(folder)))
    modules = {name: exact.model.get_submodule(name) for name, spec in plan.items() if spec.bits == 4}
    modules = {name: module for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
    kinds = sorted({name.rsplit(".", 1)[-1] for name in modules}) if each else []
    rows = {kind: {name for name in modules if name.endswith(f".{kind}")} for kind in kinds}
    chosen: dict[str, dict[str, Rounding]] = {
        "blocks": dict.fromkeys(modules, by_block),
        "rows": dict.fromkeys(modules, by_row),
        "disturbed": dict.fromkeys(modules, disturbed),
    }
    for kind, names in rows.items():
        chosen[f"rows: only {kind}"] = {name: by_row if name in names else by_block for name in modules}
        chosen[f"rows: all but {kind}"] = {name: by_block if name in names else by_row for name in modules}
    return [exact, *(Rounded(k, exact, [(modules[n], f) for n, f in v.items()]) for k, v in chosen.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--window", type=int)
    parser.add_argument("--each", action="store_true", help="also one kind of matrix at a time; takes minutes")
    given = parser.parse_args()
    choice = DataChoice(max_tokens=given.max_tokens, window=given.window)
    tokens, protocol = read_evaluation(choice, given.checkpoint)
    torch.manual_seed(0)
    compared = scorers(given.checkpoint, each=given.each)
    links = [Link(compared[0].label, other.label) for other in compared[1:]]
    links += [Link("blocks", "rows"), Link("blocks", "disturbed")]
    print("| reference | rounded | perplexity | KL mean / 99 % | top-1 |\n|---|---|---|---|---|")
    for link in compare(compared, links, tokens, protocol).links:
        delta = f"{100 * link.delta_ppl:+.3f} ± {100 * (link.delta_ppl_stderr or 0):.3f} %"
        kl = f"{link.kl_mean:.1e} / {link.kl_p99:.1e}"
        print(f"| {link.reference} | {link.subject} | {delta} | {kl} | {100 * (link.top1_agreement or 0):.1f} % |")


if __name__ == "__main__":
    main()
