"""Documentation that is written from the code is up to date, and every command in the README is a real one."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from workbench.cli import COMMANDS, _Parser
from workbench.evaluation import SCORERS
from workbench.settings import own_defaults

ROOT = Path(__file__).parent.parent


def script(name: str) -> Any:
    """A script in docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == script("write_settings").settings_page(), "run: python docs/write_settings.py"


def test_settings_page_has_every_flag_and_scorer() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    parser = _Parser(prog="teach")
    importlib.import_module("workbench.commands.teach").arguments(parser)
    flags = set(re.findall(r"--[a-z-]+", parser.format_usage()))
    assert {"--held-out", "--scorer", "--evaluate-every", "--micro-batch", "--lr"} <= flags
    assert {flag for flag in flags if f"`{flag}" not in page and f", {flag}" not in page} == {"--no-tail"}
    row = "| `--steps` | 300 | {} | {} |".format(*(own_defaults(True, on)["optim"]["steps"] for on in (False, True)))
    assert row in page and "700" in row
    scorer = next(line for line in page.splitlines() if line.startswith("| `--scorer"))
    named = set(re.findall(r"\w+", scorer.partition("scored:")[2].partition(", or one")[0]))
    assert len(named) == 5 and named <= set(SCORERS) and all(f"| `{name}` |" in page for name in SCORERS)


@pytest.mark.parametrize("page", ["README.md", "docs/method.md", "docs/pocket.md", "docs/paper.md"])
def test_tables_are_what_the_results_say(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == script("draw_tables").with_tables(page, text), "run: python docs/draw_tables.py"


def commands(page: Path) -> list[str]:
    """The `workbench ...` lines of a page's code blocks."""
    blocks = re.findall(r"```(?:sh|text|)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("workbench ")]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "sample_data" / "README.md"]
LINES = sorted({line for page in PAGES if page.exists() for line in commands(page)})


def test_the_readme_has_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 6


@pytest.mark.parametrize("line", LINES)
def test_every_command_in_the_docs_parses(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    module = importlib.import_module(f"workbench.commands.{name}")
    parser = _Parser(prog=name)
    module.arguments(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for given in vars(options).values():
        if isinstance(given, str) and given.startswith("sample_data/"):
            assert (ROOT / given).is_file(), given


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    if not page.exists():
        pytest.fail(f"{page} is missing")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^\s*|`)make ([a-z]+)", (ROOT / "README.md").read_text(), re.M))
    assert {"app", "lesson", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), target
