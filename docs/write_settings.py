"""Write docs/settings.md from the settings themselves: python docs/write_settings.py"""

from dataclasses import fields
from pathlib import Path

from workbench.settings import GROUPS, POCKET_DEFAULTS

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
        "default of its own, it is given too.",
    ]
    for group, kind in GROUPS.items():
        lines += ["", f"## {TITLES[group]}", "", (kind.__doc__ or "").splitlines()[0], ""]
        lines += ["| flag | default | pocket | meaning |", "|---|---|---|---|"]
        for field in fields(kind):
            pocket = POCKET_DEFAULTS.get(group, {}).get(field.name, "")
            flag = "--" + field.name.replace("_", "-")
            default = "(empty)" if field.default == "" else field.default
            meaning = field.metadata["help"].replace("|", "\\|")
            lines.append(f"| `{flag}` | {default} | {pocket} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(settings_page(), encoding="utf-8")
