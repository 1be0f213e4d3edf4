"""The model card of an export: how it was made, and what was measured."""

from __future__ import annotations

import json
from typing import Any

from workbench.events import Checked, Evaluated, Measure
from workbench.models import POCKET
from workbench.quantised import QUANTISED
from workbench.runs import Run

_USE = {
    "adapter": """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
{imported}
base = AutoModelForCausalLM.from_pretrained({model})
model = PeftModel.from_pretrained(base, ".")
```""",
    "merged": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```""",
    "trl": """```
pip install "trl==1.16.0" peft datasets
python train.py
```""",
}


def model_card(run: Run, kind: str) -> str:
    """Markdown with the front matter that the Hugging Face hub reads."""
    config = run.config
    # The bundled model has no id on the hub; its folder is what other programs load.
    is_pocket = config["model"] == POCKET
    model = "WEIGHTS" if is_pocket else repr(config["model"])
    imported = "\nfrom workbench.pocket import WEIGHTS\n" if is_pocket else ""
    front = ["---", "library_name: " + ("peft" if kind == "adapter" else "transformers")]
    if not is_pocket:
        front.append(f"base_model: {json.dumps(config['model'])}")
    front += [f"tags: [{'' if _is_imported(config) else 'self-distillation, '}sdft-workbench]", "---"]
    lines = [
        *front,
        "",
        f"# {run.name}",
        "",
        _origin(run, config),
        "",
        "## What was measured",
        "",
        *_measured(run, config),
        "",
        *_written_out(config, kind),
        "## Use",
        "",
        _USE[kind].format(model=model, imported=imported),
        "",
        "## How it was made",
        "",
        *_made(config),
        "",
    ]
    return "\n".join(lines)


def _is_imported(config: dict[str, Any]) -> bool:
    """Whether this is an adapter from elsewhere, of whose teaching nothing is known."""
    return bool(config["method"] == "imported")


def _origin(run: Run, config: dict[str, Any]) -> str:
    """Where the result comes from, in a sentence."""
    base = f"`{config['model']}`" + (f" (revision `{config['revision']}`)" if config.get("revision") else "")
    day = config["started"][:10]
    if _is_imported(config):
        source = f" from `{config['source']}`" if config.get("source") else ""
        return f"A LoRA adapter of {base} that was imported into SDFT Workbench{source} on {day}."
    name = "self-distillation fine-tuning (SDFT)" if config["method"] == "sdft" else "supervised fine-tuning (SFT)"
    return (
        f"Made with SDFT Workbench by {name} of {base}"
        + (f", going on from run `{config['on']}`" if config.get("on") else "")
        + f", from {len(run.rows('teaching'))} demonstrations, on {day}."
    )


def _made(config: dict[str, Any]) -> list[str]:
    """The settings that had a part in it."""
    settings, paper = config["settings"], ["", "SDFT: Shenfeld, Damani, Hübotter, Agrawal 2026, arXiv 2601.19897."]
    said = "Every setting and version:"
    if _is_imported(config):
        said, settings, paper = "How and from what it was taught is not known; it is:", {"lora": settings["lora"]}, []
    known = json.dumps({"settings": settings, "versions": config["versions"]}, indent=2)
    return [said, "", "```json", known, "```", *paper]


def _written_out(config: dict[str, Any], kind: str) -> list[str]:
    """What a merged model is, whose base was quantised."""
    if kind != "merged" or config.get("precision") not in QUANTISED:
        return []
    return [
        f"The base was taught in {config['precision']}. Here it is written out: each weight is the number that its",
        "bits stood for, with what was taught added in 16 or 32 bits. It is not the unquantised base, on which the",
        "same adapter answers a little differently.",
        "",
    ]


def _measured(run: Run, config: dict[str, Any]) -> list[str]:
    if _is_imported(config):
        return ["Nothing: it came as it is."]
    events = run.log.read()
    checked: Any = next((e for e in events if isinstance(e, Checked)), None)
    last: Any = next((e for e in reversed(events) if isinstance(e, Evaluated)), None)
    rows = [
        ("held-out questions, base", checked and checked.base),
        ("held-out questions, base shown the demonstration", checked and checked.teacher),
        ("held-out questions, after teaching", last and last.skill),
        ("probes that the base knew, still right after teaching", last and last.retention),
    ]
    lines = ["| | share | of | 95% interval |", "|---|---|---|---|"]
    for name, measure in rows:
        if isinstance(measure, Measure):
            bounds = f"{measure.low:.2f} to {measure.high:.2f}"
            lines.append(f"| {name} | {measure.value:.2f} | {measure.n} | {bounds} |")
    return lines if len(lines) > 2 else ["Nothing could be scored: the rows have no answers."]
