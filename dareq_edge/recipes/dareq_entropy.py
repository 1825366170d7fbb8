"""dareq-entropy: 8-bit codes for an entropy coder, in as many bits as are asked for; no data from outside.

EntQuant keeps 8-bit codes of low entropy and chooses one scale per row from the weights alone. Here the same tiers as
in ``dareq`` say what errors cost: H of the inputs, G of the outputs (``blockwise.outputs``; in the tiers that run
tokens). Minimized is cost plus slope times bits, one slope for the whole model (``rounding.rate``): steps follow from
it, codes are chosen with error feedback over columns and rows on a grid that has no end, and the code nearer to zero
wins where it saves more than it costs. A survey before the walk tells which slope gives the rate that is asked for,
and what every block really took corrects it. Scales and norms are tuned in the end as in ``dareq``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.journal import Journal, State, digest
from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._budget import Budget, evened
from dareq_edge.recipes._coded_options import TABLE_LAMBDA, coded_options
from dareq_edge.recipes._dareq_block import Walk, quantize_block
from dareq_edge.recipes._fit import fit_rates, fixed_tables, other_bytes, table_rates
from dareq_edge.recipes._outside import outside_changes, outside_modules
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
    "weights": replace(_EVERY_TIER, balance=False, trellis=False, passes=1),
}
"""What ``None`` in a setting means, per tier."""
_SURVEY_TOKENS = 4096
_BITS = 8
_ATTEMPTS = 6  # at the last block's slope, or at even layers


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What the decoder is run on.

    Attributes:
        parts: Of the recipe.
        settings: A digest of all that decides the result.
        hidden: float32 [S, T, D]: white noise, or what the first block is given in the survey.
        outputs: Output moments, if they are used.
        ids: Tokens, int64 [S, T]; ``None`` in tier weights.
    """

    parts: RateParts
    settings: str
    hidden: torch.Tensor
    outputs: Outputs | None = None
    ids: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class DareQEntropy(Tiered):
    """See the module; ``Tiered`` has the settings of the tiers. ``None`` is the tier's default, see ``_DEFAULTS``.

    Attributes:
        samples: See ``Tiered``; 32 or 96 gave the same (docs/entropy.md).
        target_bits: Coded bits per weight of the layers in blocks, scales and the coder's tables included.
        rates: Instead: the same of every block; for rules that decide bits per block (docs/allocation.md).
        even: Every layer of a block takes the block's rate, and every block the same where there are no ``rates``:
            to compare with. Else one slope decides. Needs ``row_feedback``, which rounds every layer by itself.
        max_bytes: Instead: of the packed data file of the exported model. Tables get the lambda that is worth it then
            (not in tier weights, where nothing says what that costs).
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
    even: bool = False
    max_bytes: int | None = None
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
        instead = [n for n in ("rates", "max_bytes", "slope") if getattr(self, n) not in (None, ())]
        if len(instead) > 1:
            raise SpecError(f"{instead[0]} and {instead[1]} are both given; drop one")
        _checks.flag(self, "even")
        if self.even and self.slope is not None:
            raise SpecError("even and slope are both given; drop one, or use target_bits")
        if self.even and not parts.row_feedback:
            raise SpecError("even needs row_feedback of 1 or more, and so tier self or analytic; use these")
        if self.max_bytes is not None:
            _checks.whole(self, "max_bytes", least=1)
        if self.slope is not None:
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
        given = self._given(source, decoder, parts, progress)
        budget, tables = self._rates(source, decoder, given, progress)
        exactly = self.max_bytes is not None
        yield from outside_changes(source, decoder, tables)

        def step(index: int, state: State) -> list[Change]:
            slope = budget.slope(index, state["spent"]) if budget else self.slope
            assert slope is not None, "one of the two is given"
            last = budget if index == decoder.count - 1 else None  # no block is left to make up for it
            wanted = budget.block_rate(index, state["spent"]) if budget else 0.0
            factors = self._factors(decoder, budget, index, slope)
            before = {name: tensor.clone() for name, tensor in state.items()} if last or factors else {}
            for attempt in range(_ATTEMPTS):
                rounding = RateRounding(parts, slope, factors)
                found = quantize_block(Walk(decoder, index, state, given.outputs), parts, rounding, self.label)
                evener = evened(factors, found, wanted)
                whole = last if evener == factors else None  # one thing at a time
                better = whole.next_slope(slope, found, before["spent"], exactly=exactly) if whole else slope
                if (better, evener) == (slope, factors) or attempt == _ATTEMPTS - 1:
                    break
                slope, factors = better, evener
                state.update({name: tensor.clone() for name, tensor in before.items()})
            if budget:
                state["spent"] = budget.spend(index, slope, found, state["spent"])
            return found

        spent = {"spent": torch.zeros(2, dtype=torch.float64)}
        if given.ids is None:
            yield from walk_noise(decoder, given.hidden, step, progress, spent)
            return
        journal = Journal(source.work, given.settings)
        yield from walk_tokens(decoder, given.ids, journal, step, parts, self.settings_of(parts), progress, spent)

    def _factors(self, decoder: Decoder, budget: Budget | None, index: int, slope: float) -> Mapping[str, float]:
        """See ``RateRounding``."""
        if budget is None or not self.even:
            return {}
        groups = input_groups(decoder, decoder.block(index), index)
        names = [f"{decoder.path(index)}.{name}" for group in groups for name in group]
        return dict(zip(names, budget.even_factors(index, slope), strict=True))

    def _given(self, source: Source, decoder: Decoder, parts: RateParts, progress: Progress) -> _Given:
        """What the tier runs the decoder on."""
        if self.tier == "weights":
            return _Given(parts, digest(source, self, {}), self.white_noise(decoder))
        ids = self.tokens(source, progress)
        settings = digest(source, self, {"ids": ids})
        outputs = None
        if parts.row_feedback:
            outputs = Outputs(source.work, settings)
            measure_outputs(decoder, ids[: parts.row_feedback], self.seed, outputs, progress)
        few = ids[: max(1, _SURVEY_TOKENS // ids.shape[1])]
        return _Given(parts, settings, decoder.embed(few), outputs, ids)

    def _rates(
        self, source: Source, decoder: Decoder, given: _Given, progress: Progress
    ) -> tuple[Budget | None, dict[str, EntQuant]]:
        """What blocks may take, ``None`` where a slope is given, and how tables are quantized."""
        outside = outside_modules(source, decoder)
        tables = dict.fromkeys(outside, EntQuant(lam=self.table_lam))
        if self.slope is not None:
            return None, tables
        alone = given.ids is None
        found = kept_survey(
            source.work,
            given.settings,
            lambda: survey(decoder, given.hidden.clone(), given.parts, given.outputs, progress, alone=alone),
        )
        if self.max_bytes is None:
            rates = self.rates or (self.target_bits,) * decoder.count if self.even else self.rates
            return Budget(found, self.target_bits, rates), tables
        if given.ids is None:
            choices = fixed_tables(source, outside, EntQuant(lam=self.table_lam))
        else:
            choices = table_rates(source, outside, given.ids, given.parts.compute, given.settings, progress)
        fit = fit_rates(self.max_bytes, other_bytes(source), found, choices)
        return Budget(found, fit.target_bits), {name: EntQuant(lam=lam) for name, lam in fit.lams.items()}


RECIPE = DareQEntropy
