"""What is broken on purpose: a folder, a kit and a result, all tiny, and what reading each of them gives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from dareq_edge.cli import main
from dareq_edge.errors import DareqError
from dareq_edge.manifest import NAME, Manifest
from dareq_runtime import load
from dareq_runtime.tokens import read_tokens
from hostile.forks import Outcome, outcomes, summary
from packed_folders import SMALLEST, tiny_export

Change = Callable[[bytes, int], bytes]


def runtime_folder(folder: Path) -> Path:
    """An exported folder with a tokenizer."""
    tiny_export(folder)
    words = {"</s>": 0, "<unk>": 1} | {f"w{i}": i for i in range(2, SMALLEST.vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits()])
    tokenizer.decoder = decoders.Sequence([decoders.Strip(" ", 0, 0), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 0)])
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(16)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3], "pad_token_id": 1}))
    Manifest.read(folder).with_files(folder).write(folder)
    return folder


def answer(folder: Path, *, verify: bool = True) -> str:
    """What a folder computes and says, in short: the same only if the same weights did it."""
    model = load(folder, threads=1, verify=verify)
    logits = model.logits([5, 6, 7])
    made = model.generate("w5 w6", max_new_tokens=3, stop_ids=[])
    return sha256(logits.tobytes() + repr((made.ids, made.text)).encode()).hexdigest()


def command(*arguments: object) -> str:
    """What a command shows; its sentence raised, if it refuses."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(a) for a in arguments])
    said = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    assert code == len(said) <= 1, f"exit {code}: {err.getvalue()[-300:]}"
    assert all(c.isprintable() or c == "\n" for c in out.getvalue() + err.getvalue())
    if said:
        raise DareqError(said[0])
    return out.getvalue()


def inspect_answer(folder: Path) -> str:
    """What people read of a folder."""
    return command("inspect", folder)


def token_answer(folder: Path) -> str:
    """The ids in tokens.npy."""
    found = read_tokens(tokens=folder / "tokens.npy").sequences[0]
    return sha256(np.ascontiguousarray(found).tobytes()).hexdigest()


def seal_again(folder: Path) -> None:
    """Make dareq.json say what is in the folder now, as someone would who means harm."""
    record = json.loads((folder / NAME).read_text())
    for name in record["files"]:
        content = (folder / name).read_bytes()
        record["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    record["pieces"] = {}
    (folder / NAME).write_text(json.dumps(record))


@dataclass(frozen=True)
class Subject:
    """One file of a folder, how it is changed, and what reads the folder.

    seal: Called after the change; what makes it consistent again.
    """

    folder: Path
    name: str
    change: Change
    read: Callable[[Path], str]
    seal: Callable[[Path], None] = lambda folder: None

    def run(self, numbers: Sequence[int]) -> list[Outcome]:
        """Read the folder once for every number; prints the counts, and leaves the folder as it was."""
        kept = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        original = kept[self.folder / self.name]

        def work(number: int) -> str:
            (self.folder / self.name).write_bytes(self.change(original, number))
            self.seal(self.folder)
            return self.read(self.folder)

        try:
            found = outcomes(work, numbers)
        finally:
            for path, content in kept.items():
                path.write_bytes(content)
        print(f"fuzzed {self.name} by {self.change.__name__}: {summary(found)}")
        return found

    def unchanged(self) -> str:
        """The answer of the folder as it is, found in a child as well."""
        (found,) = outcomes(lambda number: self.read(self.folder), [0])
        assert found.kind == "answered", found
        return found.text
