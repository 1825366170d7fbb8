"""Arrays in .npy files that nobody vouches for: the header is compared with the size before anything is allocated."""

from __future__ import annotations

import io
from collections.abc import Callable
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(source: Path | bytes) -> NDArray[Any]:
    """The array of a .npy file, or of its content.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: It is no .npy file of numbers, or shorter or longer than its header says.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), len(source))
    if not source.is_file() and source.exists() and not source.is_dir():
        raise ValueError("no regular file")
    with source.open("rb") as file:
        return _read(file, source.stat().st_size)


def _read(file: IO[bytes], size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    try:
        shape, fortran, dtype = cast("tuple[tuple[int, ...], bool, np.dtype[Any]]", _HEADERS[version](file))
        wanted = prod(shape) * dtype.itemsize
    except (SyntaxError, TokenError, TypeError, KeyError, RecursionError, MemoryError) as error:  # of numpy
        raise ValueError(f"its header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype} {shape}, no numbers")
    if size - file.tell() != wanted:
        raise ValueError(f"{size - file.tell()} bytes follow its header, {dtype} {shape} has {wanted}")
    flat = np.frombuffer(file.read(wanted), dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()
