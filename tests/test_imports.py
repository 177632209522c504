"""The law of imports: base <- target <- ir <- ops <- rooms <- pipeline <- api <- top. No room
imports another, and there are no cycles.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ferrule"
FLOORS = {"base": 0, "target": 1, "ir": 2, "ops": 3, "pipeline": 5, "api": 6}
ROOM, TOP = 4, 7
ROOF = {"cli"}  # folders that count as files beside the folders
SEES = {
    "runtime": {"base"},
    "report": {"base"},
    "codegen": {"base", "target", "ir"},
    "frontend": {"base", "ir", "ops"},  # what a program means is the same for all targets
}
FILES = {
    ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(ROOT.rglob("*.py"))
}


def place(module: str) -> tuple[str, int]:
    """The folder of a module under ferrule/, and its floor; files beside the folders are on top."""
    parts = module.split(".")
    inside = len(parts) > 1 and (ROOT / parts[1]).is_dir() and parts[1] not in ROOF
    folder = parts[1] if inside else ""
    return folder, FLOORS.get(folder, ROOM) if folder else TOP


def imports(module: str) -> Iterator[str]:
    """The modules of ferrule that a module imports, at its head or in functions."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: line {node.lineno}: write imports in full"
            names = [f"{node.module}.{a.name}" for a in node.names]
        for name in names:
            while name.startswith("ferrule") and name not in FILES:
                name = name.rpartition(".")[0]
            if name in FILES and name != module:
                yield name


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    folder, floor = place(module)
    for name in imports(module):
        other, below = place(name)
        assert other == folder or below < floor, f"{module} must not import {name}"
        if folder in SEES and other != folder:
            assert other in SEES[folder], f"{folder} sees {SEES[folder]} alone, not {name}"


STANDS_ON = {"tflite": "tensorflow"}  # whose operators its files have


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("ferrule.frontend.")])
def test_frontends_do_not_import_each_other(module: str) -> None:
    own = module.split(".")[2]
    others = [m for m in imports(module) if m.startswith("ferrule.frontend.")]
    assert all(m.split(".")[2] in (own, STANDS_ON.get(own)) for m in others), others


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter({m: set(imports(m)) for m in FILES}).prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " <- ".join(error.args[1]))


BESIDE = ("tools", "benchmarks", "examples", "docs", "tests")
OURS = {"ferrule", *(folder.partition("/")[0] for folder in BESIDE)}


@pytest.mark.parametrize(
    "file",
    [f for folder in BESIDE for f in sorted((ROOT.parent / folder).rglob("*.py"))],
    ids=lambda f: str(f.relative_to(ROOT.parent)),
)
def test_what_is_imported_beside_the_package_is_there(file: Path) -> None:
    """The type checker looks at the package alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None or node.level:
            continue
        if node.module.partition(".")[0] not in OURS:
            continue
        module = importlib.import_module(node.module)
        for name in (a.name for a in node.names):
            if not hasattr(module, name):
                importlib.import_module(f"{node.module}.{name}")
