"""What the browser page does with exported folders and kits, in headless Chromium: the numbers of docs/browser.md.

    npm run setup --prefix runtime/web; pip install playwright pillow
    python examples/benchmarks/browser.py out/web out/kit --screenshot docs/browser.png

Prints one line per folder and number of threads: what the page reports after loading, and the median and best speed
of some generations, greedy, of as many tokens each. A kit is also validated; --result keeps its result.json, which
device_table.py reads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, TimeoutError, sync_playwright

WEB = Path(__file__).parents[2] / "runtime" / "web"
PORT = 8127
# ForceEagerMeasureMemory: Chromium tells the page's memory at once, not after its next garbage collection.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--no-first-run", "--disable-sync", "--disable-quic", "--enable-blink-features=ForceEagerMeasureMemory"]


@contextmanager
def served() -> Iterator[str]:
    """The page's own server."""
    server = subprocess.Popen(["node", "scripts/serve.mjs", "--port", str(PORT)], cwd=WEB, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        yield f"http://localhost:{PORT}/"
    finally:
        server.terminate()
        server.wait()


def generate(page: Page, tokens: int) -> float:
    """Tokens per second of one greedy generation, as the page reports it."""
    page.fill("#new-tokens", str(tokens))
    page.click("#generate")
    page.wait_for_selector("#generate:not([disabled])", timeout=600_000)
    text = str(page.eval_on_selector("#speed", "e => e.value"))
    return float(text.split(" tokens/s")[0].split(", ")[-1])


def measure(page: Page, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Open one folder or kit, generate, and validate if it is a kit."""
    page.set_input_files("#folder", folder)
    page.wait_for_selector("#facts:not([hidden]), #error:not([hidden])", timeout=600_000)
    if page.is_visible("#error"):
        return {"folder": folder.name, "error": page.inner_text("#error")}
    found: dict[str, Any] = {"folder": folder.name}
    for name in ("load", "memory", "threads"):
        found[name] = page.inner_text(f"#fact-{name}")
    rates = [generate(page, options.tokens) for _ in range(options.rounds)]
    with suppress(TimeoutError):  # not told while a thread of the pool waits
        page.wait_for_function(
            "!document.querySelector('#fact-page-memory').textContent.startsWith('m')", timeout=5000
        )
    found["page"] = page.inner_text("#fact-page-memory")
    found["median tokens/s"], found["best tokens/s"] = statistics.median(rates), max(rates)
    if page.is_visible("#validate"):
        page.fill("#judge-tokens", "" if options.judge is None else str(options.judge))
        page.click("#validate")
        page.wait_for_selector("#download-row:not([hidden]), #error:not([hidden])", timeout=3_600_000)
        if options.result is not None:
            with page.expect_download() as download:
                page.click("#download")
            download.value.save_as(options.result)
        found["verdict"] = page.inner_text("#verdict") + "; " + page.inner_text("#figures").replace("\n", " ")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dark", action="store_true", help="the screenshot's colours")
    parser.add_argument("--width", type=int, default=900, help="the screenshot's width")
    parser.add_argument("--screenshot", type=Path, help="PNG of the page after the last folder")
    parser.add_argument("--judge", type=int, help="validate the first windows only, with so many tokens")
    parser.add_argument("--result", type=Path, help="where the last validated kit's result.json goes")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for folder in options.folders:
            for threads in options.threads:
                scheme = "dark" if options.dark else "light"
                page = browser.new_page(viewport={"width": options.width, "height": 900}, color_scheme=scheme)
                page.goto(f"{address}?threads={threads}")
                found = measure(page, folder.resolve(), options)
                print(json.dumps(found, ensure_ascii=False), flush=True)
                if options.screenshot is not None:
                    page.screenshot(path=options.screenshot, full_page=True)
                    Image.open(options.screenshot).quantize(200).save(options.screenshot, optimize=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
