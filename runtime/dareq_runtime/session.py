"""The onnxruntime session: how it is opened, and what the graph's inputs and outputs promise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import onnxruntime as ort

from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.session_settings import NATIVE_SESSIONS, SessionSettings
from dareq_runtime.presets import DEFAULT, Preset, find_preset

if TYPE_CHECKING:
    from dareq_runtime.packed import Weights

Compute = Literal["int8", "fp32"]
"""int8: as shipped, MatMulNBits at accuracy level 4. fp32: the same file in exact arithmetic. In the native profile
the weights are dequantized on every run for it: an OPT-125m shape reads 128 tokens at a time at half the speed, but
decodes one at a time 160 times slower."""

KEEP = "num_logits_to_keep"
"""Optional input of a graph, int64 scalar: logits of the last k positions only; 0, its default, gives all."""

_PAST, _PRESENT = "past_key_values.", "present."
_CACHES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}
_DTYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """An open session and its shape facts.

    Attributes:
        session: ``onnxruntime.InferenceSession``.
        inputs: Names of the inputs that are not cache, among input_ids, attention_mask, position_ids.
        caches: Pairs of past and present names, e.g. ("past_key_values.0.key", "present.0.key").
        cache_shape: (kv_heads, head_dim).
        dtype: Type of the logits.
        cache_dtype: Type of the cache: that of the logits, or int8.
        vocab_size: V.
        keeps: The graph has the optional input ``num_logits_to_keep``; older exports do not.
        threads: Threads within an operator; 0 is onnxruntime's own choice.
    """

    session: Any
    inputs: frozenset[str]
    caches: tuple[tuple[str, str], ...]
    cache_shape: tuple[int, int]
    dtype: type[np.floating[Any]]
    cache_dtype: type[np.generic]
    vocab_size: int
    keeps: bool
    threads: int


def open_graph(
    model: Path,
    *,
    compute: Compute = "int8",
    threads: int | None = None,
    preset: Preset = DEFAULT,
    settings: SessionSettings | None = None,
    weights: Weights | None = None,
) -> Graph:
    """Open an exported graph on the CPU.

    Args:
        model: The file; its external data lies beside it.
        compute: See ``Compute``.
        threads: Threads within an operator; ``None`` takes the preset's share of the cores.
        preset: See ``presets``.
        settings: The folder's own for this compute level; ``None``: those of the native profile.
        weights: The graph and its external data from memory, see ``packed``; then ``model`` is a name for messages.

    Raises:
        SpecError: An option has an unknown value.
        ArtifactError: onnxruntime refuses the file, or it lacks the agreed inputs and outputs.
    """
    options = session_options(compute, threads, preset, settings)
    try:
        given = weights.give(options) if weights is not None else ()
        source = str(model) if weights is None else weights.model
        # enable_fallback would print what is wrong on stdout, and try the same again
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        del given  # onnxruntime has its copies now
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ArtifactError(
            f"onnxruntime {ort.__version__} cannot load {model} ({first_line(error)}); export the folder again"
        ) from error
    return describe(session, model, options.intra_op_num_threads)


def session_options(
    compute: Compute, threads: int | None, preset: Preset, settings: SessionSettings | None = None
) -> Any:
    """``onnxruntime.SessionOptions`` for these choices.

    Raises:
        SpecError: An option has an unknown value.
    """
    if compute not in get_args(Compute):
        raise SpecError(f"compute is {compute!r}; use int8 or fp32")
    if threads is not None and threads < 1:
        raise SpecError(f"threads is {threads}; use 1 or more, or leave it out")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    chosen = find_preset(preset)
    options.intra_op_num_threads = threads or chosen.threads()
    options.inter_op_num_threads = 1
    chosen.apply(options)
    wanted = settings or NATIVE_SESSIONS[compute]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, wanted.optimization)
    for key, value in wanted.entries.items():
        options.add_session_config_entry(key, value)
    return options


def describe(session: Any, model: Path, threads: int) -> Graph:
    """Read the inputs and outputs of an open session, and check that they are the agreed ones (DESIGN.md, D5).

    Args:
        session: ``onnxruntime.InferenceSession``.
        model: Its file, for messages.
        threads: Threads it was given.

    Raises:
        ArtifactError: They are not, or have names that are no text.
    """
    try:
        return _described(session, model, threads)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{model} has a name that is no text ({error}); export the folder again") from error


def _described(session: Any, model: Path, threads: int) -> Graph:
    """See ``describe``."""
    inputs = {i.name: i for i in session.get_inputs()}
    outputs = {o.name: o for o in session.get_outputs()}
    pasts = [n for n in inputs if n.startswith(_PAST)]
    caches = tuple((n, _PRESENT + n.removeprefix(_PAST)) for n in pasts)
    missing = [n for n in ("input_ids", "attention_mask") if n not in inputs]
    missing += [n for n in ("logits", *(p for _, p in caches)) if n not in outputs]
    if missing or not caches:
        lacks = missing[0] if missing else f"{_PAST}0.key"
        raise ArtifactError(f"{model} has no {lacks!r}; export it with dareq-edge export")
    first, logits = inputs[pasts[0]], outputs["logits"]
    shape = [first.shape[1], first.shape[3], logits.shape[2]]
    fits = first.type in (logits.type, "tensor(int8)") and logits.type in _DTYPES
    if not fits or not all(isinstance(d, int) for d in shape):
        raise ArtifactError(
            f"{model} has a cache of {first.type} {first.shape} and logits of {logits.type} {logits.shape}; "
            "expected float or float16, or an int8 cache, with fixed heads, head size and vocabulary; export it again"
        )
    rest = frozenset(inputs) - frozenset(pasts)
    unknown = sorted(rest - {"input_ids", "attention_mask", "position_ids"})
    if unknown:
        raise ArtifactError(
            f"{model} wants an input {unknown[0]!r} that this runtime does not know; update dareq-edge"
        )
    return Graph(
        session=session,
        inputs=rest,
        caches=caches,
        cache_shape=(shape[0], shape[1]),
        dtype=_DTYPES[logits.type],
        cache_dtype=_CACHES[first.type],
        vocab_size=shape[2],
        keeps=KEEP in {i.name for i in session.get_overridable_initializers()},
        threads=threads,
    )


def first_line(error: Exception) -> str:
    """The first line of a library's message, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0][:240] if lines else type(error).__name__
