"""The exported folder: its numbers against transformers, its bytes against its manifest, and what it must refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BloomConfig, LlamaConfig, MixtralConfig, OPTConfig

import tolerances
from dareq_edge.errors import ArtifactError, CheckpointError, ExportError, UnsupportedArchitectureError
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.spec import QuantSpec
from dareq_export import export_onnx
from dareq_export.capture import capture
from dareq_export.profiles import NATIVE
from dareq_export.source import QuantizedSource
from exported import distance_from_transformers, run, session
from fast import fast
from tiny_models import SPECIAL, save_random, tiny_opt

STORIES = Path(__file__).parents[3] / "shared/data/stories260k"
LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=172,  # no block size divides it: the last block is padded
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=64,
    initializer_range=0.2,
    tie_word_embeddings=False,
)


def quantized(tmp_path: Path, kind: str, **options: object) -> Path:
    source = tmp_path / "source"
    if kind == "llama":
        save_random(LLAMA, source)
    elif kind in SPECIAL:
        save_random(SPECIAL[kind], source, dtype=torch.bfloat16)
    elif kind == "odd":  # no block size divides 72: tables are padded too
        tiny_opt(source, hidden_size=72, word_embed_proj_dim=72, num_attention_heads=9, ffn_dim=100)
    elif kind == "post-LN":
        tiny_opt(source, word_embed_proj_dim=32, do_layer_norm_before=False)
    else:
        tiny_opt(source, dtype=torch.float16)
    out = tmp_path / "quantized"
    quantize_checkpoint(source, out, DareqConfig(**options))
    return out


class Made(NamedTuple):
    """A quantized checkpoint and what was exported from it; tests only read both."""

    source: Path
    folder: Path
    manifest: Manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Exports by what they are made of, each made once: a capture takes seconds."""
    found: dict[str, Made] = {}

    def make(kind: str, **options: object) -> Made:
        key = f"{kind} {sorted(options.items())}"
        if key not in found:
            place = tmp_path_factory.mktemp("made")
            source = quantized(place, kind, **options)
            found[key] = Made(source, place / "out", export_onnx(source, place / "out"))
        return found[key]

    return make


CASES = [
    ("pre-LN", {"table_bits": 8}),
    ("pre-LN", {"table_bits": 4, "group_size": 32}),
    ("pre-LN", {"bits": 8, "method": "rtn"}),
    ("pre-LN", {"bits": 3, "skip": ["*.fc1"], "table_bits": 8}),
    ("post-LN", {"table_bits": 8}),
    ("odd", {"table_bits": 4}),
    ("llama", {"table_bits": 8}),
    ("llama", {"group_size": 64}),
    ("gpt2", {"table_bits": 8}),
    ("gpt2", {"bits": 3, "group_size": 32, "skip": ["*.c_fc"]}),
    ("gemma3", {"table_bits": 4, "group_size": 32}),
    ("gemma3", {}),
    ("biogpt", {"table_bits": 8}),
    ("pre-LN", {"table_bits": 8, "position_bits": 8}),
    ("pre-LN", {"position_bits": 4, "group_size": 32}),
    ("post-LN", {"table_bits": 8, "position_bits": 8}),
    ("gpt2", {"table_bits": 8, "position_bits": 8}),
    ("biogpt", {"table_bits": 4, "position_bits": 8}),
]
OFTEN = [CASES[i] for i in (0, 3, 4, 5, 6, 8, 10)]


@pytest.mark.parametrize(("kind", "options"), fast(CASES, *OFTEN))
def test_graph_equals_transformers_on_the_dequantized_model(
    made: Callable[..., Made], kind: str, options: dict
) -> None:
    source, folder, _ = made(kind, **options)
    assert distance_from_transformers(folder, source) <= tolerances.EXPORT_FP32


def test_folder_is_what_its_manifest_says(made: Callable[..., Made]) -> None:
    _, folder, manifest = made("pre-LN", table_bits=8)
    manifest.verify(folder)
    assert Manifest.read(folder) == manifest
    assert (folder / NATIVE.data).stat().st_size == manifest.expected_bytes(NATIVE.data)
    listed = {p.name for p in folder.iterdir()} - {"dareq.json"}
    assert listed == set(manifest.files)


def test_tied_head_and_embedding_read_the_same_bytes(made: Callable[..., Made]) -> None:
    manifest = made("pre-LN", table_bits=8).manifest
    for kind in ("qweight", "scales"):
        table = manifest.tensors[f"model.decoder.embed_tokens.{kind}"]
        head = manifest.tensors[f"lm_head.{kind}"]
        assert (head.offset, head.bytes, head.shares) == (
            table.offset,
            table.bytes,
            f"model.decoder.embed_tokens.{kind}",
        )


def test_tied_float_table_is_stored_once(made: Callable[..., Made]) -> None:
    manifest = made("pre-LN").manifest
    owners = [t for t in manifest.tensors.values() if t.shape == (96, 64) and t.shares is None]
    assert len(owners) == 1


def test_no_float_copy_of_a_quantized_weight_and_every_planned_matrix_lowered(made: Callable[..., Made]) -> None:
    source, folder, manifest = made("pre-LN", table_bits=4, position_bits=8)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    places = {i.name: {e.key: e.value for e in i.external_data} for i in graph.initializer}
    read = [
        (int(places[n.input[index]]["offset"]), int(places[n.input[index]]["length"]))
        for n in graph.node
        for index in [{"MatMulNBits": 1, "GatherBlockQuantized": 0}.get(n.op_type)]
        if index is not None
    ]
    for module in QuantizedSource.open(source).plan:
        entry = manifest.tensors[f"{module}.qweight"]
        holders = [at for at, size in read if at <= entry.offset and entry.offset + entry.bytes <= at + size]
        assert len(holders) == (2 if module.endswith("embed_tokens") else 1)  # the head reads the table's bytes
    sizes = {tuple(i.dims) for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    assert not sizes & {(64, 64), (128, 64), (64, 128), (96, 64), (64, 96), (130, 64)}


def test_positions_are_looked_up_in_the_quantized_table_after_opts_offset(made: Callable[..., Made]) -> None:
    folder = made("pre-LN", position_bits=8).folder
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    (lookup,) = [n for n in graph.node if n.op_type == "GatherBlockQuantized"]
    attributes = {a.name: a.i for a in lookup.attribute}
    assert attributes == {"gather_axis": 0, "quantize_axis": 1, "bits": 8, "block_size": 64}
    assert [i.split(".")[-1] for i in (lookup.input[0], lookup.input[2])] == ["qweight", "scales"]
    (offset,) = [n for n in graph.node if lookup.input[1] in n.output]
    assert (offset.op_type, offset.input[0]) == ("Add", "position_ids")


def test_graph_names_no_file_of_the_exporting_machine(made: Callable[..., Made]) -> None:
    folder = made("pre-LN").folder
    data = (folder / "model.onnx").read_bytes()
    assert b"site-packages" not in data
    assert b"torch" not in data
    assert b".py" not in data


def test_attention_reads_one_packed_projection_and_no_reshape_is_left(made: Callable[..., Made]) -> None:
    folder = made("post-LN", table_bits=8).folder
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    attention = [n for n in graph.node if n.op_type == "GroupQueryAttention"]
    made_by = {name: n.op_type for n in graph.node for name in n.output}
    assert len(attention) == 2
    assert [[made_by.get(name) for name in n.input[:3]] for n in attention] == [["MatMulNBits", None, None]] * 2
    assert "Reshape" not in made_by.values()


def test_a_plan_for_a_module_that_does_not_exist_fails_by_name(tmp_path: Path) -> None:
    config = AutoModelForCausalLM.from_pretrained(tiny_opt(tmp_path / "m")).config
    with pytest.raises(ExportError, match=r"model\.decoder\.layers\.9\.fc1"):
        capture(config, {"model.decoder.layers.9.fc1": QuantSpec()})


def test_a_missing_tensor_fails_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = quantized(tmp_path, "pre-LN")
    tensors = load_file(source / "model.safetensors")
    del tensors["model.decoder.layers.1.fc2.scales"]
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"model\.safetensors has .* bytes, expected"):
        export_onnx(source, tmp_path / "out")
    (source / "dareq.json").unlink()  # as a folder that save_pretrained wrote
    with pytest.raises(CheckpointError, match=r"layers\.1\.fc2\.scales"):
        export_onnx(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_float_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run dareq-edge quantize"):
        export_onnx(tiny_opt(tmp_path / "m"), tmp_path / "out")


def test_an_architecture_that_cannot_be_captured_is_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="bloom"):
        capture(BloomConfig(vocab_size=96, hidden_size=64, n_layer=1, n_head=4), {})


def test_attention_that_cannot_be_replaced_says_so() -> None:
    config = BertConfig(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=True,
    )
    with pytest.raises(
        UnsupportedArchitectureError, match=r"'bert' does not attend.*cannot be replaced by GroupQuery"
    ):
        capture(config, {})


def test_a_failed_capture_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    config = MixtralConfig(
        vocab_size=96, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=64, num_local_experts=2,
    )  # fmt: skip
    with pytest.raises(UnsupportedArchitectureError, match=r"'mixtral' cannot be captured: .*data-dependent"):
        capture(config, {})
    assert capfd.readouterr() == ("", "")


def test_a_head_width_the_kernel_refuses_is_an_error_at_export() -> None:
    config = OPTConfig(
        vocab_size=96, hidden_size=40, word_embed_proj_dim=40, num_hidden_layers=1, num_attention_heads=4
    )
    with pytest.raises(UnsupportedArchitectureError, match=r"10 wide.*multiples of 8"):
        capture(config, {})


@pytest.mark.skipif(not STORIES.is_dir(), reason="the shared data folder is not beside this checkout")
def test_stories260k_keeps_its_loss(tmp_path: Path) -> None:
    quantize_checkpoint(STORIES, tmp_path / "q", DareqConfig(bits=8, method="rtn", table_bits=8))
    export_onnx(tmp_path / "q", tmp_path / "out")
    ids = np.load(STORIES / "eval_tokens.npy")[:512][None].astype(np.int64)
    logits = run(session(tmp_path / "out"), ids, np.ones_like(ids), None)[0][0].astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -logp[np.arange(511), ids[0, 1:]].mean()
    assert abs(loss - tolerances.STORIES_LOSS) < tolerances.STORIES_LOSS_MARGIN


def test_joined_weights_may_be_larger_than_constants_may(tmp_path: Path) -> None:
    tiny_opt(tmp_path / "m", hidden_size=1024, word_embed_proj_dim=64, ffn_dim=64, num_hidden_layers=1,
             num_attention_heads=16, do_layer_norm_before=False)  # fmt: skip
    quantize_checkpoint(tmp_path / "m", tmp_path / "q", DareqConfig(method="rtn"))
    manifest = export_onnx(tmp_path / "q", tmp_path / "out")
    parts = [manifest.tensors[f"model.decoder.layers.0.self_attn.{n}_proj.qweight"] for n in "qkv"]
    assert sum(p.bytes for p in parts) > 1 << 20
    assert [p.offset - parts[0].offset for p in parts] == [0, parts[0].bytes, 2 * parts[0].bytes]
