"""What the command line does when something is in the way: damaged runs, other weights, Ctrl-C, a dumb terminal."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.command import QUICK, call
from workbench.adapters import save_adapter
from workbench.app import server
from workbench.cli import main
from workbench.commands import conduct, screen
from workbench.commands.teaching import _usual_on
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, RunError
from workbench.events import Checked, Evaluated, Measure, RunEnded
from workbench.models import LoadedModel, load, weights_mark
from workbench.roles import make_roles
from workbench.runs import Run
from workbench.runs.folder import create
from workbench.runs.log import EventWriter
from workbench.runs.session import load_base
from workbench.settings import LoraSettings, Settings, own_defaults

CONFIG = {"method": "sdft", "model": "pocket", "settings": {"optim": {"steps": 9}}, "started": "2026-11-25T00:00:00"}
QUESTION = 'What\'s "$HOME" in `Zorbic`?'


def made(runs: Path, name: str, *, ended: bool = True, right: float = 0.95, knew: bool = True) -> Run:
    """A run's folder with a log, without a model; `knew`: whether the base answered any probe right."""
    run = create(runs, name, CONFIG, {"held-out": [Demonstration(QUESTION, "D", "A")]}, [])
    writer = EventWriter(run.log, 0)
    probes = Measure(1.0, 20, 0.84, 1.0) if knew else Measure(0.0, 20, 0.0, 0.16)
    writer.write(Checked(Measure(0.0, 40, 0.0, 0.09), Measure(1.0, 40, 0.91, 1.0), probes, "ready", "Good."))
    writer.write(Evaluated(9, Measure(right, 40, 0.83, 0.99), Measure(0.5, 20, 0.3, 0.7) if knew else None, 1.0))
    if ended:
        writer.write(RunEnded(9, 12.0))
    writer.close()
    return run


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written on a wide screen."""
    text = io.StringIO()
    # Another console, not another file in this one: undone, it would hold on to what was standard error by then.
    monkeypatch.setattr(screen, "console", Console(file=text, width=160, highlight=False, soft_wrap=True))
    return text


def test_one_damaged_run_does_not_hide_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made(tmp_path, "good")
    (made(tmp_path, "broken").path / "config.json").write_text("{")
    (made(tmp_path, "logless").path / "events.jsonl").write_text("?\n")
    status, found, told = call(capsys, "runs", "--runs", tmp_path)
    assert status == 0
    assert {r["run"]: r["state"] for r in found["runs"]} == {
        "good": "finished",
        "broken": "damaged",
        "logless": "damaged",
    }
    assert all(set(r) == set(found["runs"][0]) for r in found["runs"]) and found["runs"][0]["step"] is None
    assert "Damaged runs cannot be read: restore their folders" in told
    assert "2026-11-25 00:00" in told


def test_every_share_has_its_number_and_interval(tmp_path: Path, said: io.StringIO) -> None:
    run, other = made(tmp_path, "one"), made(tmp_path, "one-sft", right=0.25)
    conduct.show_result(run, {**conduct.result(run), "beside": {**conduct.result(other), "method": "sft"}})
    lines = said.getvalue().splitlines()
    skill = next(i for i, line in enumerate(lines) if "held-out questions right, of 40" in line)
    assert [part.strip() for part in lines[skill].split("│")[2:6]] == ["0%", "100%", "95%", "25%"]
    assert [part.strip() for part in lines[skill + 1].split("│")[2:5]] == ["0-9%", "91-100%", "83-99%"]
    assert any("still right, of 20 probes it knew" in line and "50%" in line for line in lines)


def test_where_no_probe_was_known_nothing_is_said_to_be_kept(tmp_path: Path, said: io.StringIO) -> None:
    run = made(tmp_path, "one", knew=False)
    found = conduct.result(run)
    assert found["retention"] == {"base": 0.0, "student": None, "n": 0}
    conduct.show_result(run, found)
    assert "before the lesson it answered none of the 20 probes right. Name questions that it can" in said.getvalue()
    conduct.show_result(made(tmp_path, "two"), found)
    assert said.getvalue().count("cannot be told") == 1
    early = made(tmp_path, "three")  # stopped before it was measured
    events = [line for line in early.log.path.read_text().splitlines(keepends=True) if '"evaluated"' not in line]
    early.log.path.write_text("".join(events))
    said.truncate(said.seek(0))
    conduct.show_result(early, conduct.result(early))
    assert "cannot be told" not in said.getvalue() and "still right, of 20 probes it knew" in said.getvalue()


def test_the_next_commands_can_be_pasted(tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    run = made(tmp_path / "runs", "first try")
    conduct.follow_up(run, conduct.result(run))
    lines = [shlex.split(line) for line in said.getvalue().splitlines() if line.startswith("  workbench")]
    assert lines[0] == ["workbench", "compare", "first try", "--prompt", QUESTION]
    assert lines[1][:3] == ["workbench", "export", "first try"] and lines[2] == ["workbench", "runs"]
    assert "far from its teacher" not in said.getvalue()
    skill = {"base": 0.0, "teacher": 0.94, "student": 0.39, "n": 18}
    conduct.follow_up(run, {**conduct.result(run), "skill": skill, "steps": 320})
    assert "far from its teacher, 39% against 94%: teach it for longer (--steps 640)" in said.getvalue()
    conduct.follow_up(run, {**conduct.result(run), "skill": skill, "steps": 4})
    assert "teach it for longer (--steps 320)" in said.getvalue()
    far = made(tmp_path / "else where", "one")
    conduct.follow_up(far, conduct.result(far))
    assert f"workbench runs --runs '{far.path.parent}'" in said.getvalue()


def test_a_run_beside_that_was_stopped_is_not_shown_as_a_result(tmp_path: Path, said: io.StringIO) -> None:
    run, other = made(tmp_path, "one"), made(tmp_path, "one-sft", ended=False)
    found = {**conduct.result(run), "beside": {**conduct.result(other), "method": "sft"}}
    conduct.show_result(run, found)
    conduct.follow_up(run, found)
    assert "after SFT" not in said.getvalue()
    assert f"The run by SFT was stopped at step 0.\nGo on: workbench resume {other.path}" in said.getvalue()


def test_ctrl_c_outside_the_loop_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.commands import resume

    def interrupted(_: Run) -> None:
        raise KeyboardInterrupt

    run = made(tmp_path, "one", ended=False)
    monkeypatch.setattr(resume, "conduct", interrupted)
    status, found, told = call(capsys, "resume", "one", "--runs", tmp_path)
    assert status == 1 and found["advice"] == f"Go on: workbench resume {run.path}" and "Traceback" not in told


def test_a_run_that_stopped_is_not_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.commands import resume

    made(tmp_path, "one", ended=False)
    monkeypatch.setattr(resume, "conduct", conduct.result)
    status, found, _ = call(capsys, "resume", "one", "--runs", tmp_path)
    assert status == 1 and found["finished"] is False


def test_json_is_read_from_a_terminal_without_unicode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "one")
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["resume", "mïssing", "--runs", str(tmp_path), "--json"]) == 2
    narrow.seek(0)
    assert json.loads(narrow.read())["error"] == "There is no run 'mïssing'."


def test_other_weights_than_the_run_was_begun_on_are_noticed(
    capsys: pytest.CaptureFixture[str], taught: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    run = Run(Path(taught["run"]))
    folder = Path(run.config["model"])
    assert run.config["weights"] == weights_mark(str(folder))
    config = json.loads((run.path / "config.json").read_text())
    moved = tmp_path / "model"
    shutil.copytree(folder, moved)
    (run.path / "config.json").write_text(json.dumps({**config, "model": str(moved)}))
    assert load_base(run).name == str(moved)
    content = bytearray((moved / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (moved / "model.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="are not those that run rows was begun on"):
        load_base(run)
    for command in (["compare", "rows", "--prompt", "a"], ["export", "rows", "--to", "merged", tmp_path / "out"]):
        status, found, _ = call(capsys, *command, "--runs", run.path.parent)
        assert status == 1 and "are not those" in found["error"]
    assert not (tmp_path / "out").exists()
    status, _, _ = call(capsys, "teach", data, "--on", "rows", "--runs", run.path.parent, *QUICK)
    assert status == 1 and [p.name for p in run.path.parent.iterdir()] == ["rows"]


def test_an_adapter_is_saved_without_asking_the_hub(
    tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.utils import save_and_load

    asked: list[object] = []
    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", lambda *a, **_: asked.append(a))
    save_adapter(make_roles(replace(tiny_model, name="pocket"), LoraSettings()), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file() and asked == []


def test_compare_refuses_what_says_nothing(capsys: pytest.CaptureFixture[str], taught: dict[str, Any]) -> None:
    for flags, says in (
        (["--demonstration", " "], "--demonstration is empty"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--step", "3"], "no checkpoint of step 3"),
    ):
        status, found, _ = call(capsys, "compare", taught["run"], "--prompt", "a", *flags)
        assert status == 2 and says in found["error"]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The hub as if the network were there: `asked["raises"]` is what it answers with."""
    import huggingface_hub
    from huggingface_hub import constants

    asked: dict[str, Any] = {"times": 0}

    def metadata(*_: object, **__: object) -> None:
        asked["times"] += 1
        raise asked["raises"]

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    yield asked


def test_without_a_network_the_hub_is_asked_once(online: dict[str, Any]) -> None:
    online["raises"] = ConnectionError("no route")
    with pytest.raises(InputError, match="not on this disk, and huggingface.co was not reached") as caught:
        load("some/model")
    assert online["times"] == 1 and "--model pocket" in caught.value.advice


def test_what_the_hub_says_is_passed_on(online: dict[str, Any]) -> None:
    from huggingface_hub import errors

    for kind, says in (
        (errors.RepositoryNotFoundError, "There is no model some/model on huggingface.co"),
        (errors.RevisionNotFoundError, "has no revision 'v9'"),
        (errors.GatedRepoError, "asks for its terms to be accepted"),
    ):
        online["raises"] = kind.__new__(kind)
        with pytest.raises(InputError, match=says):
            load("some/model", revision="v9")


def test_rows_with_a_context_alone_are_not_for_sft(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("prompt,context\na,one\nb,two\nc,three\n")
    for flags in (["--method", "sft"], ["--beside-sft"]):
        status, found, _ = call(
            capsys, "teach", path, "--model", tiny_folder, "--runs", tmp_path / "runs", *flags, *QUICK
        )
        assert status == 2 and "2 of 2 rows to teach have no demonstration" in found["error"]
    assert not (tmp_path / "runs").exists()


def test_a_model_s_folder_is_known_by_its_whole_path(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    assert load(tiny_folder.name).name == str(tiny_folder.resolve())
    assert load("pocket").name == "pocket"


def test_what_goes_on_says_which_settings_are_others_for_that() -> None:
    usual = Settings.from_dict(own_defaults(True, True))
    assert _usual_on(usual, True).endswith(": steps 700, lr 0.0012, teacher original, keep share 0.25.")
    typed = replace(usual, optim=replace(usual.optim, steps=50))
    assert "steps" not in _usual_on(typed, True) and "teacher original" in _usual_on(typed, True)
    assert _usual_on(usual, False) == ""


def test_the_address_is_no_part_of_the_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "serve", lambda _: print("The workbench is at ..."))
    assert main(["app", "--runs", str(tmp_path), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"runs": str(tmp_path)} and "The workbench is at" in said.err
    assert main(["app", "--runs", str(tmp_path)]) == 0
    assert "The workbench is at" in capsys.readouterr().out
