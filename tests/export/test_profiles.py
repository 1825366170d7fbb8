"""The portable and the web profile: their numbers, what onnxruntime makes of them, their bytes and their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from transformers import LlamaConfig

import dareq_runtime
import tolerances
from dareq_edge.errors import ExportError, SpecError
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_export.profiles import PROFILES, Profile, find_profile
from dareq_export.source import QuantizedSource
from exported import distance_from_transformers, run, session
from fast import fast
from tiny_models import SPECIAL, save_random, tiny_opt

LLAMA = LlamaConfig(
    vocab_size=96, hidden_size=64, intermediate_size=172, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=4, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=False,
)  # fmt: skip
PROMPT, NEW = [2, 17, 40, 8, 33], 24


def quantized(folder: Path, kind: str, **options: object) -> Path:
    source = folder / "source"
    if kind == "llama":
        save_random(LLAMA, source)
    elif kind in SPECIAL:
        save_random(SPECIAL[kind], source)
    elif kind == "post-LN":
        tiny_opt(source, word_embed_proj_dim=32, do_layer_norm_before=False)
    elif kind == "odd":  # neither widths nor the vocabulary divide by anything
        tiny_opt(source, hidden_size=72, word_embed_proj_dim=72, num_attention_heads=9, ffn_dim=100, vocab_size=97)
    else:
        tiny_opt(source)
    quantize_checkpoint(source, folder / "quantized", DareqConfig(**options))
    return folder / "quantized"


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny OPT with tables of 4 and 8 bits, quantized and in every profile."""
    root = tmp_path_factory.mktemp("opt")
    source = quantized(root, "pre-LN", table_bits=4, position_bits=8)
    for name in PROFILES:
        export_onnx(source, root / name, profile=find_profile(name).name)
    return {"source": source, **{name: root / name for name in PROFILES}}


def fused(folder: Path, scratch: Path) -> onnx.GraphProto:
    """What onnxruntime runs for int8 compute."""
    session(folder, "int8", scratch / "fused.onnx")
    return onnx.load(scratch / "fused.onnx", load_external_data=False).graph


CASES = [
    ("pre-LN", {"bits": 8, "table_bits": 8}),
    ("pre-LN", {"bits": 3, "table_bits": 8, "skip": ["*.fc1"]}),
    ("pre-LN", {"bits": 2, "position_bits": 4, "group_size": 32}),
    ("post-LN", {"table_bits": 8, "position_bits": 8}),
    ("odd", {"table_bits": 4}),
    ("llama", {"table_bits": 8}),
    ("llama", {"group_size": 64}),
    ("gpt2", {"table_bits": 8, "group_size": 32}),
    ("gemma3", {"table_bits": 4, "group_size": 32}),
]
OFTEN = [CASES[i] for i in (0, 2, 5, 7)]


@pytest.mark.parametrize(("kind", "options"), fast(CASES, *OFTEN))
def test_graph_equals_transformers_and_fuses_whole(tmp_path: Path, kind: str, options: dict) -> None:
    source = quantized(tmp_path, kind, method="rtn", **options)
    manifest = export_onnx(source, tmp_path / "out", profile="portable")
    assert distance_from_transformers(tmp_path / "out", source) <= tolerances.EXPORT_FP32
    assert_fuses(tmp_path / "out", manifest, tmp_path)


def assert_fuses(folder: Path, manifest: Manifest, scratch: Path) -> None:
    """Every matrix in the file becomes one MatMulNBits of level 4 with its bias, and no DequantizeLinear is left."""
    before = onnx.load(folder / manifest.graph, load_external_data=False).graph
    matrices = [n for n in before.node if n.op_type == "DequantizeLinear"]
    after = fused(folder, scratch)
    made = [n for n in after.node if n.op_type == "MatMulNBits"]
    assert len(made) == len(matrices) > 0
    assert not [n for n in after.node if n.op_type == "DequantizeLinear"]
    assert {a.i for n in made for a in n.attribute if a.name == "accuracy_level"} == {4}
    added = {name for n in before.node if n.op_type == "Add" for name in n.input}
    biases = {i.name for i in before.initializer if i.name.endswith(".bias")} & added
    assert sum(len(n.input) > 5 and bool(n.input[5]) for n in made) == len(biases)
    reshapes = [sum(n.op_type == "Reshape" for n in graph.node) for graph in (before, after)]
    assert reshapes[0] == reshapes[1]  # a bias fused by way of Gemm would bring two each


def test_every_planned_matrix_is_in_the_graph_and_in_the_manifest(opt: dict[str, Path]) -> None:
    manifest = Manifest.read(opt["portable"])
    native = Manifest.read(opt["native"])
    for module, spec in QuantizedSource.open(opt["source"]).plan.items():
        entry, other = (m.tensors[f"{module}.qweight"] for m in (manifest, native))
        assert (entry.shape, entry.bits, entry.method) == (other.shape, spec.bits, spec.method)
        assert entry.scheme == spec.scheme
    graph = onnx.load(opt["portable"] / "model.onnx", load_external_data=False).graph
    assert not {"MatMulNBits", "GatherBlockQuantized"} & {n.op_type for n in graph.node}
    assert {n.op_type for n in graph.node if n.domain} == {"GroupQueryAttention"}
    assert {i.data_type for i in graph.initializer if i.name.endswith("fc1.qweight")} == {TensorProto.INT4}
    sizes = {tuple(i.dims) for i in graph.initializer if i.data_type == TensorProto.FLOAT}
    assert not sizes & {(64, 64), (128, 64), (64, 128), (96, 64), (64, 96), (130, 64), (64, 192)}


def test_joined_columns_are_one_tensor_that_their_parts_share(opt: dict[str, Path]) -> None:
    manifest = Manifest.read(opt["portable"])
    prefix = "model.decoder.layers.1.self_attn"
    whole = manifest.tensors[f"{prefix}.q_proj+k_proj+v_proj.qweight"]
    parts = [manifest.tensors[f"{prefix}.{name}_proj.qweight"] for name in "qkv"]
    assert (whole.shape, whole.bits, whole.method, whole.shares) == ((192, 64), 4, None, None)
    assert {p.shares for p in parts} == {f"{prefix}.q_proj+k_proj+v_proj.qweight"}
    assert {p.offset for p in parts} == {whole.offset}
    assert sum(p.bytes for p in parts) == whole.bytes == 192 * 64 // 2
    data = (opt["portable"] / whole.file).stat().st_size
    assert data == manifest.expected_bytes(whole.file)


def test_tied_head_and_embedding_read_the_same_bytes(opt: dict[str, Path]) -> None:
    graph = onnx.load(opt["portable"] / "model.onnx", load_external_data=False).graph
    found = {i.name: i for i in graph.initializer}
    table, head = found["model.decoder.embed_tokens.qweight"], found["lm_head.qweight"]
    places = [{e.key: e.value for e in i.external_data} for i in (table, head)]
    assert places[0] == places[1]
    assert (table.data_type, list(table.dims)) == (TensorProto.UINT8, [64, 48])
    assert (head.data_type, list(head.dims)) == (TensorProto.INT4, [64, 96])


def test_an_odd_vocabulary_keeps_two_tables(tmp_path: Path) -> None:
    manifest = export_onnx(quantized(tmp_path, "odd", table_bits=4), tmp_path / "out", profile="portable")
    table, head = (manifest.tensors[f"{m}.qweight"] for m in ("model.decoder.embed_tokens", "lm_head"))
    assert (table.shares, head.shares) == (None, None)
    assert (table.bytes, head.bytes) == (72 * 49, 72 * 97 // 2)


@pytest.mark.parametrize("name", ["portable", "web"])
def test_same_tokens_and_int8_logits_as_the_native_profile(opt: dict[str, Path], name: str) -> None:
    exact = [dareq_runtime.load(opt[which], compute="fp32") for which in ("native", name)]
    tokens = [list(m.generate(PROMPT, max_new_tokens=NEW, stop_ids=[]).ids) for m in exact]
    assert tokens[0] == tokens[1]
    ids = np.random.default_rng(0).integers(4, 96, 40)
    a, b = (np.concatenate(list(dareq_runtime.load(opt[which]).chunk_logits(ids))) for which in ("native", name))
    assert np.abs(a - b).max() <= tolerances.PROFILES_INT8 * np.abs(a).max()


def test_a_token_of_every_parity_is_looked_up_exactly(opt: dict[str, Path]) -> None:
    ids = np.arange(96)[None]
    mask = np.ones_like(ids)
    native, portable = (run(session(opt[name]), ids, mask, None)[0] for name in ("native", "portable"))
    assert np.abs(native - portable).max() <= tolerances.EXPORT_FP32 * np.abs(native).max()


def test_web_folder_has_the_names_that_transformers_js_looks_for(opt: dict[str, Path]) -> None:
    folder = opt["web"]
    manifest = Manifest.read(folder)
    assert (manifest.profile, manifest.graph) == ("web", "onnx/model_q4.onnx")
    assert sorted(p.name for p in (folder / "onnx").iterdir()) == ["model_q4.onnx", "model_q4.onnx_data"]
    graph = onnx.load(folder / "onnx/model_q4.onnx", load_external_data=False).graph
    locations = {e.value for i in graph.initializer for e in i.external_data if e.key == "location"}
    assert locations == {"model_q4.onnx_data"}
    config = json.loads((folder / "config.json").read_text())
    assert config["transformers.js_config"] == {"dtype": "q4", "use_external_data_format": {"model_q4.onnx": 1}}
    assert {t.file for t in manifest.tensors.values()} == {"onnx/model_q4.onnx_data"}
    manifest.verify(folder)
    portable = opt["portable"] / "model.onnx.data"
    assert (folder / "onnx/model_q4.onnx_data").read_bytes() == portable.read_bytes()


def small_files(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Let a file of the web profile have so many bytes."""
    web = PROFILES["web"]
    small = Profile(web.name, web.graph, web.data, web.standard, largest, web.sessions)
    monkeypatch.setattr("dareq_export.profiles.PROFILES", {"web": small})


def test_data_that_no_browser_can_read_at_once_is_split(
    opt: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(monkeypatch, 16_000)
    manifest = export_onnx(opt["source"], tmp_path / "out", profile="web")
    data = sorted(p for p in (tmp_path / "out/onnx").iterdir() if p.name != "model_q4.onnx")
    names = ["model_q4.onnx_data", *(f"model_q4.onnx_data_{i}" for i in range(1, len(data)))]
    assert sorted(names) == [p.name for p in data]
    assert len(data) > 1
    assert max(p.stat().st_size for p in data) <= 16_000
    config = json.loads((tmp_path / "out/config.json").read_text())["transformers.js_config"]
    assert config["use_external_data_format"] == {"model_q4.onnx": len(data)}
    for path in data:
        assert path.stat().st_size == manifest.expected_bytes(f"onnx/{path.name}")
    assert distance_from_transformers(tmp_path / "out", opt["source"]) <= tolerances.EXPORT_FP32


def test_a_matrix_larger_than_a_file_may_be_is_refused(
    opt: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(monkeypatch, 1000)
    with pytest.raises(ExportError, match=r"qweight has [\d,]+ bytes, more than the 1,000 .* profile web"):
        export_onnx(opt["source"], tmp_path / "out", profile="web")
    assert not (tmp_path / "out").exists()


def test_an_unknown_profile_is_refused(opt: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'mobile'; use native, portable, web"):
        export_onnx(opt["source"], tmp_path / "out", profile="mobile")  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_8_bit_cache_costs_what_it_costs_natively(opt: dict[str, Path], tmp_path: Path) -> None:
    for name in ("native", "portable"):
        export_onnx(
            opt["source"], tmp_path / name, profile=find_profile(name).name, cache_ranges=dareq_runtime.cache_ranges
        )
    models = [dareq_runtime.load(tmp_path / name, compute="fp32") for name in ("native", "portable")]
    assert [m.cache_bits for m in models] == [8, 8]
    ids = np.random.default_rng(0).integers(4, 96, 40)
    a, b = (np.concatenate(list(m.chunk_logits(ids, 8))) for m in models)
    assert np.abs(a - b).max() <= tolerances.CACHE_LOGITS * np.abs(a).max()
    assert_fuses(tmp_path / "portable", Manifest.read(tmp_path / "portable"), tmp_path)


def test_genai_is_told_how_to_open_the_graph(opt: dict[str, Path]) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    config = json.loads((opt["portable"] / "genai_config.json").read_text())
    told = config["model"]["decoder"]["session_options"]
    settings = PROFILES["portable"].sessions["int8"]
    assert {k: v for k, v in told.items() if "." in k} == settings.entries
    assert told["graph_optimization_level"] == settings.optimization
    model = genai.Model(str(opt["portable"]))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=len(PROMPT) + 8, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array(PROMPT, dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    found = [int(t) for t in generator.get_sequence(0)][len(PROMPT) :]
    ours = dareq_runtime.load(opt["portable"]).generate(PROMPT, max_new_tokens=8, stop_ids=[])
    assert found == list(ours.ids)[: len(found)]
    assert found


def test_a_matrix_multiplied_out_for_anything_but_one_matmul_is_refused() -> None:
    from dareq_export.columns import ColumnLayout
    from dareq_export.verify import _check_standard

    weight, scale, x = ir.Value(name="w"), ir.Value(name="s"), ir.Value(name="x")
    dequantize = ir.Node("", "DequantizeLinear", [weight, scale], [ir.AttrInt64("axis", 1)])
    ir.Node("", "MatMul", [x, dequantize.outputs[0]])
    _check_standard("fc1", dequantize, ColumnLayout(4, 4, 4, None))
    with pytest.raises(ExportError, match=r"fc1 has axis, block_size \(1, None\); planned \(0, 32\)"):
        _check_standard("fc1", dequantize, ColumnLayout(4, 64, 4, 32))
    ir.Node("", "Transpose", [dequantize.outputs[0]])
    with pytest.raises(ExportError, match="fc1 is multiplied out for"):
        _check_standard("fc1", dequantize, ColumnLayout(4, 4, 4, None))
