"""FastEWQ (arXiv 2503.04704v2): a random forest guesses EWQ's decisions from config.json, no weight is read.

The forests lie in ``dareq_edge/data`` as ONNX tree ensembles; ``examples/train_fastewq.py`` makes them and says how
often they are right on models they have not seen (docs/allocation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar, get_args

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.features import FeatureSet, block_features
from dareq_edge.allocation.rules import Needs, check_bits
from dareq_edge.errors import SpecError


@dataclass(frozen=True, slots=True)
class FastEntropyWeighted:
    """A forest's guess.

    Attributes:
        features: "published": the paper's three numbers; "relative": ours, see ``allocation.features``.
        low: Bits of the class of the lowest entropies.
        middle: Bits of the class between.
        high: Bits of the highest; ``None`` is float.

    Raises:
        SpecError: A value cannot work.
    """

    needs: ClassVar[Needs] = "config"

    features: FeatureSet = "relative"
    low: int = 4
    middle: int = 8
    high: int | None = None

    def __post_init__(self) -> None:
        check_bits("low", self.low, raw=False)
        check_bits("middle", self.middle, raw=False)
        check_bits("high", self.high)
        if self.features not in get_args(FeatureSet):
            raise SpecError(f"features is {self.features!r}; use published or relative")

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        rows = block_features(facts, self.features)
        bits = {0: self.high, 8: self.middle, 4: self.low}
        return tuple(bits[label] for label in _labels(forest(self.features), rows))


def forest(features: FeatureSet) -> bytes:
    """The ONNX file of a forest: input "features", float32 [blocks, columns]; output "label", 0 (raw), 4 or 8."""
    return files("dareq_edge").joinpath(f"data/fastewq-{features}.onnx").read_bytes()


def _labels(model: bytes, rows: Sequence[tuple[float, ...]]) -> list[int]:
    import numpy as np
    import onnxruntime  # only this rule needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["label"], {"features": np.asarray(rows, np.float32)})
    return [int(label) for label in found]


RULE = FastEntropyWeighted
