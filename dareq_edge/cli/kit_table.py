"""The tables of the validation kit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from dareq_runtime.kit.judging import KitVerdict
    from dareq_runtime.kit.result import DeviceResult

_SAID = (("KL mean", "kl_mean", "{:.1e}"), ("KL 99 %", "kl_p99", "{:.1e}"), ("top-1", "top1_agreement", "{:.2%}"))
_SPEED = (
    ("prompt tokens/s", "prefill_tokens_per_s", "{:,.1f}"),
    ("new tokens/s", "decode_tokens_per_s", "{:,.1f}"),
    ("load, s", "load_s", "{:.2f}"),
)
_SHOWN = 1e15
"""What a device says is shown below this; above, it says nothing that can be meant."""


def verdict_table(verdict: KitVerdict, result: DeviceResult) -> RenderableType:
    """What was judged here, what the device says besides, and the verdict."""
    judged, said = _table("compute"), _table("says the device")
    for name in ("device", "± error", "host", "difference", "allowed"):
        judged.add_column(name, justify="right", no_wrap=True)
    for title, _, _ in (*_SAID, *_SPEED):
        said.add_column(title, justify="right", no_wrap=True)
    scores = {score.label: score for score in verdict.parity.scores}
    for name, link in zip(result.computes, verdict.parity.links, strict=True):
        host, here = scores[link.reference], scores[link.subject]
        limit = f"{100 * (link.relative_ppl or 0):g} % {'ok' if link.passed else 'EXCEEDED'}"
        difference = f"{100 * link.delta_ppl:+.4f} ± {100 * (link.delta_ppl_stderr or 0):.4f} %"
        judged.add_row(name, f"{here.ppl:,.4f}", f"{here.stderr:,.4f}", f"{host.ppl:,.4f}", difference, limit)
        claims = result.computes[name].claims
        said.add_row(name, *(_said(claims.get(key), form) for _, key, form in (*_SAID, *_SPEED)))
    judged.caption = f"{scores[verdict.parity.links[0].subject].protocol}, {sum(result.counts):,} tokens"
    lines = [Text(line) for line in _device(result)]
    return Group(*lines, judged, said, *(Text(d, "yellow") for d in verdict.disagreements), _last(verdict))


def _table(first: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column(first)
    return table


def _said(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) and abs(value) < _SHOWN else ""


def _device(result: DeviceResult) -> list[str]:
    device: dict[str, Any] = dict(result.device)
    features = device.get("features")
    features = " ".join(map(str, features)) if isinstance(features, list) else ""
    versions = ", ".join(f"{name} {device.get(name)}" for name in ("python", "onnxruntime", "numpy"))
    peak = result.claims.get("peak_memory_mb")
    memory = "" if peak is None else f", {_said(peak, '{:,.0f}')} MB at most"
    return [
        f"{result.model.get('source')} ({result.model.get('profile')})",
        f"{device.get('cpu')} ({features}), {device.get('system')} {device.get('machine')}",
        f"{versions}{memory}",
    ]


def _last(verdict: KitVerdict) -> Text:
    proof = "; the reference is the kit's" if verdict.kit_proven else "; give --kit to prove the reference"
    if verdict.parity.passed:
        return Text(f"verdict: passed, what runs there is what was bundled{proof}", "bold green")
    return Text(f"verdict: FAILED, {'; '.join(verdict.parity.reasons)}{proof}", "bold red")
