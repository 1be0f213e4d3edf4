"""Undo outlives a restart: what is on disk beside the draft, and what a kill may leave of it."""

from __future__ import annotations

from pathlib import Path

from workbench.app.drafts import Draft
from workbench.app.history import Examples, History

ROWS = [{"prompt": f"Question {i}?", "demonstration": f"Answer {i}."} for i in range(5)]


def changed(folder: Path) -> list[tuple[dict[str, object], ...]]:
    """A draft with five changes of every kind; the rows before each."""
    draft, states = Draft(folder), []
    for act in (
        lambda: draft.replace_rows(ROWS, "set"),
        lambda: draft.edit(2, {"prompt": "Other?", "demonstration": "Yes."}),
        lambda: draft.delete(0, 3),
        lambda: draft.add_keep("Keep me."),
        lambda: draft.add({"prompt": "New?", "demonstration": "New."}),
    ):
        states.append((draft.rows, draft.keep, draft.name))
        act()
    return states


def test_every_change_can_be_taken_back_after_a_restart(tmp_path: Path) -> None:
    states = changed(tmp_path)
    draft = Draft(tmp_path)
    assert draft.changes == len(states) == 5
    for left, before in enumerate(reversed(states)):
        assert draft.undo() and (draft.rows, draft.keep, draft.name) == before
        draft = Draft(tmp_path)  # and again between any two
        assert draft.changes == 4 - left
    assert not draft.undo()


def test_a_change_after_undo_takes_the_place_of_what_was_taken_back(tmp_path: Path) -> None:
    states = changed(tmp_path)
    draft = Draft(tmp_path)
    draft.undo()
    draft.delete(0)
    draft = Draft(tmp_path)
    assert draft.changes == 5
    assert draft.undo() and draft.undo() and draft.rows == states[3][0] and draft.keep == ()


def test_a_kill_between_history_and_rows_loses_nothing(tmp_path: Path) -> None:
    states = changed(tmp_path)
    rows = (tmp_path / "rows.jsonl").read_bytes()
    Draft(tmp_path).delete(1)
    (tmp_path / "rows.jsonl").write_bytes(rows)  # the line was written, the rows were not
    draft = Draft(tmp_path)
    assert draft.changes == 5
    assert draft.undo() and draft.rows == states[-1][0]


def test_a_line_that_was_cut_off_does_not_hide_the_others(tmp_path: Path) -> None:
    states = changed(tmp_path)
    with (tmp_path / "undo.jsonl").open("ab") as file:
        file.write(b'{"from": "abc", "rows": [0, 0, [{"pro\n')
    draft = Draft(tmp_path)
    assert draft.changes == 5 and draft.undo() and draft.rows == states[-1][0]


def test_rows_that_another_wrote_are_not_mixed_with_an_old_history(tmp_path: Path) -> None:
    changed(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Foreign?", "demonstration": "F."}\n')
    draft = Draft(tmp_path)
    assert draft.changes == 0 and not draft.undo() and len(draft.rows) == 1


def test_the_file_holds_only_what_differed_and_is_bounded(tmp_path: Path) -> None:
    path, size = tmp_path / "undo.jsonl", 4000
    state = Examples(rows=tuple({"prompt": f"{i} " + "x" * 100} for i in range(200)))
    history, states = History(path, state, size=size), [state]
    for i in range(100):
        after = Examples(rows=(*state.rows[:50], {"prompt": f"new {i}"}, *state.rows[51:]))
        history.push(state, after)
        state = after
        states.append(state)
        assert path.stat().st_size <= size
    again = History(path, state, size=size)
    assert 0 < len(again) == len(history) < 100
    assert again.last() == history.last() == states[-2]
    for before in list(reversed(states[:-1]))[: len(history)]:
        assert again.last() == before
        again.drop()
    assert again.last() is None


def test_no_more_changes_than_the_limit_come_back(tmp_path: Path) -> None:
    path, state = tmp_path / "undo.jsonl", Examples()
    history = History(path, state, longest=3)
    for i in range(6):
        after = Examples(rows=({"prompt": str(i)},))
        history.push(state, after)
        state = after
    assert len(history) == len(History(path, state, longest=3)) == 3
