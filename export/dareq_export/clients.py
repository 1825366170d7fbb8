"""The files beside the graph that make one folder open in optimum, onnxruntime-genai and our runtime."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from dareq_edge.errors import ExportError
from dareq_edge.tokenizer_files import copy_tokenizer
from dareq_export.profiles import NATIVE, Profile
from dareq_export.source import read_object


def write_client_files(
    source: Path, out: Path, *, kv_heads: int, head_dim: int, profile: Profile = NATIVE, data_files: int = 1
) -> None:
    """Write config.json, generation_config.json, genai_config.json and the tokenizer.

    Args:
        source: The quantized checkpoint.
        out: The folder being written.
        kv_heads: Key/value heads per layer in the graph.
        head_dim: Width of a head in the graph.
        profile: Names of the files, and what a session must be told.
        data_files: Files of external data.

    Raises:
        ExportError: A value that every client needs is missing from config.json.
    """
    config: dict[str, Any] = read_object(source / "config.json")
    config.pop("quantization_config", None)
    browser = browser_config(profile, data_files) if profile.name == "web" else {}
    _dump(out / "config.json", config | browser)
    generation = _generation_config(source, config)
    _dump(out / "generation_config.json", generation)
    _dump(out / "genai_config.json", _genai_config(config, generation, kv_heads, head_dim, profile))
    copy_tokenizer(source, out)
    if (out / "tokenizer_config.json").is_file():
        _adapt_tokenizer(out / "tokenizer_config.json", config)


def _dump(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _generation_config(source: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's own, or the special ids of its config."""
    path = source / "generation_config.json"
    if path.is_file():
        return read_object(path)
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {key: config[key] for key in ids if config.get(key) is not None}


def _adapt_tokenizer(path: Path, config: dict[str, Any]) -> None:
    """onnxruntime-genai accepts a fixed list of tokenizer classes; transformers 5 writes names outside it."""
    data = read_object(path)
    name = data.get("tokenizer_class")
    if config.get("model_type") == "opt" and name in (None, "TokenizersBackend", "PreTrainedTokenizerFast"):
        data |= {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}
        _dump(path, data)


def browser_config(profile: Profile, data_files: int) -> dict[str, Any]:
    """What transformers.js reads of config.json (4.3): the suffix of the graph's name, and its files of data.

    Args:
        profile: Names of the files.
        data_files: Files of external data.

    It has no place for session settings; its users pass them as ``session_options``, see docs/profiles.md.
    """
    files = {PurePosixPath(profile.graph).name: data_files}
    return {"transformers.js_config": {"dtype": "q4", "use_external_data_format": files}}


def _genai_session(profile: Profile) -> dict[str, Any]:
    """The names genai does not know become entries of its SessionOptions; the native profile needs none."""
    settings = profile.sessions["int8"]
    told = {"graph_optimization_level": settings.optimization, **settings.entries} if settings.entries else {}
    return {"log_id": "onnxruntime-genai", "provider_options": [], **told}


def _genai_config(
    config: dict[str, Any], generation: dict[str, Any], kv_heads: int, head_dim: int, profile: Profile
) -> dict[str, Any]:
    """onnxruntime-genai's description of a decoder-only graph (model type "decoder", checked with 0.18)."""
    context = config.get("max_position_embeddings") or config.get("n_positions")
    if not context:
        raise ExportError("config.json names no max_position_embeddings, which onnxruntime-genai needs; add it")
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    heads = config.get("num_attention_heads") or config.get("n_head")
    bos, eos = (generation.get(k, config.get(k)) for k in ("bos_token_id", "eos_token_id"))
    pad = generation.get("pad_token_id", config.get("pad_token_id"))
    first_eos = eos[0] if isinstance(eos, list) else eos
    decoder = {
        "session_options": _genai_session(profile),
        "filename": profile.graph,
        "head_size": head_dim,
        "hidden_size": config.get("hidden_size") or config.get("n_embd"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": "decoder",
        "bos_token_id": first_eos if bos is None else bos,
        "eos_token_id": eos,
        "pad_token_id": first_eos if pad is None else pad,
        "context_length": context,
        "vocab_size": config["vocab_size"],
        "decoder": decoder,
    }
    search = {"max_length": context, "do_sample": False, "num_beams": 1, "past_present_share_buffer": True}
    return {"model": model, "search": search}
