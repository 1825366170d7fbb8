"""EntQuant over a whole model: the rate it is asked for, and what of the user's options it can meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig

from dareq_edge import recipes
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli import main
from dareq_edge.comparison.coded import coded_size
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import silent
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import _coded_rate
from dareq_edge.spec import QuantSpec
from tiny_models import save_random, tiny_opt
from tolerances import ENTQUANT_CODED_RATE

BROAD = LlamaConfig(
    vocab_size=96,
    hidden_size=384,
    intermediate_size=1024,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
TABLE, LINEAR = "model.decoder.embed_tokens", "model.decoder.layers.0.fc1"


def run(source: Path, out: Path, options: QuantOptions | None = None, **settings: Any) -> Checkpoint:
    quantize_checkpoint(source, out, options or QuantOptions(), recipes.build("entquant", settings))
    return Checkpoint.open(str(out))


def matrix(checkpoint: Checkpoint, module: str, k: int) -> QuantizedTensor:
    return read_quantized(checkpoint, module, read_plan(checkpoint)[module], k)


@pytest.mark.parametrize("codes", ["int8", "float8"])
@pytest.mark.parametrize("bits", [2.25, 3.0, 4.0])
def test_the_model_costs_what_was_asked_for(tmp_path: Path, codes: str, bits: float) -> None:
    source = save_random(BROAD, tmp_path / "m")
    checkpoint = run(source, tmp_path / "q", codes=codes, target_bits=bits)
    _, found = coded_size(tmp_path / "q", read_plan(checkpoint), silent)
    assert abs(found - bits) < ENTQUANT_CODED_RATE


def test_a_sample_of_the_rows_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_random(BROAD, tmp_path / "m")
    taken: list[tuple[int, ...]] = []
    real = _coded_rate.take

    def take(*arguments: Any) -> _coded_rate.Sample:
        sample = real(*arguments)
        taken.append(tuple(sample.rows.shape))
        return sample

    monkeypatch.setattr(_coded_rate, "take", take)
    monkeypatch.setattr(_coded_rate, "SAMPLE", 1 << 16)
    checkpoint = run(source, tmp_path / "q", target_bits=3.0)
    assert (171, 384) in taken  # of 1024 rows of gate and up projections
    _, found = coded_size(tmp_path / "q", read_plan(checkpoint), silent)
    assert abs(found - 3.0) < 2 * ENTQUANT_CODED_RATE  # a quarter of the frame that it codes at a time here


def test_one_lambda_for_all_linears_and_one_for_tables(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    options = QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16")
    checkpoint = run(source, tmp_path / "q", options, lam=20.0, table_lam=2.0)
    plan = read_plan(checkpoint)
    assert {spec.bits for spec in plan.values()} == {8}
    assert {spec.method for spec in plan.values()} == {"entquant"}
    floats = Checkpoint.open(str(source))
    for module, lam in ((TABLE, 2.0), (LINEAR, 20.0)):
        weight = floats.tensor(f"{module}.weight")
        want = EntQuant(lam=lam)(weight, plan[module])
        got = matrix(checkpoint, module, weight.shape[1])
        assert np.array_equal(got.codes, want.codes)
        assert np.array_equal(got.scales, want.scales)
    written = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]["recipe"]
    assert (written["label"], written["lam"], written["table_lam"]) == ("entquant", 20.0, 2.0)


def test_tables_stay_float_if_they_are_to(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    assert TABLE not in read_plan(run(source, tmp_path / "q", QuantOptions()))


def test_the_default_is_the_published_setting_for_three_bits(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    default, published = (run(source, tmp_path / f"q{i}", **s) for i, s in enumerate(({}, {"lam": 14.5})))
    assert np.array_equal(matrix(default, LINEAR, 64).codes, matrix(published, LINEAR, 64).codes)
    assert recipes.build("entquant").options(QuantOptions()).spec == QuantSpec(8, None, "float32", "entquant")


def test_a_rate_that_codes_cannot_have(tmp_path: Path) -> None:
    source = save_random(BROAD, tmp_path / "m")
    with pytest.raises(
        SpecError, match=r"target_bits is 8, but codes of this model come to 7\.\d\d bits at the nearest"
    ):
        run(source, tmp_path / "q", target_bits=8)
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bits", "3"], "--recipe entquant+target_bits=3, and neither --bits nor --group-size"),
        (["--group-size", "64"], "not 4 bits, group 64"),
        (["--table-bits", "4"], "no 4-bit tables; use --table-bits 8, which is coded too, or 32"),
        (["--position-bits", "4"], "use --position-bits 8"),
        (["--recipe", "entquant+target_bits=3+lam=4"], "give one of them"),
        (["--recipe", "entquant+codes=fp8"], "use int8 or float8"),
    ],
)
def test_options_that_cannot_be_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    source = tiny_opt(tmp_path / "m")
    assert main(["quantize", str(source), "--out", str(tmp_path / "q"), "--recipe", "entquant", *options]) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_compare_refuses_a_form_before_any_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    np.save(tmp_path / "a.npy", np.arange(3, 90))
    tokens = ["--tokens", str(tmp_path / "a.npy")]
    assert main(["compare", str(source), "--recipes", "rtn,entquant@64", *tokens]) == 1
    assert "recipe entquant has 8-bit codes per channel" in " ".join(capsys.readouterr().err.split())
