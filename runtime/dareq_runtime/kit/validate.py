#!/usr/bin/env python3
"""Judges on this device whether an exported model predicts what it predicted on the host.

Needs this kit, Python 3.9 or later, numpy and onnxruntime. Reads the kit's tokens in the host's windows through a
growing cache and compares the losses with the host's, with int8 compute (as shipped) and fp32 compute (exact). KL
counts the host's likeliest tokens and all others as one: a lower bound of the full divergence.

  python validate.py                                 both computes, all tokens; writes ./result.json
  python validate.py --compute int8 --tokens 2000    a quick look

Exit code: 0 passed, 1 failed, 2 cannot judge (a changed file, too little memory, ...), 130 interrupted.
On the host, "dareq-edge verdict result.json --kit KIT" judges the result again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime as ort

    LACKS = ""
except ImportError as lacking:
    LACKS = (str(lacking).splitlines() or [""])[0]
try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

KIT, FORMAT = Path(__file__).resolve().parent, 1
ROWS = 16  # rows of logits in float64 at a time: 6 MB for a vocabulary of 50,272
MIN_CLUSTERS, BLOCK, DECODE_TOKENS, DECODE_SECONDS = 10, 64, 32, 5.0
PAST, PRESENT = "past_key_values.", "present."
DTYPES = {"float": "f4", "float16": "f2", "int8": "i1", "uint8": "u1", "int64": "i8", "int32": "i4"}
SHOWN = (  # a line of the table, and how it is written for one compute
    ("perplexity", "{ppl:,.4f} +/- {stderr:.4f}"),
    ("on the host", "{reference_ppl:,.4f}"),
    ("difference", "{delta_ppl:+.4%} +/- {delta_stderr:.4%}"),
    ("allowed", "{allowed:.2%}"),
    ("KL mean, 99 %", "{kl_mean:.1e}, {kl_p99:.1e}"),
    ("same first token", "{top1_agreement:.2%}"),
    ("prompt, new tokens/s", "{prefill_tokens_per_s:,.1f}, {decode_tokens_per_s:,.1f}"),
    ("load, most memory", "{load_s:.2f} s, {peak_memory_mb:,.0f} MB"),
)


class Refused(Exception):  # noqa: N818 (it is not an error of the program)
    """Nothing can be judged; the message says why and what to do."""


class Progress:
    """A line on stderr that is written over; without a terminal, a line every ten seconds."""

    terminal, last = sys.stderr.isatty(), 0.0

    def __call__(self, stage: str, share: float) -> None:
        """Say how much of a stage is done."""
        if time.monotonic() - self.last >= (0.1 if self.terminal else 10) or (self.terminal and share >= 1):
            self.last = time.monotonic()
            ends = "" if self.terminal and share < 1 else "\n"
            print(f"{chr(13) * self.terminal}{stage} {share:4.0%}", end=ends, file=sys.stderr, flush=True)


def read_kit(progress: Progress) -> tuple[dict[str, Any], str]:
    """kit.json and its sha256, once every file is there and what it says, and no other beside the model."""
    content = (KIT / "kit.json").read_bytes()
    kit_digest = hashlib.sha256(content).hexdigest()
    if (KIT / "kit.sha256").read_bytes() != f"{kit_digest}  kit.json\n".encode():
        raise Refused("kit.json does not match kit.sha256; copy the kit again")
    kit: dict[str, Any] = json.loads(content)
    if kit.get("format") != FORMAT:
        raise Refused(f"kit.json has format {kit.get('format')}, this validate.py knows {FORMAT}; bundle it again")
    paths = [path for folder in ("model", "reference") for path in (KIT / folder).rglob("*") if not path.is_dir()]
    for name in sorted({path.relative_to(KIT).as_posix() for path in paths} - set(kit["files"])):
        raise Refused(f"{name} was not bundled; remove it or copy the kit again")
    total, done = sum(entry["bytes"] for entry in kit["files"].values()), 0
    for name, entry in kit["files"].items():
        if Path(name).is_absolute() or ".." in re.split(r"[/\\]", name) or ":" in name:
            raise Refused(f"kit.json names {name!r}, which leads out of the kit; get it from where you trust it")
        digest, size = hashlib.sha256(), 0
        with (KIT / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
                progress("checking files", min(1, (done + size) / total))
        done += size
        if (size, digest.hexdigest()) != (entry["bytes"], entry["sha256"]):
            raise Refused(f"{name} is not the file that was bundled; copy the kit again")
    return kit, kit_digest


class Model:
    """The graph under one compute, which reads a window through a growing cache."""

    def __init__(self, kit: dict[str, Any], compute: str, threads: int) -> None:
        settings, options = kit["sessions"][compute], ort.SessionOptions()
        self.host = (re.search(r"onnxruntime [\d.]+", str(kit["references"])) or ["the same version"])[0]
        options.log_severity_level, options.enable_cpu_mem_arena = 4, False  # one copy of the weights, here and below
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, settings["optimization"])
        for key, value in settings["entries"].items():
            options.add_session_config_entry(key, value)
        graph, began = str(KIT / kit["model"]["graph"]), time.perf_counter()
        self.session = self.attempt("opening", ort.InferenceSession, graph, options, ["CPUExecutionProvider"])
        self.load_s = time.perf_counter() - began
        inputs = {i.name: i for i in self.session.get_inputs()}
        self.types = {name: DTYPES.get(i.type[7:-1]) for name, i in inputs.items()}  # "tensor(float)"
        self.caches = {name: i.shape for name, i in inputs.items() if name.startswith(PAST)}
        self.outputs = ["logits"] + [PRESENT + name[len(PAST) :] for name in self.caches]
        unknown = set(inputs) - {"input_ids", "attention_mask", "position_ids", *self.caches}
        if unknown or None in self.types.values():
            raise Refused(f"this validate.py cannot feed the model's inputs {self.types}; bundle it again")

    def attempt(self, doing: str, call: Any, *arguments: Any) -> Any:
        """Call into onnxruntime, whose dozen error classes become one sentence."""
        try:
            return call(*arguments)
        except Exception as error:  # KeyboardInterrupt is none
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            advice = f"the host had {self.host}: install that or a newer one"
            if isinstance(error, MemoryError) or "alloc" in line:
                advice = "there is not enough memory: close other programs"
            raise Refused(f"onnxruntime {ort.__version__} failed in {doing} the model ({line}); {advice}") from error

    def restart(self) -> None:
        """Empty the cache: [1, heads, 0, width] each."""
        self.done, self.past = 0, {n: np.zeros((1, s[1], 0, s[3]), self.types[n]) for n, s in self.caches.items()}

    def feed(self, ids: Any) -> tuple[Any, float]:
        """Read the next tokens, int64 [s]: logits [s, V], and the seconds they took."""
        total = self.done + len(ids)
        small = {"input_ids": ids, "attention_mask": np.ones(total), "position_ids": np.arange(self.done, total)}
        feeds = {name: v[None].astype(self.types[name]) for name, v in small.items() if name in self.types}
        began = time.perf_counter()
        made = self.attempt("running", self.session.run, self.outputs, {**feeds, **self.past})
        seconds = time.perf_counter() - began
        self.done, self.past = total, {name: made[i + 1] for i, name in enumerate(self.caches)}
        return made[0][0], seconds

    def decode_speed(self, ids: Any) -> float:
        """Tokens per second, one by one, after the first half of ids; a few only, as fp32 compute is slow at it."""
        self.restart()
        self.feed(ids[: len(ids) // 2])
        spent: list[float] = []
        while self.done < len(ids) and len(spent) < DECODE_TOKENS and sum(spent) < DECODE_SECONDS:
            spent.append(self.feed(ids[self.done : self.done + 1])[1])
        return len(spent) / sum(spent)


def compare_rows(logits: Any, targets: Any, top: Any, logp: Any) -> tuple[Any, Any, Any]:
    """Losses in nats, KL(host || here), and whether the likeliest token is the same: [t] each.

    logits [t, V], targets [t]; top and logp [t, k] are the host's likeliest tokens and their log-probabilities.
    """
    x, log_host = logits.astype(np.float64), logp.astype(np.float64)
    best = x.max(axis=1)
    normal = np.log(np.exp(x - best[:, None]).sum(axis=1)) + best
    nll = normal - np.take_along_axis(x, targets[:, None], axis=1)[:, 0]
    log_here = np.take_along_axis(x, top, axis=1) - normal[:, None]
    kl = (np.exp(log_host) * (log_host - log_here)).sum(axis=1)
    if top.shape[1] < x.shape[1]:
        host, here = (np.maximum(1 - np.exp(log).sum(axis=1), 1e-12) for log in (log_host, log_here))
        kl += host * np.log(host / here)
    return nll, np.maximum(kl, 0), x.argmax(axis=1) == top[:, 0]


def mean_and_error(losses: list[Any], weighting: str) -> tuple[float, float]:
    """Mean loss and its standard error: a ratio of sums over windows, or over blocks where windows are few."""
    if weighting == "window" and len(losses) > 1:
        sums, counts = np.array([x.mean() for x in losses]), np.ones(len(losses))
    else:
        if len(losses) < MIN_CLUSTERS:
            size = min(BLOCK, max(1, sum(len(x) for x in losses) // 2))
            losses = [x[s : s + size] for x in losses for s in range(0, len(x), size)]
        sums, counts = np.array([x.sum() for x in losses]), np.array([float(len(x)) for x in losses])
    n, mean = len(sums), sums.sum() / counts.sum()
    return float(mean), float(np.sqrt(n / (n - 1) * np.square(sums - mean * counts).sum()) / counts.sum())


def judge(kit: dict[str, Any], compute: str, counts: list[int], threads: int, progress: Progress) -> dict[str, Any]:
    """Everything about one compute; counts are the predicted tokens of each window that is read."""
    parts = ["tokens", *(f"reference/{compute}.{part}" for part in ("nll", "top", "logp"))]
    ids, host, top, logp = (np.load(KIT / f"{part}.npy", mmap_mode="r") for part in parts)
    model, chunk, found, passes, at = Model(kit, compute, threads), kit["chunk"], [], [], 0
    for offset, length, first in kit["windows"][: len(counts)]:
        model.restart()
        for start in range(0, length, chunk):
            logits, seconds = model.feed(ids[offset + start : offset + min(start + chunk, length)])
            passes.append((len(logits), seconds))
            last = min(length - 1, start + len(logits))
            for row in range(max(first - 1, start), last, ROWS):
                size = min(ROWS, last - row)
                rows, targets = logits[row - start :][:size], ids[offset + row + 1 :][:size]
                found.append(compare_rows(rows, targets, top[at:][:size], logp[at:][:size]))
                at += size
            progress(f"{compute}: predicting", at / sum(counts))
    nll, kl, same = (np.concatenate([part[i] for part in found]) for i in range(3))
    record = summary(nll, host[:at], counts, kit["weighting"], kit["tolerances"][compute])
    record["kl_mean"], record["kl_p99"], record["top1_agreement"] = kl.mean(), np.percentile(kl, 99), same.mean()
    read, spent = np.sum(passes[1:] or passes, axis=0)  # the first one also warms up
    offset, length, _ = max(kit["windows"][: len(counts)], key=lambda window: window[1])
    record["prefill_tokens_per_s"], record["load_s"] = read / spent, model.load_s
    record["decode_tokens_per_s"] = model.decode_speed(ids[offset : offset + length])
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    record["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit if resource else math.nan
    record["nll"], record["reference_nll"] = nll, host[:at]
    return record


def summary(nll: Any, host: Any, counts: list[int], weighting: str, allowed: float) -> dict[str, Any]:
    """Perplexity, its distance from the host's, and the verdict, from the losses alone."""
    splits = (np.split(losses, np.cumsum(counts)[:-1]) for losses in (nll, host, nll - host))
    (mean, error), (wanted, _), (_, gap) = (mean_and_error(losses, weighting) for losses in splits)
    ppl, delta = math.exp(min(mean, 700)), math.expm1(min(mean - wanted, 700))
    record = {"tokens": len(nll), "ppl": ppl, "stderr": ppl * error, "reference_ppl": math.exp(wanted)}
    record.update(delta_ppl=delta, delta_stderr=(1 + delta) * gap, allowed=allowed)
    return {**record, "passed": abs(delta) <= allowed}  # a NaN does not pass


def device(cpus: dict[str, dict[str, str]], features: list[str]) -> dict[str, Any]:
    """CPU, system and versions; cpus names ARM's makers and parts, features what kernels are chosen by."""
    facts: dict[str, list[str]] = {}
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            facts.setdefault(line.partition(":")[0].strip(), []).append(line.partition(":")[2].strip())
    names, words = facts.get("model name", []), " ".join(facts.get("flags", []) + facts.get("Features", [])).split()
    for maker, part in zip(facts.get("CPU implementer", []), facts.get("CPU part", [])):  # noqa: B905 (Python 3.9)
        names = [*names, " ".join(cpus.get(maker, {}).get(key, key) for key in (maker, part))]
    if sys.platform == "darwin":
        told = subprocess.run(["sysctl", "machdep.cpu", "hw.optional"], capture_output=True, text=True).stdout
        names, words = re.findall(r"brand_string: (.*)", told), re.findall(r"hw\.optional\.(?:arm\.)?(\w+): 1", told)
    cpu = ", ".join(dict.fromkeys(names)) or platform.processor() or platform.machine()
    found = {"cpu": cpu, "features": [f for f in features if f in words], "cores": os.cpu_count()}
    found.update(machine=platform.machine(), system=f"{platform.system()} {platform.release()}")
    return {**found, "python": platform.python_version(), "onnxruntime": ort.__version__, "numpy": np.__version__}


def main() -> int:
    """Check, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compute", choices=["int8", "fp32", "both"], default="both", help="default: both")
    parser.add_argument("--tokens", type=int, help="judge the first windows that hold so many predicted tokens")
    parser.add_argument("--threads", type=int, default=0, help="default: onnxruntime's choice")
    parser.add_argument("--out", type=Path, default=Path("result.json"), help="default: ./result.json")
    options, progress = parser.parse_args(), Progress()
    if LACKS:
        raise Refused(f"numpy and onnxruntime are needed ({LACKS}); run: python -m pip install numpy onnxruntime")
    if not os.access(options.out.resolve().parent, os.W_OK):
        raise Refused(f"{options.out} cannot be written; give another --out")
    kit, digest = read_kit(progress)
    counts: list[int] = []
    for _, length, first in kit["windows"]:
        if options.tokens is None or sum(counts) < max(2, options.tokens):
            counts.append(length - first)
    result = {"format": FORMAT, "kind": "result", "kit": digest, "model": kit["model"], "counts": counts}
    result.update(protocol=kit["protocol"], weighting=kit["weighting"], device=device(kit["cpus"], kit["features"]))
    computes = ["int8", "fp32"] if options.compute == "both" else [options.compute]
    found = {name: judge(kit, name, counts, options.threads, progress) for name in computes}
    print(f"{kit['model']['source']}, {kit['protocol']}, {sum(counts):,} tokens")
    here = result["device"]
    print(f"{here['cpu']} ({' '.join(here['features'])}), {here['system']}, onnxruntime {here['onnxruntime']}")
    for title, form in (("", "{name}"), *SHOWN):
        print(f"{title:20}", *(f"{form.format(name=name, **record):>28}" for name, record in found.items()))
    told = "{} compute: perplexity differs by {delta_ppl:+.4%} from the host's, {allowed:.2%} is allowed"
    reasons = [told.format(name, **record) for name, record in found.items() if not record["passed"]]
    print("FAILED: " + "; ".join(reasons) if reasons else "PASSED: what runs here is what was bundled")
    peak = found[computes[-1]]["peak_memory_mb"]
    result.update(computes=found, peak_memory_mb=peak, passed=not reasons, reasons=reasons)
    plain = json.loads(json.dumps(result, default=np.ndarray.tolist), parse_constant=lambda nan: None)
    scratch = options.out.with_name(options.out.name + ".partial")
    try:
        scratch.write_text(json.dumps(plain), encoding="utf-8")
        os.replace(scratch, options.out)
    finally:
        scratch.unlink(missing_ok=True)
    return 1 if reasons else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # whatever it is, it is no verdict
        print(f"cannot judge: {error if isinstance(error, (Refused, OSError)) else repr(error)}", file=sys.stderr)
        sys.exit(2)
