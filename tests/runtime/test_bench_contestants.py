"""The kinds of folder that can be measured, each run as its own users run it, and the process around them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import NAME
from dareq_runtime import OnnxModel
from dareq_runtime.bench import memory
from dareq_runtime.bench.bandwidth import read_bandwidth
from dareq_runtime.bench.cores import default_threads
from dareq_runtime.bench.kinds import Kind, context_of, graph_file, kind_of, make
from dareq_runtime.bench.process import WORKER, BenchError, environment, run_bandwidth, run_job
from dareq_runtime.bench.sample import Job, Lengths
from tiny_decoder import TinyDecoder

PROMPT = np.array([5, 17, 80, 3, 44, 9], np.int64)
LENGTHS = Lengths((4, 8), (8,), 3)


def without_manifest(folder: Path, out: Path) -> Path:
    """The same model as a plain ONNX folder."""
    shutil.copytree(folder, out)
    (out / NAME).unlink()
    return out


def as_genai(folder: Path, out: Path, tiny: TinyDecoder) -> Path:
    """The same model as a folder of onnxruntime-genai."""
    s = tiny.shape
    names = {"past": "past_key_values.%d.{}", "present": "present.%d.{}"}
    cache = {k: {f"{k}_{x}_names": n.format(x) for x in ("key", "value")} for k, n in names.items()}
    inputs = {name: name for name in ("input_ids", "attention_mask", "position_ids")}
    decoder = {
        "filename": "model.onnx",
        "head_size": s.head_dim,
        "hidden_size": s.hidden,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "num_hidden_layers": s.layers,
        "session_options": {},
        "inputs": inputs | cache["past"],
        "outputs": {"logits": "logits"} | cache["present"],
    }
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    model = {"type": "decoder", **ids, "context_length": s.context, "vocab_size": s.vocab, "decoder": decoder}
    config = {"model": model, "search": {"max_length": s.context, "past_present_share_buffer": True}}
    (without_manifest(folder, out) / "genai_config.json").write_text(json.dumps(config))
    return out


@pytest.fixture(scope="module")
def folders(tiny: TinyDecoder, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    place = tmp_path_factory.mktemp("kinds")
    plain, genai = without_manifest(tiny_folder, place / "plain"), as_genai(tiny_folder, place / "genai", tiny)
    return {"dareq": tiny_folder, "onnx": plain, "genai": genai}


@pytest.mark.parametrize("kind", ["dareq", "onnx", "genai"])
def test_every_kind_takes_the_steps_that_generation_takes(
    kind: Kind, folders: dict[Kind, Path], int8: OnnxModel
) -> None:
    if kind == "genai":
        pytest.importorskip("onnxruntime_genai")
    folder = folders[kind]
    assert kind_of(folder) == kind
    assert context_of(folder, kind) == int8.context_length
    contestant = make(kind, folder, 1)
    contestant.load()
    assert contestant.vocab_size == int8.vocab_size
    for prompt in (PROMPT, PROMPT[:2]):  # the second starts from an empty cache again
        found = [contestant.read(prompt, 9), *(contestant.step() for _ in range(8))]
        assert found == list(int8.generate(prompt, max_new_tokens=9, stop_ids=[]).ids)


@pytest.mark.parametrize("kind", ["dareq", "onnx"])
def test_a_worker_measures_in_a_process_of_its_own(kind: Kind, folders: dict[Kind, Path]) -> None:
    found = run_job(Job("one", kind, folders[kind], 1, LENGTHS))
    assert (list(found.prefill), list(found.decode)) == ([4, 8], [8])
    assert min(found.load, found.first_token, *found.prefill.values(), *found.decode.values()) > 0
    assert "onnxruntime" in found.environment
    if sys.platform == "linux":
        assert found.resident_start is not None
        assert found.resident is not None
        assert found.peak is not None
        assert 1e6 < found.resident_start < found.resident <= found.peak


def test_the_worker_prints_one_record_and_nothing_else(folders: dict[Kind, Path]) -> None:
    order = json.dumps({"measure": Job("one", "onnx", folders["onnx"], 1, LENGTHS).to_json()})
    done = subprocess.run(
        [sys.executable, "-m", WORKER], input=order, capture_output=True, text=True, check=True, env=environment()
    )
    assert set(json.loads(done.stdout)) == {"sample"}


def test_a_worker_that_fails_is_a_sentence_with_a_name(folders: dict[Kind, Path], tmp_path: Path) -> None:
    broken = without_manifest(folders["dareq"], tmp_path / "broken")
    data = broken / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(BenchError, match=r"^the broken one: onnxruntime [\d.]+ cannot load it \(") as caught:
        run_job(Job("the broken one", "onnx", broken, 1, LENGTHS))
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_is_a_sentence_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dareq_runtime.bench.process.WORKER", "dareq_runtime.no_such_module")
    with pytest.raises(BenchError, match=r"^memory bandwidth: its process ended with exit code 1 \(.*no_such_module"):
        run_bandwidth(1)


def test_folders_of_no_known_kind(folders: dict[Kind, Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no folder"):
        kind_of(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"holds neither dareq\.json, genai_config\.json nor model\.onnx"):
        kind_of(tmp_path)
    shutil.copy(folders["genai"] / "genai_config.json", tmp_path)
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        graph_file(tmp_path, kind_of(tmp_path))
    (tmp_path / "genai_config.json").write_text("[]")
    with pytest.raises(ArtifactError, match="cannot be read"):
        context_of(tmp_path, "genai")


def test_bandwidth_is_that_of_the_best_pass() -> None:
    passes = iter([0.0, 2.0, 10.0, 10.5, 20.0, 21.0])
    assert read_bandwidth(3, size=1 << 20, tries=3, clock=lambda: next(passes)) == 2 * 2**20


def test_threads_are_physical_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    assert default_threads(tmp_path) == 4  # nothing is known: every logical CPU
    for cpu, siblings in {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4-5", 5: "4-5"}.items():
        place = tmp_path / f"cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(f"{siblings}\n")
    assert default_threads(tmp_path) == 3


def test_memory_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert memory.resident() is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert memory.peak_resident() is None
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t     7 kB\nVmRSS:\t     5 kB\n")
    assert (memory.resident(), memory.peak_resident()) == (5 * 1024, 7 * 1024)
