"""Reading our own documentation: the code blocks of a page, and the sentences that the source says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
SOURCES = [p for root in ("dareq_edge", "export", "runtime") for p in sorted((ROOT / root).rglob("*.py"))]
GAP = "…"
"""What stands for anything that varies."""


def blocks(page: Path, language: str) -> list[str]:
    """Content of a page's fenced code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def files(page: Path) -> dict[str, str]:
    """Its Python blocks that name a file of ours in their first line, by that name."""
    found = {}
    for block in blocks(page, "python"):
        first, _, rest = block.partition("\n")
        if name := re.fullmatch(r"# (\S+\.py)", first):
            found[name[1]] = rest
    return found


def sentences() -> Iterator[str]:
    """Every text in our source, values that vary as ``GAP``."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = _constants(tree)
        for node in ast.walk(tree):
            if (text := _text(node, known)) is not None:
                yield text


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that a module's names stand for: its own, and those it imports from modules of ours."""
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("dareq_"):
                files = [ROOT / r / f"{module.replace('.', '/')}.py" for r in ("", "export", "runtime")]
                for file in (f for f in files if f.is_file()):
                    there = _own(file)
                    found |= {a.asname or a.name: there[a.name] for a in names if a.name in there}
    return found


@cache
def _own(file: Path) -> dict[str, str]:
    """A module's own texts."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return _constants(ast.Module([n for n in tree.body if isinstance(n, ast.Assign)], []))


def _text(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """What a string or an f-string says; ``None`` for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, known) or "" for value in values)
        case ast.FormattedValue(value=ast.Name(id=name)):
            return known.get(name, GAP)
        case ast.FormattedValue():
            return GAP
    return None
