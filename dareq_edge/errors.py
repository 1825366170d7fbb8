"""One error family; each child says whose fault it is. Messages name what, where, and what to do."""

from __future__ import annotations


class DareqError(Exception):
    """Base of every error this project raises on purpose; the command line prints it as one sentence."""

    def __str__(self) -> str:
        """One line, also where a library's message or a name out of a file had several."""
        return " ".join(line.strip() for line in super().__str__().splitlines())


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
