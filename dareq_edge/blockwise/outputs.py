"""Output moments: which errors of a layer's outputs matter to what the model predicts.

G = E[g gᵀ], g the derivative of the loss by a layer's output at one token, labels drawn from the model's own
predictions. With H the second moment of its inputs, an error D of its weights costs about tr(G D H Dᵀ) / 2 nats per
token: the Kronecker-factored Fisher information (Martens and Grosse 2015, arXiv 1503.05671).

The float model goes forward once, keeping what every block is given, and back block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.kept import keep, reading
from dareq_edge.progress import Progress

CHUNK = 2048
"""Rows of a layer whose moments with each other are gathered; layers with more have several such chunks."""
_LOGITS = 6 << 20  # of one piece: 25 MB in float32


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files of output moments, one per block.

    Attributes:
        folder: ``Source.work``.
        settings: A digest of what decides them; files of other settings count as none.
    """

    folder: Path
    settings: str

    def load(self, block: int) -> dict[str, torch.Tensor] | None:
        """Layer, ":", first row of a chunk -> G of its rows, float32 [n, n]; ``None`` if there is no such file.

        Raises:
            ArtifactError: The file is damaged.
        """
        path = self._path(block)
        if not path.is_file():
            return None
        with reading(path) as file:
            if (file.metadata() or {}).get("settings") != self.settings:
                return None
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118

    def save(self, block: int, moments: dict[str, torch.Tensor]) -> None:
        """Keep them in bfloat16: half the space, and far more exact than what they are estimated from.

        Raises:
            ArtifactError: The disk is full or the place cannot be written.
        """
        short = {name: value.bfloat16() for name, value in moments.items()}
        keep(self._path(block), short, {"settings": self.settings})

    def _path(self, block: int) -> Path:
        return self.folder / f"outputs-{block}.safetensors"


def measure_outputs(decoder: Decoder, ids: torch.Tensor, seed: int, outputs: Outputs, progress: Progress) -> None:
    """Fill the files of all blocks; nothing is done if they are there.

    Args:
        decoder: The walk.
        ids: int64 [S, T].
        seed: Decides the labels.
        outputs: The files.
        progress: Called per block.
    """
    if outputs.load(0) is not None:  # written last
        return
    dtype = getattr(torch, decoder.compute)
    hidden, given = decoder.embed(ids), []
    for index in range(decoder.count):
        progress("measuring outputs", index, 2 * decoder.count)
        given.append(hidden.to(dtype, copy=True))
        decoder.advance(decoder.block(index), index, hidden)
    slope = _at_the_end(decoder, hidden, seed)
    for index in reversed(range(decoder.count)):
        progress("measuring outputs", 2 * decoder.count - index - 1, 2 * decoder.count)
        outputs.save(index, _through(decoder, index, given.pop().float(), slope))
    progress("measuring outputs", 2 * decoder.count, 2 * decoder.count)


def _at_the_end(decoder: Decoder, hidden: torch.Tensor, seed: int) -> torch.Tensor:
    """Derivative of the loss by the hidden states after the last block: float32 [S, T, D]."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.empty_like(hidden)
    vocab = int(decoder.skeleton.source.checkpoint.config.get_text_config(decoder=True).vocab_size)
    rows = max(1, min(hidden.shape[1], _LOGITS // vocab))
    with decoder.skeleton.surroundings(head=True):
        for x, out in zip(*(torch.split(t.flatten(0, 1), rows) for t in (hidden, slope)), strict=True):
            with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=decoder.compute == "bfloat16"):
                leaf = x.detach().requires_grad_()
                logits = decoder.outside.leave(leaf[None])[0]
            p = torch.softmax(logits.detach().float(), dim=-1)
            label = torch.multinomial(p, 1, generator=generator)
            p.scatter_add_(1, label, torch.full_like(label, -1, dtype=p.dtype))
            torch.autograd.backward(logits, p.to(logits.dtype))
            assert leaf.grad is not None
            out.copy_(leaf.grad)
    return slope


def _through(decoder: Decoder, index: int, given: torch.Tensor, slope: torch.Tensor) -> dict[str, torch.Tensor]:
    """Bring ``slope`` from behind a block to before it, in place, and gather moments on the way."""
    block, prefix = decoder.block(index), f"{decoder.path(index)}."
    layers = [name.removeprefix(prefix) for name in decoder.skeleton.source.plan if name.startswith(prefix)]
    found: dict[str, torch.Tensor] = {}

    def listen(name: str) -> Callable[..., None]:
        def add(grad: torch.Tensor) -> None:
            rows = grad.reshape(-1, grad.shape[-1])  # bfloat16 where the block computes so: far above the noise of G
            for start in range(0, rows.shape[1], CHUNK):
                part = rows[:, start : start + CHUNK]
                key = f"{name}:{start}"
                if key not in found:
                    found[key] = torch.zeros(part.shape[1], part.shape[1])
                found[key].add_(part.T @ part, alpha=1 / slope[..., 0].numel())

        def hook(_: object, __: object, y: torch.Tensor) -> None:
            y.register_hook(add)  # type: ignore[no-untyped-call]

        return hook

    for name in layers:
        block.get_submodule(name).register_forward_hook(listen(name))
    for part in decoder.batches(given):
        with torch.enable_grad():
            x = given[part].requires_grad_()
            y = decoder.run(block, index, x)
        torch.autograd.backward(y, slope[part])
        assert x.grad is not None
        slope[part] = x.grad
    return found
