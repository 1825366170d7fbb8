"""A real headless Chromium on the page, served as a static server would, with models exported from opt-mini."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dareq_edge import DareqConfig, quantize_checkpoint
from dareq_export import export_onnx
from web_page import FLAGS, WEB, Page, Served, serve

MODEL = Path(__file__).parents[2] / "examples" / "models" / "opt-mini"
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)


def lacking(reason: str) -> None:
    """Skip, or fail where the page's tests must run."""
    if os.environ.get("DAREQ_REQUIRE_WEB") == "1":
        pytest.fail(f"DAREQ_REQUIRE_WEB=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node() -> str:
    """The page's npm packages are installed and copied into vendor/; gives the path of node."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        lacking("node and npm are missing; install Node.js 20 or newer")
    if not (WEB / "vendor" / "versions.json").is_file() or not (WEB / "node_modules").is_dir():
        made = subprocess.run([str(npm), "run", "setup"], cwd=WEB, capture_output=True, text=True, check=False)
        if made.returncode:
            lacking(f"npm cannot install the page's packages; run npm run setup in {WEB}: {made.stderr[-300:]}")
    return str(found)


@pytest.fixture(scope="session")
def browser(node: str, chromium: Any) -> Any:
    """Chromium, where the page's npm packages are installed."""
    return chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium, driven by Playwright; each test takes a context of its own."""
    if CHROMIUM is None:
        lacking("there is no Chromium; install it, for example: apt-get install -y chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is missing; install it: python -m pip install playwright")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with opt-mini, quantized in seconds, under the names of the profiles."""
    folder = tmp_path_factory.mktemp("models")
    quantize_checkpoint(MODEL, folder / "checkpoint", DareqConfig(recipe="dareq-reference", table_bits=8))
    for profile in ("native", "portable", "web"):
        export_onnx(folder / "checkpoint", folder / profile, profile=profile)
    return folder


@pytest.fixture(scope="session")
def server(node: str, models: Path) -> Iterator[Served]:
    """The page with the headers that threads need, and the models under /models/."""
    with serve(WEB, models, isolate=True) as served:
        yield served


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens pages; what a page logs as an error fails the test."""
    contexts = []

    def make(address: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        return Page(context, address)

    yield make
    for context in contexts:
        context.close()
