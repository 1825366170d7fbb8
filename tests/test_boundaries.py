"""Layers are tested, not promised: who may import what, read from the source and tried with the rest blocked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = set(sys.stdlib_module_names)
L1 = {"numpy", "zstandard"}
L2 = {"torch", "transformers", "safetensors", "numba", "huggingface_hub", "accelerate"}
L3 = {"onnx", "onnx_ir", "onnxscript"}
READING = {"safetensors", "ml_dtypes"}  # how dareq_export reads a checkpoint without torch
L4 = {"onnxruntime", "tokenizers"}

# Modules of dareq_edge by layer; a module named nowhere is L2. See the layer table in the design.
MODULES_L0 = {
    "",
    "errors",
    "folders",
    "kernel_layout",
    "layer_limit",
    "manifest",
    "plugins",
    "progress",
    "records",
    "report",
    "seal",
    "session_settings",
    "sole_writer",
    "spec",
    "tokenizer_files",
}
MODULES_L1 = {"npy", "qtensor", "packing", "container", "packed"}
BASELINES = {
    "optimum",
    "onnx",
    "onnxruntime",
}  # what dareq_edge.baselines, and nothing else, makes bench's peers with
FORESTS = {"allocation.rules.fastewq": {"onnxruntime"}}  # what runs a shipped tree ensemble
PEERS = {"bench.genai": {"onnxruntime_genai"}}  # modules of dareq_runtime that run another runtime, if installed
CAPTURE = "capture"  # the only subpackage of dareq_export that may use torch and transformers


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name relative to the package, and file."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def imports(path: Path) -> set[str]:
    """Every absolute module a file imports at run time; TYPE_CHECKING blocks are left out."""
    found: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"relative import in {path}"
            found.add(node.module or "")
            if node.module in ("dareq_edge", "dareq_export", "dareq_runtime"):
                found.update(f"{node.module}.{alias.name}" for alias in node.names)

    Visitor().visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def layer(name: str) -> int:
    """Layer of a module of dareq_edge, by its name inside the package."""
    head = name.split(".")[0]
    return 0 if head in MODULES_L0 else 1 if head in MODULES_L1 else 2


def edge_layer(module: str) -> int:
    """Layer of an imported ``dareq_edge.x``; names that are not modules live in the lazy package itself."""
    name = module.removeprefix("dareq_edge").removeprefix(".")
    exists = (ROOT / "dareq_edge" / f"{name.split('.')[0]}.py").exists() or (ROOT / "dareq_edge" / name).is_dir()
    return layer(name) if name and exists else 0


def outside(names: set[str]) -> set[str]:
    """Top-level names that are neither ours nor in the standard library."""
    tops = {n.split(".")[0] for n in names}
    return tops - STDLIB - {"dareq_edge", "dareq_export", "dareq_runtime", "__future__"}


EDGE = [pytest.param(n, p, id=n or "__init__") for n, p in modules(ROOT / "dareq_edge")]
EXPORT = [pytest.param(n, p, id=n or "__init__") for n, p in modules(ROOT / "export/dareq_export")]
RUNTIME = [pytest.param(n, p, id=n or "__init__") for n, p in modules(ROOT / "runtime/dareq_runtime")]


@pytest.mark.parametrize(("name", "path"), EDGE)
def test_dareq_edge_layers(name: str, path: Path) -> None:
    found = imports(path)
    if name.split(".")[0] == "cli":
        assert not outside(imports_at_the_top(path)) - {"typer", "rich"}
        return
    own = 0 if name == "__main__" else layer(name)
    allowed = set().union(*[set(), L1, L2][: own + 1])
    allowed |= BASELINES if name.split(".")[0] == "baselines" else FORESTS.get(name, set())
    assert not outside(found) - allowed
    if name != "__main__":
        assert not {m for m in found if m.startswith(("dareq_export", "dareq_runtime", "dareq_edge.cli"))}
        above = {m for m in found if m.startswith("dareq_edge") and edge_layer(m) > own}
        assert not above


@pytest.mark.parametrize(("name", "path"), EXPORT)
def test_dareq_export_layers(name: str, path: Path) -> None:
    found = imports(path)
    capture = name.split(".")[0] == CAPTURE
    assert not outside(found) - L1 - L3 - READING - ({"torch", "transformers"} if capture else set())
    assert not {m for m in found if m.startswith("dareq_runtime")}
    # what a module's matrix is, and which tables can be replaced under their model's code, is said once
    shared = {"dareq_edge.matrix", "dareq_edge.embeddings"} if capture else set()
    assert not {m for m in found if m.startswith("dareq_edge") and edge_layer(m) > 1} - shared


@pytest.mark.parametrize(("name", "path"), RUNTIME)
def test_dareq_runtime_layers(name: str, path: Path) -> None:
    found = imports(path)
    assert not outside(found) - L1 - L4 - PEERS.get(name, set())
    assert not {m for m in found if m.startswith("dareq_export")}
    assert not {m for m in found if m.startswith("dareq_edge") and edge_layer(m) > 1}


def imports_at_the_top(path: Path) -> set[str]:
    """Imports that run when the module is imported: not those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def run_blocked(code: str, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which importing the blocked packages fails."""
    head = f"import sys\nfor name in {sorted(blocked)!r}: sys.modules[name] = None\n"
    head += f"sys.path[:0] = {[str(ROOT / r) for r in ('.', 'export', 'runtime')]!r}\n"
    return subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, check=False)


def runtime_modules() -> str:
    return "; ".join(
        f"import {('dareq_runtime.' + n).rstrip('.')}" for n, _ in modules(ROOT / "runtime/dareq_runtime")
    )


@pytest.mark.parametrize(
    ("code", "blocked"),
    [
        ("import dareq_edge", L1 | L2 | L3 | L4),
        ("import dareq_edge.manifest, dareq_edge.report, dareq_edge.tokenizer_files", L1 | L2 | L3 | L4),
        ("import dareq_edge.qtensor, dareq_edge.packing, dareq_edge.container", L2 | L3 | L4),
        ("import dareq_edge.quantize, dareq_edge.reference, dareq_edge.hf, dareq_edge.nn", L3 | {"onnxruntime"}),
        ("import dareq_edge.allocation.facts, dareq_edge.allocation.rules.fastewq", L2 | L3 | L4),
        (runtime_modules(), L2 | L3),
        ("import dareq_edge.cli.app", L1 | L2 | L3 | L4),
    ],
    ids=["edge", "records", "format", "quantization", "rules", "runtime", "command line"],
)
def test_imports_with_the_rest_blocked(code: str, blocked: set[str]) -> None:
    done = run_blocked(code, blocked)
    assert done.returncode == 0, done.stderr


def test_blocking_blocks() -> None:
    assert run_blocked("import dareq_edge.checkpoint", {"torch"}).returncode != 0


def test_help_imports_no_stage() -> None:
    code = (
        "from dareq_edge.cli import main\n"
        "assert main(['deploy', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = run_blocked(code, set())
    assert done.returncode == 0, done.stderr


SOURCES = [
    p for root in ("dareq_edge", "export", "runtime", "tests", "examples") for p in (ROOT / root).rglob("*.py")
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path} has more than 400 lines; split it by what changes together"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 80, f"{node.name} in {path} has {lines} lines; at most 80"


def test_no_path_of_one_machine_is_committed() -> None:
    for path in SOURCES:
        if path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert not any(mark in text for mark in (f"/{name}/" for name in ("work", "root", "home"))), path
