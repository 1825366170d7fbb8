"""dareq-edge verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dareq_edge.cli import console, options


def verdict(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The result.json that validate.py wrote.")],
    kit: Annotated[
        Path | None, typer.Option("--kit", help="The kit, folder or zip: proves that the result is of this kit.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Judge a device's result again, from the losses of single tokens alone; a failed verdict exits with 1.

    \b
    Examples:
      dareq-edge verdict result.json --kit kit.zip
      dareq-edge verdict phone.json --kit kit --json
    """
    from dareq_edge.cli.kit_table import verdict_table
    from dareq_runtime.kit.judging import judge
    from dareq_runtime.kit.result import read_result

    found = read_result(result)
    judged = judge(found, kit)
    if judged.disagreements:
        console.note(f"{result} disagrees with its own losses; the verdict rests on the losses")
    record = judged.to_json() | {"device": dict(found.device), "model": dict(found.model)}
    record["device_says"] = dict(found.claims) | {name: dict(c.claims) for name, c in found.computes.items()}
    console.result(record, verdict_table(judged, found), as_json=json)
    judged.parity.require()
