"""Below the table of examples: what is read of a row, ask-fix-keep, and the questions to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import rows, sheet
from workbench.app.asking import under_way
from workbench.app.desk import LATEST, QUIET, STREAM, Cursor, Desk, Shared
from workbench.app.notes import note, wrong
from workbench.demonstrations.lenient import problem_of
from workbench.demonstrations.record import row_of
from workbench.errors import InputError, WorkbenchError
from workbench.views.text import clip, plain

_PATIENCE = 10.0
_LONGEST = 20_000
_NONE = "Choose a row in the table."
_ANSWERED = "examples.answered"
"""Where the last question and the model's own answer to it are kept."""


def prompts(desk: Desk, number: Any) -> list[str]:
    """What the student and the teacher read of a row, and how long it is."""
    try:
        row = desk.drafts.rows[int(number) - 1] if int(number) > 0 else None
    except (TypeError, ValueError, IndexError):
        row = None
    if row is None:
        return ["", "", note(_NONE, "info")]
    place = int(number) - 1
    problem = desk.drafts.problems.get(place, "")
    misfit = problem and not problem_of(dict(row))  # it can be rendered all the same
    if problem and not misfit:
        return ["", "", note(f"Row {place + 1} is wrong: {rows.in_words(problem)}", "wrong")]
    template = desk.drafts.settings.get("teacher", {}).get("template", "")
    try:
        made = desk.worker.call("render", row=dict(row), template=template).result(_PATIENCE)
    except TimeoutError:
        return ["", "", note("The model is busy. Choose the row again in a moment.", "info")]
    except WorkbenchError as error:
        return ["", "", wrong(error)]
    said = (
        f"Row {place + 1}: the student reads {made['student_tokens']} tokens (pieces of words), the teacher "
        f"{made['teacher_tokens']}; the model takes at most {made['limit']}, its answer included."
    )
    told = note(f"Row {place + 1} is left out. {problem}", "wrong") if misfit else note(said, "info")
    return [_shown(made["student"]), _shown(made["teacher"]), told]


def ask(desk: Desk, question: str) -> Iterator[list[str]]:
    """The model's own answer as it comes, and what is to be known about it."""
    if not (question or "").strip():
        yield ["", note("Write a question first.", "wrong")]
        return
    call = desk.worker.call("ask", messages=[{"role": "user", "content": question.strip()}], roles=["base"])
    under_way(desk).add("examples", call)
    text = ""
    for reply in call:
        if reply["reply"] == "token":
            text = str(reply["text"])
            yield [text, ""]
    try:
        answers = call.result()["answers"]["base"]
    except WorkbenchError as error:
        yield [text, wrong(error)]
        return
    desk.drafts.type(_ANSWERED, json.dumps([question.strip(), str(answers[0]["text"])]))
    yield [
        str(answers[0]["text"]),
        note("Correct the answer, then keep it. If it is right, put it on the list.", "info"),
    ]


def keep_example(desk: Desk, question: str, corrected: str, answer: str) -> list[Any]:
    """The corrected answer becomes an example; the table then shows the page that it is on."""
    if not (question or "").strip() or not (corrected or "").strip():
        return [note("A question and a corrected answer are needed.", "wrong"), *[gr.skip()] * sheet.VIEW]
    row = {"prompt": question.strip(), "demonstration": corrected.strip()}
    if (answer or "").strip():
        row["answer"] = answer.strip()
    try:
        desk.drafts.add(row)
    except WorkbenchError as error:
        return [wrong(error), *[gr.skip()] * sheet.VIEW]
    count = len(desk.drafts.rows)
    own = json.loads(desk.drafts.typed(_ANSWERED) or "[null, null]") == [question.strip(), corrected.strip()]
    same = " The answer is the model's own as it stands: an example teaches only what is corrected." if own else ""
    return [note(f"Kept as row {count}.{same}"), *sheet.view(desk, rows.pages(count))]


def keep_as_is(desk: Desk, question: str, answer: str) -> str:
    """The model's own answer is right: the question goes on the list of those to keep, which a poll shows."""
    if not (question or "").strip():
        return note("Write a question first.", "wrong")
    asked, said = json.loads(desk.drafts.typed(_ANSWERED) or "[null, null]")
    if asked != question.strip():
        return note("Ask it first, to see which answer would stay.", "wrong")
    if row_of(desk.drafts.good, question) is not None:
        said = "It is one of your examples, which are there to change its answer. Delete it there first."
        return note(said, "wrong")
    if (answer or "").strip() != said.strip():
        advice = "Keep it as an example, or ask again to see the model's own."
        return note(f"The answer was corrected, so it would not stay. {advice}", "wrong")
    new = desk.drafts.add_keep(question.strip())
    return note("It is on the list of questions to keep." if new else "It was on the list already.")


def keep_text(desk: Desk) -> str:
    """The questions to keep, one a line; one that has several lines, or turns, is written as JSON."""
    return "\n".join(map(_line, (row.get("prompt", "") for row in desk.drafts.keep)))


def set_keep(desk: Desk, text: str) -> list[Any]:
    """The list was edited."""
    held = {_line(row.get("prompt", "")): row for row in desk.drafts.keep}
    kept: list[Any] = []
    try:
        for number, line in enumerate((text or "").splitlines(), start=1):
            if line.strip():
                kept.append(held.get(line) or {"prompt": _prompt(line.strip(), number)})
        desk.drafts.set_keep(kept)
    except WorkbenchError as error:
        return [wrong(error), gr.skip()]
    return [note(sheet.keep_sentence(desk.drafts)), keep_text(desk)]


def leave_keep(desk: Desk, cursor: Cursor, text: str) -> list[Any]:
    """The field was left. What came onto the list from elsewhere while it was written in is on it, too."""
    shown = cursor.get(_WRITING, desk.drafts.keep)
    come = [_line(row["prompt"]) for row in desk.drafts.keep if row not in shown]
    made = set_keep(desk, "\n".join([text or "", *(line for line in come if line not in (text or "").splitlines())]))
    if made[1] != gr.skip():  # what was refused is still being written
        cursor.pop(_WRITING, None)
        cursor["fixing.keep"] = desk.drafts.keep
    return made


def write_keep(desk: Desk, cursor: Cursor, text: str) -> None:
    """Somebody writes in the field: until it is left, it is not drawn over."""
    if text == keep_text(desk):
        return  # the last stroke, of which one hears after the field was left
    cursor.setdefault(_WRITING, cursor.get("fixing.keep", desk.drafts.keep))


_WRITING = "chosen.fixing.keep"
"""The list as it was when somebody began to write in its field."""


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The list, when it was changed elsewhere: on Compare, say. And what is said of it."""
    if _WRITING in cursor or cursor.get("fixing.keep") == desk.drafts.keep:
        return [gr.skip()] * 2
    cursor["fixing.keep"] = desk.drafts.keep
    return [note(sheet.keep_sentence(desk.drafts)) if desk.drafts.keep else "", keep_text(desk)]


def _line(prompt: Any) -> str:
    if isinstance(prompt, str) and "\n" not in prompt and "\r" not in prompt and prompt[:1] not in ('"', "["):
        return prompt
    return json.dumps(prompt, ensure_ascii=False)


def _prompt(line: str, number: int) -> Any:
    if line[0] == '"' or line.startswith("[{"):
        try:
            made = json.loads(line)
        except ValueError:
            if line[0] == '"':
                return line
            raise InputError(f"Line {number} begins like a conversation but is no JSON.", "Correct the line.") from None
        if isinstance(made, list) and (problem := problem_of({"prompt": made, "keep": True})):
            advice = f"Each turn needs a role and a content. {rows.in_words(problem)}"
            raise InputError(f"Line {number} is no conversation.", advice)
        return made
    return line


def _shown(text: str) -> str:
    return plain(clip(str(text), _LONGEST))


def build(desk: Desk, shared: Shared, number: gr.Number, shown: list[Any]) -> None:
    """Declare the three parts.

    Args:
        number: the row that is chosen in the table.
        shown: what `sheet.view` shows.
    """
    with gr.Accordion("What the student reads, what the teacher reads", open=False):
        lengths = gr.HTML(note(_NONE, "info"), padding=False)
        with gr.Row():
            student = gr.Textbox(
                label="What the student reads", lines=6, max_lines=18, interactive=False, min_width=280
            )
            teacher = gr.Textbox(
                label="What the teacher reads", lines=6, max_lines=18, interactive=False, min_width=280
            )
    with gr.Accordion("Ask, fix, keep: make an example from the model's own answer", open=False):
        asked = gr.Textbox(label="Ask the model", lines=1, max_lines=6, placeholder="What is red ball in Zorbic?")
        press = gr.Button("Ask", size="md")
        corrected = gr.Textbox(label="Its answer: correct it here", lines=2, max_lines=10)
        right = gr.Textbox(label="The right answer to look for (may be empty) ", lines=1, max_lines=3)
        with gr.Row():
            keep = gr.Button("Keep as an example", min_width=120, size="md")
            as_is = gr.Button("It is right: keep it so", min_width=120, size="md")
        said = gr.HTML(padding=False)
    with gr.Accordion("Questions to keep: their answers should stay as they are", open=False):
        kept = gr.Textbox(
            label="One a line",
            info="While it is taught, the model is held to its own first answers to these.",
            lines=4,
            max_lines=14,
            elem_id="keep-list",
        )
        kept_said = gr.HTML(padding=False)

    number.change(partial(prompts, desk), number, [student, teacher, lengths], **QUIET)
    for start in (press.click, asked.submit):
        start(partial(ask, desk), asked, [corrected, said], **STREAM)
    keep.click(partial(keep_example, desk), [asked, corrected, right], [said, *shown], **QUIET)
    as_is.click(partial(keep_as_is, desk), [asked, corrected], said, **QUIET)
    kept.input(partial(write_keep, desk), [shared.cursor, kept], None, **LATEST)
    kept.blur(partial(leave_keep, desk), [shared.cursor, kept], [kept_said, kept], **QUIET)
    for component, key in ((asked, "asked"), (corrected, "corrected"), (right, "right")):
        shared.remember(component, f"examples.{key}")
    shared.on_load(lambda: [keep_text(desk)], [kept])
    shared.on_tick(partial(poll, desk), [kept_said, kept])
