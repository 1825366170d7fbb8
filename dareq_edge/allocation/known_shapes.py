"""Common architectures, written down as data: their matrices from config.json without importing torch.

Only a short cut: what is not written here, and a configuration that leaves out what is asked for, is built by
transformers on the meta device (``model_facts``), and a test compares the two for every architecture of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dareq_edge.allocation.matrices import Matrix

_Shape = tuple[str, str, str]
"""(name, rows, columns); rows and columns are sums of dimensions, e.g. "query+kv+kv"."""

_QKV: tuple[_Shape, ...] = tuple(
    (f"self_attn.{name}_proj", rows, "hidden") for name, rows in (("q", "query"), ("k", "kv"), ("v", "kv"))
)
_GATED: tuple[_Shape, ...] = (
    *_QKV,
    ("self_attn.o_proj", "hidden", "query"),
    ("mlp.gate_proj", "ffn", "hidden"),
    ("mlp.up_proj", "ffn", "hidden"),
    ("mlp.down_proj", "hidden", "ffn"),
)


@dataclass(frozen=True, slots=True)
class _Family:
    """Where the matrices of an architecture lie.

    Attributes:
        block: Of one decoder block.
        layers: Prefix of the blocks.
        before: In front of them.
        head: The output head; has no matrix where it is tied.
        tied: Whether it is tied if config.json does not say.
        keys: Names in config.json of dimensions where they are not those of Llama.
        asks: Further keys that config.json must have, because their defaults are transformers' own.
    """

    block: tuple[_Shape, ...] = _GATED
    layers: str = "model.layers"
    before: tuple[_Shape, ...] = (("model.embed_tokens", "vocab", "hidden"),)
    head: str = "lm_head"
    tied: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    asks: tuple[str, ...] = ()


_KEYS = {
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "blocks": "num_hidden_layers",
    "heads": "num_attention_heads",
}
_FAMILIES: Mapping[str, _Family] = {
    **dict.fromkeys(("llama", "granite", "olmo2"), _Family()),
    **dict.fromkeys(("mistral", "qwen2"), _Family(asks=("num_key_value_heads",))),
    "qwen3": _Family(asks=("num_key_value_heads", "head_dim")),
    "smollm3": _Family(tied=True, asks=("num_key_value_heads",)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), _Family(tied=True, asks=("num_key_value_heads", "head_dim"))),
    "opt": _Family(
        block=(
            *((f"self_attn.{n}_proj", "hidden", "hidden") for n in ("k", "v", "q", "out")),
            ("fc1", "ffn", "hidden"),
            ("fc2", "hidden", "ffn"),
        ),
        layers="model.decoder.layers",
        before=(
            ("model.decoder.embed_tokens", "vocab", "word"),
            ("model.decoder.embed_positions", "positions+two", "hidden"),
            ("model.decoder.project_out", "word", "hidden"),
            ("model.decoder.project_in", "hidden", "word"),
        ),
        tied=True,
        keys={"ffn": "ffn_dim", "word": "word_embed_proj_dim", "positions": "max_position_embeddings"},
    ),
    "gpt2": _Family(
        block=(
            ("attn.c_attn", "hidden+hidden+hidden", "hidden"),
            ("attn.c_proj", "hidden", "hidden"),
            ("mlp.c_fc", "ffn", "hidden"),
            ("mlp.c_proj", "hidden", "ffn"),
        ),
        layers="transformer.h",
        before=(("transformer.wte", "vocab", "hidden"), ("transformer.wpe", "positions", "hidden")),
        tied=True,
        keys={
            "hidden": "n_embd",
            "blocks": "n_layer",
            "heads": "n_head",
            "ffn": "n_inner",
            "positions": "n_positions",
        },
    ),
    "gpt_neox": _Family(
        block=(
            ("attention.query_key_value", "hidden+hidden+hidden", "hidden"),
            ("attention.dense", "hidden", "hidden"),
            ("mlp.dense_h_to_4h", "ffn", "hidden"),
            ("mlp.dense_4h_to_h", "hidden", "ffn"),
        ),
        layers="gpt_neox.layers",
        before=(("gpt_neox.embed_in", "vocab", "hidden"),),
        head="embed_out",
    ),
    "phi": _Family(
        block=(
            *_QKV,
            ("self_attn.dense", "hidden", "query"),
            ("mlp.fc1", "ffn", "hidden"),
            ("mlp.fc2", "hidden", "ffn"),
        ),
    ),
    "phi3": _Family(
        block=(
            ("self_attn.o_proj", "hidden", "query"),
            ("self_attn.qkv_proj", "query+kv+kv", "hidden"),
            ("mlp.gate_up_proj", "ffn+ffn", "hidden"),
            ("mlp.down_proj", "hidden", "ffn"),
        ),
    ),
}
KNOWN = tuple(sorted(_FAMILIES))
"""Values of ``model_type`` that are written down."""


def known_matrices(config: Mapping[str, object]) -> tuple[Matrix, ...] | None:
    """The matrices of a model, in its order, as ``model_facts`` finds them.

    Args:
        config: The content of config.json.

    Returns:
        ``None`` where the architecture is not written down, or config.json lacks a dimension.
    """
    family = _FAMILIES.get(str(config.get("model_type")))
    sizes = None if family is None else _sizes(family, config)
    if family is None or sizes is None or any(config.get(key) is None for key in family.asks):
        return None
    found = [_matrix(shape, "", sizes, None) for shape in family.before]
    if sizes.get("word") == sizes["hidden"]:  # OPT's projections exist where embeddings are narrower
        found = [m for m in found if ".project_" not in m.name]
    for i in range(sizes["blocks"]):
        found += [_matrix(shape, f"{family.layers}.{i}.", sizes, i) for shape in family.block]
    if not config.get("tie_word_embeddings", family.tied):
        found.append(Matrix(family.head, sizes["vocab"], sizes.get("word", sizes["hidden"]), None))
    return tuple(found)


def _matrix(shape: _Shape, prefix: str, sizes: Mapping[str, int], block: int | None) -> Matrix:
    name, rows, columns = shape
    return Matrix(prefix + name, sum(sizes[d] for d in rows.split("+")), sizes[columns], block)


def _sizes(family: _Family, config: Mapping[str, object]) -> dict[str, int] | None:
    """Every dimension by name; ``None`` if one is missing or no positive number."""
    keys = _KEYS | dict(family.keys)
    values: dict[str, object] = {name: config.get(key) for name, key in keys.items()}
    if values["ffn"] is None and "n_inner" in keys.values() and isinstance(values["hidden"], int):
        values["ffn"] = 4 * values["hidden"]
    kv, width = config.get("num_key_value_heads"), config.get("head_dim")
    values["kv_heads"] = values["heads"] if kv is None else kv
    if isinstance(width, int):
        values["width"] = width
    elif isinstance(values["hidden"], int) and isinstance(values["heads"], int) and values["heads"]:
        values["width"] = values["hidden"] // values["heads"]
    sizes = {name: v for name, v in values.items() if isinstance(v, int) and not isinstance(v, bool) and v > 0}
    if len(sizes) < len(keys) + 2:
        return None
    sizes["query"], sizes["kv"] = sizes["heads"] * sizes["width"], sizes["kv_heads"] * sizes["width"]
    return sizes | {"two": 2}
