"""What goes to a worker and what comes back: one job, one sample, both plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

from dareq_runtime.bench.kinds import Kind

WARM_STEPS = 2
"""Steps before those that are timed."""
FIRST_PROMPT = 128
"""Tokens of the prompt whose first token is waited for."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What is measured.

    Attributes:
        prompts: Tokens per prompt that is read.
        contexts: Tokens in the cache when the timed steps start.
        new_tokens: Timed steps after each.
    """

    prompts: tuple[int, ...] = (16, 128, 512, 1024)
    contexts: tuple[int, ...] = (16, 128, 1024)
    new_tokens: int = 32

    def within(self, context: int | None) -> tuple[Lengths, list[str]]:
        """Those that fit a context length, and notes about those that do not."""
        if context is None:
            return self, []
        prompts = tuple(n for n in self.prompts if n + 1 <= context)
        room = WARM_STEPS + self.new_tokens + 1
        contexts = tuple(c for c in self.contexts if c + room <= context)
        notes = [
            f"{name} of {', '.join(f'{n:,}' for n in lost)}: no room for {more} more in the context of {context:,}"
            for name, lost, more in (
                ("prompts", [n for n in self.prompts if n not in prompts], "1 token"),
                ("contexts", [c for c in self.contexts if c not in contexts], f"{room} tokens"),
            )
            if lost
        ]
        return Lengths(prompts, contexts, self.new_tokens), notes

    @property
    def first_prompt(self) -> int:
        """Tokens of the prompt whose first token is waited for: 128, or the longest prompt there is."""
        return min(FIRST_PROMPT, max([*self.prompts, *self.contexts]))


@dataclass(frozen=True, slots=True)
class Job:
    """One contestant, one round.

    Attributes:
        label: The contestant's name.
        kind: See ``kinds``.
        folder: Its folder.
        threads: Within an operator.
        lengths: What is measured.
    """

    label: str
    kind: Kind
    folder: Path
    threads: int
    lengths: Lengths

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``."""
        found = data["lengths"]
        lengths = Lengths(tuple(found["prompts"]), tuple(found["contexts"]), found["new_tokens"])
        return cls(data["label"], cast("Kind", data["kind"]), Path(data["folder"]), data["threads"], lengths)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one worker measured; seconds and bytes, ``None`` where the system does not tell.

    Attributes:
        load: Opening the model, its files already in the page cache.
        first_token: The first prompt of a freshly loaded model, up to its first token.
        resident_start: Resident memory before the model was opened: interpreter, numpy, onnxruntime.
        resident: After load and that prompt.
        peak: Most ever resident, up to the end of the last measurement.
        prefill: Prompt length → time to its first token, the median of several, after the first prompt.
        decode: Context length → time per token, the median step.
        environment: What computed it.
    """

    load: float
    first_token: float
    resident_start: int | None
    resident: int | None
    peak: int | None
    prefill: Mapping[int, float]
    decode: Mapping[int, float]
    environment: str

    def to_json(self) -> dict[str, Any]:
        """Plain data; lengths become strings, as JSON has it."""
        data = asdict(self)
        return data | {name: {str(k): v for k, v in data[name].items()} for name in ("prefill", "decode")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``."""
        lengths = {name: {int(k): float(v) for k, v in data[name].items()} for name in ("prefill", "decode")}
        return cls(**{**data, **lengths})

    def metrics(self) -> dict[str, float]:
        """Every number under a flat name, e.g. "load", "peak", "prefill/128"; those that are unknown are left out."""
        plain = {name: getattr(self, name) for name in ("load", "first_token", "resident", "peak")}
        flat = {name: float(value) for name, value in plain.items() if value is not None}
        for name in ("prefill", "decode"):
            flat |= {f"{name}/{length}": seconds for length, seconds in getattr(self, name).items()}
        return flat
