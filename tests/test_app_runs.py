"""The page Runs: list, open, rename, note, delete and undo, compare, export, import; with a worker without a model."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.desks import FAKE
from tests.fake_run import finished
from tests.test_views import ALLOWED, Reader
from tests.waiting import until
from workbench.app import exporting, runs, shelving, teaching
from workbench.app.desk import Cursor, Desk
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, RunError
from workbench.runs import shelf, zips
from workbench.worker import Worker

EVIL = "<img src=x onerror=alert(1)></script>\u202e"


@pytest.fixture
def desk(tmp_path: Path, rows: list[Demonstration]) -> Iterator[Desk]:
    folder = tmp_path / "runs"
    finished(folder, "one", rows)
    finished(folder, "two", rows, steps=20, lr=2e-3, source="/home/me/colours.jsonl")
    worker = Worker(folder, command=FAKE)
    worker.start()
    yield Desk.at(folder, worker)
    worker.close()


def names(desk: Desk) -> list[str]:
    return sorted(record["run"] for record in shelving.records(desk))


def harmless(html: str) -> Reader:
    read = Reader(html)
    assert {tag for tag, _ in read.elements} <= ALLOWED | {"table", "thead", "tbody", "tr", "th", "td"}
    assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on") or a == "src"]
    return read


def test_the_list_says_all_about_each_run(desk: Desk) -> None:
    record = next(r for r in shelving.records(desk) if r["run"] == "two")
    assert record == {
        "run": "two",
        "state": "finished",
        "method": "sdft",
        "model": "pocket",
        "data": "/home/me/colours.jsonl",
        "on": None,
        "step": 20,
        "steps": 20,
        "skill": 1.0,
        "retention": 0.9,
        "started": "2026-01-01T00:00:00+00:00",
        "note": "",
    }
    made = harmless(shelving.table_html(desk))
    assert "colours.jsonl" in made.words and "/home/me" not in made.words
    assert "100%" in made.words and "90%" in made.words
    assert shelving._here("2026-01-01T00:00:00+00:00") in made.words
    assert shelving._here("2026-01-01T12:30:45") == "2026-01-01 12:30" and shelving._here("never") == "never"
    assert sum(tag == "svg" for tag, _ in made.elements) == 2


def test_the_chosen_run_stands_out(desk: Desk) -> None:
    cursor: Cursor = {}
    for name in ("one", "two"):
        runs.choose("run", cursor, name)
        table, listed, *_ = runs.poll(desk, cursor)
        assert listed["value"] == name and re.findall(r"<tr aria-current=.*?<bdi>(.*?)</bdi>", table) == [name]


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    desk = Desk.at(tmp_path / "none", Worker(tmp_path / "none", command=FAKE))
    assert "no runs yet" in shelving.table_html(desk)
    assert runs.poll(desk, {})[1]["choices"] == []


def test_a_damaged_run_does_not_hide_the_others(desk: Desk) -> None:
    (desk.runs / "two" / "config.json").write_text("{")
    states = {record["run"]: record["state"] for record in shelving.records(desk)}
    assert states == {"one": "finished", "two": "finished"}  # its log is whole
    (desk.runs / "two" / "events.jsonl").write_text("rubbish\n")
    assert {r["run"]: r["state"] for r in shelving.records(desk)}["two"] == "damaged"
    harmless(shelving.table_html(desk))


def test_buttons_that_need_a_run_come_with_the_first(desk: Desk, tmp_path: Path) -> None:
    assert runs.poll(desk, {})[5]["visible"] is True
    empty = Desk.at(tmp_path / "none", desk.worker)
    assert runs.poll(empty, {})[5]["visible"] is False


def test_what_was_deleted_last_can_still_be_brought_back(desk: Desk) -> None:
    for name in teaching.run_names(desk):
        shelving.delete(desk, name)
    *_, undo, there, _ = runs.poll(desk, {})
    assert not teaching.run_names(desk) and undo["interactive"] and there["visible"]


def test_a_poll_draws_the_list_only_when_it_has_changed(desk: Desk) -> None:
    cursor: dict[str, Any] = {}
    assert "one" in runs.poll(desk, cursor)[0]
    assert isinstance(runs.poll(desk, cursor)[0], dict)  # gr.skip()
    shelving.note(desk, "one", "good")
    assert "good" in runs.poll(desk, cursor)[0]


def test_what_is_chosen_in_the_lists_stays_when_they_are_drawn_again(desk: Desk, rows: list[Demonstration]) -> None:
    desk.drafts.choose(run="two")
    cursor: dict[str, Any] = {}

    def shown() -> list[str]:
        cursor["runs.mark"] = None
        return [part["value"] for part in runs.poll(desk, cursor)[1:4]]

    assert shown() == ["two", "two", "one"]
    for field, name in (("run", "one"), ("one", "one"), ("other", "two")):
        runs.choose(field, cursor, name)
    finished(desk.runs, "three", rows)
    desk.drafts.choose(run="three")  # somebody began to teach it
    assert shown() == ["one", "one", "two"]
    press = partial(runs.press, desk)
    # The note is one on what was chosen, and so is whatever comes after it.
    assert press(runs._note, "{}", cursor, "one", "good")[3]["value"] == "one"
    assert press(shelving.rename, "{}", cursor, "one", "first")[3]["value"] == "first"
    assert press(runs._open, "{}", cursor, "first")[3]["value"] == "first"
    # From then on it is the run in view, and gives way to the next one.
    desk.drafts.choose(run="two")
    assert shown()[0] == "two"
    runs.choose("run", cursor, "first")
    assert press(shelving.delete, "{}", cursor, "first")[3]["value"] == "two"
    assert press(lambda desk: shelving.undelete(desk), "{}", cursor)[3]["value"] == "first"


def test_open_rename_and_note(desk: Desk) -> None:
    said, *_ = runs.press(desk, runs._open, "{} is open.", {}, "one")
    assert "one is open." in said and desk.drafts.run == "one"
    desk.drafts.choose(on="one")
    assert shelving.rename(desk, "one", "first try") == "first try"
    assert names(desk) == ["first try", "two"]
    assert (desk.drafts.run, desk.drafts.choices.on) == ("first try", "first try")
    shelving.note(desk, "first try", EVIL)
    assert shelving.records(desk)[-1]["note"] == EVIL or shelving.records(desk)[0]["note"] == EVIL
    harmless(shelving.table_html(desk))
    for wrong in ("../up", "", "two", "a/b", EVIL):
        said, *_ = runs.press(desk, shelving.rename, "{}", {}, "first try", wrong)
        assert "note-wrong" in said
    with pytest.raises(InputError, match="4,000"):
        shelving.note(desk, "two", "x" * 4001)
    shelving.note(desk, "two", "half \ud800")
    assert shelf.note_of(desk.run("two")) == "half ?"
    assert (box := runs.note_box(desk, {}, "first try"))["label"] == "Note on first try" and box["value"] == EVIL
    assert names(desk) == ["first try", "two"]


def test_a_path_is_no_run(desk: Desk) -> None:
    for name in ("../runs/one", str(desk.runs / "one"), ".trash/x", None, ""):
        for function in (shelving.delete, shelving.teach_further, shelving.open_it, shelving.idle):
            with pytest.raises(InputError):
                function(desk, name)
    assert names(desk) == ["one", "two"]


def test_delete_can_be_undone_after_a_restart_too(desk: Desk) -> None:
    desk.drafts.choose(run="one", on="one")
    assert shelving.delete(desk, "one") == "one"
    assert names(desk) == ["two"] and desk.drafts.run == "two" and desk.drafts.choices.on is None
    assert runs.poll(desk, {})[4] == {"__type__": "update", "value": "Undo delete of one", "interactive": True}
    again = Desk.at(desk.runs, desk.worker)
    assert shelving.undelete(again) == "one"
    assert names(desk) == ["one", "two"] and len(desk.events("one")) > 10 and again.drafts.run == "one"
    with pytest.raises(InputError, match="empty"):
        shelving.undelete(desk)


def test_a_run_comes_back_beside_one_that_took_its_name(desk: Desk, rows: list[Demonstration]) -> None:
    shelving.delete(desk, "one")
    finished(desk.runs, "one", rows, steps=5)
    assert shelving.undelete(desk) == "one-2"
    assert names(desk) == ["one", "one-2", "two"]


def test_a_run_in_use_is_left_alone(desk: Desk) -> None:
    with desk.run("one").locked():
        for act in (lambda: shelving.delete(desk, "one"), lambda: shelving.rename(desk, "one", "x")):
            with pytest.raises(RunError, match="being taught"):
                act()
    assert names(desk) == ["one", "two"]


def test_settings_are_used_again(desk: Desk) -> None:
    until(lambda: desk.worker.status.model == "pocket")
    desk.drafts.set_setting("rollout", "temperature", 0.5)
    shelving.duplicate(desk, "two")
    assert desk.drafts.settings["optim"] == {"steps": 20, "lr": 2e-3}
    # What the run had by default, and the draft had not.
    assert "temperature" not in desk.drafts.settings.get("rollout", {})
    assert desk.drafts.choices.evaluate_every == 5
    assert shelving.settings_said(desk, "two") == "The settings of two are on the Teach page now."
    shelving.teach_further(desk, "two")
    assert desk.drafts.choices.on == "two"
    (desk.run("one").adapter / "adapter_config.json").unlink()
    desk.run("one").adapter.rmdir()
    with pytest.raises(InputError, match="not finished"):
        shelving.teach_further(desk, "one")


def test_two_runs_are_compared_in_what_differs(desk: Desk) -> None:
    made = harmless(shelving.compare(desk, "one", "two"))
    assert "optim: lr" in made.words and "0.001" in made.words and "0.002" in made.words
    assert "lora: rank" not in made.words and "Skill, one" in made.words
    assert "same run" in runs.press_compare(desk, {}, "one", "one")


def test_a_run_goes_out_and_comes_in_again(desk: Desk) -> None:
    path = exporting.pack(desk.run("one"))
    said, _, _, *parts = runs.press_import(desk, str(path), {})
    assert "one-2 was imported" in said and desk.drafts.run == "one-2"
    assert (desk.run("one-2").path / "events.jsonl").read_bytes() == (
        desk.run("one").path / "events.jsonl"
    ).read_bytes()
    assert "one-2" in parts[0]


def a_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def run_files(desk: Desk) -> dict[str, bytes | str]:
    path = desk.run("one").path
    return {file: (path / file).read_bytes() for file in ("config.json", "demonstrations.jsonl", "probes.jsonl")}


def config_with(desk: Desk, **changed: Any) -> str:
    return json.dumps({**desk.run("one").config, **changed})


TENSORS = struct.pack("<Q", 2) + b"{}"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/evil.json",
        "a/../../evil.json",
        "..\\evil.json",
        "C:/evil.json",
        "extra.py",
        "adapter/pytorch_model.bin",
        "checkpoints/step-000001/state.pkl",
        "checkpoints/step-000001/../../x.json",
        "adapter/sub/adapter_config.json",
    ],
)
def test_nothing_but_the_known_files_comes_in(desk: Desk, tmp_path: Path, name: str) -> None:
    before = sorted(p for p in tmp_path.rglob("*") if "lock" not in p.name)
    path = a_zip(tmp_path / "in.zip", {**run_files(desk), name: "{}"})
    assert "note-wrong" in runs.press_import(desk, str(path), {})[0]
    path.unlink()
    assert sorted(p for p in tmp_path.rglob("*") if "lock" not in p.name) == before


def test_links_bombs_and_crowds_stay_out(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = zipfile.ZipInfo("events.jsonl")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = a_zip(tmp_path / "link.zip", run_files(desk))
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="link"):
        shelving.bring_in(desk, str(path))
    monkeypatch.setattr(zips, "MOST_FILES", 3)
    with pytest.raises(InputError, match="4 files"):
        shelving.bring_in(desk, str(a_zip(tmp_path / "many.zip", {**run_files(desk), "events.jsonl": ""})))
    monkeypatch.setattr(zips, "MOST_FILES", 2000)
    monkeypatch.setattr(zips, "MOST_BYTES", 3000)
    with pytest.raises(InputError, match="1 GB"):
        shelving.bring_in(desk, str(a_zip(tmp_path / "big.zip", {**run_files(desk), "events.jsonl": "x" * 3000})))
    assert names(desk) == ["one", "two"] and not [p for p in desk.runs.iterdir() if p.name.startswith(".unfinished")]


def test_a_zip_that_lies_about_its_size_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_zip(tmp_path / "a.zip", {"adapter_config.json": "{}", "adapter_model.safetensors": TENSORS + b"x" * 5000})
    monkeypatch.setattr(zips, "MOST_BYTES", 4000)
    monkeypatch.setattr(zips, "sum", lambda sizes: 0, raising=False)
    with pytest.raises(InputError, match="unpacks to more"):
        zips.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_in_the_files_is_checked(desk: Desk, tmp_path: Path) -> None:
    files = run_files(desk)
    wrong: list[tuple[dict[str, bytes | str], str]] = [
        ({"config.json": "{"}, "config.json cannot be used"),
        ({"config.json": "[]"}, "config.json cannot be used"),
        ({"config.json": '{"model": "pocket"}'}, "config.json cannot be used: it lacks '"),
        ({"config.json": config_with(desk, model="/etc")}, "neither pocket nor a hub id"),
        ({"config.json": config_with(desk, model="../x")}, "neither pocket nor a hub id"),
        ({"config.json": config_with(desk, settings={"lora": {"rank": 0}})}, "--rank is 0"),
        ({"config.json": config_with(desk, save_every=0)}, "1 or more"),
        ({"demonstrations.jsonl": '{"split": "teaching"}\n'}, "demonstrations.jsonl cannot be used"),
        ({"probes.jsonl": "[1]\n"}, "probes.jsonl cannot be used"),
        ({"events.jsonl": '{"seq": 1, "event": "magic"}\n'}, "events.jsonl cannot be used"),
        ({"adapter/adapter_model.safetensors": b"\x80\x04pickle.."}, "no safetensors file"),
    ]
    for changed, said in wrong:
        path = a_zip(tmp_path / "in.zip", {**files, **changed})
        with pytest.raises(InputError, match=said):
            shelving.bring_in(desk, str(path))
    (tmp_path / "in.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        shelving.bring_in(desk, str(tmp_path / "in.zip"))
    with pytest.raises(InputError, match="neither a run"):
        shelving.bring_in(desk, str(a_zip(tmp_path / "in.zip", {"x.txt": ""})))
    with pytest.raises(InputError, match="No file"):
        shelving.bring_in(desk, None)
    assert names(desk) == ["one", "two"]


def test_an_adapter_comes_in_through_the_worker(desk: Desk, tmp_path: Path) -> None:
    until(lambda: desk.worker.status.state == "idle")
    files: dict[str, bytes | str] = {
        "mine/adapter_config.json": '{"peft_type": "LORA"}',
        "mine/adapter_model.safetensors": TENSORS,
        "mine/README.md": "",
    }
    assert shelving.bring_in(desk, str(a_zip(tmp_path / "mine.zip", files))) == "mine"
    assert "mine" in names(desk)
    trained = dict.fromkeys(("tokenizer.json", "special_tokens_map.json", "chat_template.jinja"), "{}")
    more = {f"mine/{name}": content for name, content in {**trained, "training_args.bin": "pickle"}.items()}
    deeper = {"mine/checkpoint-10/optimizer.pt": "pickle"}
    assert shelving.bring_in(desk, str(a_zip(tmp_path / "trl.zip", {**files, **more, **deeper}))) == "trl"
    with pytest.raises(InputError, match="train.py"):
        shelving.bring_in(desk, str(a_zip(tmp_path / "in.zip", {**files, "mine/train.py": ""})))
    lone = a_zip(tmp_path / "lone.zip", {"adapter_config.json": "{}"})
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        shelving.bring_in(desk, str(lone))


@pytest.mark.parametrize(
    ("files", "problem", "advice"),
    [
        ({"a/adapter_config.json": "{}", "a/adapter_model.bin": "pickle"}, "is a pickle", "safe_serialization=True"),
        ({"m/config.json": "{}", "m/model.safetensors": TENSORS, "m/tokenizer.json": "{}"}, "a whole model", "Model"),
        ({"m/config.json": "{}", "m/model-00001-of-00002.safetensors": TENSORS}, "a whole model", "Model"),
    ],
)
def test_what_was_meant_by_a_zip_is_said(
    desk: Desk, tmp_path: Path, files: dict[str, bytes | str], problem: str, advice: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        shelving.bring_in(desk, str(a_zip(tmp_path / "in.zip", files)))
    assert advice in caught.value.advice


def test_a_refused_adapter_is_called_by_its_zip(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def result(self, timeout: float) -> None:
            raise InputError(f"The adapter in {self.folder} was made on gpt2.", "Load the model it was made on.")

    monkeypatch.setattr(desk.worker, "call", lambda do, folder, name: Refuses(folder))
    files: dict[str, bytes | str] = {"adapter_config.json": "{}", "adapter_model.safetensors": TENSORS}
    with pytest.raises(InputError) as caught:
        shelving.bring_in(desk, str(a_zip(tmp_path / "mine.zip", files)))
    assert caught.value.problem == "The adapter in mine.zip was made on gpt2."


def test_packing_leaves_links_out(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    os.symlink("/etc/passwd", folder / "b.json")
    assert zipfile.ZipFile(zips.pack(folder, tmp_path / "x.zip")).namelist() == ["run/a.json"]
