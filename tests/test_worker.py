"""The worker process, with a tiny model: questions in between, stop, kill, the end of its input, errors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.inside import LIMIT, QUESTION, Inside
from workbench import chat, pocket
from workbench.decoding import decoder_for
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, WorkbenchError
from workbench.evaluation import exam
from workbench.events import RolloutSample, Step, from_dict, to_dict
from workbench.models import LoadedModel
from workbench.runs import Run, checkpoints, open_run
from workbench.settings import Settings
from workbench.training import stopwatch
from workbench.worker import Worker, WorkerDied, costs
from workbench.worker.asking import _Stream
from workbench.worker.client import Call
from workbench.worker.protocol import LAST, from_line, teaching_seconds, to_line

SETTINGS = {"optim": {"steps": 8, "batch": 6, "lr": 1e-3}, "rollout": {"max_new_tokens": 8}}
LONGER = {**SETTINGS, "optim": {"steps": 60, "batch": 6, "lr": 1e-3}}
PROBES = [{"prompt": f"What is {i} plus {i}?", "answer": "a"} for i in range(4)]


def test_no_half_of_a_character_is_told_of() -> None:
    tokenizer = AutoTokenizer.from_pretrained(Path(pocket.__file__).parent / "weights")
    ids = tokenizer("kl\u00f1 \U0001f44d\U0001f3fd \u05e9\u05dc\u05d5\u05dd e\u0301.", add_special_tokens=False)[
        "input_ids"
    ]
    said: list[dict[str, Any]] = []
    stream = _Stream(tokenizer, frozenset(), said.append, 0.0)
    stream.begin(("base",), 1)
    for token in ids:
        stream._said = float("-inf")
        stream.take(torch.tensor([0]), torch.tensor([token]))
    texts = [one["text"] for one in said]
    whole = tokenizer.decode(ids)
    assert len(texts) == len(ids) and stream.answers("base")[0]["text"] == whole
    assert all(whole.startswith(text) for text in texts), "a text that is told of only grows"


@pytest.fixture
def lesson(rows: list[Demonstration], keep_rows: list[Demonstration]) -> dict[str, Any]:
    return {
        "rows": [row.to_dict() for row in rows],
        "keep": [row.to_dict() for row in keep_rows],
        "probes": PROBES,
        "settings": SETTINGS,
        "evaluate_every": 3,
        "save_every": 2,
    }


def story(runs: Path, name: str) -> list[dict[str, Any]]:
    """A run's events without times and its name."""
    events = open_run(name, runs).log.dictionaries()
    return [{k: v for k, v in event.items() if k not in ("seconds", "run")} for event in events]


def same_run(runs: Path, one: str, two: str) -> None:
    assert story(runs, one) == story(runs, two)
    first, second = (load_file(runs / name / "adapter" / "adapter_model.safetensors") for name in (one, two))
    assert first.keys() == second.keys() and any(bool(t.any()) for t in first.values())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_questions_in_between_change_nothing(inside: Inside, tmp_path: Path, lesson: dict[str, Any]) -> None:
    inside.do("teach", name="whole", **lesson)
    asked: list[Call] = []

    def ask_again(reply: dict[str, Any]) -> None:
        """Whenever a question is answered, put the next: all kinds, in every phase."""
        teaching = inside.status[-1]["state"] == "teaching"
        if teaching and reply["reply"] in (*LAST, "status") and len(asked) < 300:
            kinds: list[tuple[str, dict[str, Any]]] = [
                ("ask", {"messages": QUESTION, "run": "asked", "temperature": 1.0, "seed": len(asked), "times": 2}),
                ("ask", {"messages": QUESTION, "run": "whole", "step": 4, "longest": 6}),
                ("map", {"messages": QUESTION, "run": "asked", "text": "The reply is mipa.", "demonstration": "Mipa."}),
                ("render", {"row": lesson["rows"][0]}),
                ("fit", {"rows": lesson["rows"][:3], "settings": lesson["settings"]}),
            ]
            do, arguments = kinds[len(asked) % len(kinds)]
            asked.append(inside.call(do, **arguments))

    inside.watch.append(ask_again)
    assert inside.do("teach", name="asked", **lesson) == {"run": "asked", "state": "finished", "step": 8}
    inside.watch.clear()
    answered = [call.replies[-1] for call in asked if call.done()]
    assert len(answered) > 40
    # A run's student cannot be asked before the run is in memory.
    assert {r["problem"] for r in answered if r["reply"] == "failed"} <= {
        "Run asked has no checkpoint yet, so there is no student."
    }
    assert sum(r["reply"] == "done" for r in answered) > 30
    same_run(tmp_path / "runs", "whole", "asked")


def test_stop_keeps_the_state_and_resume_goes_on(inside: Inside, tmp_path: Path, lesson: dict[str, Any]) -> None:
    lesson = {**lesson, "settings": LONGER}
    inside.do("teach", name="whole", **lesson)
    for phase, name in (("Measuring what it can do before", "early"), ("Teaching", "late")):
        stops: list[Call] = []

        def stop(reply: dict[str, Any], phase: str = phase, stops: list[Call] = stops) -> None:
            if reply["reply"] == "status" and reply["phase"] == phase and not stops:
                stops.append(inside.call("stop"))

        inside.watch = [stop]
        result = inside.do("teach", name=name, **lesson)
        inside.watch = []
        assert stops[0].result(LIMIT) == {"was": "teaching"}
        assert result["state"] == "stopped" and result["step"] < 60
        run = open_run(name, tmp_path / "runs")
        assert checkpoints.all_steps(run.checkpoints)[-1:] == ([result["step"]] if result["step"] else [])
        assert inside.status[-1] == {**inside.status[-1], "state": "idle", "run": None, "phase": "", "error": None}
        assert inside.do("resume", run=name)["state"] == "finished"
        same_run(tmp_path / "runs", "whole", name)
    assert "stopping" in {s["state"] for s in inside.status}
    assert inside.do("stop") == {"was": "idle"}


def test_rows_that_do_not_fit_are_told_by_their_place(inside: Inside, lesson: dict[str, Any]) -> None:
    rows = [lesson["rows"][0], {"prompt": "red " * 600, "demonstration": "mipa"}]
    read = inside.do("render", row=rows[0])
    for room, wrong in ((read["limit"] - read["teacher_tokens"], ["1"]), (read["limit"] - 1, ["0", "1"])):
        found = inside.do("fit", rows=rows, settings={"rollout": {"max_new_tokens": room}})["misfits"]
        assert list(found) == wrong and f"{room} kept for the answer" in found["1"], found


def test_one_long_command_at_a_time(inside: Inside, lesson: dict[str, Any]) -> None:
    inside.do("render", row=lesson["rows"][0])
    refused: list[Call] = []

    def another(reply: dict[str, Any]) -> None:
        if reply["reply"] == "status" and reply["phase"] == "Teaching" and not refused:
            refused.append(inside.call("check", rows=lesson["rows"]))

    inside.watch.append(another)
    assert inside.do("teach", name="one", **lesson)["state"] == "finished"
    with pytest.raises(WorkbenchError, match=r"A run is being taught \(one\)(.|\n)* press Stop on the Teach page"):
        refused[0].result(LIMIT)


def test_check_puts_rows_side_by_side(inside: Inside, lesson: dict[str, Any]) -> None:
    call = inside.call("check", rows=lesson["rows"], settings={"rollout": {"max_new_tokens": 8}}, n=5)
    found = call.result(LIMIT)
    assert [r for r in call.replies if r["reply"] == "progress"][-1] == {
        "id": 1,
        "reply": "progress",
        "done": 5,
        "of": 5,
    }
    assert len(found["rows"]) == 5 and found["base"]["n"] == 5 and found["verdict"] == "cannot"
    assert set(found["rows"][0]) == {
        "id", "question", "answer", "base", "teacher", "base_right", "teacher_right",
    }  # fmt: skip
    assert found["seconds"] > 0

    def stop(reply: dict[str, Any]) -> None:
        if reply.get("done") == 0:
            inside.call("stop")
            assert inside.service._stop.wait(LIMIT)

    inside.watch = [stop]
    with pytest.raises(WorkbenchError, match="stopped before it had finished"):
        inside.do("check", rows=lesson["rows"], settings={"rollout": {"max_new_tokens": 8}})
    assert inside.status[-1]["state"] == "idle"


def test_a_slow_first_step_is_not_taken_for_the_others(
    tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = (SimpleNamespace(seconds={"teacher": spent}) for spent in (9.0, 1.0, 1.0))
    monkeypatch.setattr(costs, "_LONGEST", -1.0)
    monkeypatch.setitem(costs.METHODS, "sdft", lambda *_, **__: taken)
    base = decoder_for(tiny_model.model)
    assert costs.step_seconds(tiny_model, base, rows, Settings(), "sdft", bool) == (1.0, "")
    assert len(list(taken)) == 1, "it takes no more of them than it must"


def test_the_time_of_teaching_is_that_of_real_steps(
    inside: Inside, tmp_path: Path, lesson: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that goes on by a second each time a phase ends, so that no load of this machine is measured.
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=count().__next__))
    inside.do("teach", name="real", **lesson)
    events = open_run("real", tmp_path / "runs").log.read()
    real = median(sum(event.seconds.values()) for event in events if isinstance(event, Step))
    rows, settings = lesson["rows"], lesson["settings"]
    found = inside.do("check", rows=rows, settings=settings)
    assert found["costs"]["method"] == "sdft" and found["costs"]["batch"] == 6
    assert found["costs"]["step"] == real == 5  # sample, teacher, student, twice update
    assert found["estimate_seconds"] == pytest.approx(teaching_seconds(found["costs"], 8, 6), abs=0.1)
    assert inside.do("check", rows=rows, settings=settings, method="sft")["costs"]["step"] == 3
    # Nothing is left of those steps: the base answers as before.
    assert [r["base"] for r in inside.do("check", rows=rows, settings=settings)["rows"]] == [
        r["base"] for r in found["rows"]
    ]
    wrong = {**settings, "lora": {"targets": "nothing"}}
    assert "nothing" in inside.do("check", rows=rows, settings=wrong)["cost_problem"]


def test_a_run_can_be_looked_at(inside: Inside, tmp_path: Path, lesson: dict[str, Any]) -> None:
    inside.do("teach", name="a", **lesson)
    row = lesson["rows"][0]
    told = inside.do("ask", messages=QUESTION, run="a", times=2, temperature=1.0)
    assert [len(told["answers"][role]) for role in ("base", "teacher", "student")] == [2, 2, 2]
    # The run knows this question's demonstration; an empty one takes it away.
    assert row["demonstration"] in told["prompts"]["teacher"] and told["first_token_seconds"] > 0
    bare = inside.do("ask", messages=QUESTION, run="a", demonstration="", temperature=1.0)
    assert bare["prompts"]["teacher"] == bare["prompts"]["student"]
    alone = inside.do("ask", messages=QUESTION, run="a", roles=["student"], times=2, temperature=1.0)
    said = [one["text"] for one in told["answers"]["base"]]
    judged = inside.do("ask", messages=QUESTION, run="a", times=2, temperature=1.0, right=said[0], scorer="exact")
    assert [one["right"] for one in judged["answers"]["base"]] == [True, said[1] == said[0]]
    assert [one["right"] for one in told["answers"]["base"]] == [None, None]
    assert [a["text"] for a in alone["answers"]["student"]] == [a["text"] for a in told["answers"]["student"]]
    sample = RolloutSample.from_dict(
        inside.do("map", messages=QUESTION, run="a", text="The reply is mipa tolu.")["sample"]
    )
    assert len(sample.tokens) == len(sample.divergence) == len(sample.choices) and max(sample.divergence) > 0
    assert "".join(sample.tokens).startswith("The reply is mipa tolu.")
    held = inside.do("sit", run="a", what="held-out")["rows"]
    assert {row["id"] for row in held} == {row.id for row in open_run("a", tmp_path / "runs").rows("held-out")}
    probes = inside.do("sit", run="a", step=4, what="probes")["rows"]
    assert len(probes) == 4 and all(row["teacher"] is None for row in probes)
    path = inside.do("export", run="a", kind="adapter", destination=str(tmp_path / "out"))["path"]
    assert inside.do("import_adapter", folder=path, name="again") == {"run": "again"}
    assert open_run("again", tmp_path / "runs").summary()["state"] == "finished"
    for step in (None, 0):
        back = inside.do("ask", messages=QUESTION, run="again", step=step, roles=["student"], times=2, temperature=1.0,
                         longest=8)  # fmt: skip
        assert back["answers"]["student"][0]["text"] == told["answers"]["student"][0]["text"]


def test_each_step_says_what_was_considered(inside: Inside, tmp_path: Path, lesson: dict[str, Any]) -> None:
    inside.do("teach", name="a", **lesson)
    steps = [e for e in open_run("a", tmp_path / "runs").log.read() if isinstance(e, Step)]
    for sample in (sample for step in steps for sample in step.samples):
        assert len(sample.choices) == len(sample.tokens)
        for choice in sample.choices:
            for pairs in (choice.student, choice.teacher):
                shares = [p for _, p in pairs]
                assert len(pairs) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.003
    assert from_dict(to_dict(steps[0])) == steps[0]


@pytest.mark.parametrize(
    ("do", "arguments", "said"),
    [
        ("resume", {"run": "../elsewhere"}, "cannot be a run's name"),
        ("resume", {"run": "linked"}, "There is no run 'linked'"),
        ("ask", {"messages": QUESTION, "run": "/etc"}, "cannot be a run's name"),
        ("sit", {"run": "none"}, "There is no run 'none'"),
        ("ask", {"messages": []}, "There is no question"),
        ("ask", {"messages": [{"role": "user"}]}, "lacks its role"),
        ("ask", {"messages": QUESTION, "roles": ["pupil"]}, "no role 'pupil'"),
        ("ask", {"messages": QUESTION, "top_p": 0}, "top-p is 0"),
        ("ask", {"messages": QUESTION, "scorer": "taste"}, "no scorer 'taste'"),
        ("ask", {"messages": [{"role": "user", "content": "<|end|>"}]}, "border of a turn"),
        ("map", {"messages": QUESTION, "text": ""}, "no answer to look at"),
        ("check", {"rows": [{"question": "x"}]}, "Row 1 is not a row"),
        ("check", {"rows": [{"prompt": "x"}], "settings": {"optimiser": {}}}, "Unknown settings"),
        ("teach", {"name": "a/b", "rows": []}, "cannot be a run's name"),
        ("teach", {"name": "a", "rows": [], "pace": 3}, "wrong arguments"),
        ("load", {"model": "/no/such/folder"}, "There is no folder"),
        ("export", {"run": "none", "kind": "adapter", "destination": "here"}, "not a whole path"),
        ("import_adapter", {"folder": "/nowhere", "name": "b"}, "adapter_config.json"),
        ("sing", {}, "There is no command 'sing'"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_wrong_is_said_and_the_worker_lives_on(
    do: str, arguments: dict[str, Any], said: str, inside: Inside, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs").mkdir(exist_ok=True)
    for name in ("config.json", "demonstrations.jsonl"):
        (elsewhere / name).write_text("{}")
    (tmp_path / "runs" / "linked").symlink_to(elsewhere)
    inside.do("render", row={"prompt": "x"})  # the first model is there
    with pytest.raises(InputError) as failed:
        inside.do(do, **arguments)
    assert said in failed.value.problem + failed.value.advice
    assert inside.do("ask", messages=QUESTION)["answers"]["base"][0]["tokens"] > 0


def test_a_model_that_could_not_be_loaded_is_no_news_once_another_one_has_answered(inside: Inside) -> None:
    inside.do("render", row={"prompt": "x"})  # the first model is there
    with pytest.raises(InputError):
        inside.do("load", model="/no/such/folder")
    inside.do("render", row={"prompt": "x"})  # a page looks by itself
    assert "There is no folder" in inside.status[-1]["error"]
    inside.do("ask", messages=QUESTION)
    assert inside.status[-1]["error"] is None


def test_an_answer_that_is_all_thoughts_is_not_right(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Stream, "_text", lambda *_: "<think>\nIs it 7? Or 9")
    for spoken, right in ((str, True), (chat.spoken, False)):  # of a model that never thinks, and of one that may
        monkeypatch.setattr(exam, "what_counts", lambda _, spoken=spoken: spoken)
        asked = inside.do("ask", messages=QUESTION, roles=["base"], longest=4, right="7")
        assert asked["answers"]["base"][0]["right"] is right


def test_a_run_that_has_taken_a_name_is_taught_on_as_it_is(
    inside: Inside, tmp_path: Path, lesson: dict[str, Any]
) -> None:
    lesson = {**lesson, "settings": {**SETTINGS, "optim": {**SETTINGS["optim"], "steps": 2}}}
    inside.do("teach", name="first", **lesson)
    inside.do("teach", name="second", on="first", **lesson)
    shutil.rmtree(tmp_path / "runs" / "first")
    other = {**lesson["settings"], "optim": {**lesson["settings"]["optim"], "lr": 1e-2, "seed": 3}}
    inside.do("teach", name="first", **{**lesson, "settings": other})
    asker = inside.service._asker
    assert asker is not None
    adapter = tmp_path / "runs" / "first" / "adapter"
    kept = asker.merged(adapter).model.state_dict()
    asker._merged = None
    read = asker.merged(adapter).model.state_dict()
    assert all(torch.equal(kept[name], weights) for name, weights in read.items())


def test_what_nobody_foresaw_is_said_too(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of a kind")

    monkeypatch.setattr("workbench.worker.asking.Asker.render", broken)
    with pytest.raises(WorkbenchError, match="ZeroDivisionError: of a kind"):
        inside.do("render", row={"prompt": "x"})
    assert inside.do("stop") == {"was": "idle"}


@pytest.fixture
def process(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Worker(tmp_path / "runs", model=str(tiny_folder))
    made.start()
    yield made
    made.close()


def test_a_killed_worker_comes_back_and_loses_no_step(process: Worker, tmp_path: Path, lesson: dict[str, Any]) -> None:
    lesson = {**lesson, "settings": LONGER}
    process.call("teach", name="whole", **lesson).result(LIMIT)
    call = process.call("teach", name="killed", **lesson)
    next(iter(call))
    run = Run(tmp_path / "runs" / "killed")
    while not checkpoints.all_steps(run.checkpoints):
        assert not call.done()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="was teaching run killed"):
        call.result(LIMIT)
    status = process.wait(lambda s: s.alive and s.state == "idle", LIMIT)
    assert status.restarts == 1 and "Resume" in (status.error or "")
    assert process.call("resume", run="killed").result(LIMIT)["state"] == "finished"
    same_run(tmp_path / "runs", "whole", "killed")


def test_when_its_input_ends_it_saves_and_exits(tmp_path: Path, tiny_folder: Path, lesson: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "workbench.worker", "--runs", str(tmp_path), "--model", str(tiny_folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None and process.stdout is not None
    forever = {**SETTINGS, "optim": {**SETTINGS["optim"], "steps": 100_000}}
    teach = {**lesson, "settings": forever, "save_every": 1000, "evaluate_every": 1000}
    process.stdin.write(to_line({"id": 1, "do": "teach", "name": "cut", **teach}))
    process.stdin.flush()
    run = Run(tmp_path / "cut")
    for line in process.stdout:
        if from_line(line).get("phase") == "Teaching":
            break
    while not any(isinstance(event, Step) for event in run.log.read()):
        assert process.poll() is None
    process.stdin.close()
    assert process.wait(LIMIT) == 0
    process.stdout.close()
    last = max(event.step for event in run.log.read() if isinstance(event, Step))
    assert checkpoints.all_steps(run.checkpoints) == [last]
