"""The page's modules on their own, in Node, and their types."""

from __future__ import annotations

import subprocess

import pytest

from web_page import WEB

pytestmark = pytest.mark.web


@pytest.mark.parametrize("script", ["test", "types"])
def test_npm_script(node: str, script: str) -> None:
    done = subprocess.run(["npm", "run", script], cwd=WEB, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_lock_file_names_no_host() -> None:
    text = (WEB / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "://" not in text.replace("https://opencollective.com", "").replace("https://github.com", "")
