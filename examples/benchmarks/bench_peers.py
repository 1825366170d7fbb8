"""An exported folder beside other runtimes' models of the same size: prefill, decode, load, memory, in turns.

    python examples/benchmarks/make_peers.py FLOAT_FOLDER PEERS        # once; says what to install
    python examples/benchmarks/bench_peers.py FOLDER PEERS [--rounds 5] [--json peers.json]

Each round starts every runtime once, in a process of its own and in an order that turns with the rounds; the table
has the medians over rounds, and ratios to our folder as medians of the ratios within a round, with their range.
Prompts are random tokens; the head is evaluated for the last position only wherever a runtime can (ours: the graph
decides). Decode is the median of --new steps after the first prompt length, load a warm one, memory is resident after
load and one prompt, interpreter and library included ("imports" is that without a model). Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from peer_clients import MISSING, weight_files

CHILD = Path(__file__).with_name("peer_clients.py")
PEERS = {
    "llama.cpp Q4_0, all matrices": ("llama.cpp", "llamacpp-q4_0-pure.gguf"),
    "llama.cpp Q4_0": ("llama.cpp", "llamacpp-q4_0.gguf"),
    "OpenVINO int4 per channel": ("openvino", "openvino-int4"),
    "CTranslate2 int8": ("ctranslate2", "ctranslate2-int8"),
    "genai int4": ("genai", "genai-int4"),
    "genai int4, plain session": ("session", "genai-int4"),
}
"""Label to client and file or folder under PEERS."""

Run = dict[str, Any]


def start(client: str, path: Path, args: argparse.Namespace) -> Run | None:
    """Measure one runtime in a fresh process; ``None`` where its package is missing."""
    command = [sys.executable, str(CHILD), client, str(path), "--prompts", *map(str, args.prompts)]
    command += ["--new", str(args.new), "--threads", str(args.threads), "--repeat", str(args.repeat)]
    command += ["--vocabulary", str(args.vocabulary)]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if child.returncode == MISSING:
        print(child.stderr.strip().splitlines()[-1])
        return None
    if child.returncode:
        raise SystemExit(f"{client} left with {child.returncode} on {path}\n{child.stderr}")
    run: Run = json.loads(child.stdout.splitlines()[-1])
    return run


def rounds(models: dict[str, tuple[str, Path]], args: argparse.Namespace) -> dict[str, list[Run]]:
    """All runs by label, in turns."""
    found: dict[str, list[Run]] = {label: [] for label in models}
    for i in range(args.rounds):
        labels = list(found)
        for label in labels[i % len(labels) :] + labels[: i % len(labels)]:
            run = start(*models[label], args)
            if run is None:
                del found[label]
            else:
                found[label].append(run)
                print(f"round {i + 1} {label}: decode {run['decode_ms']:.2f} ms", file=sys.stderr, flush=True)
    return found


def summary(runs: dict[str, list[Run]], models: dict[str, tuple[str, Path]]) -> dict[str, dict[str, Any]]:
    """Medians, and ratios to ours within a round as [median, least, most]."""
    table = {}
    for label, own in runs.items():
        numbers = [k for k, v in own[0].items() if isinstance(v, float)]
        row: dict[str, Any] = {k: statistics.median(r[k] for r in own) for k in numbers}
        row["file_mb"] = sum(f.stat().st_size for f in weight_files(models[label][1])) / 1e6
        row["version"] = own[0]["version"]
        for k in numbers:
            if k.endswith("_ms"):
                ratios = [a[k] / b[k] for a, b in zip(own, runs["ours"], strict=True)]
                row[k.replace("_ms", "_ratio")] = [statistics.median(ratios), min(ratios), max(ratios)]
        table[label] = row
    return table


def show(table: dict[str, dict[str, Any]], prompts: list[int]) -> None:
    """Print one line for each runtime; times as multiples of ours in parentheses, with the range over rounds."""
    timed = [f"prefill_{n}" for n in prompts] + ["decode"]
    print(f"| | {' | '.join(f'{t} ms (of ours)' for t in timed)} | tok/s | load s | file MB | RSS MB (imports) |")
    print("|---" * (len(timed) + 5) + "|")
    for label, row in table.items():
        cells = [f"{label} {row['version']}"]
        for t in timed:
            middle, least, most = row[f"{t}_ratio"]
            cells.append(f"{row[f'{t}_ms']:.2f} ({middle:.2f}; {least:.2f}-{most:.2f})")
        cells += [f"{1e3 / row['decode_ms']:.0f}", f"{row['load_s']:.3f}", f"{row['file_mb']:.1f}"]
        cells.append(f"{row['rss_mb']:.0f} ({row['rss_imports_mb']:.0f})")
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="written by dareq-edge export")
    parser.add_argument("peers", type=Path, help="written by make_peers.py from a model of the same shape")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5, help="timed prefills per process and length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="peers to measure")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.vocabulary = json.loads((args.folder / "config.json").read_text())["vocab_size"]
    models = {"ours": ("ours", args.folder)}
    for label in args.only:
        client, name = PEERS[label]
        if (args.peers / name).exists():
            models[label] = (client, args.peers / name)
        else:
            print(f"{label} is left out: {args.peers / name} is not there; build it with make_peers.py")
    runs = rounds(models, args)
    table = summary(runs, models)
    show(table, args.prompts)
    busiest = max(run["load_average"] for own in runs.values() for run in own)
    if busiest > args.threads + 1:
        print(f"The load average reached {busiest:.1f}: these ratios mean nothing; repeat on a quiet machine.")
    if args.json:
        settings = {k: getattr(args, k) for k in ("rounds", "prompts", "new", "repeat", "threads")}
        args.json.write_text(json.dumps({"settings": settings, "medians": table, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
