"""The notebooks as they are stored. `make notebooks-test` runs them; here nothing is run."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench
from workbench import views

FOLDER = Path(__file__).parent.parent / "notebooks"


def _build() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks_build", FOLDER / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _build()
each = pytest.mark.parametrize("path", build.sources(), ids=lambda path: path.stem)


def tagged(notebook: Any, tag: str) -> list[Any]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


@each
def test_text_and_notebook_agree(path: Path) -> None:
    text, stored = build.from_text(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(stored)

    def said(notebook: Any) -> list[Any]:
        return [(cell["id"], cell.cell_type, dict(cell.metadata), cell.source) for cell in notebook.cells]

    assert said(stored) == said(text), f"make it anew: python notebooks/build.py {path.stem}"
    # Else Jupyter compares the times of the two files, and opens neither.
    assert "jupytext" not in stored.metadata


@each
def test_outputs_are_those_of_one_whole_run(path: Path) -> None:
    stored = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert build.troubles(stored) == []
    shown = [i for i, cell in enumerate(stored.cells) if cell.get("outputs")]
    assert shown and shown[0] <= 3, "something is seen within the first cells"
    assert path.with_suffix(".ipynb").stat().st_size < 1_500_000


@each
def test_has_what_every_notebook_has(path: Path) -> None:
    notebook = build.from_text(path)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert '\nMODEL = "pocket"' in "\n" + code
    assert notebook.cells[0].cell_type == "markdown" and "?" in notebook.cells[0].source
    assert "Predict before you run" in words
    assert "## Recap" in words and "## Sources" in words
    solutions = tagged(notebook, "solution")
    assert len(solutions) >= 2
    assert all(cell.metadata["jupyter"]["source_hidden"] for cell in solutions)
    assert words.count("<details>") >= len(solutions)
    assert any("assert " in cell.source for cell in tagged(notebook, "check"))


@each
def test_calls_the_public_api_alone(path: Path) -> None:
    code = [cell.source for cell in build.from_text(path).cells if cell.cell_type == "code"]
    lines = [line for line in "\n".join(code).splitlines() if not line.lstrip().startswith(("%", "!"))]
    tree = ast.parse("\n".join(lines))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("workbench") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("workbench"):
            allowed = {"workbench": workbench.__all__, "workbench.views": views.__all__}[str(node.module)]
            assert {alias.name for alias in node.names} <= set(allowed)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__")
