"""Colours and layout of the page: one style sheet, light and dark, for phones and for paper.

Contrast, which a test computes: text 4.5 : 1 or more on its background, shapes that carry meaning 3 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f4f5f7",
    "ink": "#1b1e23",
    "soft": "#565d68",
    "rule": "#d6d9de",
    "good": "#0b6b3a",
    "bad": "#b3261e",
    "warn": "#8a5200",
    "s0": "#1f5fae",
    "s1": "#b5470b",
    "s2": "#0b7a55",
    "s3": "#a3307d",
    "s4": "#6a51b8",
    "s5": "#806000",
    "s6": "#b3261e",
    "s7": "#2b6f78",
}
DARK = {
    "paper": "#14171b",
    "panel": "#1d2126",
    "ink": "#e8eaed",
    "soft": "#a6adb8",
    "rule": "#3a4048",
    "good": "#5fd695",
    "bad": "#ff8a80",
    "warn": "#f2b95c",
    "s0": "#78b4ff",
    "s1": "#ffa368",
    "s2": "#55d3a2",
    "s3": "#ff93d3",
    "s4": "#b8aaff",
    "s5": "#e3c452",
    "s6": "#ff8a80",
    "s7": "#7dd3de",
}
TEXT = ("ink", "soft", "good", "bad", "warn")
"""Colours that text has."""
SHAPES = tuple(f"s{i}" for i in range(8))
"""Colours of series."""


def _variables(colors: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colors.items())


def style() -> str:
    """The style sheet."""
    series = "".join(
        f".mark.s{i},.bar.s{i}{{fill:var(--s{i})}}.line.s{i},.whisker.s{i}{{stroke:var(--s{i})}}"
        for i in range(len(SHAPES))
    )
    cells = "".join(f".b{bits}{{fill-opacity:{opacity}}}" for bits, opacity in _OPACITIES.items())
    dark = f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    paper = f"@media print{{:root{{{_variables(LIGHT)}}}{_PRINT}}}"
    return f":root{{color-scheme:light dark;{_variables(LIGHT)}}}{dark}{_PAGE}{_CHARTS}{series}{cells}{paper}"


_OPACITIES = {2: 0.1, 3: 0.17, 4: 0.25, 5: 0.8, 6: 0.87, 7: 0.94, 8: 1}

_PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:68rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.5rem 0 .25rem}
p{margin:.5rem 0;max-width:46rem}
.soft,caption,figcaption{color:var(--soft)}
.verdict{border-left:.4rem solid var(--soft);background:var(--panel);padding:.75rem 1rem;margin:1rem 0}
.verdict strong{font-size:1.15rem}
.verdict.passed{border-color:var(--good)}
.verdict.FAILED{border-color:var(--bad)}
.verdict.incomplete{border-color:var(--warn)}
.passed strong,.good{color:var(--good)}
.FAILED strong,.bad{color:var(--bad)}
.incomplete strong,.warn{color:var(--warn)}
.good,.bad,.warn{font-weight:600}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.5rem;margin:1rem 0;padding:0}
.facts div{background:var(--panel);padding:.5rem .75rem}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-size:1.15rem;font-weight:600}
nav ul{list-style:none;padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.25rem 1rem}
a{color:var(--s0)}
.scroll{overflow-x:auto;max-width:100%;margin:.5rem 0}
.scroll:focus-visible{outline:2px solid var(--s0)}
table{border-collapse:collapse;overflow-wrap:normal;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.25rem}
th,td{padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
th{font-weight:600}
tbody th{font-weight:400}
.words{text-align:left;min-width:6rem;max-width:40rem}
td.words{min-width:12rem}
.num{white-space:nowrap}
thead .num{white-space:normal;vertical-align:bottom}
code,pre{font-family:ui-monospace,monospace;font-size:.85rem}
pre{white-space:pre-wrap;background:var(--panel);padding:.75rem;margin:.5rem 0}
.samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.75rem}
.samples article{background:var(--panel);padding:.75rem}
.samples h3{margin:0}
.samples p{white-space:pre-wrap;unicode-bidi:isolate}
details{margin:.25rem 0}
summary{color:var(--soft);font-size:.875rem;cursor:pointer}
.sign{display:grid;grid-template-columns:repeat(auto-fit,minmax(12rem,1fr));gap:2.5rem 1rem;margin:3rem 0 1rem}
.sign div{border-top:1px solid var(--ink);padding-top:.25rem;color:var(--soft);font-size:.875rem}
footer{padding-bottom:2rem}
"""

_CHARTS = """
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem 2rem}
figure{margin:.75rem 0;min-width:0}
figure>svg{display:block;width:100%;max-width:30rem;height:auto}
figcaption{font-size:.875rem;margin-bottom:.35rem}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg text.tick{font-size:11px;fill:var(--soft)}
svg text.on{fill:var(--paper)}
.grid{stroke:var(--rule);stroke-width:.75}
.reference{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3}
.line{fill:none;stroke-width:1.5}
.whisker{stroke-width:1.75}
.whisker.thin{stroke-width:1;stroke-opacity:.55}
.mark{stroke:var(--paper);stroke-width:.75}
.track{fill:var(--panel)}
.bar.base{fill:var(--soft)}
.bar.disk{fill:var(--s0)}
.bar.download{fill:var(--s2)}
.bar.memory{fill:var(--s4)}
.cell{fill:var(--s0)}
.legend{list-style:none;padding:0;margin:.25rem 0;display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.875rem}
.key{width:.8rem;height:.8rem;margin-right:.35rem;vertical-align:-.05rem}
.spark{width:5rem;height:1.25rem;vertical-align:middle}
"""

_PRINT = """
@page{margin:15mm}
:root{color-scheme:light}
body{font-size:10pt}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
header,main,footer{max-width:none;padding:0}
nav,summary{display:none}
details::details-content{content-visibility:visible;block-size:auto}
.scroll{overflow:visible}
table{font-size:7.5pt}
th,td{padding-right:.4rem}
td code{overflow-wrap:anywhere;white-space:normal}
thead{display:table-header-group}
h2{break-after:avoid}
figure,article,tr,.verdict,.sign{break-inside:avoid}
.charts{grid-template-columns:1fr 1fr}
a{color:inherit;text-decoration:none}
"""
