"""What exact left padding costs a batch of one: the exported graph against a copy without the attention bias.

    python examples/benchmarks/bench_padding_cost.py FOLDER [--rounds 60]

One decode step at a time alternates between them, so that noise hits both.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--past", type=int, default=256, help="tokens already in the cache")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        with_bias = open_session(args.folder, args.threads)
        plain = open_session(without_bias(args.folder, Path(scratch)), args.threads)
        inputs = feeds(with_bias, args.past)
        times: dict[str, list[float]] = {"bias": [], "plain": []}
        for i in range(args.rounds + 5):
            for name, session in (("bias", with_bias), ("plain", plain)):
                used = {x.name for x in session.get_inputs()}
                began = time.perf_counter()
                session.run(["logits"], {k: v for k, v in inputs.items() if k in used})
                if i >= 5:
                    times[name].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(times["bias"], times["plain"], strict=True)]
    low, mid, high = statistics.quantiles(ratios, n=4)
    print(f"decode step with bias {statistics.median(times['bias']) * 1e3:.3f} ms")
    print(f"without               {statistics.median(times['plain']) * 1e3:.3f} ms")
    print(f"ratio: median {mid:.3f}, quartiles {low:.3f} to {high:.3f} over {args.rounds} paired steps")


if __name__ == "__main__":
    main()
