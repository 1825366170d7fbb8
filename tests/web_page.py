"""What the tests do with the page, and a static server that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEB = Path(__file__).parents[1] / "runtime" / "web"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 240_000
"""Milliseconds until a wait is given up: opening a model takes a second, or minutes where all cores are taken."""


@dataclass(frozen=True)
class Served:
    """A running server."""

    address: str
    server: ThreadingHTTPServer

    def stop(self) -> None:
        """Nothing answers any more."""
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serve(page: Path, models: Path, *, isolate: bool) -> Iterator[Served]:
    """Serve the page at /, folders under /models/; ``isolate`` sends the headers that threads need."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            clean = path.split("?")[0].lstrip("/")
            root, rest = (models, clean[7:]) if clean.startswith("models/") else (page, clean)
            return str(root / rest)

        def end_headers(self) -> None:
            if isolate:
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header("Cache-Control", "no-cache")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served = Served(f"http://localhost:{server.server_address[1]}/", server)
    try:
        yield served
    finally:
        served.stop()


class Page:
    """The page, by what its reader does and sees."""

    def __init__(self, context: Any, address: str) -> None:
        self.context = context
        self.tab = context.new_page()
        self.tab.set_default_timeout(PATIENCE)
        self.problems: list[str] = []
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.goto(address)

    def opened(self) -> Page:
        """Wait until a model is open."""
        self.tab.wait_for_selector("#facts:not([hidden]), #error:not([hidden])")
        assert not self.tab.is_visible("#error"), self.text("#error")
        assert self.problems == []
        return self

    def error(self) -> str:
        """Wait for a message that something is wrong."""
        self.tab.wait_for_selector("#error:not([hidden])")
        return self.text("#error")

    def text(self, selector: str) -> str:
        """Text that the reader sees."""
        return str(self.tab.inner_text(selector))

    def open_folder(self, folder: Path) -> Page:
        """Choose a folder in the dialog."""
        self.tab.set_input_files("#folder", folder)
        return self

    def start(self, prompt: str, tokens: int, temperature: float = 0, seed: int = 0) -> None:
        """Press Generate."""
        values = {"prompt": prompt, "new-tokens": tokens, "temperature": temperature, "seed": seed}
        for field, value in values.items():
            self.tab.fill(f"#{field}", str(value))
        self.tab.click("#generate")

    def finish(self) -> None:
        """Wait until the request in progress is over."""
        self.tab.wait_for_selector("#generate:not([disabled])")

    def generate(self, prompt: str, tokens: int, **sampling: float) -> tuple[int, ...]:
        """Generate, and give the new ids."""
        self.start(prompt, tokens, **sampling)
        self.finish()
        assert not self.tab.is_visible("#error"), self.text("#error")
        return self.ids()

    def ids(self) -> tuple[int, ...]:
        """Ids generated so far."""
        return tuple(int(i) for i in (self.tab.get_attribute("#output", "data-ids") or "").split())

    def validate(self, target: Path, tokens: int | None = None) -> None:
        """Validate the open kit, and download the result to a file."""
        if tokens is not None:
            self.tab.fill("#judge-tokens", str(tokens))
        self.tab.click("#validate")
        self.tab.wait_for_selector("#download-row:not([hidden]), #error:not([hidden])")
        assert not self.tab.is_visible("#error"), self.text("#error")
        with self.tab.expect_download() as download:
            self.tab.click("#download")
        download.value.save_as(target)
