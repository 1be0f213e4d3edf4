"""Write docs/settings.md from the settings themselves: python docs/write_settings.py"""

import argparse
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from workbench.commands import teach
from workbench.evaluation import SCORERS
from workbench.settings import GROUPS, own_defaults

TITLES = {
    "lora": "The adapter",
    "optim": "How long and how strongly",
    "rollout": "How the student answers",
    "divergence": "What is made small",
    "teacher": "The teacher",
    "keep": "Keep rows",
}


def settings_page() -> str:
    """The page, as Markdown."""
    lines = [
        "# Settings",
        "",
        "Every setting of a run, as a flag of `workbench teach`, with its default. Written by",
        "`python docs/write_settings.py` from the sentences that the command line shows. Where the bundled model has a",
        "default of its own, it is given too; where that differs again for a lesson on top of another (`--on RUN`),",
        "that as well. `workbench resume` takes none of them: a run goes on with the settings that it was begun with.",
    ]
    first, second = own_defaults(True), own_defaults(True, going_on=True)
    for group, kind in GROUPS.items():
        lines += ["", f"## {TITLES[group]}", "", (kind.__doc__ or "").splitlines()[0], ""]
        lines += ["| flag | default | pocket | pocket, `--on` | meaning |", "|---|---|---|---|---|"]
        for field in fields(kind):
            pocket = first.get(group, {}).get(field.name, "")
            on = second.get(group, {}).get(field.name, "")
            flag = "--" + field.name.replace("_", "-")
            default = "(empty)" if field.default == "" else field.default
            own = f"{pocket} | {on if on != pocket else ''}"
            lines.append(f"| `{flag}` | {default} | {own} | {_cell(field.metadata['help'])} |")
    lines += ["", "## What is taught, and how it is measured and carried out", "", "| flag | meaning |", "|---|---|"]
    lines += [f"| `{flag}` | {_cell(meaning)} |" for flag, meaning in _other_flags()]
    lines += ["", "## Scorers", "", "What `--scorer` can name.", "", "| scorer | an answer is right if |", "|---|---|"]
    lines += [f"| `{name}` | {_cell((said.__doc__ or '').splitlines()[0])} |" for name, said in SCORERS.items()]
    return "\n".join(lines) + "\n"


def _other_flags() -> Iterator[tuple[str, str]]:
    """The flags of `workbench teach` that are no settings of the method, with their help."""
    parser = argparse.ArgumentParser()
    teach.arguments(parser)
    settings = {field.name for kind in GROUPS.values() for field in fields(kind)}
    for action in parser._actions:  # argparse has no other list of them
        if action.option_strings and action.dest not in {"help", *settings}:
            flag = ", ".join(action.option_strings)
            value = action.metavar or ("|".join(action.choices) if action.choices else "")
            if not value and action.nargs != 0:
                value = action.dest.upper()
            yield _cell(f"{flag} {value}".strip()), (action.help or "") % vars(action)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(settings_page(), encoding="utf-8")
