"""FastEWQ's table and forests: measure models, cross-validate by model, train, and write the ONNX files.

    python -m examples.train_fastewq                                      from the table that is here
    python -m examples.train_fastewq --model DIR [--model DIR ...]        add models first (or measure them again)
    python -m examples.train_fastewq --model DIR --name NAME --group NAME

One row of ``fastewq_blocks.csv`` is one decoder block; labels are EWQ's decisions (the paper's rule), taken anew from
the entropies. Models of one group, e.g. a base model and what was made of it, are never on both sides of a split.
Needs scikit-learn (pip install scikit-learn), which dareq-edge itself does not, and dareq-edge[export].
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from dareq_edge.allocation.facts import Matrix, facts_from, facts_of_config
from dareq_edge.allocation.features import FEATURES, FeatureSet, features_of_sizes
from dareq_edge.allocation.rules.ewq import EntropyWeighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.ensemble import RandomForestClassifier

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "examples" / "fastewq_blocks.csv"
DATA = ROOT / "dareq_edge" / "data"
TREES, SEED = 100, 0
RAW = 0  # label of a block that stays float


@dataclass(frozen=True, slots=True)
class Row:
    """One block: ``entropy`` is EWQ's with the published epsilon, in nats."""

    model: str
    group: str
    architecture: str
    block: int
    parameters: int
    entropy: float


def measure(folder: str, name: str, group: str) -> list[Row]:
    """Rows of one model folder."""
    from dareq_edge.allocation.entropy import block_entropies
    from dareq_edge.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(folder)
    facts = facts_of_config(checkpoint.config)
    scores = block_entropies(checkpoint, facts)
    return [Row(name, group, facts.architecture, i, facts.parameters(i), h) for i, h in enumerate(scores)]


def read_table(path: Path) -> list[Row]:
    """The table; empty where there is none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
        return [Row(**{name: kind(row[name]) for name, kind in kinds.items()}) for row in rows]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f.name for f in fields(Row))
        writer.writerows(astuple(row) for row in rows)


def labels_of(rows: Sequence[Row]) -> list[int]:
    """EWQ's decisions for the blocks of one model: 0 (raw), 4 or 8."""
    facts = facts_from(tuple(Matrix("", r.parameters, 1, r.block) for r in rows), rows[0].architecture)
    return [RAW if bits is None else bits for bits in EntropyWeighted()(facts, [r.entropy for r in rows])]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Features float32 [R, C], labels int64 [R], model and group of every row."""

    x: np.ndarray
    y: np.ndarray
    models: np.ndarray
    groups: np.ndarray


def samples(rows: Sequence[Row], which: FeatureSet) -> Samples:
    x, y, models, groups = [], [], [], []
    for name in dict.fromkeys(r.model for r in rows):
        own = [r for r in rows if r.model == name]
        x += features_of_sizes([r.parameters for r in own], which)
        y += labels_of(own)
        models += [name] * len(own)
        groups += [r.group for r in own]
    return Samples(np.asarray(x, np.float32), np.asarray(y, np.int64), np.asarray(models), np.asarray(groups))


def fit(x: np.ndarray, y: np.ndarray) -> RandomForestClassifier:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=TREES, random_state=SEED).fit(x, y)


def held_out(s: Samples) -> tuple[np.ndarray, np.ndarray]:
    """For every row what a forest says, and what the commonest label is, without the row's group."""
    guesses, common = np.zeros_like(s.y), np.zeros_like(s.y)
    for group in dict.fromkeys(s.groups):
        out = s.groups == group
        guesses[out] = fit(s.x[~out], s.y[~out]).predict(s.x[out])
        common[out] = Counter(s.y[~out].tolist()).most_common(1)[0][0]
    return guesses, common


def random_split(s: Samples, repeats: int = 20) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy on a random 30 % of the blocks, models on both sides."""
    found = []
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(s.y))
        test, train = np.split(order, [round(0.3 * len(s.y))])
        found.append(float(np.mean(fit(s.x[train], s.y[train]).predict(s.x[test]) == s.y[test])))
    return float(np.mean(found)), float(np.std(found))


def report(which: FeatureSet, s: Samples) -> None:
    """Print how often a forest is right, and how often saying the same always is."""
    guesses, common = held_out(s)
    print(f"\nfeatures {which}: {', '.join(FEATURES[which])}")
    print(f"{'held out':28}{'blocks':>7}{'forest':>9}{'common':>9}   raw or not: {'forest':>7}{'common':>9}")
    for name in (*dict.fromkeys(s.models), None):
        of = s.models == name if name is not None else np.ones(len(s.y), bool)
        y = s.y[of]
        cells = [float(np.mean(g[of] == y)) for g in (guesses, common)]
        cells += [float(np.mean((g[of] == RAW) == (y == RAW))) for g in (guesses, common)]
        shown = (
            "".join(f"{100 * c:8.1f} %"[-9:] for c in cells[:2])
            + " " * 15
            + "".join(f"{100 * c:9.1f}" for c in cells[2:])
        )
        print(f"{name or 'all':28}{len(y):7}{shown}")
    mean, spread = random_split(s)
    print(f"random 70/30 split of blocks, as in the paper: {100 * mean:.1f} +- {100 * spread:.1f} % (paper: 80 %)")
    importances = zip(FEATURES[which], fit(s.x, s.y).feature_importances_, strict=True)
    print("importances: " + ", ".join(f"{name} {100 * value:.0f} %" for name, value in importances))


def write_forest(which: FeatureSet, s: Samples, table: Path, data: Path) -> Path:
    """Train on every row, write the ONNX file, and check that onnxruntime gives what scikit-learn gives."""
    from examples.fastewq_forest import to_onnx

    forest = fit(s.x, s.y)
    notes = {
        "models": ",".join(dict.fromkeys(s.models)),
        "table_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    model = to_onnx(forest, FEATURES[which], notes).SerializeToString()
    low, high = s.x.min(0), s.x.max(0)
    random = np.random.default_rng(SEED).uniform(low, high, (2000, s.x.shape[1])).astype(np.float32)
    x = np.concatenate([s.x, random])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(["label"], {"features": x})
    differ = int(np.sum(found != forest.predict(x)))
    if differ:
        print(f"{differ} of {len(x)} labels differ between onnxruntime and scikit-learn", file=sys.stderr)
    path = data / f"fastewq-{which}.onnx"
    path.write_bytes(model)
    print(f"wrote {path.name}: {len(model):,} bytes, {sum(t.tree_.node_count for t in forest.estimators_):,} nodes")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="a model folder to add; may be repeated")
    parser.add_argument("--name", help="name of the model in the table; its folder's by default (one --model only)")
    parser.add_argument("--group", help="models of one group are held out together; the name by default")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the ONNX files")
    parser.add_argument("--no-training", action="store_true", help="only add models to the table")
    a = parser.parse_args(arguments)
    if a.name and len(a.model) != 1:
        parser.error("--name needs exactly one --model")
    for folder in a.model:
        name = a.name or Path(folder).resolve().name
        new = measure(folder, name, a.group or name)
        rows = [r for r in read_table(a.table) if r.model != name] + new
        write_table(a.table, rows)
        print(f"{name}: {len(new)} blocks, {dict(Counter(labels_of(new)))}")
    rows = read_table(a.table)
    if a.no_training:
        return 0
    if len({r.group for r in rows}) < 2:
        parser.error("the table holds one group of models; add another with --model")
    for which in FEATURES:
        s = samples(rows, which)
        report(which, s)
        write_forest(which, s, a.table, a.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
