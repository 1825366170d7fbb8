"""The two Node clients, driven from Python: tests and comparisons ask for tokens, Node answers in JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "node"
CLIENTS = ("transformers_js", "onnxruntime_node")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client made.

    Attributes:
        tokens: Per prompt, the tokens that follow it.
        text: The continuation of the text that was asked for, if one was.
        onnxruntime: Version of onnxruntime-node.
    """

    tokens: list[list[int]]
    text: str | None
    onnxruntime: str


def missing() -> str | None:
    """What keeps the Node clients from running, as one sentence with the remedy, or None."""
    if shutil.which("node") is None:
        return "there is no node on the path; install Node.js 20 or newer"
    if not (HERE / "node_modules" / "onnxruntime-node").is_dir():
        return "the Node packages are not installed; run npm ci in examples/clients/node"
    return None


def ask(
    client: str, folder: Path, prompts: Sequence[Sequence[int]], new: int, *, compute: str, text: str | None = None
) -> Answer:
    """Greedy tokens of one client, in a process of its own.

    Args:
        client: One of ``CLIENTS``.
        folder: An exported folder.
        prompts: Token ids, one prompt after the other.
        new: Tokens per prompt; end-of-text does not stop them.
        compute: A key of "sessions" in dareq.json.
        text: A text to continue as well.

    Raises:
        RuntimeError: Node failed; the message is what it said.
    """
    request = {
        "client": client,
        "folder": str(folder.resolve()),
        "compute": compute,
        "count": new,
        "prompts": [list(map(int, prompt)) for prompt in prompts],
        "text": text,
    }
    done = subprocess.run(
        ["node", HERE / "tokens.mjs"], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{client} in Node failed on {folder}: {done.stderr.strip()}")
    return Answer(**json.loads(done.stdout))
