"""A kit in the browser: the host's perplexity, its verdict, and a result that the host judges again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.cli import main
from tolerances import WEB_FP32
from web_page import Page, Served

pytestmark = pytest.mark.web

NewPage = Callable[..., Page]


@pytest.fixture(scope="session")
def kits(models: Path) -> Path:
    """Kits of the embedded evaluation text beside the models."""
    for profile, name in (("web", "kit"), ("web", "kit.zip"), ("native", "native-kit")):
        assert main(["bundle", str(models / profile), "--out", str(models / name), "--max-tokens", "4096"]) == 0
    return models


def test_perplexity_and_verdict(new_page: NewPage, server: Served, kits: Path, tmp_path: Path) -> None:
    page = new_page(f"{server.address}?model=models/kit/").opened()
    page.validate(tmp_path / "result.json")
    assert "PASSED" in page.text("#verdict")
    found = json.loads((tmp_path / "result.json").read_text())
    kit = json.loads((kits / "kit" / "kit.json").read_text())
    record, host = found["computes"]["fp32"], kit["references"]["fp32"]
    assert record["ppl"] == pytest.approx(host["ppl"], rel=WEB_FP32)
    assert record["stderr"] == pytest.approx(host["stderr"], rel=10 * WEB_FP32)
    assert record["tokens"] == host["tokens"] == sum(found["counts"])
    assert record["reference_nll"] == np.load(kits / "kit" / "reference" / "fp32.nll.npy").tolist()
    assert math.exp(np.mean(record["nll"])) == pytest.approx(record["ppl"])
    assert 0 <= record["kl_mean"] < WEB_FP32
    assert record["top1_agreement"] > 0.999
    assert f"{record['ppl']:.4f}" in page.text("#figure-ppl")
    assert page.tab.locator("#plot circle.here").count() >= len(found["counts"])
    assert main(["verdict", str(tmp_path / "result.json"), "--kit", str(kits / "kit")]) == 0


def test_zip_chosen_by_hand_and_part_of_its_tokens(
    new_page: NewPage, server: Served, kits: Path, tmp_path: Path
) -> None:
    page = new_page(server.address)
    page.tab.set_input_files("#zip", kits / "kit.zip")
    page.opened().validate(tmp_path / "result.json", tokens=600)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["passed"]
    assert found["counts"] == [511, 511]
    assert main(["verdict", str(tmp_path / "result.json"), "--kit", str(kits / "kit.zip")]) == 0


def test_native_kit(new_page: NewPage, server: Served, kits: Path, tmp_path: Path) -> None:
    page = new_page(f"{server.address}?model=models/native-kit/").opened()
    page.validate(tmp_path / "result.json", tokens=500)
    assert json.loads((tmp_path / "result.json").read_text())["passed"]


def test_a_model_that_computes_something_else_fails(
    new_page: NewPage, server: Served, kits: Path, tmp_path: Path
) -> None:
    page = new_page(server.address)
    page.tab.evaluate("window.stop()")
    page.context.route(
        "**/src/decoder.js", lambda route: route.fulfill(body=_shifted(route), content_type="text/javascript")
    )
    page.tab.goto(f"{server.address}?model=models/kit/")
    page.opened().validate(tmp_path / "result.json", tokens=500)
    assert "FAILED" in page.text("#verdict")
    found = json.loads((tmp_path / "result.json").read_text())
    assert not found["passed"]
    assert "perplexity differs by" in found["reasons"][0]
    assert main(["verdict", str(tmp_path / "result.json")]) == 1


def _shifted(route: object) -> str:
    """The decoder with every position halved."""
    source = route.fetch().text()  # type: ignore[attr-defined]
    assert "this.#done + i)" in source
    return source.replace("this.#done + i)", "(this.#done + i) >> 1)")


def test_dropped_zip(new_page: NewPage, server: Served, kits: Path) -> None:
    page = new_page(server.address)
    page.tab.evaluate(
        """async () => {
          const blob = await (await fetch('models/kit.zip')).blob();
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], 'kit.zip'));
          document.querySelector('#drop').dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer }));
        }"""
    )
    assert "8 windows" in page.opened().text("#kit-summary")


def test_changed_kit_is_refused(new_page: NewPage, server: Served, kits: Path, tmp_path: Path) -> None:
    kit = Path(shutil.copytree(kits / "kit", tmp_path / "kit"))
    (kit / "kit.json").write_text((kit / "kit.json").read_text().replace('"fp32": 0.0001', '"fp32": 0.9'))
    assert new_page(server.address).open_folder(kit).error().startswith("kit.json is corrupt")
    shutil.copy(kits / "kit" / "kit.json", kit / "kit.json")
    reference = kit / "reference" / "fp32.nll.npy"
    reference.write_bytes(reference.read_bytes()[:-1] + b"\0")
    message = new_page(server.address).open_folder(kit).error()
    assert message.startswith("reference/fp32.nll.npy is corrupt: it does not match its sha256 in kit.json")


def test_validation_stops(new_page: NewPage, server: Served, kits: Path) -> None:
    page = new_page(f"{server.address}?model=models/kit/").opened()
    page.tab.click("#validate")
    page.tab.click("#stop-validation")
    page.finish()
    assert not page.tab.is_visible("#verdict")
    assert not page.tab.is_visible("#error")


def test_a_folder_says_how_to_make_a_kit(new_page: NewPage, server: Served) -> None:
    page = new_page(f"{server.address}?model=models/web/").opened()
    assert "dareq-edge bundle" in page.text("#no-kit")
    assert not page.tab.is_visible("#validate")
