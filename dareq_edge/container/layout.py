r"""Header and frame table of a container (.dqz), byte by byte. All integers are little-endian and unsigned.

    offset        bytes  content
    0             8      magic 89 44 51 5a 0d 0a 1a 0a  ("\x89DQZ\r\n\x1a\n": transfers as text destroy it)
    8             4      version, 1
    12            4      F, number of frames
    16            8      U, bytes of the unpacked file
    24            32     sha256 of the unpacked file
    56            20·F   the frame table, one entry per frame, in the order of the unpacked file
    56 + 20·F     32     sha256 of every byte before this one
    88 + 20·F     …      the frames' payloads, in the order of the table, without gaps, to the end of the file

    one entry
    0             1      kind: 0 bytes, 1 codes8, 2 codes4, 3 floats: what the region holds
    1             1      coding: 0 stored, 1 zeros, 2 zstd, 3 pairs, 4 planes, 5 trellis; see ``codings``
    2             2      0
    4             4      bytes unpacked, 1 to 2^20
    8             4      bytes of the payload, at most the bytes unpacked
    12            8      check of the payload: its crc32 if it is stored, otherwise the sum mod 2^64 of its 64-bit
                         words, the last one padded with zeros

Why a sum: it costs a tenth of a crc32 and misses no change within one word; every zstd frame carries its own checksum
(32 bits of XXH64) of what it decodes to, which covers the rest.

A decoder needs only the coding. A reader MUST refuse: another magic or version; a kind or coding it does not know; a
table that does not fit the file; a checksum that differs; lengths whose sums are not U and the size of the file; a
non-zero byte where the table says 0. The header alone is enough for these checks, but for those of payloads: nothing
larger than the file is allocated before they passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError

MAGIC = b"\x89DQZ\r\n\x1a\n"
VERSION = 1
FRAME_LIMIT = 1 << 20
"""Most bytes a frame may unpack to."""

KINDS = ("bytes", "codes8", "codes4", "floats")
CODINGS = ("stored", "zeros", "zstd", "pairs", "planes", "trellis")
ENTRY = np.dtype(
    [("kind", "u1"), ("coding", "u1"), ("zero", "<u2"), ("raw", "<u4"), ("coded", "<u4"), ("check", "<u8")]
)


class Entry(NamedTuple):
    """A row of the frame table; ``kind`` and ``coding`` are indices into ``KINDS`` and ``CODINGS``."""

    kind: int
    coding: int
    zero: int
    raw: int
    coded: int
    check: int


_FIXED = Struct("<8sIIQ32s")
_DIGEST = 32


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What precedes the payloads.

    Attributes:
        nbytes: Bytes of the unpacked file.
        sha256: Hex sha256 of the unpacked file.
        table: ``ENTRY`` [F].
    """

    nbytes: int
    sha256: str
    table: NDArray[np.void]

    @property
    def size(self) -> int:
        """Bytes of header and table; the first payload starts here."""
        return header_size(len(self.table))

    def entries(self) -> Iterator[Entry]:
        """The rows of the table."""
        return map(Entry._make, self.table.tolist())

    def to_bytes(self) -> bytes:
        """The header as it stands in the file."""
        fixed = _FIXED.pack(MAGIC, VERSION, len(self.table), self.nbytes, bytes.fromhex(self.sha256))
        body = fixed + self.table.tobytes()
        return body + sha256(body).digest()


def header_size(frames: int) -> int:
    """Bytes of header and table for so many frames."""
    return _FIXED.size + ENTRY.itemsize * frames + _DIGEST


def check_of(coding: int, payload: bytes | memoryview) -> int:
    """The check of a payload; see the module's docstring."""
    if coding == CODINGS.index("stored"):
        return crc32(payload)
    data = np.frombuffer(payload, np.uint8)
    whole = len(data) & ~7
    total = int(np.add.reduce(data[:whole].view("<u8"), dtype=np.uint64))
    return (total + int.from_bytes(data[whole:].tobytes(), "little")) % (1 << 64)


def read_header(path: Path) -> Header:
    """Read and check header and table.

    Raises:
        ArtifactError: The file is missing or no container, is of another version, or breaks a rule of the layout.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            fixed = file.read(_FIXED.size)
            frames = _frames(path, fixed, size)
            rest = file.read(ENTRY.itemsize * frames + _DIGEST)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); copy it again") from error
    if sha256(fixed + rest[:-_DIGEST]).digest() != rest[-_DIGEST:]:
        raise ArtifactError(f"{path} has a damaged header; copy it again")
    _, _, _, nbytes, digest = _FIXED.unpack(fixed)
    table = np.frombuffer(rest[:-_DIGEST], ENTRY)
    _check_table(path, table, nbytes, size)
    return Header(nbytes, digest.hex(), table)


def _frames(path: Path, fixed: bytes, size: int) -> int:
    """Number of frames, once it is sure that their table fits the file."""
    if len(fixed) < _FIXED.size or not fixed.startswith(MAGIC):
        raise ArtifactError(f"{path} is not a container or was cut short; copy it again")
    _, version, frames, _, _ = _FIXED.unpack(fixed)
    if version != VERSION:
        raise ArtifactError(f"{path} is a container of version {version}, not {VERSION}; update dareq-edge")
    if header_size(frames) > size:
        raise ArtifactError(f"{path} has {size} bytes, too few for a table of {frames} frames; copy it again")
    return int(frames)


def _check_table(path: Path, table: NDArray[np.void], nbytes: int, size: int) -> None:
    raw, coded, coding = table["raw"], table["coded"], table["coding"]
    if (table["kind"] >= len(KINDS)).any() or (coding >= len(CODINGS)).any():
        raise ArtifactError(f"{path} uses a kind or coding this version does not know; update dareq-edge")
    lengths = (raw > 0) & (raw <= FRAME_LIMIT) & (coded <= raw) & (table["zero"] == 0)
    stored = (coding != CODINGS.index("stored")) | (coded == raw)
    zeros = (coding == CODINGS.index("zeros")) == (coded == 0)
    if not (lengths & stored & zeros).all():
        raise ArtifactError(f"{path} has a frame of impossible length; it was not written by dareq-edge")
    if int(raw.sum(dtype=np.uint64)) != nbytes:
        raise ArtifactError(f"{path} has frames for another length than {nbytes}; it was not written by dareq-edge")
    if header_size(len(table)) + int(coded.sum(dtype=np.uint64)) != size:
        raise ArtifactError(f"{path} has {size} bytes, not what its header says; copy it again")
