"""The command line. A stage of the work is imported only when its subcommand runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from dareq_edge.errors import DareqError

_EXTRA = {
    "accelerate",
    "huggingface_hub",
    "numba",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "safetensors",
    "torch",
    "transformers",
}
_OTHER_EXTRAS = {"matplotlib": "report", "optimum": "hf"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        Exit code: 0 done, 1 a user's mistake or a failed parity, 2 a wrong option, 130 interrupted, 143 terminated.
    """
    from dareq_edge.cli.app import app
    from dareq_edge.cli.console import fail

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that half-written folders are removed
    try:
        app(args=None if arguments is None else list(arguments), prog_name="dareq-edge")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return 130
    except DareqError as error:
        fail(str(error))
    except ImportError as error:
        fail(_missing(error))
    except OSError as error:
        fail(_system(error))
    return 1


def _missing(error: ImportError) -> str:
    """One sentence for a package that is not installed; anything else is a bug and stays a traceback."""
    package = (error.name or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package.startswith("dareq_"):
        raise error
    what = 'pip install "dareq-edge[export]"' if package in _EXTRA else f"pip install {package}"
    what = f'pip install "dareq-edge[{_OTHER_EXTRAS[package]}]"' if package in _OTHER_EXTRAS else what
    return f"this command needs the package {package!r}, which is not installed; run: {what}"


def _system(error: OSError) -> str:
    """One sentence for an operating-system error that names a file."""
    if error.filename is None:
        raise error
    return f"{error.filename}: {error.strerror or error}; check the path, its permissions and the free disk space"


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
