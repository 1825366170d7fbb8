"""Docstrings of what others call: there is one, its names are the code's, and its examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_decoder import TinyDecoder

ROOT = Path(__file__).parents[1]
PACKAGES = {"dareq_edge": "", "dareq_export": "export", "dareq_runtime": "runtime"}
SOURCES = [(package, p) for package, root in PACKAGES.items() for p in sorted((ROOT / root / package).rglob("*.py"))]
EXAMPLES = [(package, p) for package, p in SOURCES if ">>> " in p.read_text(encoding="utf-8")]
DOCUMENTED = {
    "dareq_edge.allocation.bytes.parse_size",
    "dareq_edge.allocation.rules.parse",
    "dareq_edge.container.reader.Container",
    "dareq_edge.packing.pack",
    "dareq_edge.packing.unpack",
    "dareq_edge.qtensor.QuantizedTensor",
    "dareq_edge.quantizers.build",
    "dareq_edge.spec.QuantSpec",
    "dareq_runtime.loading.load",
    "dareq_runtime.model.OnnxModel.generate",
}
"""What people call first: these must keep an example."""
Documented = ast.FunctionDef | ast.ClassDef


def name_of(package: str, path: Path) -> str:
    """Dotted name of a module."""
    parts = path.relative_to(ROOT / PACKAGES[package]).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def public(path: Path) -> Iterator[tuple[str, Documented]]:
    """Functions and classes of a module, and the classes' public methods, with their names."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield node.name, node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


def section(doc: str, title: str) -> list[str] | None:
    """Names that a section of a Google docstring explains, in order; ``None`` if there is no such section."""
    found = re.search(rf"^{title}:\n((?: {{4}}.*\n|\n)*)", doc + "\n", re.MULTILINE)
    if found is None:
        return None
    return re.findall(r"^ {4}\*{0,2}([A-Za-z_]\w*)(?: \([^)]*\))?:", found[1], re.MULTILINE)


def parameters(node: ast.FunctionDef, *, method: bool) -> list[str]:
    """Names of a function's parameters, in order."""
    a = node.args
    every = [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs]
    names = [x.arg for x in [*every, *([a.kwarg] if a.kwarg else [])]]
    return names[1:] if method and names[:1] in (["self"], ["cls"]) else names


@pytest.mark.parametrize(("package", "path"), SOURCES, ids=lambda v: getattr(v, "stem", v))
def test_docstrings_name_what_is_there(package: str, path: Path) -> None:
    for name, node in public(path):
        doc = ast.get_docstring(node)
        assert doc, f"{name} in {path} has no docstring"
        if isinstance(node, ast.FunctionDef):
            explained = section(doc, "Args")
            known = parameters(node, method="." in name)
            assert explained is None or explained == known, f"{name} in {path} explains {explained}, has {known}"
        elif any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            fields = [
                n.target.id
                for n in node.body
                if isinstance(n, ast.AnnAssign)
                and isinstance(n.target, ast.Name)
                and "ClassVar" not in ast.unparse(n)
            ]
            explained = section(doc, "Attributes")
            assert set(explained or ()) <= set(fields), f"{name} in {path} explains {explained}, has {fields}"


def test_the_rule_sees_names_that_differ() -> None:
    assert section("Do.\n\nArgs:\n    a: A.\n        More: of it.\n    *b: B.\n\nReturns:\n    c: no.\n", "Args") == [
        "a",
        "b",
    ]
    assert section("Do.\n", "Args") is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of examples: ``exported`` in it is a small model that ``export`` could have written."""
    TinyDecoder().write(tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", [name_of(*e) for e in EXAMPLES])
def test_examples_in_docstrings_run(module: str, folder: Path) -> None:
    found = doctest.testmod(importlib.import_module(module), report=True)
    assert found.attempted > 0
    assert found.failed == 0


def test_what_people_call_first_has_an_example() -> None:
    found = {
        f"{name_of(package, path)}.{name}"
        for package, path in EXAMPLES
        for name, node in public(path)
        if ">>> " in (ast.get_docstring(node) or "")
    }
    assert found >= DOCUMENTED
