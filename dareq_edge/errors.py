"""One error family; each child says whose fault it is. Messages name what, where, and what to do."""

from __future__ import annotations

_LONGEST = 1000
"""Characters of a message; a sentence of ours with two long paths has about half of that."""


class DareqError(Exception):
    """Base of every error this project raises on purpose; the command line prints it as one sentence."""

    def __str__(self) -> str:
        """One line of at most ``_LONGEST`` characters, also where a name out of a file had thousands.

        The middle is left out: the beginning says what and where, the end what to do.
        """
        line = " ".join(line.strip() for line in super().__str__().splitlines())
        if len(line) <= _LONGEST:
            return line
        half = (_LONGEST - 3) // 2
        return f"{line[:half]} … {line[-half:]}"


class SpecError(DareqError):
    """An option or a quantization spec has a value that cannot work."""


class AllocationError(DareqError):
    """No plan fits the bytes that were given."""


class CheckpointError(DareqError):
    """A model folder is missing, incomplete, corrupt, or holds a tensor of the wrong shape."""


class UnsupportedArchitectureError(DareqError):
    """The model's architecture cannot be captured or quantized."""


class ExportError(DareqError):
    """The exported graph would not be what was planned."""


class ArtifactError(DareqError):
    """An exported folder is incomplete, was modified, or does not fit this runtime."""


class DataError(DareqError):
    """Evaluation text or tokens are missing or unusable."""


class ParityError(DareqError):
    """What runs is not what was quantized; the message names the link of the chain that broke."""
