"""dareq-entropy: 8-bit codes for an entropy coder, in as many bits as are asked for; no data from outside.

EntQuant keeps 8-bit codes of low entropy and chooses one scale per row from the weights alone. Here the same tiers as
in ``dareq`` say what errors cost: H of the inputs, G of the outputs (``blockwise.outputs``; in the tiers that run
tokens). Minimized is cost plus slope times bits, one slope for the whole model (``rounding.rate``): steps follow from
it, codes are chosen with error feedback over columns and rows on a grid that has no end, and the code nearer to zero
wins where it saves more than it costs. A survey before the walk tells which slope gives the rate that is asked for,
and what every block really took corrects it. Scales and norms are tuned in the end as in ``dareq``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from dareq_edge.blockwise.journal import Journal, State, digest
from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._budget import Budget
from dareq_edge.recipes._coded_options import TABLE_LAMBDA, coded_options
from dareq_edge.recipes._dareq_block import Walk, quantize_block
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.recipes._rate_rounding import RateParts, RateRounding
from dareq_edge.recipes._survey import kept_survey, survey
from dareq_edge.recipes._tiers import Tier, Tiered, walk_noise, walk_tokens

_EVERY_TIER = RateParts(correction=False, attention_moments=False, feedback=False, balance=True)
_DEFAULTS: dict[Tier, RateParts] = {
    "self": replace(
        _EVERY_TIER,
        correction=True,
        attention_moments=True,
        feedback=True,
        damping=0.3,
        row_feedback=20,
        tuning=80,
    ),
    "analytic": replace(_EVERY_TIER, attention_moments=True, feedback=True, damping=0.2, row_feedback=16),
    "weights": _EVERY_TIER,
}
"""What ``None`` in a setting means, per tier."""
_SURVEY_TOKENS = 4096
_BITS = 8


@dataclass(frozen=True, slots=True)
class DareQEntropy(Tiered):
    """See the module; ``Tiered`` has the settings of the tiers. ``None`` is the tier's default, see ``_DEFAULTS``.

    Attributes:
        samples: See ``Tiered``; 32 or 96 gave the same (docs/entropy.md).
        target_bits: Coded bits per weight of the layers in blocks, scales and the coder's tables included.
        rates: Instead: the same of every block; for rules that decide bits per block (docs/allocation.md).
        slope: Instead: nats per token that a bit is worth (in tier weights: share of a layer's output).
        trellis: Two grids take turns (``rounding.trellis``); else one.
        step: Times the step that is best at high rate.
        passes: Times a layer is rounded; each takes the lengths of codes from the one before, the first rounds to
            nearest.
        balance: Make columns alike in what they cost, where a fold allows it (``_balance``).
        table_lam: lambda of 8-bit tables, see ``dareq_edge.quantizers.entquant``.

    Raises:
        SpecError: A value cannot work.
    """

    samples: int = 64
    target_bits: float = 3.5
    rates: tuple[float, ...] = ()
    slope: float | None = None
    trellis: bool | None = None
    step: float | None = None
    passes: int | None = None
    balance: bool | None = None
    table_lam: float = TABLE_LAMBDA

    def __post_init__(self) -> None:
        Tiered.__post_init__(self)
        parts = self.chosen
        _ = EntQuant(lam=self.table_lam)
        _checks.whole(parts, "passes", least=1)
        _checks.number(self, "target_bits", most=_BITS)
        _checks.flag(parts, "trellis", "balance")
        _checks.number(parts, "step")
        if self.target_bits <= 0 or parts.step <= 0:
            raise SpecError(f"target_bits is {self.target_bits} and step {parts.step}; both must be positive")
        object.__setattr__(self, "rates", _checks.positive(self, "rates", most=_BITS))
        if self.slope is not None:
            if self.rates:
                raise SpecError("slope and rates are both given; drop one")
            _checks.number(self, "slope")
            if self.slope == 0:
                raise SpecError("slope is 0, at which bits cost nothing; use a positive number or target_bits")

    @property
    def chosen(self) -> RateParts:
        """The parts with the tier's defaults filled in."""
        return self.parts(_DEFAULTS[self.tier])

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return f"dareq-entropy:{self.tier}"

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return coded_options("dareq-entropy", chosen)

    def check(self, source: Source) -> None:
        """See ``Recipe``; the plan has been checked already."""

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        parts = self.chosen
        decoder = self.decoder(source, parts)
        yield from outside_changes(source, decoder, EntQuant(lam=self.table_lam))
        budget: Budget | None = None
        outputs: Outputs | None = None

        def step(index: int, state: State) -> list[Change]:
            slope = budget.slope(index, state["spent"]) if budget else self.slope
            assert slope is not None, "one of the two is given"
            found = quantize_block(
                Walk(decoder, index, state, outputs), parts, RateRounding(parts, slope), self.label
            )
            if budget:
                state["spent"] = budget.spend(index, slope, found, state["spent"])
            return found

        spent = {"spent": torch.zeros(2, dtype=torch.float64)}
        if self.tier == "weights":
            noise = self.white_noise(decoder)
            if self.slope is None:
                found = kept_survey(
                    source.work,
                    digest(source, self, {}),
                    lambda: survey(decoder, noise, parts, None, progress, alone=True),
                )
                budget = Budget(found, self.target_bits, self.rates)
            yield from walk_noise(decoder, noise, step, progress, spent)
            return
        ids = self.tokens(source, progress)
        settings = digest(source, self, {"ids": ids})
        if parts.row_feedback:
            outputs = Outputs(source.work, settings)
            measure_outputs(decoder, ids[: parts.row_feedback], self.seed, outputs, progress)
        if self.slope is None:
            few = ids[: max(1, _SURVEY_TOKENS // ids.shape[1])]
            found = kept_survey(
                source.work, settings, lambda: survey(decoder, decoder.embed(few), parts, outputs, progress)
            )
            budget = Budget(found, self.target_bits, self.rates)
        journal = Journal(source.work, settings)
        yield from walk_tokens(decoder, ids, journal, step, parts, self.settings_of(parts), progress, spent)


RECIPE = DareQEntropy
