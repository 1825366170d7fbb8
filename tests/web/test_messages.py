"""What the page says when something is missing, damaged, or beyond the browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from web_page import WEB, Page, Served, serve

pytestmark = pytest.mark.web

NewPage = Callable[..., Page]


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(models / "web", tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change dareq.json."""
    data = json.loads((folder / "dareq.json").read_text())
    change(data)
    (folder / "dareq.json").write_text(json.dumps(data))


def test_corrupt_file_is_named(new_page: NewPage, server: Served, copy: Path) -> None:
    data = copy / "onnx" / "model_q4.onnx_data"
    content = bytearray(data.read_bytes())
    content[1234] ^= 1
    data.write_bytes(content)
    message = new_page(server.address).open_folder(copy).error()
    assert message.startswith("onnx/model_q4.onnx_data is corrupt: it does not match its sha256 in dareq.json")


def test_cut_off_and_missing_files_are_named(new_page: NewPage, server: Served, copy: Path) -> None:
    data = copy / "onnx" / "model_q4.onnx_data"
    data.write_bytes(data.read_bytes()[:-1])
    page = new_page(server.address)
    assert "onnx/model_q4.onnx_data has" in page.open_folder(copy).error()
    data.unlink()
    page.tab.evaluate("document.querySelector('#error').hidden = true")
    assert page.open_folder(copy).error().startswith("onnx/model_q4.onnx_data is missing from copy")


def test_too_large_model_is_refused_before_it_is_read(new_page: NewPage, server: Served, copy: Path) -> None:
    def grow(data: dict[str, Any]) -> None:
        largest = max(data["tensors"].values(), key=lambda t: t["bytes"] if t["bits"] < 32 else 0)
        largest["shape"] = [1_500_000, 1024]

    edit(copy, grow)
    message = new_page(server.address).open_folder(copy).error()
    assert message.startswith("This model is too large for a browser: it needs about")
    assert "ends at 4.0 GB" in message


def test_other_folders_and_formats(
    new_page: NewPage, server: Served, copy: Path, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("x")
    edit(copy, lambda data: data.update(format=9))
    cases = {
        tmp_path / "photos": "There is no kit.json or dareq.json among the 1 files of photos",
        models / "checkpoint": "holds a checkpoint, not an ONNX model; run dareq-edge export on it first",
        copy: "dareq.json has format 9, this page knows 1",
    }
    for folder, message in cases.items():
        assert message in new_page(server.address).open_folder(folder).error()
    assert "There is no dareq.json in" in new_page(f"{server.address}?model=models/nowhere/").error()


def test_graph_that_onnxruntime_refuses(new_page: NewPage, server: Served, copy: Path) -> None:
    graph = copy / "onnx" / "model_q4.onnx"
    graph.write_bytes(b"not a graph")
    entry = {"bytes": 11, "sha256": sha256(b"not a graph").hexdigest()}
    edit(copy, lambda data: data["files"].update({"onnx/model_q4.onnx": entry}))
    assert "cannot load onnx/model_q4.onnx" in new_page(server.address).open_folder(copy).error()


def test_browser_without_vectors(new_page: NewPage, server: Served) -> None:
    page = new_page("about:blank")
    page.tab.add_init_script("WebAssembly.validate = () => false")
    page.tab.goto(server.address)
    assert "This browser has no WebAssembly SIMD, which onnxruntime-web needs" in page.error()
    assert page.tab.is_disabled("#open-folder")


def test_one_thread_where_memory_cannot_be_shared(new_page: NewPage, models: Path, node: str) -> None:
    with serve(WEB, models, isolate=False) as served:
        page = new_page(f"{served.address}?model=models/web/&threads=2", service_workers="block").opened()
        assert page.text("#fact-threads").startswith("1 of ")
        assert "One thread only: this page is not cross-origin isolated" in page.text("#notes")
        assert len(page.generate("The", 4)) == 4


def test_service_worker_gives_threads_where_the_server_does_not(new_page: NewPage, models: Path, node: str) -> None:
    with serve(WEB, models, isolate=False) as served:
        page = new_page(served.address)
        page.tab.wait_for_function("crossOriginIsolated")
        page.tab.goto(f"{served.address}?model=models/web/&threads=2")
        assert page.opened().text("#fact-threads").startswith("2 of ")
        assert page.text("#notes") == ""


def test_offline_once_loaded(new_page: NewPage, models: Path, node: str) -> None:
    with serve(WEB, models, isolate=True) as served:
        page = new_page(served.address)
        page.tab.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
        served.stop()
        page.context.set_offline(True)
        page.tab.reload()
        assert len(page.open_folder(models / "web").opened().generate("The", 8)) == 8
        assert page.tab.evaluate("crossOriginIsolated")
        assert page.tab.evaluate("fetch('/models/web/config.json').then(() => true, () => false)") is False
