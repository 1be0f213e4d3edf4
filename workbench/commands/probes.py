"""workbench probes: the questions that retention is measured on."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_model, read_probes
from workbench.evaluation.retention import bundled_probes
from workbench.models import POCKET


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    parser.add_argument("--probes", metavar="FILE", help="a file of your own: prompt and answer in each row")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Show them, by tag. No model is loaded."""
    path = options.probes or str(bundled_probes(options.model == POCKET))
    reading = read_probes(path)
    assert reading is not None
    tags: dict[str, int] = {}
    for row in reading.rows:
        for tag in row.tags or ("no tag",):
            tags[tag] = tags.get(tag, 0) + 1
    screen.table(
        f"{len(reading.rows)} probes for {options.model}",
        ("kind", "questions"),
        [(t, str(n)) for t, n in tags.items()],
    )
    screen.say("For example:")
    for row in reading.rows[:: max(1, len(reading.rows) // 5)][:5]:
        screen.say(f"  {row.question}  ->  {row.answer}")
    return {"model": options.model, "probes": [row.to_dict() for row in reading.rows], "tags": tags}
