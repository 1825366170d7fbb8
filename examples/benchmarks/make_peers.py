"""Build the peers' models for bench_peers.py from a float Hugging Face folder, each in the form its own tools make.

    python -m venv peers && . peers/bin/activate
    pip install ".[export]" optimum-onnx ctranslate2 onnxruntime-genai openvino nncf gguf
    pip install --no-deps optimum-intel                             # it asks for a newer optimum than it needs here
    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python      # compiles llama.cpp for this processor
    python -m venv builder                                          # genai's model builder wants transformers 5
    builder/bin/pip install torch onnxruntime-genai onnx onnx-ir "transformers>=5"
    python examples/benchmarks/make_peers.py FLOAT_FOLDER OUT --builder-python builder/bin/python [--only genai ...]

llama.cpp runs no OPT: an OPT folder becomes a GPT-2 graph with the same matrix sizes and random weights, once as
``llama-quantize --pure Q4_0`` (every matrix, the table too) and once as plain Q4_0. onnxruntime-genai builds no OPT
either: there a Phi graph with the same sizes (random weights, head not tied) takes its place. For other models
give --gguf FILE, which is requantized (speed is all that is measured). What is not installed, or fails, is named and
left out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GENAI_OPTIONS = ("accuracy_level=4", "prune_lm_head=true")  # the head on the last position only, like everyone here


@dataclass(frozen=True)
class Job:
    """What a maker may need beside the model.

    Attributes:
        scratch: Folder for what does not stay.
        builder: Python interpreter that runs genai's model builder.
        gguf: GGUF file of the same model, or ``None``.
    """

    scratch: Path
    builder: Path
    gguf: Path | None


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A word-level tokenizer of made-up words, for converters that insist on one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(4, vocabulary))]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)


def gpt2_tensors(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random float16 matrices and float32 vectors of a GPT-2 as large as an OPT, by GGUF name."""
    rng = np.random.default_rng(0)
    d, f = config["hidden_size"], config["ffn_dim"]

    def matrix(n: int, k: int) -> np.ndarray:
        return (0.05 * rng.standard_normal((n, k), dtype=np.float32)).astype(np.float16)

    tensors = {
        "token_embd.weight": matrix(config["vocab_size"], d),
        "position_embd.weight": matrix(config["max_position_embeddings"], d).astype(np.float32),
    }
    norms = ["output_norm"]
    for i in range(config["num_hidden_layers"]):
        for name, n, k in (("attn_qkv", 3 * d, d), ("attn_output", d, d), ("ffn_up", f, d), ("ffn_down", d, f)):
            tensors[f"blk.{i}.{name}.weight"] = matrix(n, k)
            tensors[f"blk.{i}.{name}.bias"] = np.zeros(n, np.float32)
        norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(d, np.float32), f"{name}.bias": np.zeros(d, np.float32)}
    return tensors


def write_gpt2(config: dict[str, Any], path: Path) -> None:
    """The float16 GGUF file that llama-quantize starts from; it has no vocabulary."""
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["ffn_dim"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, tensor in gpt2_tensors(config).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(model: Path, out: Path, job: Job) -> None:
    """All-Q4_0 and default Q4_0 files."""
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    config = json.loads((model / "config.json").read_text())
    source = job.gguf or job.scratch / "f16.gguf"
    if job.gguf is None:
        if config["model_type"] != "opt":
            raise NotImplementedError(f"no GGUF is made from a {config['model_type']} folder; give one with --gguf")
        write_gpt2(config, source)
    for name, pure in (("llamacpp-q4_0-pure.gguf", True), ("llamacpp-q4_0.gguf", False)):
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.pure, options.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, pure, True
        if llama_cpp.llama_model_quantize(str(source).encode(), str(out / name).encode(), ctypes.byref(options)):
            raise RuntimeError(f"llama_model_quantize wrote no {name}")


def openvino(model: Path, out: Path, job: Job) -> None:
    """int4 symmetric per channel, embedding and head int8 (NNCF's default), the head cut to the last position."""
    from openvino import opset13 as ops
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    scheme = OVWeightQuantizationConfig(bits=4, sym=True, group_size=-1, ratio=1.0)
    made = OVModelForCausalLM.from_pretrained(model, export=True, compile=False, quantization_config=scheme)
    head = made.model.output("logits").get_node().input_value(0).get_node()
    while head.get_type_name() != "MatMul":
        head = head.input_value(0).get_node()
    # What openvino.genai does when it loads a model (slice before matmul); here once, in the file.
    last = ops.slice(head.input_value(0), [-1], [np.iinfo(np.int64).max], [1], [1])
    head.input(0).replace_source_output(last.output(0))
    made.model.validate_nodes_and_infer_types()
    made.save_pretrained(out / "openvino-int4")


def ctranslate2(model: Path, out: Path, job: Job) -> None:
    """int8 per row."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(out / "ctranslate2-int8"), quantization="int8", force=True)


def genai(model: Path, out: Path, job: Job) -> None:
    """The model builder's int4, block 32."""
    from transformers import PhiConfig, PhiForCausalLM

    config = json.loads((model / "config.json").read_text())
    if config["model_type"] == "opt":
        same = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
        phi = PhiConfig(intermediate_size=config["ffn_dim"], **{name: config[name] for name in same})
        PhiForCausalLM(phi).save_pretrained(job.scratch / "phi")
        write_tokenizer(job.scratch / "phi", config["vocab_size"])
        model = job.scratch / "phi"
    command = [
        str(job.builder),
        "-m",
        "onnxruntime_genai.models.builder",
        "-i",
        str(model),
        "-p",
        "int4",
        "-e",
        "cpu",
    ]
    command += ["-o", str(out / "genai-int4"), "-c", str(job.scratch / "cache"), "--extra_options", *GENAI_OPTIONS]
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(f"the model builder left with {child.returncode}: {child.stderr.strip().splitlines()[-1]}")


MAKERS: dict[str, Callable[[Path, Path, Job], None]] = {
    "llama.cpp": llama_cpp,
    "openvino": openvino,
    "ctranslate2": ctranslate2,
    "genai": genai,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder with float weights")
    parser.add_argument("out", type=Path, help="where the peers' models go")
    parser.add_argument("--builder-python", type=Path, default=Path(sys.executable), help="has genai, transformers 5")
    parser.add_argument("--gguf", type=Path, help="for models other than OPT: requantized for llama.cpp")
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=list(MAKERS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        model = Path(shutil.copytree(args.model, Path(name) / "model"))
        if not (model / "tokenizer_config.json").exists():
            write_tokenizer(model, json.loads((model / "config.json").read_text())["vocab_size"])
        job = Job(Path(name), args.builder_python, args.gguf)
        for peer in args.only:
            try:
                MAKERS[peer](model, args.out, job)
            except ImportError as error:
                print(f"{peer}: left out, {error}; see the top of this file for what to install")
            except Exception as error:  # whatever a foreign converter raises, the others go on
                print(f"{peer}: failed, {type(error).__name__}: {error}")
                failed += 1
            else:
                print(f"{peer}: built")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
