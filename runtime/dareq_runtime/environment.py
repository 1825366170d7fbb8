"""A one-line description of what computed a number."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

_LIBRARIES = ("onnxruntime", "onnxruntime_genai", "torch", "transformers", "numpy")


def describe_environment() -> str:
    """Versions of the libraries in use, the CPU and the system, e.g. "onnxruntime 1.32.0, numpy 2.4.6, …"."""
    used = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES if name in sys.modules]
    return ", ".join([*used, f"Python {platform.python_version()}", _cpu(), f"{platform.system()}"])


def _cpu() -> str:
    """The CPU's name where Linux tells it, else the machine type."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()
