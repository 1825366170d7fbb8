"""The same folder in transformers.js and onnxruntime-node: the same greedy tokens and the same text."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from client_cases import NEW, TEXTS, Exported
from dareq_export.relayout import for_transformers_js
from dareq_runtime import load
from examples.clients import node_clients

NODE = Path(__file__).parents[2] / "examples/clients/node"
pytestmark = pytest.mark.clients


@pytest.fixture(autouse=True)
def installed() -> None:
    """Skips, or fails where DAREQ_REQUIRE_CLIENTS is 1, if Node or its packages are not there."""
    reason = node_clients.missing()
    if reason and os.environ.get("DAREQ_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("client", node_clients.CLIENTS)
def test_the_folder_as_it_is(exported: Exported, client: str) -> None:
    found = node_clients.ask(client, exported.folder, exported.prompts, NEW, compute="fp32")
    assert found.tokens == exported.expected
    pinned = json.loads((NODE / "package.json").read_text())["dependencies"]["onnxruntime-node"]
    assert found.onnxruntime == pinned


def test_the_folder_under_the_names_of_transformers_js(exported: Exported, tmp_path: Path) -> None:
    for_transformers_js(exported.folder, tmp_path / "js")
    found = node_clients.ask("transformers_js", tmp_path / "js", exported.prompts, NEW, compute="fp32")
    assert found.tokens == exported.expected


@pytest.mark.parametrize("exported", ["opt-mini"], indirect=True)
@pytest.mark.parametrize("client", node_clients.CLIENTS)
def test_text_in_text_out(exported: Exported, client: str) -> None:
    expected = load(exported.folder, compute="fp32").generate(TEXTS[0], max_new_tokens=NEW).text
    assert node_clients.ask(client, exported.folder, [], NEW, compute="fp32", text=TEXTS[0]).text == expected


@pytest.mark.parametrize("exported", ["opt-mini"], indirect=True)
@pytest.mark.parametrize("client", node_clients.CLIENTS)
def test_the_example_prints_prompt_and_text(exported: Exported, client: str) -> None:
    expected = load(exported.folder, compute="fp32").generate(TEXTS[0], max_new_tokens=8).text
    command = ["node", NODE / f"{client}.mjs", exported.folder, TEXTS[0], "fp32", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == TEXTS[0] + expected + "\n"


@pytest.mark.parametrize("client", node_clients.CLIENTS)
def test_a_folder_of_somebody_else_is_one_sentence(tmp_path: Path, client: str) -> None:
    done = subprocess.run(
        ["node", NODE / f"{client}.mjs", tmp_path, "A"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "dareq.json; give a folder that dareq-edge exported" in done.stderr


@pytest.mark.parametrize("client", node_clients.CLIENTS)
def test_packages_that_are_not_installed_are_one_sentence(tmp_path: Path, client: str) -> None:
    for path in NODE.glob("*.mjs"):
        (tmp_path / path.name).write_text(path.read_text())
    done = subprocess.run(
        ["node", tmp_path / f"{client}.mjs", tmp_path, "A"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "run npm ci in examples/clients/node" in done.stderr


def test_the_lock_file_names_no_host() -> None:
    packages = json.loads((NODE / "package-lock.json").read_text())["packages"]
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in packages.items() if name)
