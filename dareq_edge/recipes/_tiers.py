"""What recipes share that need no data from outside: three tiers, and the walk over what each runs the decoder on.

* ``self``: text that the model writes.
* ``analytic``: tokens drawn uniformly, so that moments are the network's response to all of its vocabulary.
* ``weights``: no token is run; every block alone is given white noise, so that moments tell what norms, projections
  and activations do to inputs of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar, get_args

import torch

from dareq_edge.blockwise.journal import Journal, State, Step, sweep
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.calibration.self_text import self_text
from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._dareq_block import Parts
from dareq_edge.tuning.settings import Tuning
from dareq_edge.tuning.tune import tune

Tier = Literal["self", "analytic", "weights"]
"""See the module."""

PartsT = TypeVar("PartsT", bound=Parts)
_NOISE_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Tiered:
    """See the module; ``None`` in a setting is the tier's default, which every recipe has its own of.

    Attributes:
        tier: See ``Tier``.
        samples: Tier self: windows of text that the model writes.
        sample_length: Tokens per window; at most the model's context.
        seed: Tier self: decides what the model writes.
        temperatures: Tier self: sampling temperatures, taken in turn by the windows.
        probe: Tier analytic: windows of uniformly drawn tokens, always the same ones.
        probe_length: Tokens per such window.
        noise: Tier weights: vectors of white noise, always the same ones.
        correction: Move weights to make up for the errors of their inputs.
        correction_mix: How far, 0 to 1.
        correction_damping: Fraction of the mean diagonal added to the moments when doing so.
        attention_moments: Value projections count their inputs averaged by attention.
        attention_mix: Share of the plain moments added to those.
        feedback: Round with error feedback; else every weight for itself.
        damping: Fraction of the mean diagonal added to the second moment for rounding.
        row_feedback: Windows on which output moments are measured, for feedback from row to row, see
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
    correction: bool | None = None
    correction_mix: float | None = None
    correction_damping: float | None = None
    attention_moments: bool | None = None
    attention_mix: float | None = None
    feedback: bool | None = None
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

    @property
    def random(self) -> bool:
        """Whether ``seed`` changes anything."""
        return self.tier == "self"

    def parts(self, default: PartsT) -> PartsT:
        """A tier's defaults with what is set in their place.

        Raises:
            SpecError: A value cannot work, or not in this tier.
        """
        compute = preferred_compute() if self.compute == "auto" else self.compute
        given = {f.name: getattr(self, f.name, None) for f in fields(default)} | {"compute": compute}
        parts = replace(default, **{name: value for name, value in given.items() if value is not None})
        self._check(parts)
        return parts

    def settings_of(self, parts: Parts) -> Tuning:
        """How distillation is done in the end."""
        rate = self.tuning_rate
        return Tuning(parts.tuning, self.tuning_batch, rate_scales=rate, rate_norms=rate, seed=self.seed)

    def _check(self, parts: Parts) -> None:
        _checks.whole(parts, "row_feedback", "tuning")
        _checks.number(parts, "attention_mix", "row_damping")
        _checks.number(parts, "correction_mix", "correction_damping", "damping", most=1)
        _checks.flag(parts, "correction", "attention_moments", "feedback", "balance")
        _checks.choice(parts, "compute", get_args(Compute))
        _ = self.settings_of(parts)
        needs = [n for n in ("correction", "attention_moments", "row_feedback", "tuning") if getattr(parts, n)]
        if self.tier == "weights" and needs:
            raise SpecError(f"{needs[0]} needs text, and tier weights has none; use tier analytic or self")

    def decoder(self, source: Source, parts: Parts) -> Decoder:
        """The model, to be walked."""
        batch = {"batch": _NOISE_BATCH} if self.tier == "weights" else {}
        return Decoder.open(source, compute=parts.compute, **batch)

    def tokens(self, source: Source, progress: Progress) -> torch.Tensor:
        """What the decoder is run on in the tiers that run tokens: int64 [S, T]."""
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

    def white_noise(self, decoder: Decoder) -> torch.Tensor:
        """What every block is given in tier weights, float32 [S, 1, D].

        A token attends to itself alone, so that values pass unchanged.
        """
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.noise, 1, decoder.outside.width, generator=generator)


def walk_noise(
    decoder: Decoder,
    noise: torch.Tensor,
    step: Step,
    progress: Progress,
    more: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Change]:
    """Every block alone; ``more`` is what else the state holds at the start, handed on from block to block."""
    state: State = dict(more or {})
    for index in range(decoder.count):
        progress("quantizing blocks", index, decoder.count)
        state["hidden"] = noise.clone()
        yield from step(index, state)
    progress("quantizing blocks", decoder.count, decoder.count)


def walk_tokens(
    decoder: Decoder,
    ids: torch.Tensor,
    journal: Journal,
    step: Step,
    parts: Parts,
    tuning: Tuning,
    progress: Progress,
    more: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Change]:
    """Block after block, and what is tuned in the end.

    Args:
        decoder: The model.
        ids: int64 [S, T].
        journal: Where finished blocks are kept.
        step: Quantizes a block.
        parts: Says whether the float model is walked too.
        tuning: Distillation in the end; none without steps.
        progress: Called per block and step.
        more: What else the state holds at the start.
    """

    def start() -> State:
        hidden = decoder.embed(ids)
        alone = not (parts.correction or parts.tuning)
        return {"hidden": hidden, **({} if alone else {"float": hidden.clone()}), **(more or {})}

    walked = sweep(decoder.count, journal, start, step, progress)
    if not parts.tuning:
        yield from walked
        return
    for _ in walked:  # kept in the journal, where tuning finds it
        pass
    blocks = [journal.changes(index) for index in range(decoder.count)]
    yield from tune(decoder, blocks, journal.state()["float"], ids, tuning, progress)


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
