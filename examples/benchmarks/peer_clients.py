"""One small class per peer, all driven alike, and the child process that measures one of them once.

    python examples/benchmarks/peer_clients.py NAME PATH --prompts 128 512 --new 64

Started by bench_peers.py, a fresh process each time. Every client feeds a prompt into an empty cache and chooses
greedily; the time from start to first token is the prefill (head on the last position, one argmax), the time between
two tokens a decode step. No client stops at an end-of-text token.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

WEIGHTS = {".onnx", ".data", ".gguf", ".bin", ".xml"}
MISSING = 3  # exit status: the package is not installed


class Client(Protocol):
    """A runtime. The constructor imports it, so that ``load`` can be timed alone."""

    def load(self, path: Path, threads: int, room: int) -> None:
        """Open a model for sequences of up to ``room`` tokens."""

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """Continue a prompt from an empty cache; perf_counter() at the start and after each of ``new`` tokens."""


def greedy(step: Callable[[np.ndarray, int], np.ndarray], ids: Sequence[int], new: int) -> list[float]:
    """``step(ids, done)`` feeds tokens after ``done`` others and gives the last one's logits, float [V]."""
    stamps, following, done = [time.perf_counter()], np.asarray(ids), 0
    for _ in range(new):
        logits = step(following, done)
        done += len(following)
        following = np.array([int(logits.argmax())])
        stamps.append(time.perf_counter())
    return stamps


class Ours:
    """A folder exported by dareq-edge, through the public API."""

    def __init__(self) -> None:
        import dareq_runtime

        self._library = dareq_runtime

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        self._model = self._library.load(path, threads=threads)

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``."""
        stamps = [time.perf_counter()]
        self._model.generate(
            ids, max_new_tokens=new, stop_ids=[], on_token=lambda *_: stamps.append(time.perf_counter())
        )
        return stamps[: new + 1]


class LlamaCpp:
    """llama.cpp through the C API that llama-cpp-python exposes; weights mapped and repacked as it likes."""

    def __init__(self) -> None:
        import llama_cpp

        self._api = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)  # kept: C holds the pointer
        llama_cpp.llama_log_set(self._quiet, None)

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        api = self._api
        api.llama_backend_init()
        model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
        options = api.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = room, room, min(room, 512)
        options.n_threads = options.n_threads_batch = threads
        self._context = api.llama_init_from_model(model, options)
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        return greedy(self._step, ids, new)

    def _step(self, ids: np.ndarray, done: int) -> np.ndarray:
        tokens = (ctypes.c_int32 * len(ids))(*ids.tolist())
        # A batch made by get_one follows on what the cache holds and asks for the last position's logits only.
        if self._api.llama_decode(self._context, self._api.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError(f"llama_decode failed for {len(ids)} tokens after {done}")
        row = self._api.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(row, (self._vocabulary,))


class OpenVino:
    """A stateful OpenVINO model, latency hint."""

    def __init__(self) -> None:
        import openvino

        self._library = openvino

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        core = self._library.Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(core.read_model(path / "openvino_model.xml"), "CPU", options)
        self._names = {name for port in compiled.inputs for name in port.get_names()}
        self._request = compiled.create_infer_request()

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``."""
        self._request.reset_state()
        return greedy(self._step, ids, new)

    def _step(self, ids: np.ndarray, done: int) -> np.ndarray:
        total = done + len(ids)
        feeds = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(done, total)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self._request.infer({name: x for name, x in feeds.items() if name in self._names}, share_inputs=True)
        logits: np.ndarray = self._request.get_tensor("logits").data[0, -1]
        return logits


class CTranslate2:
    """CTranslate2's own generation loop, which calls back after every token."""

    def __init__(self) -> None:
        import ctranslate2

        self._library = ctranslate2

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        self._generator = self._library.Generator(
            str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self._tokens = json.loads((path / "vocabulary.json").read_text())

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``."""
        prompt = [[self._tokens[i] for i in ids]]
        stamps = [time.perf_counter()]
        self._generator.generate_batch(
            prompt,
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=lambda _: stamps.append(time.perf_counter()) or False,  # type: ignore[func-returns-value]
        )
        return stamps


class GenAI:
    """onnxruntime-genai through its Generator."""

    def __init__(self) -> None:
        import onnxruntime_genai

        self._library = onnxruntime_genai

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        config = self._library.Config(str(path))
        last = json.loads((path / "genai_config.json").read_text())["model"]["vocab_size"] - 1
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"eos_token_id": last, "decoder": {"session_options": options}}}))
        self._model, self._room = self._library.Model(config), room

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``."""
        stamps = [time.perf_counter()]
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self._room, do_sample=False)
        generator = self._library.Generator(self._model, parameters)
        generator.append_tokens(np.asarray(ids, dtype=np.int32))
        for _ in range(new):
            generator.generate_next_token()
            stamps.append(time.perf_counter())
        return stamps


class Session:
    """A model of genai's builder in a plain onnxruntime session, one cache buffer bound to past and present."""

    def __init__(self) -> None:
        import onnxruntime

        self._library = onnxruntime

    def load(self, path: Path, threads: int, room: int) -> None:
        """See ``Client``."""
        options = self._library.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = self._library.InferenceSession(path / "model.onnx", options)
        self._inputs = {i.name: i for i in self._session.get_inputs()}
        self._binding = self._session.io_binding()
        self._binding.bind_output("logits", "cpu")  # first, so that it is the first of get_outputs()
        make = self._library.OrtValue.ortvalue_from_numpy
        facts = json.loads((path / "genai_config.json").read_text())["model"]["decoder"]
        shape = (1, facts["num_key_value_heads"], room, facts["head_size"])
        for name in self._inputs:
            if name.startswith("past_key_values."):
                cache = make(np.zeros(shape, np.float32))
                self._binding.bind_ortvalue_input(name, cache)
                self._binding.bind_ortvalue_output(name.replace("past_key_values.", "present."), cache)

    def run(self, ids: Sequence[int], new: int) -> list[float]:
        """See ``Client``. What an earlier prompt left in the cache lies beyond the mask."""
        return greedy(self._step, ids, new)

    def _step(self, ids: np.ndarray, done: int) -> np.ndarray:
        total = done + len(ids)
        feeds = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(done, total)[None],
        }
        for name in feeds.keys() & self._inputs.keys():
            self._binding.bind_cpu_input(name, feeds[name])
        self._binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(self._binding)
        logits: np.ndarray = self._binding.get_outputs()[0].numpy()[0, -1]
        return logits


CLIENTS: dict[str, tuple[type[Client], str]] = {
    "ours": (Ours, "onnxruntime"),
    "llama.cpp": (LlamaCpp, "llama-cpp-python"),
    "openvino": (OpenVino, "openvino"),
    "ctranslate2": (CTranslate2, "ctranslate2"),
    "genai": (GenAI, "onnxruntime-genai"),
    "session": (Session, "onnxruntime"),
}
"""Name to client and the package on PyPI it needs."""


def weight_files(path: Path) -> list[Path]:
    """The graph and the weights of a model; tokenizers and configurations do not count."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return [f for f in files if f.suffix in WEIGHTS]


def resident_mb() -> float:
    """Resident memory of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3 * 1.024


def measure(client: Client, path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Load once and time prefill and decode; milliseconds, seconds and MB (1e6 bytes), by name."""
    prompts = {n: np.random.default_rng(n).integers(4, args.vocabulary, n).tolist() for n in args.prompts}
    for file in weight_files(path):
        file.read_bytes()  # into the page cache, so that every load is a warm one
    imported = resident_mb()
    start = time.perf_counter()
    client.load(path, args.threads, max(args.prompts) + args.new + 8)
    result: dict[str, Any] = {"load_s": time.perf_counter() - start, "rss_imports_mb": imported}
    short = prompts[args.prompts[0]]
    client.run(short, 1)
    result["rss_mb"] = resident_mb()
    for n, ids in prompts.items():
        client.run(ids, 1)
        stamps = [client.run(ids, 1) for _ in range(args.repeat)]
        times = [1e3 * (s[1] - s[0]) for s in stamps]
        result |= {f"prefill_{n}_ms": statistics.median(times), f"prefill_{n}_least_ms": min(times)}
    client.run(short, 8)
    steps = 1e3 * np.diff(client.run(short, args.new + 1)[1:])
    # The lowest tenth says what a step takes while nothing else wants the processor.
    return result | {"decode_ms": float(np.median(steps)), "decode_p10_ms": float(np.quantile(steps, 0.1))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512], help="decode starts after the first")
    parser.add_argument("--new", type=int, default=64, help="decode steps timed")
    parser.add_argument("--repeat", type=int, default=5, help="timed prefills of each length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32000, help="random prompt tokens are below this")
    args = parser.parse_args()
    kind, package = CLIENTS[args.name]
    try:
        client = kind()
    except ImportError as error:
        print(f"{args.name} is left out ({error}); pip install {package}", file=sys.stderr)
        return MISSING
    result = measure(client, args.path, args)
    result |= {"version": importlib.metadata.version(package), "load_average": os.getloadavg()[0]}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
