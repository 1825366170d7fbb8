"""The kit of the embedded model on emulated ARM CPUs, by the bars of tolerances.py. Run by ``make test-arm``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tolerances
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime.kit.judging import judge
from dareq_runtime.kit.result import read_result
from dareq_runtime.kit.writing import Job, write_kit
from examples.arm.debian import UnavailableError
from examples.arm.emulate import ARM, command
from examples.arm.environment import ensure

MODEL = Path(__file__).parents[2] / "examples/models/opt-mini"
REQUIRED = "DAREQ_REQUIRE_ARM"
WINDOW = 512

FEATURES = {"asimddp", "i8mm", "bf16", "sve"}
HAS: dict[str, set[str]] = {"cortex-a72": set(), "cortex-a76": {"asimddp"}, "neoverse-v1": FEATURES}

pytestmark = pytest.mark.arm


def predicted(cpu: str, compute: str) -> int:
    """Predicted tokens; fewer where products are of floats, which take an emulated CPU about four times as long."""
    has_int8 = bool(HAS[cpu]) and compute == "int8"
    return 2 * (WINDOW - 1) if has_int8 else WINDOW - 1


@pytest.fixture(scope="session")
def arm() -> Path:
    try:
        return ensure()
    except UnavailableError as error:
        if os.environ.get(REQUIRED):
            raise
        pytest.skip(f"no emulated ARM here: {error}; {REQUIRED}=1 makes this a failure")


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory, arm: Path) -> Path:
    home = tmp_path_factory.mktemp("arm")
    quantize_checkpoint(MODEL, home / "q", DareqConfig(bits=4, scale_dtype="bfloat16", table_bits=8))
    export_onnx(home / "q", home / "onnx")
    tokens, protocol = read_evaluation(DataChoice(max_tokens=2 * WINDOW, window=WINDOW), home / "onnx")
    write_kit(home / "onnx", home / "kit", Job(tokens, protocol))
    return home / "kit"


@pytest.mark.parametrize("compute", ["int8", "fp32"])
@pytest.mark.parametrize("cpu", ARM)
def test_perplexity_on_arm_is_that_of_the_host(kit: Path, tmp_path: Path, cpu: str, compute: str) -> None:
    out, tokens = tmp_path / "result.json", predicted(cpu, compute)
    options = ["--compute", compute, "--tokens", str(tokens), "--threads", "1", "--out", str(out)]
    line, variables = command(cpu, [str(kit / "validate.py"), *options])
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    print(done.stdout)

    found = result["computes"][compute]
    assert found["tokens"] == tokens
    assert abs(found["delta_ppl"]) <= tolerances.DEVICE_PPL[compute]
    assert result["device"]["machine"] == "aarch64"
    assert FEATURES & set(result["device"]["features"]) == HAS[cpu]
    verdict = judge(read_result(out), kit)
    assert verdict.parity.passed
    assert verdict.disagreements == ()
    losses = read_result(out).computes[compute]
    assert not np.array_equal(losses.nll, losses.reference_nll)  # equal to the last bit would be x86's own kernels
