"""A kit refuses to judge with anything but what was bundled: one sentence, exit code 2, no result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kits import bundle, random_tokens, reseal, run_validate, validate_module

FILES = (
    *("validate.py", "kit.json", "kit.sha256", "tokens.npy", "model/model.onnx", "model/model.onnx.data"),
    *("model/config.json", "model/dareq.json"),
    *(f"reference/{compute}.{part}.npy" for compute in ("int8", "fp32") for part in ("nll", "top", "logp")),
)


@pytest.fixture(scope="module")
def pristine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("refusals")
    bundle(tiny_folder, root / "kit", random_tokens(100), window=40)
    return root / "kit"


@pytest.fixture
def kit(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "kit"))


Refusal = Callable[..., str]


@pytest.fixture
def refusal(kit: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Runs the kit in this process and gives the sentence it refuses with."""
    module = validate_module(kit / "validate.py")  # read before a test changes it

    def refused(*arguments: object) -> str:
        monkeypatch.chdir(kit.parent)
        monkeypatch.setattr("sys.argv", ["validate.py", *map(str, arguments)])
        with pytest.raises((module.Refused, OSError)) as caught:
            module.main()
        assert not (kit.parent / "result.json").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused


def test_the_list_of_files_is_complete(kit: Path) -> None:
    assert sorted(FILES) == sorted(p.relative_to(kit).as_posix() for p in kit.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit(kit: Path, refusal: Refusal, name: str) -> None:
    content = (kit / name).read_bytes()
    for where in {0, len(content) // 2, len(content) - 1}:
        changed = bytearray(content)
        changed[where] ^= 1
        (kit / name).write_bytes(changed)
        said = refusal()
        expected = "kit.json does not match kit.sha256" if name.startswith("kit.") else f"{name} is not the file"
        assert expected in said
    (kit / name).write_bytes(content)
    with pytest.raises(pytest.fail.Exception):
        refusal("--compute", "int8")


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_of_any_file(pristine: Path, place: float, bit: int) -> None:
    module = validate_module(pristine / "validate.py")
    sizes = [(pristine / name).stat().st_size for name in FILES]
    at, index = int(place * sum(sizes)), 0
    while at >= sizes[index]:
        at, index = at - sizes[index], index + 1
    content = (pristine / FILES[index]).read_bytes()
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    try:
        (pristine / FILES[index]).write_bytes(changed)
        with pytest.raises(module.Refused):
            module.read_kit(lambda stage, share: None)
    finally:
        (pristine / FILES[index]).write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file(kit: Path, refusal: Refusal, name: str) -> None:
    content = (kit / name).read_bytes()
    for cut in (content[:-1], content + b"x", b""):
        (kit / name).write_bytes(cut)
        assert name.split("/")[-1] in refusal()
    (kit / name).unlink()
    assert name.split("/")[-1] in refusal()
    (kit / name).mkdir()
    assert name.split("/")[-1] in refusal()


@pytest.mark.parametrize("name", ["model/extra.onnx", "model/deeper/model.onnx.data", "reference/bf16.nll.npy"])
def test_a_file_that_was_not_bundled(kit: Path, refusal: Refusal, name: str) -> None:
    (kit / name).parent.mkdir(exist_ok=True)
    (kit / name).write_bytes(b"x")
    assert refusal() == f"{name} was not bundled; remove it or copy the kit again"


def test_files_of_one_s_own_beside_the_kit_s(kit: Path, tmp_path: Path) -> None:
    (kit / "notes.txt").write_text("mine")
    assert run_validate(kit, kit, "--compute", "int8").returncode == 0
    assert run_validate(kit, kit, "--compute", "int8").returncode == 0, "its own result.json is no reason to refuse"


@pytest.mark.parametrize(
    "name", ["../secret", "model/../../secret", "/etc/hostname", "C:/secret", "a\\..\\b", "..\\b"]
)
def test_a_forged_path(kit: Path, refusal: Refusal, name: str) -> None:
    (kit.parent / "secret").write_bytes(b"x")

    def forge(record: dict[str, Any]) -> None:
        record["files"][name] = {
            "bytes": 1,
            "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        }

    reseal(kit, forge)
    assert "leads out of the kit" in refusal()


def test_an_unknown_format(kit: Path, refusal: Refusal) -> None:
    reseal(kit, lambda record: record.update(format=2))
    assert refusal() == "kit.json has format 2, this validate.py knows 1; bundle it again"


def test_a_consistent_kit_that_lacks_something_is_no_verdict(kit: Path, tmp_path: Path) -> None:
    reseal(kit, lambda record: record.pop("weighting"))
    done = run_validate(kit, tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "cannot judge: KeyError('weighting')"


def test_an_input_that_cannot_be_fed(kit: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    module = validate_module(kit / "validate.py")
    monkeypatch.setattr(module, "DTYPES", {k: v for k, v in module.DTYPES.items() if k != "float"})
    record = json.loads((kit / "kit.json").read_text())
    with pytest.raises(module.Refused, match="cannot feed the model's inputs"):
        module.Model(record, "int8", 1)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("bad allocation"), "not enough memory"),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9\nmore"), "not enough memory"),
        (RuntimeError("Opset 99 is under development"), "the host had onnxruntime 1."),
    ],
)
def test_onnxruntime_s_errors(
    kit: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
):
    import onnxruntime

    def fails(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    said = refusal()
    assert advice in said
    assert f"onnxruntime {onnxruntime.__version__} failed in opening the model" in said


def test_a_place_that_cannot_be_written(kit: Path, refusal: Refusal) -> None:
    assert refusal("--out", kit / "nowhere/result.json").endswith("cannot be written; give another --out")


@pytest.mark.parametrize("package", ["numpy", "onnxruntime"])
def test_a_missing_package(kit: Path, tmp_path: Path, package: str) -> None:
    code = f"import sys, runpy; sys.modules[{package!r}] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    import sys

    done = run_validate(kit, tmp_path, python=(sys.executable, "-I", "-c", code))
    assert done.returncode == 2
    assert "cannot judge: numpy and onnxruntime are needed" in done.stderr
    assert "python -m pip install numpy onnxruntime" in done.stderr
    helped = run_validate(kit, tmp_path, "--help", python=(sys.executable, "-I", "-c", code))
    assert helped.returncode == 0
    assert "validate.py --compute int8 --tokens 2000" in helped.stdout


def test_an_interrupt_leaves_nothing_half_written(kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = validate_module(kit / "validate.py")
    (tmp_path / "result.json").write_text("older")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["validate.py", "--compute", "int8"])

    def interrupted(*arguments: object) -> None:
        assert (tmp_path / "result.json.partial").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.main()
    assert (tmp_path / "result.json").read_text() == "older"
    assert not (tmp_path / "result.json.partial").exists()


def test_reference_files_are_read_without_pickle(kit: Path, refusal: Refusal) -> None:
    np.save(kit / "reference/int8.nll.npy", np.array([print], dtype=object), allow_pickle=True)
    reseal(kit)
    module = validate_module(kit / "validate.py")
    record, _ = module.read_kit(lambda stage, share: None)
    with pytest.raises(ValueError, match=r"[Pp]ickle|[Oo]bject"):
        module.judge(record, "int8", [39, 39], 1, lambda stage, share: None)
