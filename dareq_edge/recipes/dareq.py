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

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from dareq_edge.blockwise.journal import Journal, State, digest, sweep
from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.calibration.self_text import self_text
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._dareq_block import Parts, Walk, quantize_block
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.rounding.search import POWERS
from dareq_edge.tuning.settings import Tuning
from dareq_edge.tuning.tune import tune

Tier = Literal["self", "analytic", "weights"]
"""See the module."""

_DEFAULTS: dict[Tier, Parts] = {
    "self": Parts(
        power=2, correction=True, attention_moments=True, feedback=True, descent=3, row_feedback=20, tuning=80
    ),
    "analytic": Parts(power=4, correction=False, attention_moments=True, feedback=True, descent=1, damping=0.2),
    "weights": Parts(power=4, correction=False, attention_moments=False, feedback=False, descent=0),
}
"""What ``None`` in a setting means, per tier."""
_NOISE_BATCH = 4096


@dataclass(frozen=True, slots=True)
class DareQ:
    """See the module. ``None`` is the tier's default, see ``_DEFAULTS``.

    Attributes:
        tier: See ``Tier``.
        samples: Tier self: windows of text that the model writes.
        sample_length: Tokens per window; at most the model's context.
        seed: Tier self: decides what the model writes.
        temperatures: Tier self: sampling temperatures, taken in turn by the windows.
        probe: Tier analytic: windows of uniformly drawn tokens, always the same ones.
        probe_length: Tokens per such window.
        noise: Tier weights: vectors of white noise, always the same ones.
        scale_search: Search scales; else absmax / q_max.
        power: Power of the error in the search, see ``rounding.search``.
        signed: The search tries the grid of the signed maximum too.
        weighted: The search weights errors with the input's second moment; else all weights count the same.
        conditional: It does so with what is left of the moments after error feedback, see ``feedback.Factor``.
        entropy_weight: Of the codes' entropy in the search: 0 is none, 1 balances the 6.02 dB a bit is worth.
        correction: Move weights to make up for the errors of their inputs.
        correction_mix: How far, 0 to 1.
        correction_damping: Fraction of the mean diagonal added to the moments when doing so.
        attention_moments: Value projections count their inputs averaged by attention.
        attention_mix: Share of the plain moments added to those.
        feedback: Round with error feedback; else to nearest.
        descent: Most sweeps of coordinate descent after rounding; 0 is none.
        refit: Fit scales again before each of them.
        damping: Fraction of the mean diagonal added to the second moment for rounding.
        row_feedback: Windows of the text on which output moments are measured, for feedback from row to row, see
            ``rounding.rows``; 0 is none.
        row_damping: Fraction of the mean diagonal added to those.
        tuning: Steps of distillation that tune scales, norms and biases in the end; 0 is none.
        tuning_batch: Windows per step.
        tuning_rate: Adam's learning rate, relative to what is tuned.
        compute: Precision of the blocks' matrix products; "auto" is bfloat16 where the processor multiplies it fast.

    Raises:
        SpecError: A value cannot work.
    """

    tier: Tier = "self"
    samples: int = 128
    sample_length: int = 512
    seed: int = 0
    temperatures: tuple[float, ...] = (0.7, 0.85, 1.0, 1.2)
    probe: int = 32
    probe_length: int = 128
    noise: int = 4096
    scale_search: bool | None = None
    power: int | None = None
    signed: bool | None = None
    weighted: bool | None = None
    conditional: bool | None = None
    entropy_weight: float | None = None
    correction: bool | None = None
    correction_mix: float | None = None
    correction_damping: float | None = None
    attention_moments: bool | None = None
    attention_mix: float | None = None
    feedback: bool | None = None
    descent: int | None = None
    refit: bool | None = None
    damping: float | None = None
    row_feedback: int | None = None
    row_damping: float | None = None
    tuning: int | None = None
    tuning_batch: int = 2
    tuning_rate: float = 1e-3
    compute: Literal["auto"] | Compute = "auto"

    def __post_init__(self) -> None:
        _checks.choice(self, "tier", get_args(Tier))
        _checks.choice(self, "compute", ("auto", *get_args(Compute)))
        _checks.whole(self, "samples", "sample_length", "probe", "probe_length", "noise", least=1)
        _checks.whole(self, "seed")
        warm: object = self.temperatures
        if not isinstance(warm, (tuple, list)) or not warm or not all(_positive(t) for t in warm):
            raise SpecError(f"temperatures is {warm!r}; use one or more positive numbers")
        object.__setattr__(self, "temperatures", tuple(warm))
        parts = self.chosen
        _checks.choice(parts, "power", POWERS)
        _checks.whole(parts, "descent", "row_feedback", "tuning")
        _ = self._tuning
        _checks.number(parts, "entropy_weight", "attention_mix", "row_damping")
        _checks.number(parts, "correction_mix", "correction_damping", "damping", most=1)
        _checks.flag(parts, *(f.name for f in dataclasses.fields(Parts) if f.type == "bool"))
        _checks.choice(parts, "compute", get_args(Compute))
        needs = [n for n in ("correction", "attention_moments", "row_feedback", "tuning") if getattr(parts, n)]
        if self.tier == "weights" and needs:
            raise SpecError(f"{needs[0]} needs text, and tier weights has none; use tier analytic or self")

    @property
    def chosen(self) -> Parts:
        """The parts with the tier's defaults filled in."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(Parts)}
        given["compute"] = preferred_compute() if self.compute == "auto" else self.compute
        return replace(_DEFAULTS[self.tier], **{name: value for name, value in given.items() if value is not None})

    @property
    def _tuning(self) -> Tuning:
        rate = self.tuning_rate
        return Tuning(self.chosen.tuning, self.tuning_batch, rate_scales=rate, rate_norms=rate, seed=self.seed)

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return f"dareq:{self.tier}"

    @property
    def random(self) -> bool:
        """Whether ``seed`` changes anything."""
        return self.tier == "self"

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return replace(chosen, method="mse")

    def check(self, source: Source) -> None:
        """See ``Recipe``; the plan has been checked already."""

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        parts = self.chosen
        if self.tier == "weights":
            yield from self._by_noise(source, parts, progress)
            return
        decoder = Decoder.open(source, compute=parts.compute)
        yield from outside_changes(source, decoder)
        ids = self._tokens(source, progress)
        settings = digest(source, self, {"ids": ids})
        outputs = Outputs(source.work, settings) if parts.row_feedback else None
        if outputs:
            measure_outputs(decoder, ids[: parts.row_feedback], self.seed, outputs, progress)

        def start() -> State:
            hidden = decoder.embed(ids)
            alone = not (parts.correction or parts.tuning)
            return {"hidden": hidden} if alone else {"hidden": hidden, "float": hidden.clone()}

        def step(index: int, state: State) -> list[Change]:
            return quantize_block(Walk(decoder, index, state, outputs), parts, self.label)

        journal = Journal(source.work, settings)
        walked = sweep(decoder.count, journal, start, step, progress)
        if not parts.tuning:
            yield from walked
            return
        for _ in walked:  # kept in the journal, where tuning finds it
            pass
        blocks = [journal.changes(index) for index in range(decoder.count)]
        yield from tune(decoder, blocks, journal.state()["float"], ids, self._tuning, progress)

    def _tokens(self, source: Source, progress: Progress) -> torch.Tensor:
        """What the decoder is run on: int64 [S, T]."""
        context = source.checkpoint.context_length
        if self.tier == "analytic":
            return uniform_tokens(source, self.probe, min(self.probe_length, context))
        return self_text(
            source,
            samples=self.samples,
            length=min(self.sample_length, context),
            seed=self.seed,
            temperatures=self.temperatures,
            work=source.work,
            progress=progress,
        )

    def _by_noise(self, source: Source, parts: Parts, progress: Progress) -> Iterator[Change]:
        """Every block alone; windows have one token, which attends to itself, so that values pass unchanged."""
        decoder = Decoder.open(source, batch=_NOISE_BATCH, compute=parts.compute)
        yield from outside_changes(source, decoder)
        noise = torch.randn(self.noise, 1, decoder.outside.width, generator=torch.Generator().manual_seed(0))
        for index in range(decoder.count):
            progress("quantizing blocks", index, decoder.count)
            yield from quantize_block(Walk(decoder, index, {"hidden": noise.clone()}), parts, self.label)
        progress("quantizing blocks", decoder.count, decoder.count)


def preferred_compute() -> Compute:
    """bfloat16 where the processor has instructions that multiply it, as torch knows them; else float32."""
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def uniform_tokens(source: Source, samples: int, length: int) -> torch.Tensor:
    """Tokens drawn uniformly from the vocabulary, int64 [S, T]; windows begin with BOS if the model has one."""
    config = source.checkpoint.config.get_text_config(decoder=True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(int(config.vocab_size), (samples, length), generator=generator)
    bos = getattr(config, "bos_token_id", None)
    if isinstance(bos, int) and 0 <= bos < config.vocab_size:
        ids[:, 0] = bos
    return ids


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


RECIPE = DareQ
