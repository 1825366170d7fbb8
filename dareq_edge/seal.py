"""A JSON text that carries its own sha256 as its last entry, so that not one byte of it can change unseen.

    { "format": 1, …, "sha256": "0f3a…" }

The digest is that of the whole text, in UTF-8, with 64 zeros in its place.
"""

from __future__ import annotations

from hashlib import sha256

from dareq_edge.errors import ArtifactError

KEY = "sha256"
_BLANK = "0" * 64


def sealed(text: str) -> str:
    """Add the digest to an indented JSON object.

    Args:
        text: What ``json.dumps`` with ``indent=1`` gives for an object that has entries.
    """
    blank = f'{text.removesuffix("}").rstrip()},\n "{KEY}": "{_BLANK}"\n}}\n'
    head, _, tail = blank.rpartition(_BLANK)
    return head + sha256(blank.encode()).hexdigest() + tail


def check_seal(content: bytes, claimed: object, where: str) -> None:
    """Compare a text with the digest it claims.

    Args:
        content: The whole file.
        claimed: What its JSON says under ``KEY``.
        where: The file, for the message.

    Raises:
        ArtifactError: They differ.
    """
    digest = claimed.encode() if isinstance(claimed, str) and len(claimed) == len(_BLANK) else b""
    head, found, tail = content.rpartition(digest) if digest else (b"", b"", b"")
    if not found or sha256(head + _BLANK.encode() + tail).hexdigest().encode() != digest:
        raise ArtifactError(f"{where} does not match the {KEY} it carries; copy or pack the folder again")
