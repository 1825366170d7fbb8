"""reproduce: the paper's tables, row by row, on any model, beside what the paper and the literature print."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.cli.comparison import Request, compare_recipes
from dareq_edge.cli.evaluation import EMBEDDED_TEXT, DataChoice
from dareq_edge.cli.recipes import RecipeChoice
from dareq_edge.comparison.published import LITERATURE, MODELS, PAPER, Counts
from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress, silent

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.subjects import Subject
    from dareq_edge.comparison.records import Comparison, Row
    from dareq_runtime.candidates import Candidate

EMBEDDED_PARTS = 3
"""The embedded text's last third calibrates, the rest is scored."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table.

    Attributes:
        label: For the reader.
        recipe: As ``compare`` writes it; "" is the float model.
        paper: Key into ``published.PAPER``, or "".
        literature: Key into ``published.LITERATURE``, or "".
        rule: Allocation rule that decides the bits, or "".
        calibrated: It needs text.
    """

    label: str
    recipe: str
    paper: str = ""
    literature: str = ""
    rule: str = ""
    calibrated: bool = False


def lines(here: str) -> tuple[Line, ...]:
    """The rows; ``here`` is the recipe that this project recommends."""
    return (
        Line("fp32", "", "fp32", "fp32"),
        Line("8 bits, absmax per row (BNB-8bit)", "rtn@channel/8", "bnb8", "w8"),
        Line("NF4, blocks of 64 (BNB-4bit)", "nf4@64/4", "bnb4"),
        Line("FP4, blocks of 64 (BNB-4bit)", "fp4@64/4", "bnb4"),
        Line("GPTQ per row", "gptq@channel/4", "gptq", "gptq", calibrated=True),
        Line("AWQ per row", "awq@channel/4", "awq", "awq", calibrated=True),
        Line("DARE-Q as published", "dareq-reference@channel/4", "dareq", "rtn"),
        Line("DARE-Q as recommended here", f"{here}@channel/4"),
        Line("EntQuant, 4 bits coded", "entquant+target_bits=4@channel/8"),
        Line("EWQ, round to nearest", "rtn@channel/4", rule="ewq"),
    )


@dataclass(frozen=True, slots=True)
class Task:
    """What to reproduce.

    Attributes:
        model: A folder or hub id; ``None`` takes the paper's own model of each table.
        tables: 1 (OPT-125m), 2 (OPT-350m).
        text: What is scored; ``None``: WikiText-2 for the paper's models, else the embedded text.
        calibration: Text for GPTQ and AWQ; ``None`` leaves them out, but for the embedded text.
        max_tokens: Score only so many tokens.
        here: The recipe of the row "as recommended here".
        out: Folder for finished rows; ``None`` keeps nothing.
        protocols: Score the candidates for the paper's own protocol too.
        threads: Of PyTorch.

    Raises:
        SpecError: A table that does not exist.
    """

    model: str | None
    tables: tuple[int, ...] = (1, 2)
    text: Path | None = None
    calibration: Path | None = None
    max_tokens: int | None = None
    here: str = "dareq"
    out: Path | None = None
    protocols: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.tables or not set(self.tables) <= {1, 2}:
            raise SpecError(f"--tables is {','.join(map(str, self.tables))}; give 1, 2 or 1,2")


@dataclass(frozen=True, slots=True, eq=False)
class Reproduction:
    """What one model gave.

    Attributes:
        model: As the user named it.
        tables: Whose figures are beside it.
        comparison: Our own.
        rows: Line, and its row in the comparison; ``None`` for the float model, or why it was left out.
        counts: Parameters, for the paper's accounting.
        candidates: What each protocol gives for the float model.
    """

    model: str
    tables: tuple[int, ...]
    comparison: Comparison
    rows: tuple[tuple[Line, Row | str | None], ...]
    counts: Counts
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        return {
            "model": self.model,
            "window": self.comparison.window,
            "rows": [self._row(line, row) for line, row in self.rows],
            "reference": self.comparison.to_json()["reference"],
            "candidates": [asdict(c) for c in self.candidates],
            "environment": self.comparison.environment,
        }

    def _row(self, line: Line, row: Row | str | None) -> dict[str, object]:
        which = [t - 1 for t in self.tables]
        paper = PAPER.get(line.paper)
        return {
            **asdict(line),
            "paper": None
            if paper is None
            else [{"model": MODELS[i], "ppl": paper.ppl[i], "size_mb": paper.size_mb[i]} for i in which],
            "literature": [
                {"model": MODELS[i], "what": p.what, "ppl": p.ppl[i], "source": p.source}
                for p in LITERATURE.get(line.literature, ())
                for i in which
                if p.ppl[i] is not None
            ],
            "accounting_bytes": self.counts.sizes.get(line.paper),
            "ours": row if row is None or isinstance(row, str) else row.to_json(),
        }


def reproduce(task: Task, progress: Progress = silent) -> Iterator[Reproduction]:
    """One reproduction per model.

    Raises:
        DareqError: The model, a text or an option cannot be used.
    """
    if task.model is not None:
        yield _reproduce(task, task.model, task.tables, progress)
        return
    for table in task.tables:
        yield _reproduce(task, MODELS[table - 1], (table,), progress)


def _reproduce(task: Task, model: str, tables: tuple[int, ...], progress: Progress) -> Reproduction:
    from dareq_edge.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(model)
    out = None if task.out is None else task.out / Path(model).name
    with _texts(task, model, out) as (choice, calibration):
        wanted = [line for line in lines(task.here) if line.recipe and not (line.calibrated and calibration is None)]
        request = Request(
            model=model,
            revision=None,
            subjects=[_subject(line, calibration) for line in wanted],
            texts=[choice],
            window=min(2048, checkpoint.context_length),
            out=out,
            threads=task.threads,
        )
        found = compare_recipes(request, progress)
        rows = dict(zip(wanted, found.rows, strict=True))
        tried = tuple(_candidates(model, choice, progress)) if task.protocols and choice.tokens is None else ()
    left = "left out: give --calibration FILE, a text that is not scored"
    every = tuple((line, rows.get(line, left if line.recipe else None)) for line in lines(task.here))
    return Reproduction(model, tables, found, every, _counts(checkpoint), tried)


def _subject(line: Line, calibration: Path | None) -> Subject:
    """The method of a line; published ones keep float32 scales, as published."""
    from dareq_edge.allocation.planners import ByRule
    from dareq_edge.allocation.rules import parse
    from dareq_edge.cli.subjects import make_subjects
    from dareq_edge.comparison.variants import parse_variant
    from dareq_edge.plan import QuantOptions

    ours = line.label.endswith("here")
    choice = RecipeChoice("", calibration=calibration if line.calibrated else None)
    variant = parse_variant(line.recipe, group_size=None, bits=4)
    (made,) = make_subjects([variant], QuantOptions(scale_dtype="bfloat16" if ours else "float32"), choice, 1)
    if not line.rule:
        return made
    shown = replace(variant, settings=(*variant.settings, ("rule", line.rule)))
    return replace(made, variant=shown, plan=ByRule(parse(line.rule)))


@contextmanager
def _texts(task: Task, model: str, out: Path | None) -> Iterator[tuple[DataChoice, Path | None]]:
    """What is scored, and what calibrates; parts of the embedded text lie in ``out``, so rows are found again."""
    if task.text is not None or model in MODELS:
        dataset = "wikitext-2-raw-v1" if task.text is None else None
        yield DataChoice(dataset=dataset, text=task.text, max_tokens=task.max_tokens), task.calibration
        return
    rows = EMBEDDED_TEXT.read_text(encoding="utf-8").splitlines(keepends=True)
    border = len(rows) * (EMBEDDED_PARTS - 1) // EMBEDDED_PARTS
    with tempfile.TemporaryDirectory(prefix="dareq-reproduce-") as scratch:
        place = Path(scratch) if out is None else out
        place.mkdir(parents=True, exist_ok=True)
        for name, part in (("embedded", rows[:border]), ("calibration", rows[border:])):
            (place / f"{name}.txt").write_text("".join(part), encoding="utf-8")
        choice = DataChoice(text=place / "embedded.txt", max_tokens=task.max_tokens)
        yield choice, task.calibration or place / "calibration.txt"


def _candidates(model: str, choice: DataChoice, progress: Progress) -> Sequence[Candidate]:
    """Every candidate protocol on the float model, on the first rows if ``max_tokens`` says so."""
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.errors import DataError
    from dareq_edge.reference import load_reference
    from dareq_runtime import hub
    from dareq_runtime.candidates import candidates
    from dareq_runtime.tokenizer import read_tokenizer
    from dareq_runtime.tokens import split_rows

    tokenizer = read_tokenizer(Checkpoint.open(model).folder)
    if tokenizer is None:
        raise DataError(f"{model} has no tokenizer; copy its files there")
    if choice.text is None:
        rows = hub.load_rows(str(choice.dataset))
    else:
        rows = split_rows(choice.text.read_text(encoding="utf-8"))
    if choice.max_tokens is not None:
        count, left = 0, choice.max_tokens
        while count < len(rows) and left > 0:
            left -= len(tokenizer.encode(rows[count]).ids) if rows[count] else 0
            count += 1
        rows = rows[:count]
    return candidates(load_reference(model, progress=progress), rows, tokenizer, progress=progress)


def _counts(checkpoint: Checkpoint) -> Counts:
    """Parameters for the paper's accounting: linears of the decoder, and the rest, a tied head not counted."""
    from dareq_edge.comparison.floats import linear_modules
    from dareq_edge.plan import QuantOptions

    model = checkpoint.empty_model()
    matrices = [model.get_submodule(name).get_parameter("weight") for name in linear_modules(model, QuantOptions())]
    linears = sum(int(w.numel()) for w in matrices)
    return Counts(linears, sum(int(p.numel()) for p in model.parameters()) - linears)
