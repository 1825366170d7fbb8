"""The entropy container: coded bits against the entropy of the codes, and decoding speed per core.

    python -m examples.benchmarks.bench_container
    python -m examples.benchmarks.bench_container --checkpoint path/to/SmolLM2-135M

Matrices are quantized with EntQuant's closed form at the lambdas of about 2, 3 and 4 bits; a checkpoint adds
its blocks' projections. A container holds codes and scales, one float32 per block of 256, replicated and
bf16-exact; coded bits count all of its file. One thread decodes it from the page cache, checks included, into
memory written before; zstd level 1 on the same bytes and a copy of the unpacked bytes take turns with it, frame
by frame. Times are the thread's processor time. "best" adds up the fastest of all rounds for every frame, which
leaves out what other processes did to the caches meanwhile; "median" is the median over rounds of the sum.
Ratios are of best times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from dareq_edge.container import Container, Region, coded_bytes, encode
from dareq_edge.container.frames import decode_frame
from dareq_edge.container.workspace import Workspace

LAMBDAS = {2: 58.0, 3: 14.5, 4: 3.9}
BLOCK = 256
COLUMNS = (
    "weights", "entropy", "coded bits", "over", "zstd 1, bits",
    "G weights/s, best", "median", "zstd 1, best", "time / copy", "time / zstd 1",
)  # fmt: skip

Matrix = NDArray[np.float32]
Quantized = tuple[NDArray[np.uint8], NDArray[np.float32]]


def quantize(weight: Matrix, lam: float) -> Quantized:
    """Codes [N, K] + 128, and bf16-exact scales [N, 1] by the closed form."""
    means = np.abs(weight).mean(axis=1, keepdims=True)
    scales = np.sqrt(lam / 32 * means * means.mean()).astype(np.float32)
    scales = ((scales.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
    return (np.clip(np.rint(weight / scales), -128, 127) + 128).astype(np.uint8), scales


def entropy(codes: NDArray[np.uint8]) -> float:
    """Empirical entropy of one matrix's codes, in bits per code."""
    shares = np.bincount(codes.reshape(-1), minlength=256) / codes.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def synthetic(n: int) -> Iterator[tuple[str, list[Matrix]]]:
    """Square matrices of side n whose rows differ in magnitude."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 0.3, (n, 1))) * 0.05
    draws: dict[str, Callable[[], NDArray[np.float64]]] = {
        "Gaussian": lambda: rng.standard_normal((n, n)),
        "Laplace": lambda: rng.laplace(size=(n, n)),
        "Student t5": lambda: rng.standard_t(5, (n, n)),
    }
    for name, draw in draws.items():
        yield name, [(draw() * spread).astype(np.float32)]


def trained(checkpoint: Path) -> list[Matrix]:
    """The projections of a checkpoint's blocks."""
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        return [file.get_tensor(name).float().numpy() for name in file.keys() if name.endswith("proj.weight")]  # noqa: SIM118


@dataclass(frozen=True)
class Row:
    """One line of the table; speeds in 1e9 weights per second, ratios of times."""

    source: str
    bits: int
    entropy: float
    coded: float
    best: float
    usual: float
    plain: float
    times_copy: float
    times_plain: float
    plain_bits: float


def write(matrices: list[Quantized], folder: Path) -> tuple[Path, NDArray[np.uint8]]:
    """A container of codes and scales, and the bytes it unpacks to."""
    regions: list[Region] = []
    parts: list[bytes] = []
    at = 0
    for codes, scales in matrices:
        blocks = np.repeat(scales, -(-codes.shape[1] // BLOCK), axis=1)
        for kind, array in (("codes8", codes), ("floats", blocks)):
            row = array.shape[1] * array.itemsize
            regions.append(Region(at, array.nbytes, kind, row))  # type: ignore[arg-type]
            parts.append(array.tobytes())
            at += array.nbytes
    raw = folder / "raw"
    raw.write_bytes(b"".join(parts))
    encode(raw, regions, folder / "packed.dqz")
    return folder / "packed.dqz", np.fromfile(raw, np.uint8)


Times = NDArray[np.float64]


def time_frames(container: Container, raw: NDArray[np.uint8], rounds: int) -> tuple[Times, Times, Times, int]:
    """Seconds [rounds, frames] of this container, of zstd level 1 and of a copy, and the bytes of zstd level 1."""
    out, copied, work = np.ones_like(raw), np.ones_like(raw), Workspace()
    coder, decoder = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    entries = list(container.header.entries())
    starts = np.cumsum([0] + [entry.raw for entry in entries])
    at = np.cumsum([container.header.size] + [entry.coded for entry in entries]).tolist()
    parts = [slice(*pair) for pair in pairwise(starts.tolist())]
    plain = [coder.compress(raw[part].tobytes()) for part in parts]
    found = np.empty((3, rounds, len(parts)))
    with container.path.open("rb", buffering=0) as file:
        for k in range(rounds):
            for i, part in enumerate(parts):
                began = time.thread_time()
                decode_frame(file, at[i], entries[i], out[part], work)
                ours = time.thread_time()
                decoder.stream_reader(plain[i]).readinto(out[part].data)
                theirs = time.thread_time()
                np.copyto(copied[part], raw[part])
                found[:, k, i] = ours - began, theirs - ours, time.thread_time() - theirs
    return found[0], found[1], found[2], sum(map(len, plain))


def measure(source: str, bits: int, weights: list[Matrix], rounds: int) -> Row:
    """Write, check and time one container."""
    matrices = [quantize(w, LAMBDAS[bits]) for w in weights]
    total = sum(codes.size for codes, _ in matrices)
    with tempfile.TemporaryDirectory() as folder:
        path, raw = write(matrices, Path(folder))
        container = Container.open(path)
        ours, level1, copy, plain_bytes = time_frames(container, raw, rounds)
        out = np.empty_like(raw)
        container.decode_into(out)
        assert np.array_equal(out, raw)
        coded = path.stat().st_size * 8 / total
    assert abs(sum(coded_bytes(c, s, 8) for c, s in matrices) * 8 / total / coded - 1) < 0.01
    best, best_plain, best_copy = (float(times.min(axis=0).sum()) for times in (ours, level1, copy))
    return Row(
        source,
        bits,
        entropy=sum(entropy(codes) * codes.size for codes, _ in matrices) / total,
        coded=coded,
        best=total / best / 1e9,
        usual=total / float(np.median(ours.sum(axis=1))) / 1e9,
        plain=total / best_plain / 1e9,
        times_copy=best / best_copy,
        times_plain=best / best_plain,
        plain_bits=plain_bytes * 8 / total,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    sources = list(synthetic(args.side))
    if args.checkpoint:
        sources.append((args.checkpoint.name, trained(args.checkpoint)))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for name, weights in sources:
        for bits in LAMBDAS:
            r = measure(name, bits, weights, args.rounds)
            cells = f"{r.entropy:.3f} | {r.coded:.3f} | {r.coded / r.entropy - 1:+.2%} | {r.plain_bits:.3f}"
            speed = f"{r.best:.2f} | {r.usual:.2f} | {r.plain:.2f} | {r.times_copy:.1f} | {r.times_plain:.2f}"
            print(f"| {name}, about {bits} bits | {cells} | {speed} |", flush=True)


if __name__ == "__main__":
    main()
