"""validate.py as a file: small, self-sufficient, readable by old Pythons, and with the project's own formulas."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tolerances
from dareq_runtime.kit.cpus import CPUS, FEATURES
from dareq_runtime.kit.references import likeliest, reference_rows
from dareq_runtime.scoring import log_softmax, mean_and_error, token_nll
from kits import VALIDATE, validate_module

PROGRAMS = [VALIDATE, VALIDATE.with_name("zip_main.py")]
VALIDATION = validate_module(VALIDATE)


def test_it_is_under_300_lines() -> None:
    assert VALIDATE.read_text().count("\n") < 300


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_it_imports_the_standard_library_numpy_and_onnxruntime_only(path: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("__import__", "exec", "eval")
    assert found - set(sys.stdlib_module_names) == ({"numpy", "onnxruntime"} if path == VALIDATE else set())


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_python_3_9_can_read_it(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    newer = [n for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg in ("strict", "slots", "kw_only")]
    assert not newer
    assert "file_digest" not in path.read_text()


@pytest.mark.parametrize("weighting", ["token", "window"])
@given(data=st.data())
def test_mean_and_error_are_the_project_s(weighting: str, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=14).filter(lambda c: sum(c) >= 2))
    values = data.draw(hnp.arrays(np.float64, sum(counts), elements=st.floats(0, 50)))
    parts = np.split(values, np.cumsum(counts)[:-1])
    expected = mean_and_error(parts, "window" if weighting == "window" else "token")
    assert VALIDATION.mean_and_error(parts, weighting) == expected


ROWS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(2, 40)), elements=st.floats(-60, 60, width=32)
)


@given(logits=ROWS, seed=st.integers(0, 99))
def test_losses_are_the_project_s(logits: np.ndarray, seed: int) -> None:
    targets = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    nll, top, logp = reference_rows(logits, targets, min(8, logits.shape[1]))
    found, kl, same = VALIDATION.compare_rows(logits, targets, top, logp.astype(np.float32))
    assert np.array_equal(nll, token_nll(logits, targets))
    assert np.allclose(found, nll, rtol=0, atol=tolerances.NLL_FLOAT64)
    assert kl.max() < tolerances.KIT
    assert same.all()


@given(logits=ROWS, seed=st.integers(0, 99), k=st.integers(1, 40))
def test_kl_is_a_lower_bound_that_all_tokens_reach(logits: np.ndarray, seed: int, k: int) -> None:
    random, V = np.random.default_rng(seed), logits.shape[1]
    host, here = log_softmax(logits), (logits + random.normal(0, 1, logits.shape)).astype(np.float32)
    full = (np.exp(host) * (host - log_softmax(here))).sum(axis=1)
    top = likeliest(logits, min(k, V))
    logp = np.take_along_axis(host, top, axis=1)
    targets = np.zeros(len(logits), np.int64)
    found = VALIDATION.compare_rows(here, targets, top, logp)[1]
    assert (found <= full + tolerances.KIT).all()
    assert (found >= 0).all()
    if k >= V:
        assert np.allclose(found, full, atol=tolerances.KIT)


@given(logits=hnp.arrays(np.float32, (5, 30), elements=st.sampled_from([0, 1, 2])), k=st.integers(1, 30))
def test_likeliest_among_equals(logits: np.ndarray, k: int) -> None:
    top = likeliest(logits, k)
    values = np.take_along_axis(logits, top, axis=1)
    assert np.array_equal(top[:, 0], logits.argmax(axis=1))
    assert np.array_equal(values, -np.sort(-logits, axis=1)[:, :k])
    assert all(len(set(row)) == k for row in top.tolist())
    assert ((np.diff(values) < 0) | (np.diff(top) > 0)).all()


X86 = (
    "model name\t: Fast 9000\nflags\t\t: fpu avx2 avx512_vnni hypervisor\n\nmodel name\t: Fast 9000\nflags\t\t: fpu\n"
)
BIG_LITTLE = "".join(
    f"processor\t: {i}\nFeatures\t: fp asimd asimddp i8mm sve\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    for i, part in enumerate(["0xd80", "0xd80", "0xd81", "0xfff"])
)
OTHER_MAKER = "Features\t: asimd\nCPU implementer\t: 0x99\nCPU part\t: 0xd08\n"


@pytest.mark.parametrize(
    ("content", "name", "features"),
    [
        (X86, "Fast 9000", ["avx2", "avx512_vnni"]),
        (BIG_LITTLE, "ARM Cortex-A520, ARM Cortex-A720, ARM 0xfff", ["asimd", "asimddp", "i8mm", "sve"]),
        (OTHER_MAKER, "0x99 0xd08", ["asimd"]),
    ],
)
def test_the_cpu_has_a_name(monkeypatch: pytest.MonkeyPatch, content: str, name: str, features: list[str]) -> None:
    monkeypatch.setattr(VALIDATION.Path, "is_file", lambda self: True)
    monkeypatch.setattr(VALIDATION.Path, "read_text", lambda self, **named: content)
    monkeypatch.setattr(VALIDATION.sys, "platform", "linux")
    found = VALIDATION.device(CPUS, list(FEATURES))
    assert (found["cpu"], found["features"]) == (name, features)
    json.dumps(found)


def test_the_cpu_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "machdep.cpu.brand_string: Apple M1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n"
    done = type("Done", (), {"stdout": said})
    monkeypatch.setattr(VALIDATION.Path, "is_file", lambda self: False)
    monkeypatch.setattr(VALIDATION.sys, "platform", "darwin")
    monkeypatch.setattr(VALIDATION.subprocess, "run", lambda *arguments, **named: done)
    found = VALIDATION.device(CPUS, list(FEATURES))
    assert (found["cpu"], found["features"]) == ("Apple M1", ["FEAT_DotProd"])
