"""Retention by lm-evaluation-harness, with its own classes around our model and adapters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import paper_files
from tests.command import call
from workbench.commands import recipe_runs
from workbench.models import LoadedModel
from workbench.recipes import retention
from workbench.recipes.retention import HEADLINES, TASKS, harness_model, headlines, measure_tasks
from workbench.roles import Roles, make_roles
from workbench.settings import LoraSettings

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (the extra lm-eval)")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A multiple-choice task from a local file, as the harness describes one."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"What is {i} plus 4?", "choices": ["red", "blue"], "right": i % 2} for i in range(8)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return {
        "task": "red_or_blue",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


@pytest.fixture
def roles(tiny_model: LoadedModel) -> Roles:
    """A student that is far from its base."""
    made = make_roles(tiny_model, LoraSettings(rank=4))
    torch.manual_seed(0)
    for weight in made.adapter.values():
        weight.data.normal_(std=0.5)
    made.refresh()
    return made


def test_the_paper_s_six_tasks_are_known_to_the_harness() -> None:
    known = set(retention._all_tasks().all_tasks)
    assert len(TASKS) == 6 and set(TASKS) <= known
    assert {name for name, _ in HEADLINES.values()} <= known and set(HEADLINES) == set(TASKS)


def test_the_harness_reads_our_student_and_our_base(roles: Roles) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    ids = roles.loaded.tokenizer("What is 3 plus 4?", add_special_tokens=False)["input_ids"]
    target = roles.loaded.tokenizer(" red", add_special_tokens=False)["input_ids"]
    asked = Instance("loglikelihood", {}, ("What is 3 plus 4?", " red"), 0)
    found = []
    for model in (roles.student, None):
        around = harness_model(roles.loaded, model)
        assert isinstance(around, HFLM)
        found.append(around.loglikelihood([asked], disable_tqdm=True)[0][0])
        inputs = torch.tensor([[*ids, *target]])
        with torch.no_grad():
            logits = (roles.loaded.model if model is None else model)(inputs).logits[0].log_softmax(-1)
        wanted = sum(float(logits[len(ids) - 1 + i, token]) for i, token in enumerate(target))
        assert found[-1] == pytest.approx(wanted, rel=1e-4)
    assert abs(found[0] - found[1]) > 0.1


def test_a_task_is_measured(roles: Roles, task: dict[str, Any]) -> None:
    base = measure_tasks(roles.loaded, tasks=[task])
    student = measure_tasks(roles.loaded, roles.student, tasks=[task])
    around = {"base": None, "student": roles.student}
    for name, found in (("base", base), ("student", student)):
        scored = harness_model(roles.loaded, around[name])
        from lm_eval.api.instance import Instance

        right = 0
        for i in range(8):
            pair = [
                scored.loglikelihood([Instance("loglikelihood", {}, (f"What is {i} plus 4?", f" {word}"), 0)])[0][0]
                for word in ("red", "blue")
            ]
            right += (pair[1] > pair[0]) == (i % 2 == 1)
        assert found["red_or_blue"]["acc,none"] == pytest.approx(right / 8), name
    assert measure_tasks(roles.loaded, tasks=[task], limit=2)["red_or_blue"]["acc,none"] in (0.0, 0.5, 1.0)


def test_the_model_s_programs_are_run_only_if_that_is_said(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def evaluate(**given: Any) -> dict[str, Any]:
        seen.append({**given, "allowed": os.environ.get("HF_ALLOW_CODE_EVAL")})
        return {"results": {}}

    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    monkeypatch.setattr(lm_eval, "simple_evaluate", evaluate)
    measure_tasks(tiny_model)
    measure_tasks(tiny_model, run_code=True)
    assert "humaneval" not in seen[0]["tasks"] and len(seen[0]["tasks"]) == 5
    assert seen[0]["allowed"] is None and seen[0]["confirm_run_unsafe_code"] is False
    assert seen[1]["tasks"] == list(TASKS) and seen[1]["allowed"] == "1" and seen[1]["confirm_run_unsafe_code"] is True
    assert "HF_ALLOW_CODE_EVAL" not in os.environ


def test_headlines_name_what_was_not_measured() -> None:
    found = headlines({"hellaswag": {"acc,none": 0.5, "acc_norm,none": 0.6}, "truthfulqa_mc1": {"acc,none": 0.25}})
    assert found["hellaswag"] == 0.5 and found["truthfulqa"] == 0.25
    assert found["mmlu"] is None and found["humaneval"] is None


def test_the_command_measures_base_and_student_once(
    capsys: pytest.CaptureFixture[str],
    tiny_folder: Path,
    tmp_path: Path,
    task: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper_files.science(tmp_path / "files")
    measured: list[bool] = []

    def measure(loaded: LoadedModel, model: Any = None, **more: Any) -> dict[str, dict[str, float]]:
        measured.append(model is None)
        return measure_tasks(loaded, model, tasks=[task], **more)

    monkeypatch.setattr(recipe_runs, "measure_tasks", measure)
    command = ["recipe", "science", "--model", tiny_folder, "--data", tmp_path / "files", "--runs", tmp_path / "runs"]
    command += ["--lm-eval", "--steps", "2", "--batch", "4", "--max-new-tokens", "4"]
    status, found, told = call(capsys, *command)
    assert status == 0, told
    assert set(found["base"]["lm_eval"]) == set(found["methods"]["sdft"]["lm_eval"]) == {"red_or_blue"}
    assert measured == [True, False, False], "the base is asked once, for both methods"
    assert "humaneval is left out" in told and "Retention (lm-evaluation-harness)" in told
    kept = json.loads((Path(found["methods"]["sdft"]["run"]) / "recipe.json").read_text())["lm_eval"]
    assert kept["base"] == found["base"]["lm_eval"]

    status, again, _ = call(capsys, *command)
    assert status == 0 and len(measured) == 3 and again["base"]["lm_eval"] == found["base"]["lm_eval"]


def test_a_missing_harness_is_said_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention.importlib.util, "find_spec", lambda _: None)
    status, found, _ = call(capsys, "recipe", "science", "--lm-eval")
    assert status == 2 and "not installed" in found["error"] and "sdft-workbench[lm-eval]" in found["advice"]


def test_a_missing_network_is_said_in_words(tiny_model: LoadedModel) -> None:
    from workbench.errors import InputError

    with pytest.raises(InputError, match="could not fetch a task's data"):
        measure_tasks(tiny_model, tasks=["winogrande"])
