"""Text from an exported folder with optimum and transformers' pipeline, as a stream.

    python -m venv optimum && optimum/bin/pip install -r examples/clients/requirements-optimum.txt
    optimum/bin/python examples/clients/optimum_client.py FOLDER "The people of the United States" [--compute fp32]
optimum-onnx 0.1.0 needs transformers < 4.58: beside transformers 5, make the environment of the first line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

try:
    import onnxruntime as ort
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoTokenizer, TextStreamer, pipeline
except ImportError as error:
    raise SystemExit(f"{error}; pip install -r examples/clients/requirements-optimum.txt") from None


def open_model(folder: Path, compute: str = "int8") -> Any:
    """The model; ``compute`` is a key of "sessions" in dareq.json."""
    manifest = json.loads((folder / "dareq.json").read_text())
    settings, graph = manifest["sessions"][compute], Path(manifest["graph"])
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, settings["optimization"])
    for key, value in settings["entries"].items():
        options.add_session_config_entry(key, value)
    where = {"subfolder": str(graph.parent), "file_name": graph.name}
    return ORTModelForCausalLM.from_pretrained(folder, session_options=options, **where)


def greedy(model: Any, ids: list[int], new: int) -> list[int]:
    """The ``new`` tokens that follow ``ids``; end-of-text does not stop it."""
    out = model.generate(torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=None)
    return [int(token) for token in out[0, len(ids) :]]


def write(model: Any, folder: Path, prompt: str, new: int, show: bool = False) -> str:
    """Prompt and greedy continuation; ``show`` prints every word as it is made."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    streamer = TextStreamer(tokenizer, skip_special_tokens=True) if show else None
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    return str(generator(prompt, max_new_tokens=new, do_sample=False, streamer=streamer)[0]["generated_text"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--compute", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--new", type=int, default=64)
    args = parser.parse_args()
    if not (args.folder / "dareq.json").is_file():
        parser.error(f"{args.folder} has no dareq.json; give a folder that dareq-edge export wrote")
    write(open_model(args.folder, args.compute), args.folder, args.prompt, args.new, show=True)
