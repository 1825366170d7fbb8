"""Builds one baseline: ``python -m dareq_edge.baselines.build < ORDER`` prints one JSON record.

ORDER is {"name": "fp32" | "ort-int4", "source": MODEL, "revision": … | null, "random": BOOL, "out": FOLDER}; the
record is {"note": SENTENCE, …} or, with exit code 1, {"error": SENTENCE}. A process of its own, because optimum and
the quantizer configure logging when they are imported, and print.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dareq_edge.baselines import ort_int4
from dareq_edge.baselines.optimum_export import checkpoint_of, export_float
from dareq_edge.errors import DareqError


def build(name: str, source: str, out: Path, *, revision: str | None = None, random: bool = False) -> dict[str, Any]:
    """Fill a folder with a baseline.

    Args:
        name: One of ``NAMES``.
        source: A model folder, or (not ``random``) a hub id.
        out: Existing folder.
        revision: Branch, tag or commit on the hub.
        random: Take only the shape from ``source``, not the weights.

    Returns:
        {"note": what a reader of the figures should know}, and for ort-int4 the counts of its ``Coverage``.
    """
    optimum, runtime = (importlib.metadata.version(package) for package in ("optimum-onnx", "onnxruntime"))
    with checkpoint_of(source, revision, random=random) as checkpoint:
        if name == "fp32":
            export_float(checkpoint, out)
            return {"note": f"optimum-onnx {optimum}, float32"}
        with tempfile.TemporaryDirectory(prefix="dareq-float-", dir=out.parent) as scratch:
            # Without shared weights: with them the quantizer would skip the head of a tied model, too.
            export_float(checkpoint, Path(scratch), share=False)
            found = ort_int4.quantize(Path(scratch) / "model.onnx", out)
            shutil.copy(Path(scratch) / "config.json", out)
    how = f"onnxruntime {runtime}'s MatMulNBits quantizer, blocks of {ort_int4.BLOCK_SIZE}, on optimum-onnx {optimum}"
    rest = "" if found.quantized == found.matrices else ", the others stay float32"
    return {"note": f"{how}: {found.quantized} of {found.matrices} matrices quantized{rest}", **asdict(found)}


def _fill(order: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return build(
            order["name"], order["source"], Path(order["out"]), revision=order["revision"], random=order["random"]
        )
    except DareqError as error:
        return {"error": str(error)}
    except Exception as error:  # optimum, torch and onnxruntime raise dozens of unrelated classes
        first = (str(error).strip().splitlines() or [""])[0][:240]
        return {"error": f"it cannot be built from {order['source']} ({type(error).__name__}: {first})"}


def main() -> int:
    """Read the order from stdin, print the record on the real stdout whatever libraries print meanwhile."""
    out = os.dup(1)
    os.dup2(2, 1)
    record = _fill(json.load(sys.stdin))
    with os.fdopen(out, "w", encoding="utf-8") as stdout:
        json.dump(record, stdout)
    return int("error" in record)


if __name__ == "__main__":
    sys.exit(main())
