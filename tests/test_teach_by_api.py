"""Teaching by a program: the endpoint `/teach`, with a worker that has no model."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from tests.desks import Open
from tests.test_app_teach import at, ended  # noqa: F401
from tests.waiting import until
from workbench.app import teach, teaching


def test_the_endpoint_takes_typed_values_and_returns_the_run(at: Open) -> None:  # noqa: F811
    desk = at()
    made = teach.teach_by_api(desk, "mine", "sdft", 12, 0.001, {"lora": {"rank": 4}})
    assert made == "mine"
    until(lambda: ended(desk, "mine"))
    settings = desk.run("mine").config["settings"]
    assert (settings["optim"]["steps"], settings["optim"]["lr"], settings["lora"]["rank"]) == (12, 0.001, 4)
    for wrong in ({"method": "magic"}, {"settings": {"lora": {"colour": 1}}}, {"on": "nothing"}, {"steps": -1}):
        with pytest.raises(gr.Error):
            teach.teach_by_api(desk, **wrong)
    assert teaching.run_names(desk) == ["mine"]


def test_a_program_that_teaches_leaves_the_form_of_the_page_alone(at: Open) -> None:  # noqa: F811
    desk = at()
    desk.drafts.choose(method="sft", evaluate_every=7)
    desk.drafts.set_setting("lora", "rank", 4)
    before = desk.drafts.choices
    made = teach.teach_by_api(desk, "theirs", "sdft", 12, 0.001, {"rollout": {"temperature": 0.5}})
    until(lambda: ended(desk, made))
    assert replace(desk.drafts.choices, run=None) == replace(before, run=None)
    config = desk.run(made).config
    taught = config["settings"]
    assert (config["method"], taught["optim"]["steps"], taught["rollout"]["temperature"]) == ("sdft", 12, 0.5)
    assert (taught["lora"]["rank"], config["evaluate_every"]) == (4, 7)
