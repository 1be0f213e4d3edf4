"""The Model page: what a model needs here, and loading it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.desks import FAKE
from tests.waiting import until
from workbench import quantised
from workbench.app import lookup, model, teaching
from workbench.app.desk import Desk
from workbench.app.lookup import Found, Lookups, about, kind_of, verdict
from workbench.app.model import Loading
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.memory import Machine, gigabytes, read_shape
from workbench.planning import fit
from workbench.pocket import WEIGHTS
from workbench.settings import Settings
from workbench.worker import Worker
from workbench.worker.client import finished

EVIL = "<img src=x onerror=alert(1)>"
CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
    "dtype": "bfloat16",
}
SHAPE = read_shape(CONFIG)
COMPUTER = Machine("this computer's memory", 16e9, 12e9, gpu=False)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    worker = Worker(tmp_path, command=FAKE)
    worker.start()
    yield Desk.at(tmp_path, worker)
    worker.close()


def test_the_pocket_is_known_at_once(desk: Desk) -> None:
    html = model.estimate(desk, Loading(), "pocket", "auto")
    assert "2.4 million weights" in html and "\u2713 Fits" in html and "Activations" in html
    assert "32 answers x" in html and "/ 32 tokens" not in html


def test_a_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    lookups = Lookups()
    assert "There is no folder" in lookups.find(str(folder)).problem
    folder.mkdir()
    assert "no config.json. Name the folder" in lookups.find(str(folder)).problem
    (folder / "adapter_config.json").write_text("{}")
    assert "import it on the Runs page" in lookups.find(str(folder)).problem
    (folder / "config.json").write_text(json.dumps(CONFIG))
    assert "no *.safetensors" in lookups.find(str(folder)).problem
    (folder / "model.safetensors").write_bytes(b"")
    assert lookups.find(str(folder)).shape == SHAPE
    for text in ("no JSON", "[]", '{"model_type": "vit"}'):
        (folder / "config.json").write_text(text)
        assert "config.json" in lookups.find(str(folder)).problem
    assert "is a file" in lookups.find(str(folder / "config.json")).problem


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pocket", "pocket"),
        ("/somewhere", "folder"),
        ("~/m", "folder"),
        ("..", "folder"),
        ("Qwen/Qwen3-4B", "hub"),
        ("gpt2", "hub"),
        ("a/b/c", "unclear"),
        ("a b", "unclear"),
        (EVIL, "unclear"),
        ("x" * 100_000, "unclear"),
    ],
)
def test_names_are_told_apart(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """What the hub gives."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_the_hub_is_asked_in_the_background(desk: Desk, config: Path) -> None:
    answer = threading.Event()

    def fetch(_: str) -> Path:
        answer.wait()
        return config

    loading, cursor = Loading(Lookups(fetch)), {}
    assert "Asking the hub" in model.view(desk, loading, cursor, "some/model", "bf16")
    assert model.poll(desk, loading, cursor)[3] == model.SAME
    answer.set()
    until(lambda: loading.lookups.version)
    html = model.poll(desk, loading, cursor)[3]
    assert "4.0 billion weights" in html and "will be downloaded from the hub. That is about 8.0 GB" in html
    assert model.poll(desk, loading, cursor)[3] == model.SAME


def test_what_the_hub_could_not_say_is_asked_again_on_request(desk: Desk, config: Path) -> None:
    given: list[Any] = [OSError("no"), config]

    def fetch(_: str) -> Path:
        value = given.pop(0)
        if isinstance(value, Exception):
            raise value
        assert isinstance(value, Path)
        return value

    loading = Loading(Lookups(fetch))
    model.view(desk, loading, {}, "some/model", "auto")
    until(lambda: loading.lookups.version == 1)
    assert "could not be looked up (OSError: no)" in model.estimate(desk, loading, "some/model", "auto")
    model.ask_again(desk, loading, {}, "some/model", "auto")
    until(lambda: loading.lookups.version == 2)
    assert loading.lookups.find("some/model").shape == SHAPE


def test_the_model_that_the_page_names_is_known_without_a_network(desk: Desk) -> None:
    def fetch(_: str) -> Path:
        raise InputError("The hub does not answer.", "Check the network.")

    name, loading = "Qwen/Qwen3-4B-Instruct-2507", Loading(Lookups(fetch))
    for asked in (name, "some/model"):
        model.view(desk, loading, {}, asked, "4-bit")
    until(lambda: loading.lookups.version == 2)
    html = model.estimate(desk, loading, name, "4-bit")
    assert "4.0 billion weights" in html and "by its published config.json, which comes with the workbench" in html
    assert "Check the network." in model.estimate(desk, loading, "some/model", "4-bit")


def test_the_verdict_says_whether_and_why() -> None:
    small = read_shape(json.loads((WEIGHTS / "config.json").read_text()))
    assert verdict(small, "auto", Settings(), COMPUTER).fits == "yes"
    large = verdict(SHAPE, "4-bit", Settings(), Machine("the GPU (X)", 8e9, 6.5e9, gpu=True))
    assert large.fits == "yes" and "32 answers a step, 8 of them at a time, activations computed again;" in large.why
    assert "the GPU (X) has 6.5 GB free of 8.0 GB" in large.why and "slow" not in large.why
    asked = verdict(SHAPE, "auto", Settings(), Machine("the GPU (X)", 12e9, 9.5e9, gpu=True))
    assert asked.fits == "answers only" and "not taught: even with one answer at a time" in asked.why
    tight = verdict(SHAPE, "bf16", Settings(), Machine("m", 16e9, 4e9, gpu=False))
    assert tight.fits == "tight" and "Close other programs" in tight.why
    no = verdict(SHAPE, "fp32", Settings(), COMPUTER)
    assert no.fits == "no" and "In bf16 it takes half" in no.why
    assert "slow" in verdict(SHAPE, "bf16", Settings(), COMPUTER).why


@pytest.mark.parametrize(("precision", "free"), [("4-bit", 15.5e9), ("4-bit", 6.5e9), ("bf16", 23e9), ("fp32", 1e12)])
def test_the_verdict_is_that_of_the_plan_which_teaching_makes(precision: str, free: float) -> None:
    here, found = Machine("the GPU (X)", free, free, gpu=True), fit(SHAPE, precision, Settings(), free)
    assert found is not None
    judged = verdict(SHAPE, precision, Settings(), here)
    need = found.need.teaching - sum(part.size for part in found.need.parts if part.name == "Teacher's prompts")
    assert judged.fits == "yes" and f"needs about {gigabytes(need)} with" in judged.why
    assert ("computed again" in judged.why) == found.work.checkpointing
    assert f"<b>{gigabytes(need)}</b>" in model.needs_html(Found("it"), SHAPE, precision, Settings(), here)


def test_a_model_is_loaded(desk: Desk, tmp_path: Path) -> None:
    loading = Loading()
    until(lambda: desk.worker.status.state == "idle")
    state, cancel, _ = model.start(desk, loading, {}, "pocket", "fp32")
    assert loading.call is not None and cancel["visible"]
    assert "Loading pocket" in state or "In memory: pocket" in state
    loading.call.result()
    until(lambda: "loaded in" in model.state(desk, loading))
    assert "In memory: pocket. 4,000,000 weights, reads up to 512 tokens" in model.state(desk, loading)


def test_a_model_that_cannot_be_loaded_says_why(desk: Desk, config: Path) -> None:
    until(lambda: desk.worker.status.state == "idle")
    loading = Loading(Lookups(lambda _: config))
    model.start(desk, loading, {}, "missing", "auto")
    assert loading.call is not None
    with pytest.raises(InputError):
        loading.call.result()
    said = model.state(desk, loading)
    assert "missing was not loaded. There is no model missing. Check the name." in said and "compare-wrong" in said


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("", "auto", "Write a model"),
        ("/nowhere", "auto", "There is no folder"),
    ],
)
def test_what_cannot_be_loaded_is_not_tried(desk: Desk, name: str, precision: str, said: str) -> None:
    loading = Loading()
    assert said in model.start(desk, loading, {}, name, precision)[0]
    assert loading.call is None


def test_a_model_waits_until_a_run_is_taught(
    tmp_path: Path, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_HOLD_AT", "2")
    worker = Worker(tmp_path, command=FAKE)
    worker.start()
    until(lambda: worker.status.state == "idle")
    desk, loading, cursor = Desk.at(tmp_path, worker), Loading(), {}
    desk.drafts.replace_rows([row.to_dict() for row in rows], "colours")
    model.poll(desk, loading, cursor)
    teaching.start(desk, "busy")
    until(lambda: worker.status.state == "teaching")
    said = model.start(desk, loading, cursor, "pocket", "auto")[0]
    assert "Teaching busy" in said and "then load pocket." in said
    assert loading.call is None and "was not loaded" not in model.state(desk, loading)
    model.poll(desk, loading, cursor)
    teaching.stop(desk)
    until(lambda: worker.status.state == "idle")
    assert model.poll(desk, loading, cursor)[0] == model.state(desk, loading)  # what was said is not so any more
    worker.close()


def test_loading_can_be_cancelled(desk: Desk) -> None:
    until(lambda: desk.worker.status.state == "idle")

    class Never:
        replies: tuple[Any, ...] = ({"reply": "failed", "died": True},)

        def done(self) -> bool:
            return desk.worker.status.restarts > 0

    loading = Loading(name="pocket", call=Never())  # type: ignore[arg-type]
    assert "is being loaded" in model.start(desk, loading, {}, "pocket", "auto")[0]
    assert "cancelled" in model.stop(desk, loading)[0] or loading.cancelled
    until(lambda: desk.worker.status.restarts == 1)
    assert "was cancelled; nothing has changed" in model.state(desk, loading)
    model.stop(desk, loading)  # nothing is being loaded now: the worker is left alone
    assert desk.worker.status.restarts == 1


def test_a_download_is_shown_and_cancelled_without_ending_the_worker(desk: Desk, config: Path) -> None:
    until(lambda: desk.worker.status.state == "idle")
    before, loading, cursor = desk.worker.pid, Loading(Lookups(lambda _: config)), {}
    model.start(desk, loading, cursor, "some/large", "auto")
    until(lambda: "model-00001" in model.state(desk, loading))
    said, cancel, *_ = model.poll(desk, loading, cursor)
    assert "Downloading some/large: model-00001-of-00002.safetensors, 0.30 of 8.00 GB, " in said
    assert "In memory: pocket." in said and cancel["visible"]
    model.stop(desk, loading)
    until(lambda: not loading.going)
    said, cancel, *_ = model.poll(desk, loading, cursor)
    assert "was stopped at 0.30 of 8.00 GB. Ask for the model again: it goes on from there. In memory: pocket." in said
    assert "compare-wrong" not in said and not cancel["visible"]
    assert (desk.worker.pid, desk.worker.status.restarts) == (before, 0)
    model.start(desk, loading, cursor, "some/large", "auto")
    until(lambda: "model-00001" in model.state(desk, loading))
    desk.worker.call("go_on")
    until(lambda: "loaded in" in model.state(desk, loading))
    assert "In memory: some/large" in model.state(desk, loading)


def test_a_download_that_does_not_stop_is_ended_by_a_second_press(desk: Desk, config: Path) -> None:
    until(lambda: desk.worker.status.state == "idle")
    loading = Loading(Lookups(lambda _: config))
    model.start(desk, loading, {}, "some/large", "auto")
    until(lambda: "model-00001" in model.state(desk, loading))
    desk.worker._status = replace(desk.worker.status, state="stopping", phase="Stopping")
    said, cancel = model.stop(desk, loading)
    assert "cancel once more" in said or "was cancelled" in said
    until(lambda: desk.worker.status.restarts == 1 and not loading.going)
    assert "was cancelled; nothing has changed" in model.state(desk, loading)


def test_the_download_that_the_worker_begins_with_can_be_cancelled(tmp_path: Path) -> None:
    worker = Worker(tmp_path, model="some/large", command=FAKE)
    worker.start()
    try:
        desk, loading = Desk.at(tmp_path, worker), Loading()
        until(lambda: model.can_stop(desk, loading))
        assert model.restore(desk, loading)[2]["visible"]
        assert "model-00001-of-00002.safetensors, 0.30 of 8.00 GB" in model.state(desk, loading)
        model.stop(desk, loading)
        until(lambda: worker.status.state == "idle")
        assert "it goes on from there" in (worker.status.error or "") and not model.can_stop(desk, loading)
        assert "No model is in memory yet" in model.state(desk, loading)
    finally:
        worker.close()


def test_only_what_can_be_loaded_is_offered_without_a_word() -> None:
    import torch

    for precision in lookup.PRECISIONS:
        assert quantised.choose(precision, None, torch.device("cpu")).name in (precision, "fp32")


def test_what_was_noted_on_loading_is_shown_and_a_byte_a_weight_is_offered(desk: Desk, config: Path) -> None:
    until(lambda: desk.worker.status.state == "idle")
    done = {"parameters": 4, "longest": 512, "seconds": 0.1, "notes": [f"Slow here. {EVIL}"]}
    said = model.state(desk, Loading(name="pocket", call=finished(done)))
    assert "Slow here. &lt;img" in said
    loading = Loading(Lookups(lambda _: config))
    model.estimate(desk, loading, "some/model", "8-bit")
    until(lambda: not loading.lookups.find("some/model").pending)
    sums = [model.estimate(desk, loading, "some/model", name) for name in ("bf16", "8-bit", "4-bit")]
    assert "8-bit on a CPU is slow" in sums[1] and len(set(sums)) == 3


def test_doctor_is_asked_in_a_process_of_its_own() -> None:
    begun, found = model.look_around()
    assert "Looking" in begun["value"] and begun["visible"] is True
    assert "Memory: " in found["value"] and "fp32: yes" in found["value"]
    assert "No module named nothing" in model.doctor([sys.executable, "-m", "nothing"])
    assert "could not be found out" in model.doctor(["/nowhere"])


def test_evil_names_make_no_element(desk: Desk, config: Path) -> None:
    loading = Loading(Lookups(lambda _: config))
    for name in (EVIL, "./" + EVIL, EVIL + "x" * 100_000):
        html = model.estimate(desk, loading, name, "auto") + model.start(desk, loading, {}, name, "auto")[0]
        assert "<img" not in html
    assert "<img" not in model.needs_html(
        Found(EVIL, EVIL, SHAPE), SHAPE, "auto", Settings(), Machine(EVIL, 1e9, 1e9, gpu=True)
    )
    assert "&" not in about(Found("a", "b", SHAPE))


def test_a_question_goes_to_compare() -> None:
    text, tabs = model.to_compare(["What is 3 plus 4?"])
    assert text == "What is 3 plus 4?" and tabs.selected == "compare"
