"""Named data sets from the Hugging Face hub, through the optional ``datasets`` package."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from dareq_edge.errors import DataError, SpecError


@dataclass(frozen=True, slots=True)
class HubDataset:
    """Where a data set lives: repository, configuration, split and text column."""

    repo: str
    config: str
    split: str = "test"
    column: str = "text"


DATASETS = {
    "wikitext-2-raw-v1": HubDataset("Salesforce/wikitext", "wikitext-2-raw-v1"),
    "wikitext-103-raw-v1": HubDataset("Salesforce/wikitext", "wikitext-103-raw-v1"),
}

_INSTEAD = "use --text FILE or --tokens FILE.npy instead"


def load_rows(name: str) -> list[str]:
    """The rows of a named data set's test split.

    Raises:
        SpecError: The name is unknown.
        DataError: ``datasets`` is not installed, or the hub cannot be reached.
    """
    if name not in DATASETS:
        raise SpecError(f"unknown data set {name!r} (available: {', '.join(DATASETS)}); or {_INSTEAD}")
    where = DATASETS[name]
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"data set {name!r} needs the package 'datasets' (pip install 'dareq-edge[data]'); or {_INSTEAD}"
        ) from error
    try:
        rows = datasets.load_dataset(where.repo, where.config, split=where.split)[where.column]
    except Exception as error:  # the hub's clients raise errors of many families
        raise DataError(f"data set {name!r} cannot be fetched ({_first_line(error)}); {_INSTEAD}") from error
    return [str(row) for row in rows]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
