"""The `workbench` command: the app, check, teach, resume, runs, compare, export, probes,
doctor.

Every command takes --json: one JSON object on standard output and nothing else there. Progress and messages for
people go to standard error. Exit status: 0 done, 2 the input is wrong, 1 anything else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from workbench.errors import InputError, WorkbenchError

COMMANDS = {
    "app": "The workbench in the browser; plain `workbench` is the same.",
    "check": "Before any training: can the model do it when shown how, and not otherwise?",
    "plan": "Before any download: does a model fit the memory, and how is it taught there?",
    "teach": "Teach a model from demonstrations, and measure what it learned and what it forgot.",
    "resume": "Go on with a run that was stopped or killed.",
    "runs": "List all runs.",
    "compare": "Ask base, teacher and student of a run the same question.",
    "export": "Write a run's result as an adapter, a merged model, or a TRL script.",
    "recipe": "A task of the paper at full size: its public data, SFT beside SDFT, its scores.",
    "probes": "Show the questions that retention is measured on.",
    "doctor": "What this machine has, which precisions work on it, and what is missing.",
}


class _Parser(argparse.ArgumentParser):
    """Wrong usage is an input error like any other: exit status 2 and, with --json, still one JSON object."""

    def error(self, message: str) -> Any:
        raise InputError(f"{message[0].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        return _run(arguments)
    except WorkbenchError as error:
        _fail(error.problem, error.advice, as_json)
        return error.exit_code
    except KeyboardInterrupt:
        _fail("Interrupted.", "Run the same command again.", as_json)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: no trace back reaches a user
        if os.environ.get("WORKBENCH_TRACEBACK"):
            raise
        _fail(
            f"Something went wrong that should not have: {type(error).__name__}: {error}",
            "Set WORKBENCH_TRACEBACK=1 and run the same command again to see where; please report it.",
            as_json,
        )
        return 1


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, rest = (arguments[0], arguments[1:]) if arguments else ("app", [])
    if name == "--version":
        from workbench.runs.session import versions

        print(f"sdft-workbench {versions()['sdft-workbench']}")
        return 0
    if name not in COMMANDS:
        raise InputError(f"There is no command {name!r}.", f"The commands are {', '.join(COMMANDS)}.")
    # Each command is imported when it is called: --help must not wait for torch.
    command = importlib.import_module(f"workbench.commands.{name}")
    parser = _Parser(prog=f"workbench {name}", description=COMMANDS[name])
    command.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args(rest)
    result: dict[str, Any] | None = command.run(options)
    if result is None:  # one of several processes, of which another speaks
        return 0
    if options.json:
        _print_json(result)
    # A run that was stopped is not done: what a script does next must not count on its adapter.
    done = all(part.get("finished", True) for part in (result, result.get("beside", {})))
    return 0 if done else 1


def _fail(problem: str, advice: str, as_json: bool) -> None:
    if as_json:
        _print_json({"error": problem, "advice": advice})
    print(f"{problem}\n{advice}", file=sys.stderr)


def _print_json(result: dict[str, Any]) -> None:
    """One line on standard output; letters that its encoding lacks are escaped, which JSON reads the same."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(result, allow_nan=False)
    print(text)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Teach a language model a skill from demonstrations, and see what it forgot.",
            "",
            "usage: workbench [COMMAND ... [--json]]",
            "",
            *lines,
            "",
            "Try: workbench, or without a browser: workbench teach zorbic",
        ]
    )
