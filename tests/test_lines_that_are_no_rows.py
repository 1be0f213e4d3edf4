"""Lines that are no rows: a file is refused whole for them by a command, and read without them by the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.app import examples, one_example, rows, sheet
from workbench.app.desk import Desk
from workbench.demonstrations import parse, read
from workbench.demonstrations.lenient import parse_leniently, problem_of, read_leniently, row_from
from workbench.errors import InputError
from workbench.worker import Worker

GOOD = ["A?", "C?", "D?"]
"""What is asked in the rows that can be read."""

TEXTS = {
    "json": (
        '{"prompt": "A?", "demonstration": "a"}\n{"prompt": "B?", "demonstration": "b"\n'
        '{"prompt": "C?", "demonstration": "c"}\n{"prompt": "D?", "demonstration": "d"}\n["E?"]\n',
        {2: "The line is not JSON: Expecting ',' delimiter .character 38.", 5: "The line .* but a list"},
    ),
    "words above json": (
        "Here they are:\n" + "".join(f'{{"prompt": "{asked}", "demonstration": "x"}}\n' for asked in GOOD),
        {1: "The line is not JSON"},
    ),
    "a list": (
        '[{"prompt": "A?", "demonstration": "a"}, 7, {"prompt": "C?", "demonstration": "c"}, '
        '{"prompt": "D?", "demonstration": "d"}]',
        {2: "The line is not an object but a number"},
    ),
    "arrows": ("A? => a\n\nB? b\nC? => c\nD? => d\n", {2: "The line has no =>"}),
    "words above arrows": ("Here, they are\nA? => a\nC? => c\nD? => d", {1: "The line has no =>"}),
    "commas": (
        'prompt,demonstration\nA?,a\nB, or b?,b\n"C?",c\n"E?,e\nD?,d\nF?\n"G"?,g\n',
        {
            2: "The line has 3 cells; the header has 2",
            4: "The line cannot be read",
            6: "The line has 1 cell; the header has 2",
            7: "The line cannot be read",
        },
    ),
    "a sheet": ("A?\ta\nB?\nC?\tc\nD?\td\n", {2: "The line has 1 cell, not two"}),
    "a sheet with a header": (
        "prompt\tdemonstration\nA?\ta\nB?\tb\tb\nC?\tc\nD?\td\n",
        {2: "The line has 3 cells; the header has 2"},
    ),
    "markdown": (
        "|prompt|demonstration|\n|---|---|\n|A?|a|\n|B?|b|b|\n|C?|c|\n|D?|d|\n",
        {2: "The line has 3 cells; the header has 2"},
    ),
    "turns": (
        "Q: A?\nA: a\nQ: B?\nQ: C?\nA: c\nA: and\nmore\nQ: D?\nA: d\n",
        {2: "Column 'demonstration' is missing", 4: "The line is an answer to no question"},
    ),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "runs", Worker(tmp_path / "runs", command=["false"]))


@pytest.mark.parametrize("kind", TEXTS)
def test_the_page_reads_the_others_and_a_command_none(kind: str) -> None:
    text, problems = TEXTS[kind]
    with pytest.raises(InputError, match=r"(, |\n  )(line|row) \d+ (is|has) "):
        parse(text)
    made = parse_leniently(text).rows
    said = {place: problem_of(row) for place, row in enumerate(made, start=1) if problem_of(row)}
    assert list(said) == list(problems)
    for place, words in problems.items():
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(said[place])
    assert [row_from(row).prompt for row in made if not problem_of(row)] == GOOD


def test_nothing_of_a_line_is_lost() -> None:
    for text, problems in TEXTS.values():
        held = [row["prompt"] for place, row in enumerate(parse_leniently(text).rows, start=1) if place in problems]
        assert all(words.replace(",", "").replace("\t", "") for words in held)
        for words in held:
            assert words in text or json.loads(words) in json.loads(text)


def test_a_text_without_any_row_is_refused_whole(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.jsonl", "just\nwords\n", "line 1 is not JSON"),
        ("a.csv", "prompt,demonstration\na\nb,c,d\n", "row 2 has 1 cell"),
        ("b.csv", 'sep=,\nprompt,"demonstration\na,b\n', "row 2 cannot be read"),
        ("c.csv", "sep=,\n,,\n,,\n", "has no rows"),
    ):
        (tmp_path / name).write_text(text)
        for reader in (read, read_leniently):
            with pytest.raises(InputError, match=f"{name}.* {said}") as caught:
                reader(tmp_path / name)
            assert caught.value.advice


def test_one_line_that_is_no_row_hides_no_other_fault(tmp_path: Path) -> None:
    for name, text, told, advice in (
        (
            "a.jsonl",
            '{"prompt": "a", "response": "b"}\nwords\n{"prompt": "", "response": "d"}\nmore words\n',
            ("3 of 4 rows are wrong", "line 2 is not JSON", "line 3: column 'prompt' is blank", "line 4 is not JSON"),
            "these lines;",
        ),
        (
            "a.csv",
            "prompt,response\na,b\n,d\ne\n",
            ("2 of 3 rows are wrong", "row 3: column 'prompt' is blank", "row 4 has 1 cell"),
            "numbered as a spreadsheet",
        ),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        places = [caught.value.problem.index(part) for part in told]
        assert places == sorted(places) and advice in caught.value.advice


def test_a_line_is_mended_in_the_table(desk: Desk) -> None:
    made = examples.use_text(desk, '{"question": "A?", "reply": "a"}\n{"question": "B?", "reply": "b\n', False)
    assert "1 of 2 rows is wrong" in made[2] and "2 rows were read" in made[0]
    table = made[1]
    lines = [list(line) for line in table["data"]]
    assert lines[1][0] == 2 and "is not JSON" in lines[1][1] and lines[1][2] == '{"question": "B?", "reply": "b'

    def edited(text: str) -> list[Any]:
        lines[1][2] = text
        return sheet.edit_table(desk, pd.DataFrame(lines, columns=table["headers"]), 1, False)

    desk = Desk.at(desk.runs, desk.worker)
    table = edited('{"question": "B?", "reply": "b"')[1]
    assert desk.drafts.rows[1]["prompt"] == lines[1][2], "what was typed stands there"
    assert "The line is not JSON" in table["data"][1][1] and "(character 32)" in table["data"][1][1]
    for _ in range(2):  # a browser may send the same table again
        said, shown = edited('{"question": "B?", "reply": "b"}')[:2]
        assert "elsewhere" not in str(said), "what the line became is no change of somebody else's"
        assert desk.drafts.rows[1] == {"prompt": "B?", "demonstration": "b"} and not desk.drafts.problems
        assert shown["data"][1][2:4] == ["B?", "b"]
    desk.drafts.undo()
    assert desk.drafts.problems


def test_a_line_is_mended_by_its_parts(desk: Desk) -> None:
    examples.use_text(desk, "prompt,demonstration,answer\nA?,a,a\nB, or b?,It is b,b\n", False)
    number, *form = one_example.pick(desk, 2)
    assert form == ["B, or b?,It is b,b", "", "", ""]
    one_example.save(desk, number, 1, False, form[0], "It is b", "", "")
    assert desk.drafts.problems[1].startswith("The line has 4 cells"), "the answer stands in the question yet"
    one_example.save(desk, number, 1, False, "B, or b?", "It is b", "b", "")
    assert desk.drafts.rows[1] == {"prompt": "B, or b?", "demonstration": "It is b", "answer": "b"}
    assert not desk.drafts.problems


def test_an_arrow_that_was_forgotten_is_put_in(desk: Desk) -> None:
    examples.use_text(desk, "A? => a\nB? b\n", False)
    desk.drafts.set_rows([desk.drafts.rows[0], rows.changed(desk.drafts.rows[1], {"prompt": "B? => b"})])
    assert desk.drafts.rows[1] == {"prompt": "B?", "demonstration": "b"}
