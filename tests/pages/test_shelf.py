"""Runs and models as a person handles them, with the real pocket model: files that come out, and files that go in."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.pages.served import WAIT, Served, Visit
from tests.waiting import until
from workbench.runs import open_run, shelf

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

ASKED = [{"role": "user", "content": "What is 3 plus 4?"}]


@pytest.fixture(scope="module")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with the real worker, and two finished runs."""
    with Served(tmp_path_factory.mktemp("shelf") / "runs") as made:
        visit = Visit.to(browser, made.address)
        visit.use_set()
        taught(visit, "second", 2)
        visit.close()
        # A run is a folder, and a copy of it is one more: teaching it again would measure the same again.
        again = shutil.copytree(made.runs / "second", made.runs / "first")
        events = again / "events.jsonl"
        events.write_text(events.read_text().replace('"run": "second"', '"run": "first"'))
        yield made


def taught(visit: Visit, name: str, steps: int) -> None:
    """Teach, until the worker is free again."""
    visit.start(steps, name)
    visit.finished(name, steps)
    visit.says("#status", "Ready.")


def unfold(visit: Visit, name: str) -> None:
    """Open a part of the page that is folded away."""
    visit.at("button.label-wrap").filter(has_text=name).locator("visible=true").click()


def choose(visit: Visit, label: str, name: str) -> None:
    """Choose from a list."""
    # The one before may still be folding up.
    expect(visit.page.get_by_role("option").locator("visible=true")).to_have_count(0, timeout=WAIT)
    visit.page.get_by_label(label, exact=True).locator("visible=true").click()
    visit.page.get_by_role("option", name=name, exact=True).locator("visible=true").click()
    holds(visit, label, name)


def holds(visit: Visit, label: str, name: str) -> None:
    """Wait until a list shows what is chosen in it."""
    expect(visit.page.get_by_label(label, exact=True).locator("visible=true")).to_have_value(name, timeout=WAIT)


def export(visit: Visit, label: str, file: str, folder: Path) -> Path:
    """Make a zip of the chosen run, and fetch it as a person does."""
    visit.page.get_by_label(label).check()
    visit.press("Make the zip")
    visit.says("#runs-exported", f"{file} is ready below")
    link = visit.at(f"#runs-there a[href$='/{file}']")
    with visit.page.expect_download() as fetched:
        link.click()
    fetched.value.save_as(folder / file)
    return folder / file


def bring(visit: Visit, name: str, content: bytes) -> None:
    """Import a file."""
    again = visit.at("#runs-file").get_by_role("button", name="Clear")
    if again.count():
        again.click()
    visit.at("#runs-file input[type=file]").set_input_files(
        [{"name": name, "mimeType": "application/zip", "buffer": content}]
    )
    expect(visit.at("#runs-file")).to_contain_text(name.removesuffix(".zip"), timeout=WAIT)
    visit.page.get_by_role("button", name="Import", exact=True).click()


def zipped(files: dict[str, bytes | str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return made.getvalue()


def test_a_note_lands_on_the_run_that_was_chosen(visit: Visit, served: Served) -> None:
    visit.tab("Runs")
    visit.polled()
    holds(visit, "Run", "second")
    choose(visit, "Run", "first")
    unfold(visit, "Rename, or note something")
    visit.type("Note on first", "the one that worked")
    visit.press("Keep the note")
    visit.says("#runs-said", "The note on first is kept.")
    visit.says("#runs-table", "the one that worked")
    holds(visit, "Run", "first")
    assert shelf.note_of(open_run("first", served.runs)) == "the one that worked"
    assert shelf.note_of(open_run("second", served.runs)) == ""
    unfold(visit, "Compare two runs")
    choose(visit, "One run", "first")
    choose(visit, "Another run", "second")
    visit.type("New name", "renamed")
    visit.press("Rename")
    visit.says("#runs-table", "renamed")
    holds(visit, "Run", "renamed")
    holds(visit, "Another run", "second")
    visit.type("New name", "first")
    visit.press("Rename")
    visit.says("#runs-said", "It is called first now.")


def test_exports_arrive_and_are_read_by_other_programs(visit: Visit, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    visit.tab("Runs")
    unfold(visit, "Export")
    for label, kind in (("Adapter (PEFT)", "adapter"), ("Merged model", "merged"), ("Script for TRL", "trl")):
        with zipfile.ZipFile(export(visit, label, f"second-{kind}.zip", tmp_path)) as packed:
            packed.extractall(tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "second-merged")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "second-trl" / "model")
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "second-adapter"))
    read = AutoTokenizer.from_pretrained(tmp_path / "second-merged")
    tokens = read.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert (merged(**tokens).logits - adapted(**tokens).logits).abs().max() < 1e-3
    compile((tmp_path / "second-trl" / "train.py").read_text(), "train.py", "exec")
    rows = (tmp_path / "second-trl" / "data.jsonl").read_text().splitlines()
    assert len(rows) == 140 and {"prompt", "privileged_context"} <= set(json.loads(rows[0]))

    visit.tab("Model")
    visit.type("Model", str(tmp_path / "second-merged"))
    visit.says("#model-needs", "It is in this folder; nothing is downloaded.")
    visit.press("Load")
    visit.says("#model-state", f"In memory: {tmp_path / 'second-merged'}.")
    visit.type("Model", "pocket")
    visit.press("Load")
    visit.says("#model-state", "In memory: pocket.")
    visit.ready()


def test_what_other_programs_made_comes_in_or_is_refused_in_words(visit: Visit, tmp_path: Path) -> None:
    visit.tab("Runs")
    unfold(visit, "Export")
    with zipfile.ZipFile(export(visit, "Adapter (PEFT)", "second-adapter.zip", tmp_path)) as packed:
        files: dict[str, bytes | str] = {name.rpartition("/")[2]: packed.read(name) for name in packed.namelist()}
    unfold(visit, "Import")
    pickled = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    bring(visit, "pickled.zip", zipped({**pickled, "adapter_model.bin": "x"}))
    visit.says("#runs-imported", "The adapter in the zip is a pickle")
    bring(visit, "outside.zip", zipped({**files, "../evil.json": "{}"}))
    visit.says("#runs-imported", "The zip names a file outside of itself")
    about = json.loads(files["adapter_config.json"])
    other = json.dumps({**about, "base_model_name_or_path": "some/other-model"})
    bring(visit, "other.zip", zipped({**files, "adapter_config.json": other}))
    visit.says("#runs-imported", "The adapter in other.zip was made on some/other-model; pocket is another model.")
    # As a trainer leaves it.
    bring(visit, "trained.zip", zipped({**files, "tokenizer.json": "{}", "training_args.bin": "x"}))
    visit.says("#runs-imported", "trained was imported")
    holds(visit, "Run", "trained")
    visit.press("Delete")
    visit.says("#runs-said", "trained was deleted")
    visit.press("Undo delete of trained")
    visit.says("#runs-said", "trained is back.")


def test_what_a_run_goes_on_from_is_said_beside_the_button(visit: Visit) -> None:
    visit.use_set()
    visit.tab("Runs")
    visit.polled()
    choose(visit, "Run", "first")
    visit.press("Teach further on it")
    visit.says("#teach-further", "This teaching goes on from first.")
    taught(visit, "further", 2)
    visit.tab("Runs")
    visit.says("#runs-table", "on first")


def test_compare_asks_the_student_that_was_chosen_whatever_is_drawn_again(visit: Visit, served: Served) -> None:
    visit.tab("Compare")
    visit.polled()
    choose(visit, "Student of run", "first")
    choose(visit, "Student at step", "2")
    visit.type("Question", "word " * 1100)
    visit.press("Ask all three")
    visit.says("#compare-notice", "The question has 1,104 tokens; the limit is 992")
    shelf.rename(open_run("second", served.runs), "later")
    visit.page.get_by_label("Student of run", exact=True).click()
    expect(visit.page.get_by_role("option", name="later", exact=True).last).to_be_visible(timeout=WAIT)
    visit.page.keyboard.press("Escape")
    holds(visit, "Student at step", "2")
    for question in ("What is 3 plus 4?", "What is the capital of France?"):
        visit.type("Question", question)
        visit.press("Ask all three")
        visit.says("#answer-student .wb-note", "token")
        visit.says("#answer-student", "at step 2")
        if question == "What is 3 plus 4?":
            unfold(visit, "Go on with the conversation")
            visit.press("Carry on")
            visit.says(".compare-turns", "3 plus 4 is 7.")
    visit.says("#compare-notice", "Asked with the conversation before it.")
    visit.says("#answer-base", "The capital of France is Paris.")
    visit.page.reload()
    visit.ready()
    visit.tab("Compare")
    visit.says(".compare-turns", "3 plus 4 is 7.")
    second = Visit.tab_of(visit.context, served.address)
    second.tab("Compare")
    second.says(".compare-turns", "3 plus 4 is 7.")
    for tab in (visit, second):
        tab.says("#answer-base", "The capital of France is Paris.")
        tab.says("#answer-student", "at step 2")
    visit.press("Token map: student's answer")
    expect(visit.at("#compare-more .tk").first).to_be_attached(timeout=WAIT)
    visit.press("Ask all three")
    expect(visit.at("#compare-more .tk")).to_have_count(0, timeout=WAIT)
    visit.says("#compare-notice", "Asked with the conversation before it.")
    second.press("Start over")
    expect(second.page.get_by_text("There is one conversation for all three.")).to_be_visible(timeout=WAIT)
    expect(visit.at(".compare-turns")).to_have_count(0, timeout=WAIT)
    assert not second.errors


def test_what_is_entered_on_compare_outlives_a_refresh_before_it_is_asked(visit: Visit, served: Served) -> None:
    visit.tab("Compare")
    visit.type("Question", "Why is the sky blue?")
    visit.type("What the teacher is shown", "Because of the air.")
    unfold(visit, "How the answers are drawn")
    visit.type("Top-k", "7")
    typed = served.runs / ".draft" / "typed.json"
    until(lambda: "Because of the air." in typed.read_text() and ", 7, 0, 0]" in typed.read_text())
    visit.page.reload()
    visit.ready()
    expect(visit.page.get_by_label("What the teacher is shown")).to_have_value("Because of the air.", timeout=WAIT)
    unfold(visit, "How the answers are drawn")
    holds(visit, "Top-k", "7")


def test_the_arithmetic_of_a_model_is_read_on_a_phone(browser: Browser, served: Served) -> None:
    visit = Visit.to(browser, served.address, viewport={"width": 390, "height": 844})
    visit.tab("Model")
    visit.at("#model-needs summary").click()
    word = visit.page.get_by_role("cell", name="Activations", exact=True)
    expect(word).to_be_visible(timeout=WAIT)
    lines = "cell => { const all = new Range(); all.selectNodeContents(cell); return all.getClientRects().length; }"
    assert word.evaluate(lines) == 1
    assert visit.becomes("document.documentElement.scrollWidth - document.documentElement.clientWidth", 0) == 0
    visit.close()
