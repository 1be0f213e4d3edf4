"""A row that a model cannot read is called by its place where the person has it, although rows are split before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import call
from tests.desks import desk_at_rest
from tests.inside import LIMIT, Inside
from workbench.app.desk import Desk
from workbench.errors import InputError

LONG = 7
ROWS = [
    {"prompt": f"Question {place}?" + " word" * (2000 if place == LONG else 0), "demonstration": f"It is {place}."}
    for place in range(1, 13)
]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path / "runs") as made:
        yield made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_folder: Path, seed: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    kept = {"prompt": "Kept?", "keep": True}
    path.write_text(json.dumps(kept) + "\n" + path.read_text())
    told = ["--model", tiny_folder, "--max-new-tokens", 8, "--seed", seed]
    for command in (["teach", path, "--runs", tmp_path / "runs"], ["check", path]):
        status, found, _ = call(capsys, *command, *told)
        assert status == 2 and f"1 of 13 rows are too long: row {LONG + 1} has" in found["error"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_a_table_with_wrong_rows_before_it(inside: Inside, desk: Desk, seed: int) -> None:
    desk.drafts.replace_rows([{"prompt": "", "demonstration": "No question."}, *ROWS], "mine")
    assert 0 in desk.drafts.problems and len(desk.drafts.numbered) == 12
    settings = {"optim": {"seed": seed}, "rollout": {"max_new_tokens": 8}}
    for do, more in (("teach", {"name": "r"}), ("check", {})):
        with pytest.raises(InputError, match=f"row {LONG + 1} has"):
            inside.call(do, rows=desk.drafts.numbered, settings=settings, **more).result(LIMIT)


def test_an_id_stays(desk: Desk) -> None:
    desk.drafts.replace_rows([{"prompt": "a?", "demonstration": "b", "id": "mine"}, ROWS[1]], "mine")
    assert [row["id"] for row in desk.drafts.numbered] == ["mine", "2"]
    assert "id" not in desk.drafts.rows[1], "the person's own rows are as they were"
