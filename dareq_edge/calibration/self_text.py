"""Text the model writes itself: calibration without outside data.

Ancestral sampling, as data-free training and pruning do (LLM-QAT, Liu et al. 2023, arXiv 2305.17888; Williams and
Aletras, NAACL 2025), at several temperatures. The draw of step t is the same for a given seed however rows are
batched, and a row's end is not the text's: after EOS another document begins, as in training.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from dareq_edge.calibration.decode import Writer, fast_dtype, writing_model
from dareq_edge.calibration.draft import Draft
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.progress import Progress, silent
from dareq_edge.recipes import Source

TEMPERATURES = (0.7, 0.85, 1.0, 1.2)
_ROWS = 256
_CACHE = 2 << 30  # bytes of keys and values at a time; more rows than that allows go one batch after another
_PART = 128  # tokens whose probabilities are added up first when one is drawn
_FEW = 16  # rows drawn at a time, so that their distributions stay in the cache
_KEEP = 128  # steps between two savings


def self_text(
    source: Source,
    *,
    samples: int,
    length: int,
    seed: int,
    temperatures: tuple[float, ...] = TEMPERATURES,
    work: Path,
    progress: Progress = silent,
    dtype: torch.dtype | None = None,
    rows: int = _ROWS,
) -> torch.Tensor:
    """Let a model write.

    Every row starts with BOS (a model without: EOS; without either: a token drawn uniformly). Then tokens are drawn
    from softmax(logits / temperature). Special tokens other than EOS are never drawn: the model's logits for them are
    often untrained, and chat markers in running text occur nowhere. After EOS comes BOS, if that is another token.

    The whole model is in memory, in ``dtype``, and up to 2 GiB of keys and values. The same call after an
    interruption goes on from what is in ``work`` and gives the same tokens; they are the same again for the same
    torch, kind of CPU, number of threads and ``rows``.

    Args:
        source: The model.
        samples: S.
        length: T; a model with a shorter context writes rows of that length.
        seed: Decides every draw.
        temperatures: Of row 0, 1, …, and from the start again.
        work: Folder that survives an interruption; made when the first tokens are kept. Finished text stays there
            too, in ``text.safetensors``.
        progress: Called per step.
        dtype: Of weights and cache; ``None`` is bfloat16 where that is fast, else float32.
        rows: Written at a time, at most.

    Returns:
        int64 [S, T].

    Raises:
        SpecError: A value cannot work.
        CheckpointError: NaN among the logits, or a weight file can no longer be read.
        ArtifactError: ``work`` cannot be written, or what is in it is damaged.
        UnsupportedArchitectureError: The model cannot be run so, or config.json gives no context length.
    """
    _check(samples, length, seed, temperatures, rows)
    length, dtype = min(length, source.checkpoint.context_length), dtype or fast_dtype()
    rows = min(rows, samples, max(1, _CACHE // _row_bytes(source, length, dtype)))
    settings = _settings(source, [samples, length, seed, list(temperatures), str(dtype), rows])
    draft = Draft.open(work, settings, (samples, length))
    if draft.done == samples:
        return draft.tokens
    vocabulary = _Vocabulary.of(source)
    temperature = torch.tensor([temperatures[i % len(temperatures)] for i in range(samples)])
    starts = _starts(vocabulary, samples, seed)
    with writing_model(source, dtype) as model:
        writer = Writer(model, length)
        while draft.done < samples:
            _write_batch(draft, writer, vocabulary, starts, temperature, rows, seed, progress)
    return draft.tokens


@dataclass(frozen=True, slots=True, eq=False)
class _Vocabulary:
    """V, and what is special in it: BOS and EOS (-1: there is none), and bool [V], tokens that are never drawn."""

    bos: int
    eos: int
    banned: torch.Tensor

    @classmethod
    def of(cls, source: Source) -> _Vocabulary:
        config = source.checkpoint.config.get_text_config(decoder=True)
        size = int(config.vocab_size)
        bos, eos, pad = (_ids(getattr(config, f"{n}_token_id", None), size) for n in ("bos", "eos", "pad"))
        special = {*bos, *pad, *_special(source.checkpoint.folder / "tokenizer.json", size)} - set(eos)
        banned = torch.zeros(size, dtype=torch.bool)
        banned[sorted(special)] = True
        if bool(banned.all()):
            raise CheckpointError(f"every token of {source.checkpoint.folder} is special; repair its tokenizer.json")
        return cls(next(iter(bos), -1), next(iter(eos), -1), banned)

    def uniform(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Tokens int64 [count] that are neither special nor EOS, if there is any such."""
        allowed = ~self.banned
        if self.eos >= 0 and int(allowed.sum()) > 1:
            allowed[self.eos] = False
        found = allowed.nonzero()[:, 0]
        return found[torch.randint(len(found), (count,), generator=generator)]


def _write_batch(
    draft: Draft,
    writer: Writer,
    vocabulary: _Vocabulary,
    starts: torch.Tensor,
    temperature: torch.Tensor,
    rows: int,
    seed: int,
    progress: Progress,
) -> None:
    """The next ``rows`` rows: starts int64 [S]; temperature float32 [S]."""
    samples, length = draft.tokens.shape
    part = slice(draft.done, min(draft.done + rows, samples))
    text, first = draft.tokens[part], draft.step
    if first:
        writer.restore(draft.memory())
    else:
        writer.reset()
        text[:, 0], first = starts[part], 1
    for step in range(first, length):
        progress("writing text", (part.start * length + (part.stop - part.start) * step), samples * length)
        if step % _KEEP == 0 and step != draft.step:
            draft.keep(part.start, step, writer.memory())
        logits, uniform = writer.step(text[:, step - 1]), _uniform(seed, step, samples)[part]
        few = (torch.split(x, _FEW) for x in (logits, temperature[part], uniform))
        drawn = torch.cat([_draw(x, t, vocabulary, u) for x, t, u in zip(*few, strict=True)])
        if vocabulary.bos >= 0 and vocabulary.bos != vocabulary.eos and step > 1:
            drawn = drawn.masked_fill(text[:, step - 1] == vocabulary.eos, vocabulary.bos)
        text[:, step] = drawn
    draft.keep(part.stop, 0)
    progress("writing text", part.stop * length, samples * length)


def _draw(
    logits: torch.Tensor, temperature: torch.Tensor, vocabulary: _Vocabulary, uniform: torch.Tensor
) -> torch.Tensor:
    """Tokens int64 [B] for logits floating [B, V], by inverting the distribution function at uniform float64 [B]."""
    scaled = logits[:, : len(vocabulary.banned)].float() / temperature[:, None]
    scaled.masked_fill_(vocabulary.banned, -torch.inf)
    p = F.pad(torch.softmax(scaled, dim=-1), (0, -scaled.shape[1] % _PART)).view(len(scaled), -1, _PART)
    below = p.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)  # of whole parts: 1 / 128 of the work for all tokens
    total = below[:, -1:].contiguous()
    if not bool(torch.isfinite(total).all()):
        raise CheckpointError(
            "the model's logits hold NaN or infinity, so it cannot write calibration text; repair the checkpoint, or "
            "give a calibration text"
        )
    wanted = uniform[:, None] * total
    # Rounding may carry a draw past the end, of all parts or of one: there the last with any probability is meant.
    part = torch.minimum(torch.searchsorted(below, wanted, right=True), torch.searchsorted(below, total))
    rows = torch.arange(len(p))
    within = p[rows, part[:, 0]].double().cumsum(dim=-1)
    rest = wanted - torch.where(part > 0, below.gather(1, (part - 1).clamp_min(0)), 0.0)
    last = torch.searchsorted(within, within[:, -1:].contiguous())
    token = torch.minimum(torch.searchsorted(within, rest, right=True), last)
    return (part * _PART + token)[:, 0]


def _uniform(seed: int, step: int, count: int) -> torch.Tensor:
    """float64 [count] in [0, 1) for one step; does not depend on other steps."""
    mixed = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(mixed[:8], "little", signed=True))
    return torch.rand(count, dtype=torch.float64, generator=generator)


def _starts(vocabulary: _Vocabulary, samples: int, seed: int) -> torch.Tensor:
    """The first token of every row, int64 [S]."""
    first = vocabulary.bos if vocabulary.bos >= 0 else vocabulary.eos
    if first >= 0:
        return torch.full((samples,), first)
    return vocabulary.uniform(samples, torch.Generator().manual_seed(seed))


def _ids(found: object, size: int) -> list[int]:
    """What a configuration says about a token, as a list; ids outside the vocabulary mean nothing."""
    values = found if isinstance(found, (list, tuple)) else [found]
    return [v for v in values if isinstance(v, int) and 0 <= v < size]


def _special(path: Path, size: int) -> list[int]:
    """Special tokens in tokenizer.json; none if there is no such file or it does not hold them."""
    try:
        added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
        return [i for token in added if token.get("special") for i in _ids(token.get("id"), size)]
    except (OSError, ValueError, AttributeError):
        return []


def _row_bytes(source: Source, length: int, dtype: torch.dtype) -> int:
    """Keys and values of one row."""
    config = source.checkpoint.config.get_text_config(decoder=True)
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kv * width * length * dtype.itemsize)


def _settings(source: Source, about: list[object]) -> str:
    """A hash of everything that decides the text."""
    files = sorted({info.file for info in source.checkpoint.tensors.values()})
    stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(json.dumps([stamps, about, torch.__version__]).encode()).hexdigest()


def _check(samples: int, length: int, seed: int, temperatures: tuple[float, ...], rows: int) -> None:
    for name, value, least in (("samples", samples, 1), ("length", length, 1), ("seed", seed, 0), ("rows", rows, 1)):
        if not isinstance(value, int) or value < least:
            raise SpecError(f"{name} is {value!r}; use a whole number, {least} or more")
    if not temperatures or not all(isinstance(t, (int, float)) and 0 < t < math.inf for t in temperatures):
        raise SpecError(f"temperatures are {temperatures!r}; use one or more positive numbers")
