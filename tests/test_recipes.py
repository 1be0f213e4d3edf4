"""The paper's recipes: published files to rows, both methods, scores, going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch

from tests import paper_files
from tests.command import call
from workbench.commands import recipe_runs
from workbench.errors import InputError
from workbench.evaluation import get_scorer
from workbench.events import Evaluated, Measure
from workbench.models import LoadedModel
from workbench.recipes import RECIPES, Source, fetch, judging, running
from workbench.recipes.judging import judge_all
from workbench.roles import make_roles
from workbench.runs import Run, checkpoints
from workbench.runs.folder import create
from workbench.runs.log import EventWriter
from workbench.settings import LoraSettings, Settings
from workbench.training.batches import make_prompts

QUICK = ["--steps", "4", "--batch", "4", "--max-new-tokens", "6", "--rank", "2", "--lr", "0.1", "--warmup", "0"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps goes with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """All four recipes' files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for write in (paper_files.science, paper_files.tools, paper_files.medical, paper_files.knowledge):
        write(folder)
    return folder


def test_science_keeps_the_conversation_and_the_letter(files: Path) -> None:
    found = fetch(RECIPES["science"], files)
    rows = found.rows
    assert (len(rows.teaching), len(rows.validation), len(rows.test)) == (11, 1, 4)
    assert [m["role"] for m in rows.teaching[0].prompt] == ["system", "user"]  # type: ignore[union-attr, index]
    by_id = {row.id: row for row in [*rows.teaching, *rows.validation]}
    assert by_id["train-3"].answer == "B" and str(by_id["train-3"].demonstration).endswith("<answer>B</answer>")
    assert [row.answer for row in rows.test] == ["A", "B", "A", "B"] and rows.test[0].demonstration is None
    assert rows.notes[0].startswith("1 rows without")
    assert found.origins["train"]["rows"] == 13 and found.origins["train"]["commit"] is None


def test_tools_join_the_response_and_keep_the_calls(files: Path) -> None:
    rows = fetch(RECIPES["tools"], files).rows
    row = next(r for r in [*rows.teaching, *rows.validation] if r.id == "train-2")
    assert row.demonstration == 'Thought: say\nAction: say\nAction Input: {"word": "mipa 2"}\nDone.'
    assert json.loads(str(row.answer)) == [{"Action": "say", "Action_Input": '{"word": "mipa 2"}'}]
    assert get_scorer("tool-calls")(row.demonstration, str(row.answer))
    assert len(rows.test) == 2 and rows.test[0].demonstration is None


def test_medical_asks_nothing_that_was_taught(files: Path) -> None:
    rows = fetch(RECIPES["medical"], files).rows
    assert len(rows.teaching) == 10 and rows.teaching[0].demonstration == "King 0 has a cold."
    assert (len(rows.validation), len(rows.test)) == (3, 27)
    asked = {r.question for r in [*rows.validation, *rows.test]}
    assert len(asked) == 30 and not asked & {r.question for r in rows.teaching}
    assert rows.validation[0].context == rows.validation[0].answer and rows.test[0].context is None
    assert "1 rows without" in rows.notes[0] and "1 verifiable questions" in rows.notes[1]
    again, other = fetch(RECIPES["medical"], files).rows.test, fetch(RECIPES["medical"], files, seed=1).rows.test
    assert again == rows.test != other


def test_knowledge_teaches_passage_and_answer_and_tests_other_questions(files: Path) -> None:
    rows = fetch(RECIPES["knowledge"], files).rows
    assert len(rows.test) == 9 and len(rows.teaching) + len(rows.validation) == 36
    row = rows.teaching[0]
    assert row.question.startswith("About Small town ") and row.question.endswith("king 0?")
    town = row.question.split()[3].rstrip(":")
    assert row.context == f"Town {town} has 5 kings.\n\nThe answer: red {town}"
    assert row.demonstration == f"red {town}" and row.answer == json.dumps([f"red {town}", "the red"])
    assert {r.id.split("-")[1] for r in rows.test if r.id} == {"4"}
    assert rows.other == []


def test_files_with_other_content_have_another_mark(files: Path, tmp_path: Path) -> None:
    mark = fetch(RECIPES["knowledge"], files).mark
    (tmp_path / "other").mkdir()
    paper_files.knowledge(tmp_path / "other", articles=12)
    assert fetch(RECIPES["knowledge"], files).mark == mark != fetch(RECIPES["knowledge"], tmp_path / "other").mark


def test_what_is_wrong_with_the_files_is_said(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no tooluse_data/train_data/.*arrow in "):
        fetch(RECIPES["tools"], tmp_path)
    (files / "medical_o1_sft.json").write_text(json.dumps([{"Question": "a", "Answer": "b"}]))
    with pytest.raises(InputError, match="has no column Response; it has Question, Answer"):
        fetch(RECIPES["medical"], files)
    (files / "medical_o1_sft.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as json"):
        fetch(RECIPES["medical"], files)
    (files / "medical_o1_sft.json").write_text(json.dumps([{"Question": " ", "Response": None}] * 3))
    with pytest.raises(InputError, match=r"No row is left to teach \(3 rows in "):
        fetch(RECIPES["medical"], files)


def test_a_missing_network_is_said_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, place in (("medical", "FreedomIntelligence/medical-o1"), ("science", "https://github.com/Continual")):
        status, found, told = call(capsys, "recipe", name, "--runs", tmp_path / "runs")
        assert status == 2 and found["error"].startswith(place) and "could not be fetched" in found["error"]
        assert "--data DIR" in found["advice"] and "Traceback" not in told
    assert not (tmp_path / "runs").exists()


def test_hub_files_are_read_at_the_commit_found(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    class Info:
        sha = "c0ffee"

    def info(_: object, place: str, revision: str | None = None, timeout: float | None = None) -> Info:
        asked.append((place, revision))
        return Info()

    def read(source: Source, where: str) -> list[dict[str, Any]]:
        assert where == f"hf://datasets/{source.place}@c0ffee/{source.file}"
        return json.loads((files / source.file).read_text())  # type: ignore[no-any-return]

    from huggingface_hub import HfApi

    from workbench.recipes import fetching

    monkeypatch.setattr(HfApi, "dataset_info", info)
    monkeypatch.setattr(fetching, "_read", read)
    found = fetch(RECIPES["medical"])
    assert found.origins["test"]["commit"] == "c0ffee" and len(found.rows.test) == 27
    assert asked[1] == (
        "FreedomIntelligence/medical-o1-verifiable-problem",
        "46d5175eb74fdef3516d51d52e8c40db04bbdf35",
    )


def test_the_judge_reads_each_answer_and_is_the_untaught_model(
    tiny_model: LoadedModel, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = make_roles(tiny_model, LoraSettings(rank=2))
    prompts = make_prompts(tiny_model.tokenizer, Settings())
    rows = fetch(RECIPES["medical"], files).rows.test[:3]
    monkeypatch.setattr(judging, "QUESTION", "{question} {truth} {said}")
    seen: list[str] = []

    def reply(decoder: object, loaded: object, asked: list[tuple[int, ...]], *, longest: int) -> list[str]:
        assert decoder is roles.base_decoder
        seen.extend(tiny_model.tokenizer.decode(ids) for ids in asked)
        return ["CORRECT" if "{truth}" in tiny_model.tokenizer.decode(ids) else "INCORRECT" for ids in asked]

    monkeypatch.setattr(judging, "answer", reply)
    said = ["the {truth}<|end|> it is", "no", "long " * 300]
    assert judge_all(roles, prompts, rows, said, at_once=1) == [True, False, False]
    assert len(seen) == 2 and rows[0].question in seen[0] and str(rows[0].answer) in seen[0]
    assert seen[0].count("<|end|>") == 0


@pytest.mark.parametrize("thinks", [True, False])
def test_the_judge_reads_no_thoughts_and_its_own_do_not_count(
    thinks: bool, tiny_model: LoadedModel, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if thinks:
        tiny_model.tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}{% endif %}"
    roles = make_roles(tiny_model, LoraSettings(rank=2))
    prompts = make_prompts(tiny_model.tokenizer, Settings())
    rows = fetch(RECIPES["medical"], files).rows.test[:4]
    monkeypatch.setattr(judging, "QUESTION", "{said}")
    seen: list[str] = []

    def reply(decoder: object, loaded: object, asked: list[tuple[int, ...]], *, longest: int) -> list[str]:
        seen.extend(tiny_model.tokenizer.decode(ids) for ids in asked)
        return ["<think>INCORRECT?</think>CORRECT"] * len(asked)

    monkeypatch.setattr(judging, "answer", reply)
    said = ["<think>scurvy</think>gout", "<think>scurvy, or", "<think>scurvy</think>", "gout"]
    found = judge_all(roles, prompts, rows, said, at_once=2)
    assert found == ([True, False, False, True] if thinks else [False] * 4)
    assert [("scurvy" in text, "gout" in text) for text in seen] == (
        [(False, True), (False, True)] if thinks else [(True, True), (True, False), (True, False), (False, True)]
    )


def test_settings_are_the_paper_s_with_the_person_s_over_them() -> None:
    science = RECIPES["science"]
    made = science.settings("sdft", 2541, {})
    assert (made.optim.batch, made.optim.steps, made.optim.lr, made.optim.warmup) == (32, 159, 1e-4, 10)
    assert made.rollout.max_new_tokens == 1024 and made.divergence.skip_tokens == 3
    assert science.settings("sft", 2541, {}).optim.steps == 80
    assert science.settings("sft", 2541, {"optim": {"batch": 16}}).optim.steps == 159
    other = science.settings("sdft", 2541, {"optim": {"steps": 7}, "teacher": {"teacher": "ema"}})
    assert other.optim.steps == 7 and other.teacher.teacher == "ema"


@pytest.mark.parametrize("name", list(RECIPES))
def test_each_recipe_runs_by_both_methods_to_its_scores(
    name: str, capsys: pytest.CaptureFixture[str], files: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    status, found, told = call(
        capsys, "recipe", name, "--model", tiny_folder, "--data", files, "--runs", tmp_path / "runs", *QUICK
    )
    assert status == 0, told
    scores = set(RECIPES[name].scores)
    assert set(found["base"]["scores"]) == scores
    for method in ("sft", "sdft"):
        made = found["methods"][method]
        assert made["steps"] == 4 and set(made["scores"]) == scores and made["checkpoint"] in (1, 2, 3, 4)
        run = Run(Path(made["run"]))
        assert run.name == f"{name}-{method}" and run.config["method"] == method and run.adapter.is_dir()
        kept = json.loads((run.path / "recipe.json").read_text())
        assert len(kept["student"]["answers"]) == found["rows"]["test"]
        assert kept["data"] == found["data"] and kept["step"] == made["checkpoint"]
        assert kept["student"]["answers"] != kept["base"]["answers"], "base and student are two models"
    assert "paper (7B, all weights)" in told and RECIPES[name].missing[:40] in " ".join(told.split())


def test_other_questions_are_scored_where_there_are_any(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    paper_files.knowledge(tmp_path, other=True)
    flags = ["--model", tiny_folder, "--data", tmp_path, "--runs", tmp_path / "runs", "--method", "sft"]
    status, found, _ = call(capsys, "recipe", "knowledge", *flags, *QUICK)
    assert status == 0 and found["base"]["scores"]["ood"]["n"] == 1
    assert found["paper"]["ood"]["sdft"] == 98.0 and found["data"]["other"]["rows"] == 1


def test_the_same_command_goes_on_where_it_was_stopped(
    capsys: pytest.CaptureFixture[str],
    files: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["recipe", "science", "--model", tiny_folder, "--data", files, *QUICK]
    status, whole, _ = call(capsys, *command, "--runs", tmp_path / "whole")
    assert status == 0
    real = recipe_runs.conduct

    def killed(run: Run, loaded: LoadedModel, quiet: bool = False) -> dict[str, Any]:
        for event in running_session(run, loaded):
            if getattr(event, "step", 0) == 2:
                raise KeyboardInterrupt
        raise AssertionError("the run was to be killed at its second step")

    def running_session(run: Run, loaded: LoadedModel) -> Any:
        from workbench.runs.session import Session

        return Session(run, loaded).teach()

    monkeypatch.setattr(recipe_runs, "conduct", killed)
    status, found, _ = call(capsys, *command, "--runs", tmp_path / "cut")
    assert status == 1 and "workbench resume" in found["advice"]
    monkeypatch.setattr(recipe_runs, "conduct", real)
    status, resumed, _ = call(capsys, *command, "--runs", tmp_path / "cut")
    assert status == 0
    for method in ("sft", "sdft"):
        a, b = whole["methods"][method], resumed["methods"][method]
        assert a["scores"] == b["scores"] and a["checkpoint"] == b["checkpoint"]
        files_of = [Path(m["run"]) / "adapter" / "adapter_model.safetensors" for m in (a, b)]
        assert files_of[0].read_bytes() == files_of[1].read_bytes()

    def no_more(*_: object, **__: object) -> None:
        raise AssertionError("what was scored is not scored again")

    monkeypatch.setattr(running, "score", no_more)
    status, again, _ = call(capsys, *command, "--runs", tmp_path / "cut")
    assert status == 0 and again["methods"] == resumed["methods"] and again["base"] == resumed["base"]
    status, found, _ = call(capsys, "runs", "--runs", tmp_path / "cut")
    assert {r["run"]: r["state"] for r in found["runs"]} == {"science-sft": "finished", "science-sdft": "finished"}


def test_the_checkpoint_is_the_earliest_of_the_best_on_validation_rows(tmp_path: Path) -> None:
    config = {"method": "sft", "model": "pocket", "settings": {"optim": {"steps": 9}}, "started": ""}
    run = create(tmp_path, "one", config, {}, [])
    writer = EventWriter(run.log, 0)
    for step, right in ((2, 0.25), (4, 0.75), (6, 0.75), (8, 1.0), (9, 0.5)):
        writer.write(Evaluated(step, Measure(right, 4, 0.0, 1.0), None, 1.0))
        if step != 8:  # its checkpoint is not there any more
            checkpoints.save(run.checkpoints, step, {"a": torch.zeros(1)}, 1)
    writer.close()
    assert running.best_step(run) == 4


@pytest.mark.parametrize(
    ("work", "expected"), [({}, 16), ({"questions": 5}, 5), ({"at_once": 24}, 24), ({"at_once": 8, "questions": 3}, 3)]
)
def test_the_test_is_asked_as_the_run_was_planned(
    work: dict[str, int], expected: int, tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"settings": {}, "execution": work}))
    asked: list[int] = []

    def score(*arguments: Any) -> running.Scored:
        asked.append(arguments[-1])
        return running.Scored([], {})

    monkeypatch.setattr(running, "score", score)
    monkeypatch.setattr(running, "best_step", lambda run: 1)
    monkeypatch.setattr(running, "student_at", lambda *_: None)
    fetched = SimpleNamespace(mark="", origins={})
    running.score_run(RECIPES["science"], fetched, run, tiny_model)  # type: ignore[arg-type]
    assert asked == [expected, expected]


def test_the_base_is_not_asked_again_when_the_students_turn_was_interrupted(
    tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"settings": {}}))
    asked: list[bool] = []

    def score(*arguments: Any) -> running.Scored:
        asked.append(arguments[-2])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return running.Scored([f"answer {len(asked)}"], {})

    monkeypatch.setattr(running, "score", score)
    monkeypatch.setattr(running, "best_step", lambda run: 1)
    monkeypatch.setattr(running, "student_at", lambda *_: None)
    fetched = SimpleNamespace(mark="", origins={})
    given = (RECIPES["science"], fetched, run, tiny_model)
    with pytest.raises(KeyboardInterrupt):
        running.score_run(*given)  # type: ignore[arg-type]
    for _ in range(2):
        base, student, _ = running.score_run(*given)  # type: ignore[arg-type]
        assert (base.answers, student.answers) == (["answer 1"], ["answer 3"])
    assert asked == [False, True, True]


def test_another_run_of_that_name_is_not_gone_on_with(
    capsys: pytest.CaptureFixture[str], files: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    command = ["recipe", "science", "--model", tiny_folder, "--data", files, "--runs", tmp_path / "runs"]
    command += ["--method", "sft", *QUICK]
    assert call(capsys, *command)[0] == 0
    status, found, _ = call(capsys, *command, "--temperature", "0.5")
    assert status == 2 and "with other settings" in found["error"] and "--name" in found["advice"]
    status, found, _ = call(capsys, *command, "--rows", "6")
    assert status == 2 and "with other data" in found["error"]
    status, found, told = call(capsys, *command, "--rows", "6", "--test-rows", "2", "--name", "few")
    assert status == 0 and found["rows"] == {"teaching": 6, "test": 2} and "not comparable with the paper" in told


def test_rows_that_do_not_fit_are_counted(
    capsys: pytest.CaptureFixture[str], files: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = json.loads((files / "medical_o1_sft.json").read_text())
    rows[0]["Response"] = "red " * 300
    rows[1]["Response"] = "a <|end|> b"
    (files / "medical_o1_sft.json").write_text(json.dumps(rows))
    flags = ["--model", tiny_folder, "--data", files, "--runs", tmp_path / "runs", "--method", "sft"]
    status, found, _ = call(capsys, "recipe", "medical", *flags, *QUICK)
    assert status == 0
    run = Run(Path(found["methods"]["sft"]["run"]))
    assert len(run.rows("teaching")) == 8 and run.config["notes"][-1].startswith("2 rows that this model cannot read")


def test_the_list_needs_no_network_and_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    status, found, told = call(capsys, "recipe", "--list")
    assert status == 0 and [r["name"] for r in found["recipes"]] == list(RECIPES)
    assert "Licence: apache-2.0" in told and "GPT-5-mini" in told and "not published" in told
    code = "import sys; from workbench.cli import main; main(['recipe', '--list']); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "No recipe is named"),
        (["cooking"], "There is no recipe 'cooking'"),
        (["science", "--rows", "0"], "--rows is 0"),
        (["science", "--name", "../x"], "cannot be a run's name"),
        (["science", "--lr", "inf"], "--lr is inf; it must be a finite number"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_fetched(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found, _ = call(capsys, "recipe", *flags)
    assert status == 2 and says in found["error"]
