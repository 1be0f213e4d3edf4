"""What the page Examples says of what was read, and of an answer that is kept as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desks import desk_at_rest
from workbench.app import fixing, intake
from workbench.app.desk import Desk
from workbench.errors import InputError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path / "runs") as made:
        yield made


def test_rows_are_counted_and_their_file_is_named(desk: Desk, tmp_path: Path) -> None:
    assert intake.use_text(desk, "red? => mipa") == "1 row was read."
    (tmp_path / "two.csv").write_text("prompt,demonstration\na,b\nc,d\n")
    assert intake.use_file(desk, str(tmp_path / "two.csv")) == "2 rows were read from two.csv."


def test_a_file_that_cannot_be_read_leaves_no_columns_of_the_one_before_to_choose(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("Ticket,Customer wrote\n1,Hello\n2,Bye\n")
    with pytest.raises(InputError, match="no column"):
        intake.use_file(desk, str(tmp_path / "mine.csv"))
    assert intake.latest(desk).there, "the page shows the columns to choose from"
    (tmp_path / "deep.json").write_text("[" * 3)
    with pytest.raises(InputError, match="deep.json"):
        intake.use_file(desk, str(tmp_path / "deep.json"))
    assert not intake.latest(desk).there
    with pytest.raises(InputError, match="nothing to read again"):
        intake.read_again(desk, {"prompt": "Customer wrote"})


def test_a_column_of_tags_is_said_to_be_taken(desk: Desk) -> None:
    intake.use_text(desk, "question,reply,Category,Created\nred?,mipa,colour,1\nblue?,tolu,colour,2\n")
    notes = " ".join(intake.latest(desk).notes)
    assert "tags from column 'Category'" in notes and "'Created'" in notes


def test_an_answer_that_was_not_corrected_is_kept_with_a_word(desk: Desk) -> None:
    *_, (own, _) = fixing.ask(desk, "What is red?")
    assert "own as it stands" not in fixing.keep_example(desk, "What is blue?", own, "")[0]
    said = fixing.keep_example(desk, "What is red?", own, "")[0]
    assert "Kept as row 2." in said and "own as it stands: an example teaches only what is corrected" in said
    refused, kept = fixing.keep_as_is(desk, "What is red?", own), fixing.keep_text(desk)
    assert "one of your examples" in refused and "note-wrong" in refused and kept == ""
