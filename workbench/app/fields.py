"""Every setting as a field, with the sentence from `settings.py` that the command line and the docs show, too."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr

from workbench.app.desk import Desk
from workbench.app.teaching import default_of
from workbench.settings import GROUPS

Key = tuple[str, str]

FIRST: tuple[Key, ...] = (("optim", "steps"), ("optim", "lr"), ("keep", "keep_share"))
"""Settings with a place of their own above the others."""

TITLES = {
    "lora": "The adapter",
    "optim": "Optimizer",
    "rollout": "The student's answers",
    "divergence": "The distance to the teacher",
    "teacher": "The teacher",
    "keep": "Keep rows",
}

NAMES = {
    "ema_rate": "EMA rate",
    "top_p": "Top-p",
    "top_k": "Top-k",
    "beta": "Beta (of JSD)",
    "rank": "LoRA rank",
    "steps": "How long (steps)",
    "lr": "How strongly (learning rate)",
}


def shown(desk: Desk, key: Key) -> Any:
    """What a setting is: as it was chosen, else the model's default."""
    group, name = key
    return desk.drafts.settings.get(group, {}).get(name, default_of(desk, group, name))


def advanced(desk: Desk) -> tuple[dict[Key, Any], dict[str, gr.HTML]]:
    """Declare a field for each setting but the first ones, in groups; and where it is said what is wrong in a group."""
    made: dict[Key, Any] = {}
    wrong: dict[str, gr.HTML] = {}
    for group, kind in GROUPS.items():
        keys = [(group, f.name) for f in fields(kind) if (group, f.name) not in FIRST]
        if not keys:
            continue
        gr.HTML(f"<h4>{TITLES[group]}</h4><p>{(kind.__doc__ or '').strip()}</p>", padding=False)
        with gr.Row(equal_height=False):
            for key in keys:
                made[key] = _field(desk, key)
        wrong[group] = gr.HTML(elem_id=f"teach-wrong-{group}", padding=False)
    return made, wrong


def label_of(name: str) -> str:
    """What a setting is called on the page."""
    return NAMES.get(name, name.replace("_", " ").capitalize())


def _field(desk: Desk, key: Key) -> Any:
    group, name = key
    about = next(f for f in fields(GROUPS[group]) if f.name == name).metadata
    value = shown(desk, key)
    said: dict[str, Any] = {
        "label": label_of(name),
        "info": about["help"],
        "value": value,
        "min_width": 230,
    }
    if about["choices"]:
        return gr.Dropdown(list(about["choices"]), **said)
    if isinstance(value, bool):
        return gr.Checkbox(**said)
    if isinstance(value, int):
        return gr.Number(precision=0, **said)
    if isinstance(value, float):
        return gr.Number(step=0.01, **said)
    return gr.Textbox(lines=3 if name == "template" else 1, **said)


def values(desk: Desk, keys: list[Key]) -> list[Any]:
    """What all fields should hold."""
    return [shown(desk, key) for key in keys]
