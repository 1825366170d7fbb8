"""What exact left padding costs a batch of one: the exported graph against a copy without the attention bias.

    python examples/benchmarks/bench_padding_cost.py FOLDER [--past 256]

Decode steps alternate between the two, so that noise hits both; several fresh pairs of sessions, because where their
memory happens to lie moves a pair by a few per cent either way.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def without_bias(folder: Path, scratch: Path) -> Path:
    """A copy of the graph whose attention has no bias input, beside a copy of the weights."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.input[10] = ""
    (scratch / "model.onnx").write_bytes(model.SerializeToString())
    (scratch / "model.onnx.data").write_bytes((folder / "model.onnx.data").read_bytes())
    return scratch


def open_session(folder: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(folder / "model.onnx", options)


def feeds(session: ort.InferenceSession, past: int) -> dict[str, np.ndarray]:
    """Inputs of one decode step after ``past`` tokens."""
    rng = np.random.default_rng(0)
    caches = [i for i in session.get_inputs() if i.name.startswith("past")]
    inputs = {
        "input_ids": np.array([[5]]),
        "attention_mask": np.ones((1, past + 1), np.int64),
        "position_ids": np.array([[past]]),
    }
    return inputs | {i.name: rng.standard_normal((1, i.shape[1], past, i.shape[3]), np.float32) for i in caches}


def paired_ratio(folder: Path, copy: Path, args: argparse.Namespace, *, swap: bool) -> float:
    """Median ratio of step times, with bias over without, of one fresh pair of sessions."""
    order = (copy, folder) if swap else (folder, copy)
    sessions = {path: open_session(path, args.threads) for path in order}
    inputs = feeds(sessions[folder], args.past)
    times: dict[Path, list[float]] = {path: [] for path in order}
    for i in range(args.rounds + 5):
        for path, session in sessions.items():
            used = {x.name for x in session.get_inputs()}
            given = {k: v for k, v in inputs.items() if k in used}
            began = time.perf_counter()
            session.run(["logits"], given)
            if i >= 5:
                times[path].append(time.perf_counter() - began)
    return statistics.median(a / b for a, b in zip(times[folder], times[copy], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=12, help="fresh pairs of sessions")
    parser.add_argument("--rounds", type=int, default=60, help="decode steps per pair")
    parser.add_argument("--past", type=int, default=256, help="tokens already in the cache")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        copy = without_bias(args.folder, Path(scratch))
        ratios = [paired_ratio(args.folder, copy, args, swap=bool(i % 2)) for i in range(args.pairs)]
    mean, error = statistics.mean(ratios), statistics.stdev(ratios) / len(ratios) ** 0.5
    print(f"step time with bias / without: {mean:.3f} ± {error:.3f} (standard error over {args.pairs} pairs,")
    print(f"each the median of {args.rounds} paired steps; pairs range from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
