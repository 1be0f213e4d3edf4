"""Sheets with a title above their header: read past where that is safe, and else refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from workbench.demonstrations import Columns, Demonstration, parse, read
from workbench.errors import InputError

ROWS = (Demonstration("Red?", "mipa", "mipa"), Demonstration("Blue?", "tolu", "tolu"))
TABLE = "question,answer,page\nRed?,mipa,1\nBlue?,tolu,2\n"


@pytest.mark.parametrize(
    ("name", "content", "row", "title"),
    [
        ("one-cell.csv", "Zorbic words\n" + TABLE, 2, "Zorbic words"),
        ("padded.csv", "Zorbic words,,\n,,\n" + TABLE, 3, "Zorbic words"),
        ("comma.csv", "Zorbic words, chapter 3\n\n" + TABLE, 3, "Zorbic words chapter 3"),
        ("two-lines.csv", "Zorbic words\nmade by Ann\n" + TABLE, 3, "Zorbic words; made by Ann"),
        ("semicolons.csv", "Zorbic words\n" + TABLE.replace(",", ";"), 2, "Zorbic words"),
        ("tabs.tsv", "Zorbic words\n" + TABLE.replace(",", "\t"), 2, "Zorbic words"),
    ],
)
def test_a_title_is_read_past_and_that_is_said(name: str, content: str, row: int, title: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    found = read(tmp_path / name)
    assert found.rows == ROWS
    assert (
        found.notes[0] == f"The header of {name} is read from row {row}; what stands above it is left out: {title!r}."
    )


def test_rows_below_a_title_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Zorbic words\n\nquestion,answer\nRed?,mipa\nBlue?,\n")
    with pytest.raises(InputError, match="row 5: column 'answer' is blank"):
        read(tmp_path / "a.csv")


def test_a_workbook(tmp_path: Path) -> None:
    cells = [["Zorbic words", "", ""], ["", "", ""], ["question", "answer", "page"], ["Red?", "mipa", 1]]
    pandas.DataFrame([*cells, ["Blue?", "tolu", 2]]).to_excel(tmp_path / "a.xlsx", index=False, header=False)
    found = read(tmp_path / "a.xlsx")
    assert found.rows == ROWS
    assert (
        found.notes[0] == "The header of a.xlsx is read from row 3; what stands above it is left out: 'Zorbic words'."
    )
    pandas.DataFrame([*cells, ["Blue?", "", 2]]).to_excel(tmp_path / "b.xlsx", index=False, header=False)
    with pytest.raises(InputError, match="row 5: column 'answer' is blank"):
        read(tmp_path / "b.xlsx")


@pytest.mark.parametrize("separator", [",", "\t"])
def test_pasted_cells(separator: str) -> None:
    assert parse("Zorbic words\n" + TABLE.replace(",", separator)).rows == ROWS


def test_where_it_is_not_safe_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Wörter\nFrage,Antwort\nRot?,mipa\nBlau?,tolu\n")
    named = Columns(prompt="Frage", demonstration="Antwort")
    with pytest.raises(
        InputError, match="a.csv, row 1 has one cell, 'Wörter', and the rows below it have more: "
    ) as said:
        read(tmp_path / "a.csv", named)
    assert "title above the header" in said.value.problem and said.value.advice.startswith("Delete it")
    (tmp_path / "b.csv").write_text("Wörter,\nFrage,Antwort\nRot?,mipa\nBlau?,tolu\n")
    with pytest.raises(InputError, match="Its columns are: Wörter, column 2.") as said:
        read(tmp_path / "b.csv")
    assert said.value.advice.startswith("If 'Wörter' is a title above the header, delete that line. Name it with")


def test_a_row_that_holds_known_names_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "glossary.csv").write_text("Wort,Englisch\nAnfrage,query\nEtikett,label\n")
    found = read(tmp_path / "glossary.csv", Columns(prompt="Wort", demonstration="Englisch"))
    assert found.rows == (Demonstration("Anfrage", "query"), Demonstration("Etikett", "label"))
    (tmp_path / "numbered.csv").write_text(",Wort,Englisch\n0,query,label\n1,Anfrage,query\n")
    assert len(read(tmp_path / "numbered.csv", Columns(prompt="Wort", demonstration="Englisch")).rows) == 2
