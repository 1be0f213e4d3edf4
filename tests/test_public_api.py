"""What `workbench` names is the public API, and nothing is renamed by accident."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import workbench

PACKAGE = Path(workbench.__file__).parent
LAYERS = [
    ("errors", "settings", "events", "quantised", "execution", "allocations", "chat", "hub"),
    ("demonstrations", "models", "decoding", "pocket", "memory", "planning"),
    ("prompts", "sampling", "groups", "divergence", "chunked", "roles"),
    ("training", "evaluation", "adapters"),
    ("runs",),
    ("export", "recipes"),
    ("worker", "views"),
    ("app", "commands", "cli", "__main__"),
]


def test_all_names_exist_are_sorted_and_documented() -> None:
    assert workbench.__all__ == sorted(workbench.__all__)
    for name in workbench.__all__:
        value = getattr(workbench, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), name


def imports(path: Path) -> set[str]:
    """The parts of the package that a file imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("workbench.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__" or (part == "pocket" and path.name in ("measure.py", "sample_data.py")):
        return  # the public names, and the programs that measure and write with the whole library
    level = next(i for i, parts in enumerate(LAYERS) if part in parts)
    above = {name for parts in LAYERS[level + 1 :] for name in parts}
    assert not imports(path) & above


def test_no_file_is_long() -> None:
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tests").rglob("*.py")]
    assert len(files) > 70
    assert {f.name: n for f in files if (n := len(f.read_text().splitlines())) > 400} == {}


@pytest.mark.parametrize(
    ("asked", "spins"), [({}, "2000"), ({"OMP_WAIT_POLICY": "active"}, ""), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_threads_do_not_spin_for_long_unless_the_person_says_so(asked: dict[str, str], spins: str) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    code = "import sys, os, workbench; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT', ''))"
    said = subprocess.run([sys.executable, "-c", code], env=clean | asked, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == spins
