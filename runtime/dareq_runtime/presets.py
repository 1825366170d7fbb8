"""What an onnxruntime session optimises for: one table of options, each with its reason.

Measured on an OPT-125m shape, two cores; see examples/benchmarks/bench_runtime.py, which measures it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from dareq_edge.errors import SpecError
from dareq_runtime.big_cores import big_cores, usable_cores

Preset = Literal["latency", "memory", "battery", "mobile"]
"""latency: activations are kept for the next pass, which may help long prompts. memory: they go back to the system.
battery: the least processor time per token. mobile: so too, but on all the big cores of a phone or board and no
others. No preset makes another copy of the weights or changes a token."""


@dataclass(frozen=True, slots=True)
class SessionPreset:
    """Options of one preset.

    Attributes:
        arena: Keep freed activations for the next pass. No copy of the weights either way.
        spinning: Let idle threads wait busily for the next operator: 1.4 times the processor time per token with
            two threads.
        share_of_cores: Threads, as a share of the cores, unless a number is given; all of them means that
            onnxruntime chooses, which takes physical cores only.
        big_only: Share of the big cores only. A pass is as slow as its slowest thread, so that one little core among
            big ones costs more than it adds.
    """

    arena: bool
    spinning: bool
    share_of_cores: float
    big_only: bool = False

    def threads(self) -> int:
        """Threads within an operator; 0 leaves it to onnxruntime."""
        if self.big_only:
            return max(1, int(big_cores() * self.share_of_cores))
        return 0 if self.share_of_cores == 1 else max(1, int(cores() * self.share_of_cores))

    def apply(self, options: Any) -> None:
        """Set its part of ``onnxruntime.SessionOptions``, but for the threads."""
        options.enable_cpu_mem_arena = self.arena
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        # Weights that were replaced by their packed copies go back to the system even with the arena.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


PRESETS: dict[str, SessionPreset] = {
    "latency": SessionPreset(arena=True, spinning=True, share_of_cores=1.0),
    "memory": SessionPreset(arena=False, spinning=True, share_of_cores=1.0),
    "battery": SessionPreset(arena=False, spinning=False, share_of_cores=0.5),
    "mobile": SessionPreset(arena=False, spinning=False, share_of_cores=1.0, big_only=True),
}
DEFAULT: Preset = "memory"
"""Its tokens come as fast as those of "latency", which keeps 5 to 12 MB more after a prompt of 512 tokens."""


def find_preset(name: str) -> SessionPreset:
    """The options of a preset.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in PRESETS:
        raise SpecError(f"preset is {name!r}; use {', '.join(get_args(Preset))}")
    return PRESETS[name]


def cores() -> int:
    """Cores this process may use."""
    return len(usable_cores())
