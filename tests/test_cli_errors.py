"""A user's mistake gives one clear sentence, a non-zero exit, no traceback and no half-written folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dareq_edge import shards
from dareq_edge.cli import main
from fast import fast
from tiny_models import tiny_opt

ROOT = Path(__file__).parents[1]
QUICK = ("--recipe", "rtn")  # where the recipe does not matter


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a float model ``m`` and token ids ``t.npy``; errors must leave it as it is."""
    tiny_opt(tmp_path / "m")
    np.save(tmp_path / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    return tmp_path


def refused(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    words: str,
    *arguments: object,
    code: int = 1,
    leaves: str = "m t.npy",
) -> None:
    """Run a command that must fail with ``words`` on stderr and nothing on stdout."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(p.name for p in place.iterdir()) == leaves.split()


def quantize(place: Path, *more: object) -> tuple[object, ...]:
    return ("quantize", place / "m", "--out", place / "out", *QUICK, *more)


def test_folder_without_weights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m" / "model.safetensors").unlink()
    refused(capsys, place, "the folder has no weights", *quantize(place))


def test_unsupported_architecture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m" / "config.json").write_text('{"model_type": "vit"}')
    refused(capsys, place, "model type 'vit'", *quantize(place))


def test_truncated_weights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(capsys, place, "is truncated or corrupt", *quantize(place))


def test_wrong_shape(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "m" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.decoder.layers.0.fc1.weight"] = torch.zeros(3, 3)
    save_file(tensors, path)
    refused(capsys, place, "has shape [3, 3], config.json asks for [128, 64]", *quantize(place))


def test_full_disk(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "save_file", full)
    refused(capsys, place, "no space left while writing", *quantize(place))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount a small disk")
def test_a_really_full_disk(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = place / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        words = "no space left while writing"
        refused(capsys, small, words, "quantize", place / "m", "--out", small / "out", *QUICK, leaves="")
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("number", fast([signal.SIGINT, signal.SIGTERM], signal.SIGINT))
def test_an_interrupted_run_leaves_no_folder(place: Path, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job inherits it ignored
        f"sys.path[:0] = {[str(ROOT / r) for r in ('.', 'export', 'runtime')]!r}\n"
        "from dareq_edge import quantize\n"
        "real = quantize.ShardWriter.add\n"
        "def slow(self, tensors):\n"
        "    print('writing', flush=True); time.sleep(0.5); real(self, tensors)\n"
        "quantize.ShardWriter.add = slow\n"
        "from dareq_edge.cli import main\n"
        f"sys.exit(main(['quantize', {str(place / 'm')!r}, '--out', {str(place / 'out')!r}, *{QUICK!r}]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    assert len(list(place.iterdir())) == 4  # the scratch folder and its lock are there
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert "Traceback" not in err
    assert sorted(p.name for p in place.iterdir()) == ["m", "t.npy"]


@pytest.mark.parametrize(
    ("option", "value", "words", "code"),
    [
        ("--bits", "9", "Invalid value for '--bits'", 2),
        ("--bits", "four", "Invalid value for '--bits'", 2),
        ("--group-size", "48", "Invalid value for '--group-size'", 2),
        ("--table-bits", "5", "Invalid value for '--table-bits'", 2),
        ("--recipe", "dareq-reverence", "unknown recipe 'dareq-reverence'; did you mean 'dareq-reference'?", 1),
        ("--recipe", "rtn:self", "recipe 'rtn' has no setting 'tier'", 1),
        ("--recipe", "rtn+power=2", "recipe 'rtn' has no setting 'power'", 1),
        ("--recipe", "dareq+descent=-1", "descent is -1", 1),
        ("--recipe", "rtn@32", "names more than a recipe; use --group-size", 1),
        ("--samples", "4", "has no setting 'samples'", 1),
        ("--skip", "*.nothing", "matches no linear layer", 1),
        ("--revision", "main", "drop --revision", 1),
        ("--nonsense", "1", "No such option", 2),
    ],
)
def test_unknown_option_values(
    place: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, words: str, code: int
) -> None:
    refused(capsys, place, words, *quantize(place, option, value), code=code)


def test_an_existing_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out").mkdir()
    (place / "out" / "x").touch()
    refused(capsys, place, "pass --overwrite", *quantize(place), leaves="m out t.npy")


def test_an_unreachable_hub(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    words = "hub cannot be reached"
    refused(capsys, place, words, "quantize", "nobody/nothing-at-all", "--out", place / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "has no tokenizer"),
        (["--tokens", "none.npy"], "no token file none.npy"),
        (["--tokens", "t.npy", "--window", "4096"], "context is 128 tokens"),
        (["--tokens", "t.npy", "--protocol", "gptk"], "did you mean 'gptq'?"),
        (["--tokens", "t.npy", "--text", "t.txt"], "give exactly one of"),
        (["--tokens", "big.npy"], "token id 500"),
        (["--tokens", "t.npy", "--max-tokens", "50"], "less than one window"),
    ],
)
def test_deploy_decides_about_its_text_before_any_work(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("quantization started")

    monkeypatch.setattr("dareq_edge.cli.deployment.quantize_checkpoint", never)
    monkeypatch.chdir(place)
    np.save(place / "big.npy", np.full(400, 500))
    refused(capsys, place, words, "deploy", "m", "--out", "out", *arguments, leaves="big.npy m t.npy")


def test_a_failed_parity_leaves_no_folder(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dareq_runtime import parity, verdict

    strict = verdict.Tolerance("fp32 compute", -1.0, "cannot be met")
    monkeypatch.setattr(parity, "FP32_COMPUTE", strict)
    arguments = ["deploy", str(place / "m"), "--out", str(place / "out"), "--tokens", str(place / "t.npy"), "--json"]
    arguments += QUICK
    capsys.readouterr()
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["parity"]["passed"] is False
    assert "torch dareq -> onnx fp32 compute" in captured.err
    assert "was not written (--keep-failed keeps it)" in captured.err
    assert sorted(p.name for p in place.iterdir()) == ["m", "t.npy"]
    assert main([*arguments, "--keep-failed"]) == 1
    assert json.loads((place / "out" / "parity.json").read_text())["passed"] is False


def test_a_missing_package_is_one_sentence(place: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.path[:0] = {[str(ROOT / r) for r in ('.', 'export', 'runtime')]!r}\n"
        "from dareq_edge.cli import main\n"
        f"sys.exit(main(['quantize', {str(place / 'm')!r}, '--out', {str(place / 'out')!r}, *{QUICK!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "dareq-edge[export]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_says_where_its_model_is(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dareq_edge.cli.commands.demo.example", lambda name: None)
    refused(capsys, place, "clone the repository", "demo", "--out", place / "out")


def test_a_folder_of_something_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, place, "no dareq.json", "run", place / "m", "x")
    refused(capsys, place, "there is no folder", "inspect", place / "none")
    refused(capsys, place, "m", "export", place / "m", "--out", place / "out")
