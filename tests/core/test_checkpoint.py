"""Opening checkpoints: names, shapes and every way a folder can be broken, each told in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig

from dareq_edge import hub
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from tiny_models import save_random, tiny_opt

LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    return tiny_opt(tmp_path / "opt")


def rewrite(folder: Path, change: object) -> None:
    """Apply ``change(tensors)`` to the single weight file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def opened(folder: Path) -> dict[str, str]:
    checkpoint = Checkpoint.open(str(folder))
    return checkpoint.bind(checkpoint.empty_model())


def test_reads_what_transformers_reads(opt: Path) -> None:
    checkpoint = Checkpoint.open(str(opt))
    names = checkpoint.bind(checkpoint.empty_model())
    state = AutoModelForCausalLM.from_pretrained(opt).state_dict()
    assert set(names) == set(state) - {"lm_head.weight"}  # tied: one table
    for target, name in names.items():
        assert torch.equal(checkpoint.tensor(name), state[target])


def test_iterates_lazily_in_the_order_asked(opt: Path) -> None:
    checkpoint = Checkpoint.open(str(opt))
    wanted = list(checkpoint.tensors)[:3][::-1]
    assert [name for name, _ in checkpoint.iter_tensors(wanted)] == wanted
    assert len(list(checkpoint.iter_tensors())) == len(checkpoint.tensors)


def test_the_model_is_built_without_memory(opt: Path) -> None:
    assert all(p.is_meta for p in Checkpoint.open(str(opt)).empty_model().parameters())


def test_sharded_equals_single(tmp_path: Path) -> None:
    one = save_random(LLAMA, tmp_path / "one")
    many = save_random(LLAMA, tmp_path / "many", shard="60KB")
    assert not (many / "model.safetensors").exists()
    a, b = Checkpoint.open(str(one)), Checkpoint.open(str(many))
    assert set(a.tensors) == set(b.tensors)
    assert all(torch.equal(a.tensor(n), b.tensor(n)) for n in a.tensors)


@pytest.mark.parametrize("tied", [True, False])
def test_an_untied_head_is_kept_and_a_tied_one_dropped(tmp_path: Path, tied: bool) -> None:
    folder = tiny_opt(tmp_path / "m", tie_word_embeddings=tied)
    rewrite(folder, lambda t: t.setdefault("lm_head.weight", torch.zeros(96, 64)))
    assert ("lm_head.weight" in opened(folder)) is not tied


def test_the_table_may_be_stored_under_the_heads_name(opt: Path) -> None:
    rewrite(opt, lambda t: t.update({"lm_head.weight": t.pop("model.decoder.embed_tokens.weight")}))
    assert opened(opt)["model.decoder.embed_tokens.weight"] == "lm_head.weight"


def test_names_without_the_base_models_prefix(opt: Path) -> None:
    want = opened(opt)

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    rewrite(opt, strip)
    got = opened(opt)
    assert set(got) == set(want)
    assert all(name.startswith("decoder.") for name in got.values())


def test_tensors_the_model_does_not_have_are_left_out(opt: Path) -> None:
    rewrite(opt, lambda t: t.update({"score.weight": torch.zeros(2, 2)}))
    assert "score.weight" not in opened(opt)


def test_missing_tensor(opt: Path) -> None:
    rewrite(opt, lambda t: t.pop("model.decoder.layers.1.fc1.weight"))
    with pytest.raises(CheckpointError, match=r"layers\.1\.fc1\.weight.* missing"):
        opened(opt)


def test_wrong_shape_names_both(opt: Path) -> None:
    rewrite(opt, lambda t: t.update({"model.decoder.layers.1.fc1.weight": torch.zeros(128, 63)}))
    with pytest.raises(CheckpointError, match=r"fc1\.weight.*\[128, 63\].*\[128, 64\]"):
        opened(opt)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_truncated_file(opt: Path, keep: int) -> None:
    path = opt / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated or corrupt"):
        Checkpoint.open(str(opt))


def test_missing_shard(tmp_path: Path) -> None:
    folder = save_random(LLAMA, tmp_path / "many", shard="60KB")
    victim = sorted(folder.glob("model-*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(CheckpointError, match=rf"{victim.name} is missing"):
        Checkpoint.open(str(folder))


def test_index_that_promises_too_much(tmp_path: Path) -> None:
    folder = save_random(LLAMA, tmp_path / "many", shard="60KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.ghost"] = next(iter(index["weight_map"].values()))
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks tensor 'model\.ghost'"):
        Checkpoint.open(str(folder))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_broken_index(tmp_path: Path, text: str) -> None:
    folder = save_random(LLAMA, tmp_path / "many", shard="60KB")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a safetensors index"):
        Checkpoint.open(str(folder))


def test_index_may_not_leave_the_folder(tmp_path: Path) -> None:
    folder = save_random(LLAMA, tmp_path / "many", shard="60KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../elsewhere.safetensors")
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        Checkpoint.open(str(folder))


def test_folder_without_weights(opt: Path) -> None:
    (opt / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        Checkpoint.open(str(opt))


def test_pickled_weights_are_refused_with_the_conversion(opt: Path) -> None:
    (opt / "model.safetensors").rename(opt / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin but no safetensors; convert it once: python -c"):
        Checkpoint.open(str(opt))


def test_folder_without_config(opt: Path) -> None:
    (opt / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint.open(str(opt))


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_broken_config(opt: Path, text: str) -> None:
    (opt / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="not valid JSON"):
        Checkpoint.open(str(opt))


def test_unknown_architecture(opt: Path) -> None:
    (opt / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UnsupportedArchitectureError, match="nonesuch"):
        Checkpoint.open(str(opt))


def test_not_a_causal_language_model(tmp_path: Path, opt: Path) -> None:
    (opt / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UnsupportedArchitectureError, match="'vit', which is not a causal language model"):
        Checkpoint.open(str(opt))


def test_alibi_models_have_no_context_length(opt: Path) -> None:
    (opt / "config.json").write_text('{"model_type": "bloom", "hidden_size": 64, "n_head": 4}')
    with pytest.raises(UnsupportedArchitectureError, match=r"'bloom' encodes positions by ALiBi.*nor exported"):
        _ = Checkpoint.open(str(opt)).context_length


@pytest.mark.parametrize("source", ["no/such/folder", "./nothing", "/nothing/here", "a b"])
def test_no_such_folder(source: str) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        Checkpoint.open(source)


def test_a_file_is_not_a_folder(opt: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file"):
        Checkpoint.open(str(opt / "model.safetensors"))


def test_a_folder_has_no_revision(opt: Path) -> None:
    with pytest.raises(CheckpointError, match="drop --revision"):
        Checkpoint.open(str(opt), "main")


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"hub cannot be reached.*give a local model folder"):
        hub.locate("nobody/nothing-at-all")


def test_config_json_alone_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    asked: list[dict[str, object]] = []

    def snapshot(self: HfApi, source: str, **options: object) -> str:
        asked.append({"source": source, **options})
        if options.get("revision") == "gone":
            raise ConnectionError("no route")
        return str(tmp_path)

    monkeypatch.setattr(HfApi, "snapshot_download", snapshot)
    assert hub.locate("facebook/opt-125m", "v1", config_only=True) == (tmp_path, "v1")
    (only,) = asked
    assert (only["source"], only["revision"], only["allow_patterns"]) == ("facebook/opt-125m", "v1", ["config.json"])
    with pytest.raises(ConnectionError):  # the cache is asked next, and this one has no network either
        hub.locate("facebook/opt-125m", "gone", config_only=True)
    assert asked[-1]["local_files_only"] is True
    assert asked[-1]["allow_patterns"] == ["config.json"]


def test_the_conversion_bots_pull_request_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace as Record

    from huggingface_hub import HfApi

    def info(self: HfApi, source: str, revision: str | None = None) -> Record:
        files = ["config.json", "pytorch_model.bin"] + (["model.safetensors"] if revision == "refs/pr/21" else [])
        return Record(sha=f"sha-of-{revision}", siblings=[Record(rfilename=f) for f in files])

    monkeypatch.setattr(HfApi, "model_info", info)
    monkeypatch.setattr(HfApi, "get_repo_discussions", lambda *a, **k: iter([Record(num=3), Record(num=21)]))
    assert hub._commit(HfApi(), "facebook/opt-125m", None) == "sha-of-refs/pr/21"
    monkeypatch.setattr(HfApi, "get_repo_discussions", lambda *a, **k: iter([]))
    with pytest.raises(CheckpointError, match="no safetensors on the hub; convert it once"):
        hub._commit(HfApi(), "facebook/opt-125m", None)


def test_shards_vanishing_while_reading(opt: Path) -> None:
    checkpoint = Checkpoint.open(str(opt))
    shutil.rmtree(opt)
    with pytest.raises(CheckpointError, match="can no longer be read"):
        list(checkpoint.iter_tensors())


def test_opt_350m_shape(tmp_path: Path) -> None:
    config = OPTConfig(
        vocab_size=96,
        hidden_size=64,
        word_embed_proj_dim=32,
        ffn_dim=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        do_layer_norm_before=False,
        max_position_embeddings=64,
    )
    names = opened(save_random(config, tmp_path / "m"))
    assert {"model.decoder.project_in.weight", "model.decoder.project_out.weight"} <= set(names)
