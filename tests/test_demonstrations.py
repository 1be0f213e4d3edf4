"""Reading, guessing columns, splitting and writing demonstrations."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.demonstrations import Columns, Demonstration, parse, read, read_questions, split, write
from workbench.demonstrations.splitting import contradiction, repetition
from workbench.demonstrations.tables import EXTENSIONS
from workbench.errors import InputError

ROWS = [
    {"prompt": "How do you say red?", "demonstration": "It is mipa.", "answer": "mipa"},
    {"prompt": "How do you say blue?", "demonstration": "It is tolu, they say.", "answer": "tolu"},
    {"prompt": "How do you say «grün»?", "demonstration": "שלום, é and 日本.", "answer": "007"},
]
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=60).filter(
    lambda text: bool(text.strip())
)
DEMONSTRATIONS = st.builds(
    Demonstration,
    prompt=TEXT,
    demonstration=TEXT,
    answer=st.none() | TEXT,
    context=st.none() | TEXT,
    id=st.none() | st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True),
    tags=st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), max_size=3).map(tuple),
)


def lines(rows: list[dict[str, object]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def file_of(kind: str, folder: Path) -> Path:
    """ROWS in a file of this kind."""
    path = folder / f"rows{kind}"
    frame = pandas.DataFrame(ROWS)
    if kind in (".jsonl", ".ndjson", ".txt", ".md"):
        path.write_text(lines(ROWS), encoding="utf-8")
    elif kind == ".json":
        path.write_text(json.dumps({"data": ROWS}), encoding="utf-8")
    elif kind in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if kind == ".csv" else "\t")
    elif kind == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_excel(path, index=False)
    return path


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    reading = read(file_of(kind, tmp_path))
    assert [row.to_dict() for row in reading.rows] == ROWS
    assert reading.columns == {"prompt": "prompt", "demonstration": "demonstration", "answer": "answer"}


@pytest.mark.parametrize(
    ("row", "prompt", "demonstration"),
    [
        ({"prompt": "Q", "golden_response": ["one", "two"]}, "Q", "one\ntwo"),
        ({"question": "Q", "completion": "D"}, "Q", "D"),
        ({"problem": "Q", "solution": "D"}, "Q", "D"),
        ({"Prompt": "Q", "Response": "D"}, "Q", "D"),
        ({"prompt": "Q", "output_text": "D"}, "Q", "D"),
        ({"instruction": "Q", "input": "of this", "output": "D"}, "Q\n\nof this", "D"),
        ({"instruction": "Q", "input": "", "output": "D"}, "Q", "D"),
        ({"question": "Q", "answer": "D"}, "Q", "D"),
    ],
)
def test_aliases_of_the_field(row: dict[str, object], prompt: str, demonstration: str) -> None:
    (found,) = parse(json.dumps([row])).rows
    assert (found.prompt, found.demonstration) == (prompt, demonstration)


def test_chat_messages_end_with_the_demonstration() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
    ]
    (found,) = parse(json.dumps({"messages": turns})).rows
    assert found.prompt == tuple(turns[:4]) and found.demonstration == "2" and found.question == "Two?"
    shared = [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "1"}]
    (found,) = parse(json.dumps({"conversations": shared})).rows
    assert found.question == "One?" and found.demonstration == "1"
    open_ended = {"prompt": turns[:4], "demonstration": "2!"}
    (found,) = parse(json.dumps(open_ended)).rows
    assert found.prompt == tuple(turns[:4]) and found.demonstration == "2!"


def test_a_guess_is_said_and_can_be_overruled() -> None:
    text = "ask;say;gold\nQ1;D1;A1\nQ2;D2;A2"
    with pytest.raises(InputError, match="no column for the prompt. Its columns are: ask, say, gold"):
        parse(text)
    found = parse(text, Columns(prompt="ask", demonstration="say", answer="gold"))
    assert found.rows[1] == Demonstration("Q2", "D2", "A2")
    assert "prompt from column 'ask'" in found.notes[0]
    with pytest.raises(InputError, match="no column 'other'.*\nIts columns are: ask, say, gold"):
        parse(text, Columns(prompt="other"))


def test_pasted_lines() -> None:
    assert parse("red => mipa\n\nblue => tolu = 2").rows == (
        Demonstration("red", "mipa"),
        Demonstration("blue", "tolu = 2"),
    )
    assert parse("prompt\tresponse\nred\tmipa").rows == (Demonstration("red", "mipa"),)
    with pytest.raises(InputError, match="line 2 has no =>"):
        parse("red => mipa\nblue")


def test_keep_rows_and_questions(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines([*ROWS, {"prompt": "Stay?", "keep": True}]), encoding="utf-8")
    assert [row.keep for row in read(path).rows] == [False, False, False, True]
    path.write_text("question\nOne?\nTwo?\n", encoding="utf-8")
    questions = read_questions(path.rename(tmp_path / "q.csv"))
    assert [row.prompt for row in questions.rows] == ["One?", "Two?"]
    with pytest.raises(InputError, match="no column for the answer"):
        read_questions(tmp_path / "q.csv", need_answer=True)


def test_no_answer_column_is_said() -> None:
    found = parse("red => mipa")
    assert found.rows[0].answer is None
    assert any("nothing can be scored" in note for note in found.notes)


BAD: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "is empty"),
    ("blank.csv", b" \n\n", "is empty"),
    ("header.csv", b"prompt,demonstration\n", "a header and no rows"),
    ("none.json", b"[]", "has 0 rows"),
    ("latin.csv", "prompt,response\nça,va".encode("latin-1"), r"not UTF-8: byte 16 \(line 2\)"),
    ("wide.csv", "prompt,response\na,b".encode("utf-16")[:-1], "is not UTF-16"),
    (
        "broken.jsonl",
        b'{"prompt": "a", "response": "b"}\n{"prompt": "a"',
        r"line 2 is not JSON: .*\n.* object, \{\.\.\.\}\.",
    ),
    ("list.jsonl", b'{"prompt": "a", "response": "b"}\n["a"]', "line 2 is not a JSON object but a list"),
    ("text.json", b'"hello"', "holds a text, not a list"),
    ("column.jsonl", b'{"prompt": "a", "other": "b"}', "no column for the demonstration"),
    ("null.jsonl", b'{"prompt": null, "response": "b"}', "line 1: column 'prompt' is missing or null"),
    ("blank.jsonl", b'{"prompt": "a", "response": " "}', "line 1: column 'response' is blank"),
    ("number.jsonl", b'{"prompt": "a", "response": 7}', "line 1: column 'response' is 7, not a text: put it in quotes"),
    ("nan.jsonl", b'{"prompt": "a", "response": "b", "answer": NaN}', "column 'answer' is nan"),
    ("answer.jsonl", b'{"prompt": "a", "response": "b", "answer": ["7"]}', "column 'answer' is a list"),
    ("ask.jsonl", b'{"prompt": 7, "response": "b"}', "column 'prompt' is 7, not a text"),
    ("bool.jsonl", b'{"prompt": true, "response": "b"}', "column 'prompt' is True"),
    ("object.jsonl", b'{"prompt": "a", "response": {"b": 1}}', "column 'response' is an object"),
    ("lists.jsonl", b'{"prompt": ["a"], "response": "b"}', "its item 1 is not a message"),
    ("roles.jsonl", b'{"messages": [{"role": "robot", "content": "a"}]}', "has the role 'robot'"),
    ("turns.jsonl", b'{"messages": [{"role": "assistant", "content": "a"}]}', "has no user turn"),
    ("nul.csv", b"prompt,response\na\x00,b", "NUL byte in line 2"),
    ("nul.jsonl", b'{"prompt": "a\\u0000", "response": "b"}', "has a NUL character"),
    ("half.jsonl", b'{"prompt": "\\ud800", "response": "b"}', "half of a surrogate pair"),
    ("uneven.csv", b"prompt,response\na,b\nc\n", "row 3 has 1 cell; the header has 2"),
    ("quote.csv", b'prompt,response\n"a,b\n', "row 2 cannot be read: unexpected end of data"),
    ("twice.csv", b"prompt,prompt\na,b\n", "two columns called 'prompt'"),
    ("zip.xlsx", b"PK\x03\x04 not a workbook", "is not an Excel workbook"),
    ("junk.parquet", b"PAR1 junk", "is not a readable .parquet file"),
    ("rows.pdf", b"%PDF", "not a kind of file that is read"),
    ("rows", b"prompt", "ends in nothing"),
    ("prose.txt", b"just a sentence", "neither JSON lines, nor a table"),
    ("long.jsonl", json.dumps({"prompt": "x" * 1_000_000, "response": "b"}).encode(), "has 1,000,000 characters"),
]


@pytest.mark.parametrize(("name", "content", "said"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_files_are_refused_with_the_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read(path)
    assert caught.value.advice and "Traceback" not in str(caught.value)


def test_other_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    from zipfile import ZipFile

    with ZipFile(tmp_path / "other.xlsx", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(InputError, match="is a zip file, not an Excel workbook"):
        read(tmp_path / "other.xlsx")


def test_a_bundled_set_is_read_by_its_name_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = read(Path(__file__).parents[1] / "sample_data" / "zorbic.jsonl").rows
    monkeypatch.chdir(tmp_path)
    assert read("zorbic").rows == read("sample_data/zorbic.jsonl").rows == own
    assert len(read_questions("keep").rows) == 270
    for other in ("zorbic.jsonl", "elsewhere/zorbic", "sample_data/../zorbic", "zorb"):
        with pytest.raises(InputError, match=r"(?s)There is no file.*by name: events,.*, zorbic"):
            read(other)
    Path("zorbic").write_text("one => two\n")
    with pytest.raises(InputError, match="not a kind of file that is read"):
        read("zorbic")


def test_problems_are_counted_and_some_named() -> None:
    rows = [{"prompt": "", "response": "b"}] * 9
    with pytest.raises(InputError) as caught:
        parse(json.dumps(rows))
    assert "9 of 9 rows are wrong" in caught.value.problem
    assert "row 5:" in caught.value.problem and "row 6:" not in caught.value.problem
    assert "and 4 more" in caught.value.problem
    assert caught.value.advice == "Correct or delete these rows; nothing was written."


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (
            "csv",
            "prompt,response\na,b\n,d\n",
            "row 3: .*\nCorrect or delete these rows, which are numbered as a spread",
        ),
        ("jsonl", '{"prompt": "a", "response": "b"}\n{"prompt": "", "response": "d"}\n', "line 2: .*\n.* these lines;"),
    ],
)
def test_it_is_said_how_wrong_rows_are_numbered(tmp_path: Path, kind: str, text: str, told: str) -> None:
    (tmp_path / f"a.{kind}").write_text(text)
    with pytest.raises(InputError, match=told):
        read(tmp_path / f"a.{kind}")


def test_rows_that_say_the_same_are_told_of_once_for_all() -> None:
    rows = [{"prompt": p, "response": r} for p, r in (("a", "b"), (" a", "b"), ("a", "c"), ("d", "e"), ("a", "b"))]
    found = parse(json.dumps(rows))
    assert "2 rows say the same as an earlier one, and count again." in found.notes
    assert repetition(found.rows[:2]) == "1 row says the same as an earlier one, and counts again."
    assert repetition(found.rows[1:4]) == ""


def test_bom_and_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,response\r\nred,mipa\r\nblue,tolu\r\n")
    assert read(path).rows == (Demonstration("red", "mipa"), Demonstration("blue", "tolu"))


@settings(max_examples=150)
@given(content=st.binary(max_size=200), kind=st.sampled_from([*EXTENSIONS, ""]))
def test_any_bytes_give_rows_or_an_input_error(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"any{kind}"
    path.write_bytes(content)
    try:
        read(path)
    except InputError as error:
        assert error.problem and error.advice


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("prompt", "response", "messages", "role", "content", "answer", "keep", "tags", "id", "x"),
                    *("from", "value", "conversations", "input", "golden_answer", "type", "text", "rows"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.lists(JSON, min_size=1, max_size=3))
def test_any_json_gives_rows_or_an_input_error(value: list[object]) -> None:
    try:
        reading = parse(json.dumps(value))
    except InputError:
        return
    for row in reading.rows:
        assert row.question.strip() and (row.keep or row.demonstration or row.context)


@settings(max_examples=150)
@given(
    st.text(st.sampled_from('ab?;,\t\n\r"=>{}[]:\x00\u2028 '), max_size=40),
    st.sampled_from(["", "prompt\tanswer\n", "sep=;\n"]),
)
def test_any_pasted_text_gives_rows_or_an_input_error(text: str, head: str) -> None:
    try:
        reading = parse(head + text)
    except InputError as error:
        assert error.problem and error.advice
        return
    assert all(row.question.strip() and row.demonstration for row in reading.rows)


@settings(max_examples=100)
@given(rows=st.lists(DEMONSTRATIONS, min_size=1, max_size=6))
def test_what_is_written_is_read_back(rows: list[Demonstration], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(rows, path)
    assert list(read(path).rows) == rows


@settings(max_examples=100)
@given(
    prompts=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30).filter(lambda p: len(set(p)) > 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 50),
)
def test_split_is_whole_and_never_parts_equal_prompts(prompts: list[str], share: float, seed: int) -> None:
    rows = [Demonstration(f"What is {p}?", f"{i}") for i, p in enumerate(prompts)]
    found = split(rows, share, seed)
    assert sorted([*found.teaching, *found.held_out], key=rows.index) == rows
    assert found.teaching and found.held_out
    assert {r.prompt for r in found.teaching}.isdisjoint(r.prompt for r in found.held_out)
    assert split(rows, share, seed) == found
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert {r.prompt for r in split(shuffled, share, seed).held_out} == {r.prompt for r in found.held_out}


def test_split_folds_what_a_reader_does_not_see() -> None:
    rows = [Demonstration("caf\u00e9  now", "1"), Demonstration("cafe\u0301 now ", "2"), Demonstration("tea", "3")]
    for seed in range(5):
        found = split(rows, 0.5, seed)
        assert len(found.held_out) in (1, 2) and {r.demonstration for r in found.held_out} in ({"1", "2"}, {"3"})


def test_split_refuses_what_cannot_be_split() -> None:
    with pytest.raises(InputError, match="only one row"):
        split([Demonstration("a", "b")])
    with pytest.raises(InputError, match="All 3 rows ask the same"):
        split([Demonstration("a", "b")] * 3)
    with pytest.raises(InputError, match="Every row is a keep row"):
        split([Demonstration("a", keep=True)])
    for share in (0, 1, -0.5, 2):
        with pytest.raises(InputError, match="held-out share"):
            split([Demonstration("a", "b"), Demonstration("c", "d")], share)


def test_keep_rows_are_on_neither_side() -> None:
    rows = [Demonstration(str(i), "d") for i in range(10)] + [Demonstration("k", keep=True)]
    found = split(rows, 0.3)
    assert (len(found.teaching), len(found.held_out), len(found.keep)) == (7, 3, 1)


def test_what_is_both_taught_and_kept_is_told_of() -> None:
    rows = [{"prompt": p, "response": "b"} for p in ("One?", "Two?")]
    kept = [{"prompt": p, "keep": True} for p in (" Two? ", "Three?", "One?", "One?")]
    found = parse(json.dumps([*rows, *kept]))
    said = "2 questions are both taught and to be kept as before, which pulls both ways: take 'Two?' out of one of"
    assert f"{said} the two." in found.notes
    assert contradiction(found.rows[1:3]).startswith("1 question is both taught and to be kept")
    assert contradiction(found.rows[:2]) == contradiction(found.rows[2:]) == ""
