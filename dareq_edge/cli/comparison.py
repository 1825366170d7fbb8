"""compare: score the float model once, then quantize and score one recipe after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import dareq_edge
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.cli.side_by_side import Prompt
from dareq_edge.comparison.floats import linear_modules
from dareq_edge.comparison.ledger import Ledger, fingerprint, key_of
from dareq_edge.comparison.logits import Losses, Reference, record_reference, score_against
from dareq_edge.comparison.produce import Order, produce
from dareq_edge.comparison.records import FLOAT, POOLED, Comparison, Row, Run, Score
from dareq_edge.errors import CheckpointError, DareqError, SpecError
from dareq_edge.progress import Progress, silent
from dareq_edge.reference import TorchReference, load_reference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dareq_edge.cli.subjects import Subject
    from dareq_edge.dequantized import Dequantizer
    from dareq_edge.recipes import Recipe

WINDOW = 512


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare, on what.

    Attributes:
        model: A local folder or a hub id, float.
        revision: Branch, tag or commit on the hub.
        subjects: At least one.
        texts: One choice per text.
        window: Tokens per window; ``None`` is 512, or the model's context if that is shorter.
        out: Folder for finished rows; ``None`` keeps nothing.
        keep: Keep the checkpoints in it.
        fresh: Forget what is in it.
        trust_remote_code: Let transformers run code that comes with the model.
        threads: Of PyTorch; this process's are set by the caller.
        prompt: What every model continues; empty for none.
    """

    model: str
    revision: str | None
    subjects: Sequence[Subject]
    texts: Sequence[DataChoice]
    window: int | None = None
    out: Path | None = None
    keep: bool = False
    fresh: bool = False
    trust_remote_code: bool = False
    threads: int | None = None
    prompt: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Text:
    """A text, cut: int64 [T] per window, and a hash of all tokens."""

    label: str
    windows: tuple[NDArray[np.int64], ...]
    digest: str


def compare_recipes(request: Request, progress: Progress = silent) -> Comparison:
    """Run a comparison; a recipe that fails is a row that says why.

    Raises:
        DareqError: The model, a text or an option cannot be used, before any long work starts.
    """
    checkpoint = Checkpoint.open(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    if checkpoint.quantization is not None:
        raise CheckpointError(f"{request.model} is already quantized; give the float model")
    window = min(WINDOW, checkpoint.context_length) if request.window is None else request.window
    texts = [_read_text(choice, checkpoint, window) for choice in request.texts]
    labels = [POOLED, *(text.label for text in texts)]
    for label in labels:
        if labels.count(label) > 1:
            raise SpecError(
                f"two texts are called {label!r} (that of all texts together is {POOLED!r}); rename a file"
            )
    model = checkpoint.empty_model(trust_remote_code=request.trust_remote_code)
    names = checkpoint.bind(model)
    linears = [checkpoint.tensors[names[f"{m}.weight"]] for m in linear_modules(model, request.subjects[0].options)]
    with _place(request.out) as folder:
        work = _Work(request, checkpoint, texts, Ledger(folder, fresh=request.fresh), folder, progress)
        reference = work.reference_scores()
        rows = tuple(work.row(subject) for subject in request.subjects)
    return Comparison(
        model=request.model,
        revision=checkpoint.revision,
        window=window,
        reference=reference,
        reference_bytes=sum(checkpoint.tensors[name].bytes for name in names.values()),
        reference_bits=8 * sum(t.bytes for t in linears) / sum(t.shape[0] * t.shape[1] for t in linears),
        rows=rows,
        environment=_environment(),
        continuations=work.continuations,
    )


def read_prompt(request: Request, checkpoint: Checkpoint) -> Prompt | None:
    """What the models of a comparison continue, if there is such a thing."""
    config = checkpoint.config.get_text_config(decoder=True)
    eos = getattr(config, "eos_token_id", None)
    stop_ids = frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return Prompt.read(request.prompt, checkpoint.folder, checkpoint.context_length, int(config.vocab_size), stop_ids)


class _Work:
    """What is needed to make one row after the other."""

    def __init__(
        self,
        request: Request,
        checkpoint: Checkpoint,
        texts: Sequence[_Text],
        ledger: Ledger,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._request = request
        self._model = [dareq_edge.__version__, *fingerprint(checkpoint)]
        self._texts = texts
        self._ledger = ledger
        self._folder = folder
        self._progress = progress
        self._labels = [t.label for t in texts] + [POOLED] * (len(texts) > 1)
        self._references: list[Reference] = []
        self._prompt = read_prompt(request, checkpoint)
        self.continuations: dict[str, tuple[int, ...]] = {}

    def reference_scores(self) -> dict[str, Score]:
        """The float model's scores."""
        key = self._key("fp32")
        self._remember(FLOAT, "fp32")
        if (known := self._ledger.reference(key, self._labels)) is not None:
            return known
        scores = _scores(self._texts, [r.nll for r in self._recorded()])
        self._ledger.finish_reference(key, scores)
        return scores

    def _recorded(self) -> list[Reference]:
        """The float model's log-probabilities; made when they are first needed, never if every row is finished."""
        if not self._references:
            request = self._request
            model = load_reference(
                request.model, request.revision, trust_remote_code=request.trust_remote_code, progress=self._progress
            )
            for i, text in enumerate(self._texts):
                path = self._folder / f"fp32-{i}.logits"
                stage = f"fp32: scoring {text.label}"
                self._references.append(record_reference(model, text.windows, path, stage, self._progress))
            self._continue(FLOAT, "fp32", model)
        return self._references

    def row(self, subject: Subject) -> Row:
        """One recipe, all its seeds."""
        runs = []
        for seed, method in subject.methods:
            try:
                runs.append(self._run(subject, seed, method))
            except DareqError as error:
                which = "" if len(subject.methods) == 1 else f"seed {seed}: "
                return Row(subject.variant, subject.storable, failed=f"{which}{error}")
        return Row(subject.variant, subject.storable, tuple(runs))

    def _key(self, what: object) -> str:
        return key_of(self._model, what, [(t.label, t.digest, len(t.windows)) for t in self._texts])

    def _run(self, subject: Subject, seed: int | None, method: Recipe | Dequantizer) -> Run:
        label = subject.variant.label if seed is None else f"{subject.variant.label} seed {seed}"
        what = subject.record(method)
        key = self._key(what)
        if (done := self._ledger.run(key, self._labels)) is not None:
            self._remember(subject.variant.label, what)
            return done
        place = self._ledger.checkpoint(subject.variant.label, seed, key_of(self._model, what))
        if (production := self._ledger.produced(place)) is None:
            order = Order(
                source=self._request.model,
                revision=self._request.revision,
                out=place,
                options=subject.options,
                method=method,
                storable=subject.storable,
                trust_remote_code=self._request.trust_remote_code,
                threads=self._request.threads,
                plan=subject.plan,
            )
            production = produce(order, lambda stage, *steps: self._progress(f"{label}: {stage}", *steps))
            self._ledger.note(place, production)
        model = self._loaded(place)
        run = Run(seed, production, self._score(model, label))
        self._continue(subject.variant.label, what, model)
        self._ledger.finish(key, subject.variant.label, run)
        if not (self._request.keep and subject.storable):
            self._ledger.discard(place)
        return run

    def _loaded(self, place: Path) -> TorchReference:
        self._recorded()  # before the model is loaded: one at a time
        return load_reference(place, trust_remote_code=self._request.trust_remote_code)

    def _score(self, model: TorchReference, label: str) -> dict[str, Score]:
        references = self._recorded()
        found = [
            score_against(reference, model, text.windows, f"{label}: scoring {text.label}", self._progress)
            for reference, text in zip(references, self._texts, strict=True)
        ]
        return _scores(self._texts, [r.nll for r in references], found)

    def _continue(self, label: str, what: object, model: TorchReference) -> None:
        """Let a model continue the prompt; of a recipe's seeds one does."""
        if self._prompt is None or label in self.continuations:
            return
        self._progress(f"{label}: generating text", 0, 1)
        ids = tuple(self._prompt.continued(model))
        self._progress(f"{label}: generating text", 1, 1)
        self._ledger.finish_continuation(self._written(self._prompt, what), ids)
        self.continuations[label] = ids

    def _remember(self, label: str, what: object) -> None:
        """What a model made of the prompt when its row was finished, if it was given it then."""
        if self._prompt is None or label in self.continuations:
            return
        if (known := self._ledger.continuation(self._written(self._prompt, what))) is not None:
            self.continuations[label] = known

    def _written(self, prompt: Prompt, what: object) -> str:
        return key_of(self._model, what, prompt.record)


def _scores(
    texts: Sequence[_Text],
    base: Sequence[Sequence[NDArray[np.float64]]],
    found: Sequence[Losses] | None = None,
) -> dict[str, Score]:
    """Score per text, and pooled over several; ``base`` is the float model's losses, ``found`` another's."""
    scores = {t.label: _score(base[i], None if found is None else found[i]) for i, t in enumerate(texts)}
    if len(texts) > 1:
        every = None
        if found is not None:
            every = Losses(*(tuple(x for f in found for x in getattr(f, name)) for name in ("nll", "kl", "same")))
        scores[POOLED] = _score([x for part in base for x in part], every)
    return scores


def _score(base: Sequence[NDArray[np.float64]], found: Losses | None) -> Score:
    """Means and standard errors of one text."""
    import numpy as np

    from dareq_runtime.scoring import mean_and_error

    tokens = sum(len(x) for x in base)
    if found is None:
        return Score(tokens, *mean_and_error(base, "token"))
    gap, gap_error = mean_and_error([y - x for x, y in zip(base, found.nll, strict=True)], "token")
    ratio = float(np.exp(min(gap, 700.0)))
    return Score(
        tokens,
        *mean_and_error(found.nll, "token"),
        delta_ppl=ratio - 1,
        delta_stderr=ratio * gap_error,
        kl=float(np.concatenate(found.kl).mean()),
        top1=float(np.concatenate(found.same).mean()),
    )


def _read_text(choice: DataChoice, checkpoint: Checkpoint, window: int) -> _Text:
    """Read and cut one text."""
    read, protocol = read_evaluation(replace(choice, window=window), checkpoint.folder)
    read.check(int(checkpoint.config.get_text_config().vocab_size))
    windows = tuple(w.ids for w in protocol.resolved(checkpoint.context_length).windows(read))
    path = choice.text or choice.tokens
    label = (choice.dataset or "embedded") if path is None else path.stem
    return _Text(label, windows, sha256(b"".join(ids.tobytes() for ids in windows)).hexdigest())


def _environment() -> str:
    from dareq_runtime.environment import describe_environment

    return describe_environment()


@contextmanager
def _place(out: Path | None) -> Iterator[Path]:
    """The folder that work is kept in: the user's, or a temporary one."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="dareq-compare-") as name:
            yield Path(name)
    else:
        out.mkdir(parents=True, exist_ok=True)
        try:
            yield out
        finally:
            for path in out.glob("fp32-*"):
                path.unlink()
            if (out / "checkpoints").is_dir() and not any((out / "checkpoints").iterdir()):
                (out / "checkpoints").rmdir()
