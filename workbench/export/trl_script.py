"""A script that repeats a run with TRL, with its data (and, for the bundled model, its weights) beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from workbench.chat import ON_THAT_DAY
from workbench.errors import InputError
from workbench.models import POCKET
from workbench.pocket import WEIGHTS
from workbench.prompts import PAPER_TEMPLATE
from workbench.runs import Run
from workbench.settings import LoraSettings, Settings

_ALPHA = {"forward": 0.0, "reverse": 1.0}

_SDFT = '''"""Repeats the run {name!r} of SDFT Workbench with TRL.

    pip install "trl==1.16.0" peft datasets
    python train.py

{differences}
"""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

HERE = Path(__file__).parent
MODEL = {model}

tokenizer = AutoTokenizer.from_pretrained(MODEL{revision})
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, use_safetensors=True{revision})
if "strftime_now" in str(tokenizer.chat_template):
    # It asks for today's date, which in the run's prompts was this one on every day.
    tokenizer.chat_template = {on_that_day!r} + tokenizer.chat_template
trainer = SDFTTrainer(
    model=model,
    args=SDFTConfig(
        output_dir=str(HERE / "output"),
{arguments}{options}
    ),
    train_dataset=Dataset.from_json(str(HERE / "data.jsonl")),
    processing_class=tokenizer,
    peft_config=LoraConfig(
        r={rank}, lora_alpha={alpha}, lora_dropout=0.0, target_modules={targets!r}, task_type="CAUSAL_LM"
    ),
)
trainer.train()
trainer.save_model(str(HERE / "output"))
print("The adapter is in", HERE / "output")
'''
_SFT = (
    _SDFT.replace("from trl.experimental.sdft import SDFTConfig, SDFTTrainer", "from trl import SFTConfig, SFTTrainer")
    .replace("SDFTTrainer(", "SFTTrainer(")
    .replace("SDFTConfig(", "SFTConfig(")
)


# The workbench asks a thinking model to answer at once; the script must ask for the same. A template that has no such
# switch does not look at it.
_NO_THINKING = """
        chat_template_kwargs={"enable_thinking": False, "thinking": False},"""


def write_trl(run: Run, folder: Path) -> None:
    """Write train.py and data.jsonl (and model/ for the bundled model).

    Raises:
        InputError: the run goes on from another one, so that TRL would need that one's merged model first; or it was
            imported as an adapter, so that there is nothing to repeat.
    """
    config = run.config
    if config["method"] == "imported":
        raise InputError(
            f"Run {run.name} was imported as an adapter: how and from what it was taught is not known, so no script "
            "can repeat it.",
            "Export it as an adapter, or merged into its model.",
        )
    if run.before is not None:
        raise InputError(
            f"Run {run.name} goes on from run {config['on']}, which a script cannot repeat in one go.",
            f"Export {config['on']} as merged, and teach on that folder.",
        )
    if config["model"] == POCKET:
        shutil.copytree(WEIGHTS, folder / "model")
        model = 'str(HERE / "model")'
    else:
        model = repr(config["model"])
    is_sdft, settings = config["method"] == "sdft", config["settings"]
    rows = [_row(row, is_sdft) for row in run.rows("teaching")]
    if is_sdft:
        # TRL passes over a batch that is not full: with fewer rows than that it would train nothing.
        rows *= -(-Settings.from_dict(settings).prompts // len(rows))
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(data, encoding="utf-8")
    arguments = _common(settings) | (_sdft_only(settings) if is_sdft else _sft_only())
    lora = settings["lora"]
    targets = lora["targets"] if lora["targets"] == "all-linear" else list(LoraSettings(**lora).layers)
    revision = config.get("revision")
    script = (_SDFT if is_sdft else _SFT).format(
        name=run.name,
        differences="\n".join(differences(run)),
        model=model,
        revision=f", revision={revision!r}" if revision else "",
        on_that_day=ON_THAT_DAY,
        options=_NO_THINKING if is_sdft else "",
        arguments="\n".join(f"        {key}={value!r}," for key, value in arguments.items()),
        rank=lora["rank"],
        alpha=lora["alpha"],
        targets=targets,
    )
    (folder / "train.py").write_text(script, encoding="utf-8")


def _row(row: Any, is_sdft: bool) -> dict[str, Any]:
    prompt = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else [dict(m) for m in row.prompt]
    if is_sdft:
        return {
            "prompt": prompt,
            "privileged_context": row.context if row.context is not None else row.demonstration,
        }
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": row.demonstration}]}


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    optim = settings["optim"]
    schedule = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}[optim["schedule"]]
    return {
        "per_device_train_batch_size": optim["batch"],
        "gradient_accumulation_steps": 1,
        "max_steps": optim["steps"],
        "learning_rate": optim["lr"],
        "lr_scheduler_type": schedule,
        "warmup_steps": optim["warmup"],
        "weight_decay": optim["weight_decay"],
        "max_grad_norm": optim["max_norm"],
        "seed": optim["seed"],
        "gradient_checkpointing": False,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 10,
    }


def _sdft_only(settings: dict[str, Any]) -> dict[str, Any]:
    chosen, rollout, teacher = settings["divergence"], settings["rollout"], settings["teacher"]
    template = teacher["template"] or PAPER_TEMPLATE
    # TRL fills its template with str.format: braces that are text must be doubled.
    safe = template.replace("{", "{{").replace("}", "}}")
    safe = safe.replace("{{prompt}}", "{prompt}").replace("{{demonstration}}", "{privileged_context}")
    return {
        "distillation_mode": "topk_logits" if chosen["support_size"] else "full_logits",
        "distillation_topk": chosen["support_size"] or None,
        "distillation_add_tail": chosen["tail"],
        "distillation_alpha": _ALPHA.get(chosen["divergence"], chosen["beta"]),
        "distillation_is_clip": None,
        "num_loss_tokens_to_skip": chosen["skip_tokens"],
        # In a run that goes on from none the model as it was before any lesson is the base.
        "teacher_model_kind": "base" if teacher["teacher"] == "original" else teacher["teacher"],
        "teacher_update_rate": teacher["ema_rate"],
        "num_generations": rollout["rollouts"],
        "max_prompt_length": None,
        "max_completion_length": rollout["max_new_tokens"],
        "temperature": rollout["temperature"],
        "top_p": rollout["top_p"],
        "top_k": rollout["top_k"],
        "disable_dropout": True,
        "teacher_prompt_template": safe,
    }


def _sft_only() -> dict[str, Any]:
    return {"completion_only_loss": True, "max_length": None}


def differences(run: Run) -> list[str]:
    """What TRL cannot repeat of this run, as sentences; random numbers differ in any case."""
    config = run.config
    chosen, teacher = config["settings"]["divergence"], config["settings"]["teacher"]
    found = ["The same data, settings and template; batches and random numbers differ, so the weights will too."]
    if run.rows("keep"):
        found.append("Left out: the keep rows, which TRL has no counterpart of.")
    if config["method"] == "sft":
        found.append("TRL averages the loss over all tokens of a batch, the workbench over each answer first.")
        return found
    if chosen["support_size"] and chosen["support"] == "teacher":
        found.append("TRL compares on the student's likeliest tokens, this run on the teacher's.")
    if chosen["clip"]:
        found.append("Left out: the limit on a vocabulary entry's part of the divergence.")
    if chosen["anchor"]:
        found.append("Left out: the anchor to the base.")
    if chosen["loss_temperature"] != config["settings"]["rollout"]["temperature"]:
        found.append("TRL uses the sampling temperature inside the loss too.")
    if teacher["teacher"] == "ema":
        found.append("TRL begins the EMA adapter at zero, the workbench as a copy of the student's.")
    return found
