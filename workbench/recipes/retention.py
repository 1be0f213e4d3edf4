"""Retention on the paper's six tasks, by EleutherAI's lm-evaluation-harness (the extra `[lm-eval]`).

The tasks and the settings are those of the authors' command: hellaswag, mmlu, truthfulqa, winogrande, humaneval and
ifeval, zero-shot as the tasks come, without a chat template (their README of 2026-04-07, harness commit
03c44adc0586f88bb343a74da1a1c602103536dd). Read against lm_eval 0.4.13: `simple_evaluate` and
`lm_eval.models.huggingface.HFLM`, which take a model in memory; a PEFT model is one.

Which of a task's several figures the paper reports is not said. HEADLINES are our choice; all figures are kept.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.models import LoadedModel

TASKS = ("hellaswag", "humaneval", "ifeval", "mmlu", "truthfulqa", "winogrande")
"""The paper's six tasks by their names in the harness."""

CODE = "humaneval"
"""The task that runs programs which the model wrote."""

HEADLINES = {
    "hellaswag": ("hellaswag", "acc,none"),
    "humaneval": ("humaneval", "pass@1,create_test"),
    "ifeval": ("ifeval", "prompt_level_strict_acc,none"),
    "mmlu": ("mmlu", "acc,none"),
    "truthfulqa": ("truthfulqa_mc1", "acc,none"),
    "winogrande": ("winogrande", "acc,none"),
}
"""For each task, whose and which figure stands for it. Of truthfulqa's, mc1 is near the paper's 47.9."""


def check_harness() -> None:
    """Refuse at once, before anything is taught, where the harness is not installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            "lm-evaluation-harness is not installed.", 'Install it: pip install "sdft-workbench[lm-eval]".'
        )


def harness_model(loaded: LoadedModel, model: Any = None, batch: int = 8) -> Any:
    """The harness's own `HFLM` around a model in memory.

    Args:
        model: the base with an adapter on it (`Roles.student`); None: the base.
    """
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=loaded.model if model is None else model,
        tokenizer=loaded.tokenizer,
        batch_size=batch,
        max_length=min(loaded.longest, 4096),
        trust_remote_code=False,
    )


def measure_tasks(
    loaded: LoadedModel,
    model: Any = None,
    *,
    tasks: Sequence[str | Mapping[str, Any]] = TASKS,
    run_code: bool = False,
    limit: int | None = None,
    batch: int = 8,
) -> dict[str, dict[str, float]]:
    """All figures of the tasks, as shares from 0 to 1, by task and figure.

    Args:
        tasks: names, or tasks as the harness describes them.
        run_code: run the programs that the model writes for HumanEval; without it that task is left out.
        limit: most questions of a task; for trying it out, its figures mean nothing.

    Raises:
        InputError: the harness is missing, or a task's data cannot be fetched.
    """
    check_harness()
    from lm_eval import simple_evaluate

    asked = [task for task in tasks if run_code or task != CODE]
    # Transformers' own guard against running a model's code; `run_code` is the person's word.
    before = os.environ.get("HF_ALLOW_CODE_EVAL")
    if run_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    try:
        found = simple_evaluate(
            model=harness_model(loaded, model, batch),
            tasks=list(asked),
            batch_size=batch,
            limit=limit,
            log_samples=False,
            bootstrap_iters=0,
            task_manager=_all_tasks(),
            confirm_run_unsafe_code=run_code,
        )
    except (OSError, ConnectionError) as error:
        raise InputError(
            f"lm-evaluation-harness could not fetch a task's data: {' '.join(str(error).split())[:300]}.",
            "Its tasks need the network once. The runs are kept: give the same command again when it is there.",
        ) from error
    finally:
        if run_code:
            _put_back("HF_ALLOW_CODE_EVAL", before)
    assert found is not None  # None is for processes of rank above 0
    return {
        str(task): {str(k): float(v) for k, v in figures.items() if isinstance(v, int | float)}
        for task, figures in found["results"].items()
    }


def headlines(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """One figure for each of the six tasks; None where it was not measured."""
    return {name: figures.get(task, {}).get(key) for name, (task, key) in HEADLINES.items()}


@cache
def _all_tasks() -> Any:
    """The harness's list of its tasks, which takes it seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _put_back(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
