"""The entropy container: coded bits against the entropy of the codes, and decoding speed per core.

    python -m examples.benchmarks.bench_container
    python -m examples.benchmarks.bench_container --checkpoint path/to/SmolLM2-135M

Matrices are quantized with EntQuant's closed form at the lambdas of about 2, 3 and 4 bits; a checkpoint adds
its blocks' projections. A container holds codes and scales, one float32 per block of 256, replicated and
bf16-exact; coded bits count all of its file. One thread decodes it from the page cache, checks included, into
memory written before. In each round it, zstd level 1 on frames of the same bytes, and a copy of the unpacked
bytes take turns. Times are the thread's processor time; "best" is the fastest round, all else medians over
rounds, of ratios within a round where it is a ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import zstandard
from numpy.typing import NDArray

from dareq_edge.container import Container, Region, coded_bytes, encode

LAMBDAS = {2: 58.0, 3: 14.5, 4: 3.9}
FRAME, BLOCK = 1 << 19, 256
COLUMNS = (
    "weights", "entropy", "coded bits", "over", "zstd 1, bits",
    "G weights/s, best", "median", "zstd 1", "time / copy", "time / zstd 1",
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


def seconds(function: Callable[[], object]) -> float:
    began = time.thread_time()
    function()
    return time.thread_time() - began


def measure(source: str, bits: int, weights: list[Matrix], rounds: int) -> Row:
    """Write, check and time one container."""
    matrices = [quantize(w, LAMBDAS[bits]) for w in weights]
    total = sum(codes.size for codes, _ in matrices)
    with tempfile.TemporaryDirectory() as folder:
        path, raw = write(matrices, Path(folder))
        out, copied = np.ones_like(raw), np.ones_like(raw)
        container = Container.open(path)
        coder, decoder = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        plain = [coder.compress(raw[i : i + FRAME].tobytes()) for i in range(0, len(raw), FRAME)]

        def decode_plain() -> None:
            for i, frame in enumerate(plain):
                out[i * FRAME : (i + 1) * FRAME] = np.frombuffer(decoder.decompress(frame), np.uint8)

        tasks = (
            lambda: container.decode_into(out, threads=1),
            decode_plain,
            lambda: np.copyto(copied, raw),
        )
        found = [[seconds(task) for task in tasks] for _ in range(rounds + 1)][1:]
        container.decode_into(out)
        assert np.array_equal(out, raw)
        coded = path.stat().st_size * 8 / total
    assert abs(sum(coded_bytes(c, s, 8) for c, s in matrices) * 8 / total / coded - 1) < 0.01
    return Row(
        source,
        bits,
        sum(entropy(codes) * codes.size for codes, _ in matrices) / total,
        coded,
        total / min(times[0] for times in found) / 1e9,
        total / median(times[0] for times in found) / 1e9,
        total / median(times[1] for times in found) / 1e9,
        median(times[0] / times[2] for times in found),
        median(times[0] / times[1] for times in found),
        sum(map(len, plain)) * 8 / total,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=40)
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
