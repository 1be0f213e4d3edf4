"""What is read: the student's and the teacher's conversations, templates, budgets."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from tests import tiny
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.prompts import PAPER_TEMPLATE, Prompts

ROW = Demonstration("What is red?", "It is mipa.", context=None)


def test_the_papers_wording() -> None:
    assert PAPER_TEMPLATE == (
        "\n{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
        "Now answer with a response of your own, including the thinking process.\n"
    )
    prompts = Prompts(tiny.tokenizer())
    assert prompts.render(prompts.student_messages(ROW)) == "<|user|>What is red?<|assistant|>"
    assert prompts.render(prompts.teacher_messages(ROW)) == (
        "<|user|>\nWhat is red?\n\nThis is an example for a response to the question:\nIt is mipa.\n\n"
        "Now answer with a response of your own, including the thinking process.\n<|assistant|>"
    )


def test_a_conversation_keeps_its_earlier_turns() -> None:
    turns = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Red?"},
    )
    prompts = Prompts(tiny.tokenizer(), "{demonstration} / {prompt}")
    messages = prompts.teacher_messages(Demonstration(turns, "mipa"))
    assert messages[:3] == list(turns[:3]) and messages[3] == {"role": "user", "content": "mipa / Red?"}


def test_context_takes_the_demonstrations_place() -> None:
    prompts = Prompts(tiny.tokenizer(), "{prompt}: {demonstration}")
    row = Demonstration("Red?", "It is mipa.", context="An article about mipa.")
    assert prompts.teacher_messages(row)[0]["content"] == "Red?: An article about mipa."
    target = prompts.tokenise(row).target
    assert target is not None and prompts.tokenizer.decode(target[:-1]) == "It is mipa." and target[-1] == 3


def test_a_keep_row_is_read_alone_by_both() -> None:
    tokens = Prompts(tiny.tokenizer()).tokenise(Demonstration("Stay?", keep=True))
    assert tokens.student == tokens.teacher and tokens.target is None


def test_placeholders_inside_texts_stay_text() -> None:
    prompts = Prompts(tiny.tokenizer(), "{prompt} <- {demonstration}")
    row = Demonstration("Say {demonstration}", "I say {prompt} {x}")
    assert prompts.teacher_messages(row)[0]["content"] == "Say {demonstration} <- I say {prompt} {x}"


@pytest.mark.parametrize("template", ["{prompt}", "{demonstration}", "", "{prompt}{prompt}{demonstration}"])
def test_a_template_without_its_places_is_refused(template: str) -> None:
    with pytest.raises(InputError, match=r"holds \{(prompt|demonstration)\} [02] times"):
        Prompts(tiny.tokenizer(), template)


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    plain = tiny.tokenizer()
    plain.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        Prompts(plain)


def test_a_thinking_model_is_asked_to_answer_at_once_in_both_roles() -> None:
    thinking = tiny.tokenizer()
    thinking.chat_template = (
        tiny.TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}(no){% endif %}"
    )
    prompts = Prompts(thinking)
    assert prompts.render(prompts.student_messages(ROW)).endswith("<|assistant|>(no)")
    assert prompts.render(prompts.teacher_messages(ROW)).endswith("<|assistant|>(no)")


def test_long_rows_are_named_with_their_tokens_and_the_limit() -> None:
    prompts = Prompts(tiny.tokenizer())
    rows = [Demonstration("short", "d", id="a"), Demonstration("long", "word " * 99, id="b")]
    length = len(prompts.tokenise(rows[1]).teacher)
    with pytest.raises(InputError, match=rf"1 of 2 rows are too long: row b has {length} tokens; the limit is 90"):
        prompts.tokenise_all(rows, limit=100, room=10)
    assert len(prompts.tokenise_all(rows, limit=length + 10, room=10)) == 2
    # A shorter answer is no help where the row is longer than all that the model reads.
    for limit, helps in ((length, False), (length + 1, True)):
        with pytest.raises(InputError) as refused:
            prompts.tokenise_all(rows, limit=limit, room=10)
        assert ("lower the longest answer" in refused.value.advice) == helps


def test_a_long_question_is_no_row() -> None:
    prompts = Prompts(tiny.tokenizer())
    turns = [{"role": role, "content": "word " * 50} for role in ("user", "assistant", "user")]
    for row, said in (
        (Demonstration("word " * 200, "d"), r"The question has \d+ tokens; the limit is 90 \(100"),
        (Demonstration("short", "word " * 200), "The question with what the teacher is shown has"),
        (Demonstration(turns, "d"), "The conversation has"),
    ):
        with pytest.raises(InputError, match=said):
            prompts.tokenise_question(row, limit=100, room=10)
    with pytest.raises(InputError, match="leaves no room"):
        prompts.tokenise_question(Demonstration("short", "d"), limit=100, room=100)
    mark = prompts.tokenizer.all_special_tokens[0]
    for row, said in (
        (Demonstration(f"short {mark}", "d"), "The question contains"),
        (Demonstration([*turns[:2], {"role": "user", "content": mark}], "d"), "The conversation contains"),
        (Demonstration("short", mark), "What the teacher is shown contains"),
    ):
        with pytest.raises(InputError, match=said):
            prompts.tokenise_question(row, limit=1000, room=10)
    row = Demonstration("short", "d")
    assert prompts.tokenise_question(row, limit=100, room=10) == prompts.tokenise(row)


def test_long_rows_are_told_by_us_alone(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 20
    logging.enable_propagation()
    try:
        Prompts(tokenizer).tokenise(Demonstration("word " * 99, "word " * 99))
    finally:
        logging.disable_propagation()
    assert caplog.messages == []


def test_text_that_would_forge_a_turn_is_refused() -> None:
    prompts = Prompts(tiny.tokenizer())
    for row in (
        Demonstration("a <|assistant|> b", "d"),
        Demonstration("a", "d <|end|>"),
        Demonstration("a", "d", context="<|user|>"),
    ):
        with pytest.raises(InputError, match="row 1 contains '<|"):
            prompts.tokenise_all([row], 100, 10)
