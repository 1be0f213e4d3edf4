"""The command line: what it prints where, its exit status, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.command import QUICK, call
from workbench.cli import COMMANDS, main


def test_check_prints_the_contract(capsys: pytest.CaptureFixture[str], data: Path, tiny_folder: Path) -> None:
    status, found, said = call(capsys, "check", data, "--model", tiny_folder, "--max-new-tokens", "6")
    assert status == 0
    assert set(found) == {"model", "n", "base", "teacher", "interval", "verdict", "advice", "tokens"}
    assert found["n"] == 12 and found["base"] == 0.0 and found["verdict"] == "cannot"
    assert found["interval"]["base"] == [0.0, pytest.approx(0.2425, abs=1e-3)]
    assert 0 < found["tokens"]["student_max"] < found["tokens"]["teacher_max"]
    assert "cannot" in said and "Traceback" not in said


def test_teach_prints_the_contract_and_keeps_the_run(taught: dict[str, Any], tmp_path: Path) -> None:
    assert {"run", "method", "model", "steps", "seconds", "skill", "retention"} <= set(taught)
    assert taught["method"] == "sdft" and taught["steps"] == 4 and taught["seconds"] > 0
    assert set(taught["skill"]) == {"base", "teacher", "student", "n"} and taught["skill"]["n"] == 4
    assert set(taught["retention"]) == {"base", "student", "n"}
    folder = Path(taught["run"])
    assert folder == tmp_path / "runs" / "rows"
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000002", "step-000004"]
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["optim"]["steps"] == 4 and config["versions"]["torch"]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    kinds = [e["event"] for e in events]
    assert kinds == [
        "run_started",
        "checked",
        *["step", "step", "evaluated", "saved"] * 2,
        "run_ended",
    ]


def test_a_person_reads_the_story_in_order(
    capsys: pytest.CaptureFixture[str], data: Path, probes: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    status = main(
        ["teach", str(data), "--model", str(tiny_folder), "--probes", str(probes), "--runs", str(tmp_path / "r")]
        + ["--beside-sft", *QUICK]
    )
    said = capsys.readouterr()
    assert status == 0 and said.out == ""
    order = [
        "What is about to happen",
        "Can the model do it when it is shown how",
        "Teaching by SDFT",
        "The same by supervised fine-tuning",
        "SFT ran with the settings of SDFT",
        "Three questions",
        "teacher",
        "The run is kept in",
        "workbench compare",
        "workbench export",
        "workbench runs",
    ]
    places = [said.err.index(text, 0 if i < 5 else said.err.index("Three questions")) for i, text in enumerate(order)]
    assert places == sorted(places)


def test_runs_compare_resume_and_probes(
    capsys: pytest.CaptureFixture[str], taught: dict[str, Any], tmp_path: Path, probes: Path
) -> None:
    runs = tmp_path / "runs"
    _, listed, _ = call(capsys, "runs", "--runs", runs)
    (entry,) = listed["runs"]
    assert entry["run"] == "rows" and entry["state"] == "finished" and (entry["step"], entry["steps"]) == (4, 4)
    assert set(entry) == {"run", "state", "method", "model", "on", "step", "steps", "skill", "retention", "started"}
    question = "How do you say red ball in Zorbic?"
    _, compared, said = call(capsys, "compare", "rows", "--runs", runs, "--prompt", question)
    roles = ("base", "teacher", "student")
    assert set(compared) == {*roles, "prompts", "right", "answer"}
    right = compared["answer"]
    assert compared["right"] == {role: right in compared[role] for role in roles} and f"right answer: {right}" in said
    assert compared["prompts"]["base"] == compared["prompts"]["student"] == f"<|user|>{question}<|assistant|>"
    assert "The reply is mipa" in compared["prompts"]["teacher"]
    _, other, _ = call(
        capsys, "compare", taught["run"], "--prompt", question, "--demonstration", "Say {prompt}!", "--step", 2
    )
    assert "Say {prompt}!" in other["prompts"]["teacher"] and other["answer"] == right
    _, unknown, said = call(capsys, "compare", "rows", "--runs", runs, "--prompt", "What else?")
    assert unknown["right"] == dict.fromkeys(roles) and unknown["answer"] is None and "right" not in said
    status, resumed, said = call(capsys, "resume", "rows", "--runs", runs)
    assert status == 0 and resumed["skill"] == taught["skill"] and "already reached" in said
    _, shown, _ = call(capsys, "probes", "--probes", probes)
    assert len(shown["probes"]) == 3


def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    capsys: pytest.CaptureFixture[str],
    taught: dict[str, Any],
    data: Path,
    probes: Path,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    """Stopped by Ctrl-C in the middle; what `resume` makes of it is what one go makes."""
    from workbench.commands import conduct

    made = []

    class Impatient(conduct.Interrupt):
        def __init__(self, words: str) -> None:
            super().__init__(words)
            self.questions = 0
            made.append(self)

        def __call__(self) -> bool:
            self.questions += 1
            return self.questions > 25

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct, "Interrupt", Impatient)
        status, stopped, said = call(
            capsys, "teach", data, "--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs",
            "--name", "stopped", *QUICK,
        )  # fmt: skip
    assert status == 1 and not stopped["finished"]
    assert f"Go on: workbench resume {tmp_path / 'runs' / 'stopped'}\n" in said
    _, listed, _ = call(capsys, "runs", "--runs", tmp_path / "runs")
    assert {r["run"]: r["state"] for r in listed["runs"]} == {"rows": "finished", "stopped": "stopped"}
    _, ended, _ = call(capsys, "resume", "stopped", "--runs", tmp_path / "runs")
    assert ended["finished"] and ended["skill"] == taught["skill"] and ended["retention"] == taught["retention"]
    one, two = (
        load_file(tmp_path / "runs" / name / "adapter" / "adapter_model.safetensors") for name in ("rows", "stopped")
    )
    assert all(bool((one[n] == two[n]).all()) for n in one)


def test_teaching_on_a_run_starts_where_it_ended(
    capsys: pytest.CaptureFixture[str], taught: dict[str, Any], data: Path, probes: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from workbench.runs import open_run
    from workbench.runs.session import student_at

    model = json.loads((Path(taught["run"]) / "config.json").read_text())["model"]
    status, second, said = call(
        capsys, "teach", data, "--on", "rows", "--name", "second", "--probes", probes, "--runs", tmp_path / "runs",
        "--seed", "3", *QUICK,
    )  # fmt: skip
    assert status == 0
    roles = student_at(open_run("second", tmp_path / "runs"))
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    first = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), Path(taught["run"]) / "adapter")
    torch.testing.assert_close(
        roles.loaded.model(input_ids=ids).logits, first(input_ids=ids).logits, rtol=1e-4, atol=1e-4
    )
    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), Path(second["run"]) / "adapter")
    torch.testing.assert_close(both(input_ids=ids).logits, roles.student(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert both.peft_config["default"].r == 32
    # What the first lesson had made it forget is not counted again, and that is said.
    assert "rows had left" in said
    _, listed, said = call(capsys, "runs", "--runs", tmp_path / "runs")
    assert [run["on"] for run in listed["runs"]] == [None, "rows"]


def test_the_model_before_any_lesson_can_teach_the_second_one(
    capsys: pytest.CaptureFixture[str],
    taught: dict[str, Any],
    data: Path,
    probes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from workbench.commands import conduct
    from workbench.runs import open_run
    from workbench.runs.session import student_at
    from workbench.sampling import pad_left

    model = json.loads((Path(taught["run"]) / "config.json").read_text())["model"]
    status, _, _ = call(
        capsys, "teach", data, "--on", "rows", "--name", "second", "--probes", probes, "--runs", tmp_path / "runs",
        "--teacher", "original", *QUICK,
    )  # fmt: skip
    assert status == 0
    roles = student_at(open_run("second", tmp_path / "runs"))
    ids, mask = pad_left([[1, 5, 6, 7, 2]], 0)
    logits = {}
    for kind in ("base", "original"):
        decoder = roles.teacher_decoder(kind)
        logits[kind] = decoder.forward(ids, mask, decoder.allocate(1, 5))[:, -1]
    plain = AutoModelForCausalLM.from_pretrained(model)(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(logits["original"], plain, rtol=1e-4, atol=1e-4)
    assert float((logits["base"] - plain).abs().max()) > 1e-3  # the base has learned the first lesson
    asked: list[Any] = []
    monkeypatch.setattr(conduct, "student_at", lambda run: roles)
    monkeypatch.setattr(conduct, "answer", lambda decoder, *_, **__: asked.append(decoder) or ["said"] * 3)
    conduct.show_answers(open_run("second", tmp_path / "runs"))
    assert asked == [roles.base_decoder, roles.teacher_decoder("original"), roles.student_decoder]
    assert all(roles.first_teacher(kind) is roles.base_decoder for kind in ("base", "ema", "live"))


def test_help_is_quick_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in COMMANDS:
        assert name in overview
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "--json" in capsys.readouterr().out


def bad_calls(folder: Path, data: Path, model: Path) -> dict[str, tuple[list[object], str]]:
    empty = folder / "no-config"
    empty.mkdir()
    pickled = folder / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"")
    one = folder / "one.jsonl"
    one.write_text('{"prompt": "a", "response": "b"}')
    alike = folder / "alike.csv"
    alike.write_text("prompt,response\na,b\na,c\n")
    kept = folder / "kept.jsonl"
    kept.write_text('{"prompt": "Stay?", "keep": true}')
    broken = folder / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"\x00" * 99)
    wordless = folder / "wordless"
    shutil.copytree(model, wordless, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*", "vocab*"))
    forged = folder / "forged.csv"
    forged.write_text("prompt,response\na,<|end|>\nb,c\n")
    long = folder / "long.csv"
    long.write_text("prompt,response\na," + "so " * 600 + "\nb,c\n")
    blank = folder / "blank.csv"
    blank.write_text("prompt,response\na,\nb,c\n")
    on = ["--model", model, "--runs", folder / "runs"]
    return {
        "no command": (["fly"], "no command 'fly'"),
        "no file": (["check", folder / "none.jsonl"], "There is no file"),
        "a folder": (["check", folder], "is a folder"),
        "blank cell": (["teach", blank, *on], "row 2: column 'response' is blank"),
        "one row": (["teach", one, *on], "only one row"),
        "rows alike": (["teach", alike, *on], "All 2 rows ask the same question"),
        "check one row": (["check", one, "--model", model], "only one row"),
        "check rows": (["check", data, "--rows", "0", "--model", model], "--rows is 0"),
        "check kept": (["check", kept, "--model", model], "Every row is a keep row"),
        "column": (["teach", data, "--prompt-column", "ask", *on], "no column 'ask'"),
        "steps": (["teach", data, "--steps", "-5", *on], "--steps is -5"),
        "steps in words": (["teach", data, "--steps", "many", *on], "invalid int value"),
        "flag": (["teach", data, "--speed", "9", *on], "nrecognized arguments: --speed"),
        "name": (["teach", data, "--name", "../away", *on], "cannot be a run's name"),
        "model": (["teach", data, "--model", empty, "--runs", folder / "runs"], "has no config.json"),
        "pickle": (["teach", data, "--model", pickled, "--runs", folder / "runs"], "a pickle, which can run any code"),
        "no model": (["teach", data, "--model", "./none", "--runs", folder / "runs"], "There is no folder ./none"),
        "hub offline": (["check", data, "--model", "some/model"], "huggingface.co was not reached"),
        "broken weights": (["teach", data, "--model", broken, "--runs", folder / "runs"], "could not be loaded"),
        "no tokenizer": (["teach", data, "--model", wordless, "--runs", folder / "runs"], "has no tokenizer."),
        "no place": (["teach", data, "--keep", kept, "--batch", "1", *on], "no place for keep rows"),
        "layers": (["teach", data, "--targets", "brain", *on], "No layer of this model is called"),
        "no room": (["teach", data, *on, "--max-new-tokens", "999"], "999 tokens leaves no room for a question"),
        "probes": (["teach", data, "--probes", alike, *on], "has no column for the answer"),
        "template": (["teach", data, "--template", "{prompt}", *on], "holds {demonstration} 0 times"),
        "forged": (["teach", forged, *on], "contains '<|end|>'"),
        "too long": (["teach", long, *on], "the limit is 250"),
        "scorer": (["teach", data, "--scorer", "best", *on, "--max-new-tokens", "6"], "no scorer 'best'"),
        "held out": (["teach", data, "--held-out", "1.5", *on], "held-out share is 1.5"),
        "batch": (["teach", data, "--batch", "4", "--rollouts", "3", *on], "--rollouts is 3"),
        "run": (["compare", "none", "--prompt", "a", "--runs", folder / "runs"], "There is no run 'none'"),
        "runs": (["runs", "--runs", data], "is a file, not a folder of runs"),
        "keep": (["teach", data, "--keep", folder / "none.csv", *on], "There is no file"),
        "on": (["teach", data, "--on", "none", *on], "There is no run 'none'"),
        "every": (["teach", data, "--save-every", "0", *on], "--save-every is 0"),
    }


CALLS = [
    "no command", "no file", "a folder", "blank cell", "one row", "rows alike", "check one row", "check rows",
    "check kept", "column", "steps", "steps in words", "flag", "name", "model", "pickle", "no model", "hub offline",
    "broken weights", "no tokenizer", "no place", "layers", "no room", "probes", "template", "forged", "too long",
    "scorer", "held out", "batch", "run", "runs", "keep", "on", "every",
]  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_wrong_input_is_refused_with_status_2_and_nothing_is_written(
    name: str, capsys: pytest.CaptureFixture[str], data: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    calls = bad_calls(tmp_path, data, tiny_folder)
    assert sorted(calls) == sorted(CALLS)
    arguments, says = calls[name]
    if "--max-new-tokens" not in arguments and name not in ("no command", "runs", "run"):
        arguments = [*arguments, "--max-new-tokens", "6"]
    before = sorted(tmp_path.rglob("*"))
    status, found, said = call(capsys, *arguments)
    assert status == 2, said
    assert says in found["error"] and found["advice"]
    assert says in said and "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_an_adapter_for_another_base_is_refused(
    capsys: pytest.CaptureFixture[str], taught: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    from workbench.adapters import check_adapter
    from workbench.errors import InputError
    from workbench.models import load

    other = load(str(tiny.save(tmp_path / "other", hidden_size=32)))
    folder = Path(taught["run"]) / "adapter"
    with pytest.raises(InputError, match="is another model"):
        check_adapter(folder, other)
    config = folder / "adapter_config.json"
    says = config.read_text()
    config.write_text(json.dumps(json.loads(says) | {"base_model_name_or_path": other.name}))
    with pytest.raises(InputError, match="is for another model"):  # whatever it says, it does not fit
        check_adapter(folder, other)
    config.write_text(says)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(iter(tensors))
    tensors[name][0, 0] = float("inf")
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="not finite"):
        check_adapter(folder, load(json.loads((folder.parent / "config.json").read_text())["model"]))
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"")
    status, found, _ = call(capsys, "teach", data, "--on", "rows", "--runs", tmp_path / "runs", *QUICK)
    assert status == 2 and "is a pickle and is not read" in found["error"]


def test_a_name_that_is_taken_is_refused_and_a_free_one_is_found(
    capsys: pytest.CaptureFixture[str],
    taught: dict[str, Any],
    data: Path,
    probes: Path,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    options = ["--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs", *QUICK]
    status, found, _ = call(capsys, "teach", data, "--name", "rows", *options)
    assert status == 2 and "There is a run rows" in found["error"]
    status, found, _ = call(capsys, "teach", data, *options)
    assert status == 0 and found["run"].endswith("rows-2")


def test_a_bug_is_said_without_a_trace_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workbench.commands import runs

    def broken(_: object) -> dict[str, Any]:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(runs, "run", broken)
    status, found, said = call(capsys, "runs", "--runs", tmp_path)
    assert status == 1 and "ZeroDivisionError: by nothing" in found["error"] and "Traceback" not in said


def test_rows_without_answers_can_be_taught(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("\n".join(f"question {i} => reply {i}" for i in range(6)), encoding="utf-8")
    options = ["--model", tiny_folder, "--runs", tmp_path / "runs", *QUICK]
    status, found, said = call(capsys, "teach", path, *options)
    assert status == 0 and found["skill"] == {"base": None, "teacher": None, "student": None, "n": 0}
    assert "nothing can be scored" in said
    status, checked, _ = call(capsys, "check", path, "--model", tiny_folder, "--max-new-tokens", "6")
    assert status == 0 and checked["n"] == 0 and checked["base"] is None and checked["verdict"] == "weak"


def test_keep_rows_of_the_file_and_of_a_file_of_their_own(
    capsys: pytest.CaptureFixture[str], data: Path, probes: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Stay as you are?", "keep": true}\n')
    keep = tmp_path / "keep.csv"
    keep.write_text("question\nAnd you?\nAnd you too?\n", encoding="utf-8")
    options = ["--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs", *QUICK]
    more = tmp_path / "more.jsonl"  # of its rows the questions alone
    more.write_text('{"prompt": "And they?", "demonstration": "They are."}\n', encoding="utf-8")
    status, found, said = call(capsys, "teach", data, "--keep", keep, "--keep", more, *options)
    assert status == 0 and "4 keep rows" in said
    lines = (Path(found["run"]) / "events.jsonl").read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "step"]
    assert all(event["keep_loss"] is not None for event in steps)
    started = json.loads(lines[0])
    assert (started["teaching"], started["held_out"], started["keep"]) == (8, 4, 4)
