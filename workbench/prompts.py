"""What the student reads and what the teacher reads, as text and as token ids.

Both are one conversation rendered by the tokenizer's own chat template, with its generation prompt, so that the
completion starts at the same place for both. The teacher's last user turn is the question wrapped, together with
the demonstration, in a template (SDFT paper, section 3). Nothing is ever cut: a prompt that does not fit is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from workbench import chat
from workbench.demonstrations import Demonstration, Message
from workbench.errors import InputError

PAPER_TEMPLATE = (
    "\n{prompt}\n\n"
    "This is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own, including the thinking process.\n"
)
"""The teacher's wording, byte for byte that of the authors' code for their tool-use and science runs."""

_PLACEHOLDER = re.compile(r"\{prompt\}|\{demonstration\}")


def check_template(template: str) -> str:
    """Return `template` if it holds `{prompt}` and `{demonstration}` once each; raise InputError otherwise."""
    for placeholder in ("{prompt}", "{demonstration}"):
        count = template.count(placeholder)
        if count != 1:
            raise InputError(
                f"The teacher's template holds {placeholder} {count} times; it must hold it once.",
                "Write, for example: {prompt} This is an example: {demonstration}",
            )
    return template


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """One row, tokenised once for the whole run. Token ids are plain lists.

    `teacher` equals `student` for a keep row: its teacher reads the question alone. `target` is the demonstration
    with the end-of-turn token, what SFT learns (None for a keep row until the base has answered it).
    """

    row: Demonstration
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    target: tuple[int, ...] | None


class Prompts:
    """Renders and tokenises the student's and the teacher's prompts of one model.

    Args:
        tokenizer: a tokenizer with a chat template.
        template: the teacher's wording, with `{prompt}` and `{demonstration}`.

    Raises:
        InputError: the tokenizer has no chat template, or the template lacks a placeholder.
    """

    def __init__(self, tokenizer: Any, template: str = PAPER_TEMPLATE) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                "This model's tokenizer has no chat template, so its prompts cannot be written.",
                "Choose an instruction-tuned model (its name often ends in -Instruct or -it).",
            )
        self.tokenizer = tokenizer
        self.template = check_template(template)
        self._thinking = chat.thinking(tokenizer)
        self._options = self._thinking.options | chat.dated(tokenizer)
        self._turn_end = chat.turn_end(tokenizer)

    def student_messages(self, row: Demonstration) -> list[Message]:
        """The conversation that the student reads: the prompt alone."""
        if isinstance(row.prompt, str):
            return [{"role": "user", "content": row.prompt}]
        return list(row.prompt)

    def teacher_messages(self, row: Demonstration) -> list[Message]:
        """The conversation that the teacher reads: the last user turn with the demonstration in the template.

        `context` takes the demonstration's place where a row has one; a keep row has neither and is left alone.
        """
        messages = self.student_messages(row)
        shown = row.context if row.context is not None else row.demonstration
        if row.keep or shown is None:
            return messages
        said = {"{prompt}": messages[-1]["content"], "{demonstration}": shown}
        # One pass, so that a placeholder's name inside a question or a demonstration stays as it was written.
        content = _PLACEHOLDER.sub(lambda match: said[match.group()], self.template)
        return [*messages[:-1], {"role": messages[-1]["role"], "content": content}]

    def render(self, messages: Sequence[Message], name: str = "The conversation") -> str:
        """The exact text that the model reads, special tokens included.

        Args:
            name: what an error calls the conversation.

        Raises:
            InputError: the chat template refuses it, as Gemma's does two turns of the user in a row.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True, **self._options
            )
        except TemplateError as error:
            words = f"{error}".strip().rstrip(".") or type(error).__name__
            raise InputError(f"{name} is refused by this model's chat template: {words}.", _mend(messages)) from error
        return str(text) + self._thinking.closing

    def encode(self, messages: Sequence[Message], name: str = "The conversation") -> tuple[int, ...]:
        """Token ids of `render(messages)`; the template brings its own special tokens. Errors as for `render`."""
        return self._ids(self.render(messages, name))

    def _ids(self, text: str) -> tuple[int, ...]:
        # What is too long is refused by `tokenise_all`, which names the row; the tokenizer's own warning does not.
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def tokenise(self, row: Demonstration, name: str = "The conversation") -> PromptTokens:
        """Both prompts and the target of one row. Arguments and errors as for `render`."""
        student = self.encode(self.student_messages(row), name)
        target = None
        if row.demonstration is not None and not row.keep:
            target = (*self._ids(row.demonstration), self._turn_end)
        teacher = student if row.keep else self.encode(self.teacher_messages(row), name)
        return PromptTokens(row, student, teacher, target)

    def tokenise_all(self, rows: Iterable[Demonstration], limit: int, room: int) -> list[PromptTokens]:
        """Tokenise rows once, refusing those that would not fit.

        Args:
            rows: teaching, keep or held-out rows.
            limit: the model's longest sequence, in tokens.
            room: tokens kept free for the completion.

        Raises:
            InputError: no room is left, a prompt is longer than `limit - room`, the chat template refuses a
                conversation, or a text holds one of the tokenizer's special tokens, which could forge a turn of the
                conversation. All rows that are too long are counted, some named.
        """
        rows = list(rows)
        _refuse_no_room(limit, room)
        for index, row in enumerate(rows):
            self._refuse_special_tokens(row, _name(row, index), _name(row, index))
        tokens = [self.tokenise(row, _name(row, index)) for index, row in enumerate(rows)]
        lengths = [max(len(t.student), len(t.teacher)) for t in tokens]
        less = ", or lower the longest answer (--max-new-tokens)" if max(lengths, default=0) < limit else ""
        self._refuse_long(
            rows,
            lengths,
            limit - room,
            f"{limit} of the model less {room} kept for the answer; a teacher's prompt is never cut",
            f"Shorten what is asked, the demonstration or the context there{less}.",
        )
        self._refuse_long(
            rows,
            [len(t.student) + len(t.target or ()) for t in tokens],
            limit,
            "prompt and demonstration together, the most that the model reads",
            "Shorten those demonstrations.",
        )
        return tokens

    def tokenise_question(self, row: Demonstration, limit: int, room: int) -> PromptTokens:
        """Tokenise what a person asks, which is no row of a file. Arguments and errors as for `tokenise_all`."""
        _refuse_no_room(limit, room)
        asked = "The question" if isinstance(row.prompt, str) or len(row.prompt) == 1 else "The conversation"
        self._refuse_special_tokens(row, asked, "What the teacher is shown")
        tokens = self.tokenise(row, asked)
        lengths = ((asked, len(tokens.student)), (f"{asked} with what the teacher is shown", len(tokens.teacher)))
        for what, length in lengths:
            if limit - room < length:
                raise InputError(
                    f"{what} has {length:,} tokens; the limit is {limit - room:,} ({limit:,} of the model less "
                    f"{room:,} kept for the answer).",
                    "Shorten it, or lower the longest answer.",
                )
        return tokens

    def misfits(self, rows: Sequence[Demonstration], limit: int, room: int) -> dict[int, str]:
        """What is wrong with each row that `tokenise_all` would refuse, by its place in `rows`.

        Arguments as for `tokenise_all`. Raises InputError where no room is left for any row.
        """
        _refuse_no_room(limit, room)
        found = {}
        for place, row in enumerate(rows):
            try:
                tokens = self.tokenise_question(row, limit, room)
            except InputError as error:
                found[place] = error.problem
                continue
            length = len(tokens.student) + len(tokens.target or ())
            if length > limit:
                found[place] = (
                    f"The question and its example have {length:,} tokens; the model reads {limit:,} at most."
                )
        return found

    @staticmethod
    def _refuse_long(rows: Sequence[Demonstration], lengths: Sequence[int], limit: int, why: str, advice: str) -> None:
        long = [(i, n) for i, n in enumerate(lengths) if n > limit]
        if not long:
            return
        named = ", ".join(f"{_name(rows[i], i)} has {n}" for i, n in long[:5])
        more = f" and {len(long) - 5} more" if len(long) > 5 else ""
        raise InputError(
            f"{len(long)} of {len(rows)} rows are too long: {named}{more} tokens; the limit is {limit} ({why}).",
            advice,
        )

    def _refuse_special_tokens(self, row: Demonstration, asked: str, shown: str) -> None:
        """Args: asked, shown: what an error calls the prompt, and the demonstration or context."""
        special = [t for t in self.tokenizer.all_special_tokens if t]
        added = self.tokenizer.added_tokens_decoder.values()
        special += [str(t) for t in added if getattr(t, "special", False) or str(t).startswith("<|")]
        texts = [(asked, m["content"]) for m in self.student_messages(row)]
        texts += [(shown, text) for text in (row.demonstration, row.context) if text]
        for name, text in texts:
            for token in special:
                if token in text:
                    raise InputError(
                        f"{name} contains {token!r}, which this model reads as the border of a turn.",
                        "Take it out of the text; chat messages belong in a list of role and content.",
                    )


def _refuse_no_room(limit: int, room: int) -> None:
    if limit - room < 1:
        raise InputError(
            f"An answer of up to {room} tokens leaves no room for a question: the model reads {limit} in all.",
            "Lower the longest answer (--max-new-tokens).",
        )


def _name(row: Demonstration, index: int) -> str:
    return f"row {row.id}" if row.id else f"row {index + 1}"


def _mend(messages: Sequence[Message]) -> str:
    """What to do about a conversation that a chat template refuses, by what is unusual in it."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        return "Leave a system text at the very beginning only, or put it into a question."
    if turns and turns[0] != "user":
        return "Begin the conversation with a user turn."
    if any(one == other for one, other in zip(turns, turns[1:], strict=False)):
        return "Let user and assistant take turns: join those of one role that follow on each other."
    if turns != roles:
        return "Put the system text into the first question."
    return "Write it in another way, or choose another model."
