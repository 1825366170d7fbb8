"""dareq, the recommended recipe: no data from outside, three tiers of effort.

* ``self``: the model writes the text it is calibrated on.
* ``analytic``: no text at all; moments are the network's response to tokens drawn uniformly.
* ``weights``: no token is run; moments are every block's response to white noise, so that they tell what norms,
  projections and activations do to inputs of which nothing is known.

All walk the decoder block by block. In each block the layers that share an input are quantized together, given what
the quantized layers before them make of the text: weights are first moved to make up for the errors their inputs have
already (``rounding.target``), value projections count what attention makes of their inputs (``blockwise.attention``),
scales are searched with the second moment as importance (``rounding.search``), codes are chosen with error feedback
over columns (``rounding.feedback``) and rows (``rounding.rows``) and improved one by one (``rounding.descent``). In
the end scales and norms are tuned by distillation (``tuning``). Every part can be switched off; ``_DEFAULTS`` says
which tier uses which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dareq_edge.blockwise.journal import Journal, State, digest
from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._dareq_block import Walk, quantize_block
from dareq_edge.recipes._grid_rounding import GridParts, GridRounding
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.recipes._tiers import Tier, Tiered, walk_noise, walk_tokens
from dareq_edge.rounding.search import POWERS

_DEFAULTS: dict[Tier, GridParts] = {
    "self": GridParts(
        power=2, correction=True, attention_moments=True, feedback=True, descent=3, row_feedback=20, tuning=80
    ),
    "analytic": GridParts(power=4, correction=False, attention_moments=True, feedback=True, descent=1, damping=0.2),
    "weights": GridParts(power=4, correction=False, attention_moments=False, feedback=False, descent=0),
}
"""What ``None`` in a setting means, per tier."""


@dataclass(frozen=True, slots=True)
class DareQ(Tiered):
    """See the module; ``Tiered`` has the settings of the tiers. ``None`` is the tier's default, see ``_DEFAULTS``.

    Attributes:
        scale_search: Search scales; else absmax / q_max.
        power: Power of the error in the search, see ``rounding.search``.
        signed: The search tries the grid of the signed maximum too.
        weighted: The search weights errors with the input's second moment; else all weights count the same.
        conditional: It does so with what is left of the moments after error feedback, see ``feedback.Factor``.
        entropy_weight: Of the codes' entropy in the search: 0 is none, 1 balances the 6.02 dB a bit is worth.
        descent: Most sweeps of coordinate descent after rounding; 0 is none.
        refit: Fit scales again before each of them.

    Raises:
        SpecError: A value cannot work.
    """

    scale_search: bool | None = None
    power: int | None = None
    signed: bool | None = None
    weighted: bool | None = None
    conditional: bool | None = None
    entropy_weight: float | None = None
    descent: int | None = None
    refit: bool | None = None

    def __post_init__(self) -> None:
        Tiered.__post_init__(self)
        parts = self.chosen
        _checks.choice(parts, "power", POWERS)
        _checks.whole(parts, "descent")
        _checks.number(parts, "entropy_weight")
        _checks.flag(parts, "scale_search", "signed", "weighted", "conditional", "refit")

    @property
    def chosen(self) -> GridParts:
        """The parts with the tier's defaults filled in."""
        return self.parts(_DEFAULTS[self.tier])

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return f"dareq:{self.tier}"

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return replace(chosen, method="mse")

    def check(self, source: Source) -> None:
        """See ``Recipe``; the plan has been checked already."""

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        parts, rounding = self.chosen, GridRounding(self.chosen)
        decoder = self.decoder(source, parts)
        yield from outside_changes(source, decoder)
        outputs: Outputs | None = None

        def step(index: int, state: State) -> list[Change]:
            return quantize_block(Walk(decoder, index, state, outputs), parts, rounding, self.label)

        if self.tier == "weights":
            yield from walk_noise(decoder, self.white_noise(decoder), step, progress)
            return
        ids = self.tokens(source, progress)
        settings = digest(source, self, {"ids": ids})
        if parts.row_feedback:
            outputs = Outputs(source.work, settings)
            measure_outputs(decoder, ids[: parts.row_feedback], self.seed, outputs, progress)
        journal = Journal(source.work, settings)
        yield from walk_tokens(decoder, ids, journal, step, parts, self.settings_of(parts), progress)


RECIPE = DareQ
