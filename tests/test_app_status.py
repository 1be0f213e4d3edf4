"""The status line: what is wrong is said together with what there is to go on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desks import desk_at_rest
from tests.fake_run import finished
from workbench.app import status
from workbench.app.desk import Desk
from workbench.demonstrations import Demonstration
from workbench.errors import InputError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def test_a_model_that_could_not_be_loaded_is_said_beside_the_one_that_is_there(desk: Desk) -> None:
    with pytest.raises(InputError):
        desk.worker.call("load", model="missing").result(30)
    said = "There is no model missing. Check the name. The model pocket is in memory."
    assert status.sentence(desk) == said
    assert "status-error" in status.status_html(desk)
    desk.worker.call("load", model="other").result(30)
    assert status.sentence(desk) == "Ready. The model other is in memory."


def test_where_no_model_is_there_none_is_said_to_be(tmp_path: Path) -> None:
    with desk_at_rest(tmp_path, "missing") as desk:
        assert status.sentence(desk) == "There is no model missing. Check the name."


def test_while_a_run_begins_another_can_be_compared(desk: Desk) -> None:
    assert "base and teacher only, until something is taught" in status.steps_html(desk)
    finished(desk.runs, "first", [Demonstration(f"Q{i}", f"D{i}", f"A{i}") for i in range(4)])
    desk.drafts.choose(run="second")
    assert "base and teacher only" not in status.steps_html(desk)
