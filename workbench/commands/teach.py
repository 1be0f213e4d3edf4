"""workbench teach DEMOS: from a file to a taught model, with what it learned and what it forgot."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_data,
    add_model,
    add_runs,
    add_scorer,
    add_settings,
    read_data,
    runs_folder,
)
from workbench.errors import InputError
from workbench.runs.folder import free_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data(parser)
    add_model(parser)
    add_runs(parser)
    parser.add_argument("--method", choices=("sdft", "sft"), default="sdft", help="how to teach (default: sdft)")
    parser.add_argument("--beside-sft", action="store_true", help="teach by SFT too, and show both")
    parser.add_argument(
        "--keep",
        metavar="FILE",
        action="append",
        default=[],
        help="questions whose answers should stay as they are; may be given several times",
    )
    parser.add_argument("--on", metavar="RUN", help="go on from what this run has taught")
    parser.add_argument("--name", help="the run's name (default: made from the file's)")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="share of rows kept for the test, below 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--probes",
        metavar="FILE",
        help="questions with answers that retention is measured on; an answer counts that holds the right one, "
        "whatever --scorer says, since probes are about other things than what is taught (default: bundled)",
    )
    add_scorer(parser)
    for flag, what in (("--evaluate-every", "measurements"), ("--save-every", "checkpoints")):
        parser.add_argument(
            flag, type=int, default=50, metavar="N", help=f"steps between {what} (default: %(default)s)"
        )
    parser.add_argument("--micro-batch", type=int, metavar="N", help="answers in one pass (default: as many as fit)")
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="answers sampled together, in a step and where it is measured (default: as many as fit)",
    )
    parser.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute activations again instead of keeping them (default: where they do not fit)",
    )
    add_settings(parser, going_on=True)


def run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Read, check, teach, show."""
    reading = read_data(options)
    folder = runs_folder(options)
    if options.name is not None:
        free_path(folder, options.name)
    for flag in ("evaluate_every", "save_every"):
        if getattr(options, flag) < 1:
            raise InputError(f"--{flag.replace('_', '-')} is {getattr(options, flag)}.", "Give it 1 or more.")
    if options.beside_sft and options.method == "sft":
        raise InputError("--beside-sft teaches by SFT beside SDFT, and --method is sft.", "Leave one of them out.")
    # Torch is imported from here on: what is wrong so far is said at once.
    from workbench.commands.teaching import teach

    return teach(options, reading, folder)
