"""What a person means by a file, a flag or a name is what happens."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from datasets import Dataset

from tests import paper_files
from tests.fake_run import config_of
from tests.test_training import BASIC
from workbench import cli
from workbench.commands import screen
from workbench.demonstrations import Demonstration, parse, read
from workbench.demonstrations.cells import written
from workbench.demonstrations.columns import Columns
from workbench.errors import InputError
from workbench.evaluation import get_scorer
from workbench.export.trl_script import write_trl
from workbench.models import LoadedModel
from workbench.recipes import RECIPES
from workbench.roles import make_roles
from workbench.runs.folder import check_name, create, free_name
from workbench.settings import KeepSettings, LoraSettings, OptimSettings, Settings
from workbench.training.batches import make_plan


def test_a_named_column_stands_over_the_last_turn_of_a_conversation(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "old"}]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps({"messages": turns, "better": f"better {i}"}) + "\n" for i in range(3)))
    assert [row.demonstration for row in read(path).rows] == ["old"] * 3
    named = read(path, Columns(demonstration="better")).rows
    assert [row.demonstration for row in named] == ["better 0", "better 1", "better 2"]
    assert named[0].question == "Hot?"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.00001, "0.00001"),
        (1e16, "10000000000000000"),
        (6.5, "6.5"),
        (4, "4"),
        (0.1 + 0.2, "0.3"),
        (-2.5e-7, "-0.00000025"),
    ],
)
def test_a_number_is_written_as_people_write_it(number: float, text: str) -> None:
    assert written(number) == text
    assert get_scorer("number")(f"It is {text}.", text) and get_scorer("contains")(f"It is {text}.", text)


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("It is 9.9e23.", "6.02e23", False),
        ("It is 6.02E23", "6.02e23", True),
        ("300000", "3e5", True),
        ("1.5e-3 m", "0.0015", True),
        ("$3", "-$3", False),
        ("-$3", "-3", True),
        ("It costs $1,500.25 now", "1500.25", True),
        ("2E", "2", True),
        ("version 3.5", "3.5", True),
    ],
)
def test_powers_of_ten_and_signs_before_a_currency_belong_to_a_number(said: str, wanted: str, right: bool) -> None:
    assert get_scorer("number")(said, wanted) is right


def test_every_layer_that_is_named_is_taught_and_one_that_is_not_there_is_refused(tiny_model: LoadedModel) -> None:
    roles = make_roles(tiny_model, LoraSettings(targets="gate_proj, up_proj,"))
    assert {name.split(".")[-4] for name in roles.adapter} == {"gate_proj", "up_proj"}
    with pytest.raises(InputError, match="No layer of this model is called 'typo_proj'") as refused:
        make_roles(tiny_model, LoraSettings(targets="gate_proj,typo_proj"))
    assert "down_proj" in refused.value.advice
    with pytest.raises(InputError, match="--targets"):
        LoraSettings(targets=" , ")


def test_rows_given_to_keep_are_never_taught(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    made = replace(BASIC, optim=OptimSettings(batch=4), keep=KeepSettings(keep_share=0.5))
    given = [Demonstration("What is 2 + 2?", "It is 5."), replace(rows[0], answer=None)]
    plan = make_plan(make_roles(tiny_model, made.lora), rows, given, made)
    assert [row.row.keep for row in plan.keep] == [True, True]
    assert all(row.teacher == row.student and row.target is None for row in plan.keep)


def test_several_answers_a_prompt_do_not_shorten_a_recipe() -> None:
    recipe = RECIPES["tools"]
    once = recipe.settings("sdft", 3200, {}).optim.steps
    assert recipe.settings("sdft", 3200, {"rollout": {"rollouts": 4}}).optim.steps == 4 * once


@pytest.mark.parametrize("stem", ["_demos", "a..b", "..", "-x-", "__", "my file", "ünïcode.v2", ".hidden"])
def test_a_name_that_nobody_chose_can_always_be_a_runs_name(tmp_path: Path, stem: str) -> None:
    assert check_name(free_name(tmp_path, stem))


def test_what_is_said_in_the_terminal_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("answer :cat: and 1:x:2", "C:\\", "[bold]not[/bold]"):
        screen.say(text)
        assert capsys.readouterr().err == f"{text}\n"


def test_a_seed_that_no_generator_takes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(tmp_path), "--prompt", "Hot?", "--seed", "9" * 23, "--json"]) == 2
    assert "--seed is 999" in json.loads(capsys.readouterr().out)["error"]


def test_the_script_for_trl_has_at_least_a_batch_of_rows(tmp_path: Path) -> None:
    """TRL's sampler drops what does not fill a batch."""
    settings = Settings(optim=OptimSettings(batch=8))
    teaching = [Demonstration(f"Q{i}?", f"A{i}.", id=str(i)) for i in range(3)]
    for method, count in (("sdft", 9), ("sft", 3)):
        run = create(tmp_path, method, config_of(method, "pocket", settings, "rows"), {"teaching": teaching}, [])
        folder = tmp_path / f"{method}-script"
        folder.mkdir()
        write_trl(run, folder)
        asked = [json.loads(line)["prompt"][0]["content"] for line in (folder / "data.jsonl").read_text().splitlines()]
        assert asked == ["Q0?", "Q1?", "Q2?"] * (count // 3)


def test_pasted_text_still_takes_the_last_turn() -> None:
    turns = [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "old"}]
    assert parse(json.dumps({"messages": turns})).rows[0].demonstration == "old"


def test_a_test_that_cannot_be_asked_is_refused_before_anything_is_taught(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, runs = tmp_path / "files", tmp_path / "runs"
    files.mkdir()
    paper_files.knowledge(files)
    asked = [{"question": "red " * 300, "answers": {"text": ["e"], "answer_start": [0]}}]
    Dataset.from_list(asked).to_parquet(str(files / "plain_text" / "other.parquet"))
    flags = ["--model", str(tiny_folder), "--data", str(files), "--runs", str(runs), "--max-new-tokens", "6"]
    assert cli.main(["recipe", "knowledge", *flags, "--steps", "2", "--batch", "4", "--json"]) == 2
    assert "1 of 1 rows are too long" in json.loads(capsys.readouterr().out)["error"]
    assert not list(runs.glob("*/events.jsonl"))


def test_what_a_recipe_fetches_files_with_is_installed_with_it() -> None:
    assert fsspec.get_filesystem_class("https").protocol == ("http", "https")
    extras = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert all(
        any(each.startswith("aiohttp") for each in extras["optional-dependencies"][name])
        for name in ("recipes", "lm-eval")
    )
