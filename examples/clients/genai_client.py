"""Text from an exported folder with onnxruntime-genai, as a stream.

pip install onnxruntime-genai
python examples/clients/genai_client.py FOLDER "The people of the United States" [--compute fp32]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import onnxruntime_genai as genai
except ImportError as error:
    raise SystemExit(f"{error}; pip install onnxruntime-genai") from None


def open_model(folder: Path, compute: str = "int8") -> Any:
    """The model; ``compute`` is a key of "sessions" in dareq.json."""
    settings = json.loads((folder / "dareq.json").read_text())["sessions"][compute]
    options = {"graph_optimization_level": settings["optimization"], **settings["entries"]}
    config = genai.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return genai.Model(config)


def stream(model: Any, ids: list[int], new: int) -> Iterator[int]:
    """The tokens that follow ``ids``, one by one: ``new`` of them, or up to the model's end-of-text."""
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(ids) + new, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
        yield int(generator.get_next_tokens()[0])


def write(model: Any, prompt: str, new: int) -> Iterator[str]:
    """The greedy continuation of ``prompt``, piece by piece."""
    tokenizer = genai.Tokenizer(model)
    tokenizer.update_options(add_special_tokens="true")  # OPT's leading </s>, which genai leaves out by default
    yield from map(tokenizer.create_stream().decode, stream(model, tokenizer.encode(prompt).tolist(), new))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--compute", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--new", type=int, default=64)
    args = parser.parse_args()
    if not (args.folder / "dareq.json").is_file():
        parser.error(f"{args.folder} has no dareq.json; give a folder that dareq-edge export wrote")
    print(args.prompt, end="")
    for piece in write(open_model(args.folder, args.compute), args.prompt, args.new):
        print(piece, end="", flush=True)
