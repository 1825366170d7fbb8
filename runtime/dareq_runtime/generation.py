"""The generation loop: prompts in, tokens out, one cache for the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import DataError, SpecError
from dareq_runtime.decoder import Cache, extend
from dareq_runtime.sampling import Sampling
from dareq_runtime.session import Graph

OnId = Callable[[int, int], None]
"""Called as ``on_id(row, token_id)`` as soon as a token is chosen."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What was generated for one prompt.

    Attributes:
        ids: New tokens, the stop id included if one was met.
        text: Their text without special tokens; ``None`` without a tokenizer.
        stopped: "stop" at a stop id, "length" at ``max_new_tokens``.
    """

    ids: tuple[int, ...]
    text: str | None
    stopped: Literal["stop", "length"]


def check_lengths(prompts: Sequence[NDArray[np.int64]], new: int, context: int, vocab_size: int) -> None:
    """Check that every prompt can be continued.

    Raises:
        SpecError: There is no room for that many new tokens.
        DataError: There is no prompt, or one is empty, too long, or has ids out of range.
    """
    if not prompts:
        raise DataError("there is no prompt; give at least one")
    if new < 1:
        raise SpecError(f"max_new_tokens is {new}; use 1 or more")
    for i, ids in enumerate(prompts):
        if not len(ids):
            raise DataError(f"prompt {i} has no tokens; give at least one")
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise DataError(f"prompt {i} holds token ids outside 0..{vocab_size - 1}; use the model's own tokenizer")
        room = context - len(ids)
        if room < 1:
            raise DataError(f"prompt {i} has {len(ids)} tokens but the model's context is {context}; shorten it")
        if new > room:
            raise SpecError(
                f"prompt {i} has {len(ids)} tokens, and {new} new ones exceed the model's context of {context}; "
                f"use max_new_tokens <= {room}"
            )


def generate_ids(
    graph: Graph,
    prompts: Sequence[NDArray[np.int64]],
    *,
    new: int,
    sampling: Sampling,
    stop_ids: frozenset[int],
    pad_id: int,
    chunk: int,
    on_id: OnId,
) -> list[list[int]]:
    """Continue every prompt; each row's tokens are those it would get alone.

    Args:
        graph: The open model.
        prompts: int64 [T_i] each, checked by ``check_lengths``.
        new: Most new tokens per row.
        sampling: How tokens are chosen.
        stop_ids: Ids that end a row; the id itself is kept.
        pad_id: Fed to rows that have ended while others go on.
        chunk: Prompt tokens per forward pass.
        on_id: Called for every new token.
    """
    longest = max(len(p) for p in prompts)
    pads = np.array([longest - len(p) for p in prompts])
    cache = Cache(graph, len(prompts), longest + new)
    streams = sampling.streams(prompts)
    logits = np.stack([_prefill(cache, i, p, int(pads[i]), chunk) for i, p in enumerate(prompts)])
    lane = cache.lane(0, len(prompts))
    out: list[list[int]] = [[] for _ in prompts]
    active = set(range(len(prompts)))
    for step in range(new):
        following = np.full((len(prompts), 1), pad_id, dtype=np.int64)
        for row in sorted(active):
            token = sampling.choose(logits[row], streams[row])
            out[row].append(token)
            following[row] = token
            on_id(row, token)
            if token in stop_ids:
                active.remove(row)
        if not active or step == new - 1:
            break
        total = longest + step + 1
        mask = (np.arange(total) >= pads[:, None]).astype(np.int64)
        logits = lane.run(following, mask, (total - 1 - pads)[:, None])[:, 0]
    return out


def _prefill(cache: Cache, row: int, ids: NDArray[np.int64], pad: int, chunk: int) -> NDArray[np.float32]:
    """Read one prompt into its row; returns the last token's logits, float32 [V]."""
    lane = cache.lane(row, row + 1)
    last: NDArray[np.float32] = np.empty(0, dtype=np.float32)
    for start in range(0, len(ids), chunk):
        last = extend(lane, ids[start : start + chunk], done=start, pad=pad)[-1]
    return last.copy()
