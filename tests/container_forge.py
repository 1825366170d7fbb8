"""Containers made by hand, right in every checksum, so that only the rule under test is broken."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from dareq_edge.container.layout import CODINGS, ENTRY, Entry, Header, check_of

Frame = tuple[str, int, bytes]
"""Coding, bytes unpacked, payload."""


def entry(coding: str, raw: int, payload: bytes) -> Entry:
    index = CODINGS.index(coding)
    return Entry(0, index, 0, raw, len(payload), check_of(index, payload))


def forge(
    path: Path, frames: Sequence[Frame], nbytes: int | None = None, entries: Sequence[Entry] | None = None
) -> Path:
    """Write these frames to ``path``; ``entries`` and ``nbytes`` replace what the header should say."""
    rows = entries or [entry(*frame) for frame in frames]
    total = sum(raw for _, raw, _ in frames) if nbytes is None else nbytes
    header = Header(total, sha256(b"").hexdigest(), np.array(rows, ENTRY))
    path.write_bytes(header.to_bytes() + b"".join(payload for _, _, payload in frames))
    return path
