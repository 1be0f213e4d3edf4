"""Run the notebooks and store what came out, or only run them as a test.

    python notebooks/build.py                 run all, write the .ipynb files
    python notebooks/build.py 03              the same for one
    python notebooks/build.py --test          run all, write nothing; a failing cell is an error
    python notebooks/build.py --seconds 120   ... and so is taking longer than this for one notebook

The text of a notebook is its .py file (jupytext, py:percent); the .ipynb is made from it. Cells tagged `check` assert
what the notebook says; cells tagged `solution` are the exercises' solutions. Both are run like all others.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def sources() -> list[Path]:
    """The text files of all notebooks, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def from_text(path: Path) -> Any:
    """The notebook of a text file, without outputs. Ids are numbers, so that they stay from one build to the next.

    Nothing in it names the text: with that, Jupyter would refuse to open a notebook that is younger than its text, and
    write a student's notes into the text.
    """
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number:03d}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def run(path: Path) -> tuple[Any, float]:
    """The notebook with its outputs, and how many seconds it took.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook, start = from_text(path), time.perf_counter()
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}
    ).execute()
    return _clean(notebook), time.perf_counter() - start


def _clean(notebook: Any) -> Any:
    """Without what differs from run to run though nothing has changed: times, and addresses in memory."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
            texts = output.get("data", {})
            for kind, text in texts.items():
                if kind.startswith("text/"):
                    texts[kind] = _ADDRESS.sub("", text)
    return notebook


def troubles(notebook: Any) -> list[str]:
    """What should not be in a stored notebook: warnings, and plots' names without a plot."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "stream" and output["name"] == "stderr":
                found.append(f"{cell['id']} wrote to stderr: {output['text'].strip()[:200]}")
            if output["output_type"] == "error":
                found.append(f"{cell['id']} failed: {output['ename']}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 03 (default: all)")
    parser.add_argument("--test", action="store_true", help="write nothing")
    parser.add_argument("--seconds", type=float, help="most that one notebook may take")
    options = parser.parse_args()
    failed = False
    for path in sources():
        if options.names and not path.name.startswith(tuple(options.names)):
            continue
        try:
            notebook, seconds = run(path)
        except CellExecutionError as error:
            print(f"{path.stem}: {error}", flush=True)
            failed = True
            continue
        found = troubles(notebook)
        if options.seconds is not None and seconds > options.seconds:
            found.append(f"took {seconds:.0f} s; at most {options.seconds:g} s are allowed")
        print(
            f"{path.stem}: {seconds:.0f} s" + "".join(f"\n  {line}" for line in found), flush=True
        )
        failed = failed or bool(found)
        if not options.test:
            nbformat.write(notebook, path.with_suffix(".ipynb"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
