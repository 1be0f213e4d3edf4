"""Many questions are answered a group at a time: the same answers, in the memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command import QUICK, call
from tests.test_training import BASIC
from workbench import groups as groups_module
from workbench.decoding import decoder_for
from workbench.demonstrations import Demonstration, read
from workbench.errors import InputError
from workbench.evaluation import Exam, Retention, answer
from workbench.events import Checked, Evaluated, RunEnded
from workbench.execution import Execution
from workbench.groups import Groups
from workbench.memory import Machine
from workbench.models import LoadedModel, load
from workbench.prompts import Prompts
from workbench.roles import make_roles
from workbench.runs import fitting
from workbench.runs.session import Request, Session, begin
from workbench.sampling import Choice, Stopped
from workbench.settings import POCKET_DEFAULTS, KeepSettings, Settings
from workbench.training import sft
from workbench.worker.asking import Asker
from workbench.worker.tasks import Tasks

RAN_OUT = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Memory:
    """Stands in for `sample`: notes how many prompts are answered together, and has memory for `most` of them."""

    def __init__(self, most: int = 10**6) -> None:
        self.most, self.own = most, groups_module.sample
        self.tried: list[int] = []
        self.deaf = False
        """Whether nobody is asked to stop while a group is answered."""

    def __call__(self, decoder: Any, prompts: Any, **how: Any) -> Any:
        self.tried.append(len(prompts))
        if len(prompts) > self.most:
            raise torch.OutOfMemoryError(RAN_OUT)
        return self.own(decoder, prompts, **(how | {"should_stop": bool} if self.deaf else how))


@pytest.fixture
def memory() -> Iterator[Memory]:
    with pytest.MonkeyPatch.context() as patch:
        made = Memory()
        patch.setattr(groups_module, "sample", made)
        yield made


def prompts_of(loaded: LoadedModel, rows: list[Demonstration]) -> list[tuple[int, ...]]:
    prompts = Prompts(loaded.tokenizer)
    return [t.teacher if i % 3 else t.student for i, t in enumerate(map(prompts.tokenise, rows))]


@pytest.mark.parametrize("choice", [Choice(temperature=0), Choice(1.0, top_p=0.9)])
def test_an_answer_does_not_depend_on_its_group(
    choice: Choice, tiny_model: LoadedModel, rows: list[Demonstration], memory: Memory
) -> None:
    decoder, asked = decoder_for(tiny_model.model), prompts_of(tiny_model, rows)
    how: dict[str, Any] = {"longest": 8, "choice": choice, "seed": 3}
    together = answer(decoder, tiny_model, asked, **how)
    few = answer(decoder, tiny_model, asked, groups=Groups(5), **how)
    assert memory.tried == [12, 5, 5, 2]
    assert few == together and len(set(together)) > 6


def test_the_bundled_model_answers_alike_in_groups_of_any_size(memory: Memory) -> None:
    loaded = load()
    rows = read("zorbic").rows[:24]
    decoder, prompts = decoder_for(loaded.model), Prompts(loaded.tokenizer)
    sittings = []
    for size in (128, 24, 7, 1):
        exam = Exam(loaded, prompts, rows, longest=24, groups=Groups(size))
        sittings.append((exam.sit(decoder), exam.sit(decoder, shown=True)))
    assert sittings[1:] == sittings[:1] * 3 and any(sittings[0][1].hits)
    assert memory.tried == [24] * 4 + [7, 7, 7, 3] * 2 + [1] * 48


def test_half_as_many_are_asked_when_memory_runs_out_and_from_then_on(
    tiny_model: LoadedModel, rows: list[Demonstration], memory: Memory
) -> None:
    decoder, prompts = decoder_for(tiny_model.model), Prompts(tiny_model.tokenizer)
    expected = Exam(tiny_model, prompts, rows, longest=8).sit(decoder)
    memory.most, memory.tried = 4, []
    # Two exams that are sat in one run share what is known of memory.
    groups = Groups(8)
    exam = Exam(tiny_model, prompts, rows, longest=8, groups=groups)
    assert exam.sit(decoder) == expected
    assert memory.tried == [8, 4, 4, 4]
    memory.tried.clear()
    Retention(tiny_model, decoder, prompts, rows[:6], longest=8, groups=groups)
    assert memory.tried == [4, 2] and groups.size == 4


def test_where_one_question_does_not_fit_it_says_so(
    tiny_model: LoadedModel, rows: list[Demonstration], memory: Memory
) -> None:
    decoder, asked = decoder_for(tiny_model.model), prompts_of(tiny_model, rows)
    memory.most = 0
    with pytest.raises(InputError, match="one question at a time.*2.00 GiB.*\n.*max-new-tokens"):
        answer(decoder, tiny_model, asked, longest=8)
    assert memory.tried == [12, 6, 3, 1]


def test_another_error_is_not_taken_for_one_of_memory(
    tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(groups_module, "sample", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answer(decoder_for(tiny_model.model), tiny_model, prompts_of(tiny_model, rows), longest=8)


def test_who_asks_is_heard_between_groups(tiny_model: LoadedModel, rows: list[Demonstration], memory: Memory) -> None:
    memory.deaf = True
    with pytest.raises(Stopped):
        answer(
            decoder_for(tiny_model.model),
            tiny_model,
            prompts_of(tiny_model, rows),
            longest=8,
            groups=Groups(4),
            should_stop=lambda: len(memory.tried) == 2,
        )
    assert memory.tried == [4, 4]


@pytest.mark.parametrize("method", ["sdft", "sft"])
@pytest.mark.parametrize(
    ("work", "most"), [(Execution(questions=3), 3), (Execution(micro_batch=1, at_once=1), 1), (Execution(), 7)], ids=str
)
def test_a_run_is_measured_in_groups_as_its_plan_says(
    method: str,
    work: Execution,
    most: int,
    tiny_model: LoadedModel,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
    tmp_path: Path,
    memory: Memory,
) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=1), keep=KeepSettings(0.5))
    request = Request("it", method, settings, rows[:7], rows[7:], keep_rows, rows[:6], execution=work)
    run = begin(request, tiny_model, tmp_path)
    assert isinstance(list(Session(run, tiny_model).teach())[-1], RunEnded)
    # Probes by the base and at the end, unless it knew none; held-out questions twice before and once after.
    assert max(memory.tried) == (most if method == "sft" else min(most, 6))
    assert sum(memory.tried) in [6 * times + 3 * 5 + 7 * (method == "sft") for times in (1, 2)]


@pytest.mark.parametrize("method", ["sdft", "sft"])
def test_a_run_on_which_memory_runs_out_while_it_is_measured_goes_on(
    method: str,
    tiny_model: LoadedModel,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
    tmp_path: Path,
    memory: Memory,
) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=1), keep=KeepSettings(0.5))

    def taught(name: str) -> list[Any]:
        request = Request(name, method, settings, rows[:7], rows[7:], keep_rows, rows[:6])
        return list(Session(begin(request, tiny_model, tmp_path), tiny_model).teach())

    expected = taught("whole")
    memory.most = 3
    found = taught("parts")
    assert max(memory.tried[-2:]) == 3

    def measured(events: list[Any]) -> list[Any]:
        measures = [replace(e, seconds=0.0) if isinstance(e, Evaluated) else e for e in events]
        return [e for e in measures if isinstance(e, Checked | Evaluated)]

    assert measured(found) == measured(expected) and len(measured(found)) == 2
    assert isinstance(found[-1], RunEnded)


def test_the_command_line_says_it_in_words_where_one_question_does_not_fit(
    capsys: pytest.CaptureFixture[str], data: Path, probes: Path, tiny_folder: Path, tmp_path: Path, memory: Memory
) -> None:
    memory.most = 0
    status, found, _ = call(
        capsys, "teach", data, "--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs", *QUICK
    )
    assert status == 2 and "Memory ran out with one question at a time" in found["error"]
    assert "--max-new-tokens" in found["advice"]


def test_sft_asks_whether_to_stop_while_the_base_answers_keep_rows(
    tiny_model: LoadedModel, rows: list[Demonstration], keep_rows: list[Demonstration], memory: Memory
) -> None:
    settings = replace(BASIC, keep=KeepSettings(0.5))
    steps = sft(
        make_roles(tiny_model, settings.lora),
        rows,
        settings,
        keep=keep_rows,
        execution=Execution(at_once=2),
        should_stop=lambda: len(memory.tried) == 2,
    )
    assert list(steps) == [] and memory.tried == [2, 2]


def test_what_the_steps_are_told_by_hand_leaves_the_questions_to_the_memory_there_is(
    tiny_model: LoadedModel, rows: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Execution(micro_batch=2, prefix_bytes=10_000_000)

    def kept(name: str) -> dict[str, Any]:
        made = begin(Request(name, "sdft", BASIC, rows, [], execution=chosen), tiny_model, tmp_path)
        return dict(made.config["execution"])

    assert kept("much") == chosen.to_dict()
    monkeypatch.setattr(fitting, "computer", lambda: Machine("it", 8e8, 7.6e8, False))
    few = kept("little")
    assert few == {**chosen.to_dict(), "questions": few["questions"]}
    # What the teacher has read lies there too while a run is measured, and not while nothing is taught.
    assert 1 < few["questions"] < fitting.asked_together(tiny_model, BASIC) < 128


@pytest.mark.parametrize("command", ["sit", "check"])
def test_the_workbench_asks_as_many_as_fit(
    command: str,
    tiny_model: LoadedModel,
    rows: list[Demonstration],
    tmp_path: Path,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=1))
    run = begin(Request("it", "sdft", settings, rows[:4], rows[4:]), tiny_model, tmp_path)
    list(Session(run, tiny_model).teach())
    tasks = Tasks(Asker(tiny_model, tmp_path), tmp_path, bool, lambda phase, run: None)

    def asked() -> list[int]:
        memory.tried.clear()
        if command == "sit":
            tasks.sit(lambda reply: None, "it")
        else:
            tasks.check(lambda reply: None, [row.to_dict() for row in rows], {"rollout": {"max_new_tokens": 8}})
        return memory.tried

    assert max(asked()) == (8 if command == "sit" else 12)
    monkeypatch.setattr("workbench.worker.tasks.asked_together", lambda *_: 3)
    assert max(asked()) == 3


def test_the_check_of_the_command_line_asks_as_many_as_fit(
    capsys: pytest.CaptureFixture[str],
    data: Path,
    tiny_folder: Path,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workbench.commands.checking.asked_together", lambda *_: 5)
    status, _, _ = call(capsys, "check", data, "--model", tiny_folder, "--max-new-tokens", 6)
    assert status == 0 and memory.tried == [5, 5, 2] * 2


def test_on_the_bundled_model_as_many_are_asked_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "computer", lambda: Machine("it", 8e9, 2e9, False))
    assert fitting.planned(load(), Settings.from_dict(POCKET_DEFAULTS)).asked == 128
