"""What a chat template says about its model: where a turn ends, and whether the model thinks before it answers.
And what it is told: not to let it think, and what day it is.

A thinking model writes its thoughts between `<think>` and `</think>` first. Here it is asked to answer at once, as
student and as teacher alike: a teacher that thinks and a student that does not would differ from the first token on,
and distilling long thoughts costs more than it teaches (docs/models.md). Nothing but the template is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

THOUGHT_ENDS = "</think>"

DATE = date(2026, 1, 1)
"""The day that every prompt bears whose template asks for today's."""

ON_THAT_DAY = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f".replace('%{of}', '{DATE:%{of}}')" for of in "aAbBdejmyYFDHIMSpTR")
    + f".replace('%-d', '{DATE.day}').replace('%-m', '{DATE.month}')"
    + " }}{% endmacro %}\n"
)
"""Before a template, this makes its `strftime_now` tell `DATE`. The line break is the macro's: jinja2 takes it away."""

_OPENS = "<think>"
_SAID = "The answer."
_ASKED = {"role": "user", "content": "A question?"}


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether a model thinks before it answers, and how it is kept from it.

    Attributes:
        kind: `never`; `switched`, where the template has a switch for it; `always`, where it has none and begins a
            thought itself; `perhaps`, where it does neither and yet speaks of thoughts, as one does that only takes
            them out of earlier answers. Models that think share such a template with models that do not.
        options: what the template is told.
        closing: written after the prompt where that leaves a thought open: an empty thought, closed.
    """

    kind: Literal["never", "switched", "always", "perhaps"] = "never"
    options: dict[str, Any] = field(default_factory=dict)
    closing: str = ""

    @property
    def note(self) -> str | None:
        """What a person should know about such a model; None where there is nothing to know."""
        if self.kind == "never":
            return None
        if self.kind == "switched":
            return (
                "This model can think before it answers. Here it answers at once, as student and as teacher: "
                "thinking is switched off in its chat template."
            )
        if self.kind == "perhaps" and not self.closing:
            return (
                "The chat template of this model speaks of thoughts, but leaves none open and has no switch for them, "
                "so nothing is done about them. If it thinks before it answers, its thoughts are taught and timed as "
                "part of its answers, and scorers see what follows them."
            )
        if self.kind == "perhaps":
            return (
                "This model seems to think before it answers: it has a token that begins a thought, and its chat "
                "template speaks of thoughts, though it neither begins one nor has a switch for them. Here a thought "
                "is closed before it begins, as student and as teacher: if it thinks, expect worse answers, and "
                "choose a model that does not (often called Instruct) where there is one."
            )
        return (
            "This model always thinks before it answers, and its chat template cannot switch that off. Here its "
            "thought is closed before it begins, as student and as teacher, for which it was not made: expect worse "
            "answers, and choose a model that does not think (often called Instruct) where there is one."
        )


def thinking(tokenizer: Any) -> Thinking:
    """Whether the model behind this tokenizer thinks, by its chat template."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    options = _switched_off(tokenizer, template)
    if not options and THOUGHT_ENDS not in template and _OPENS not in template:
        return Thinking()
    prompt = _asked(tokenizer, **options)
    before, _, after = prompt.rpartition(_OPENS)
    if THOUGHT_ENDS in after and not after.split(THOUGHT_ENDS, 1)[1].strip():
        return Thinking("switched" if options else "perhaps", options)
    if before and not after.strip():
        return Thinking("switched" if options else "always", options, "\n\n"[len(after) :] + f"{THOUGHT_ENDS}\n\n")
    if options:
        return Thinking("switched", options)
    # To a model that knows no thoughts an empty one is three strange words in each prompt; one that begins them by
    # itself has a token for it.
    known = _OPENS in tokenizer.get_added_vocab()
    return Thinking("perhaps", options, f"{_OPENS}\n\n{THOUGHT_ENDS}\n\n" if known else "")


def _switched_off(tokenizer: Any, template: str) -> dict[str, Any]:
    """The switches of thinking that a template has, all off: `enable_thinking` as Qwen3 calls it, `thinking` as
    Granite 3 and DeepSeek V3.1 do."""
    options: dict[str, Any] = {"enable_thinking": False} if "enable_thinking" in template else {}
    # The other word stands in many a template that has no such switch: for a part of a message, or in a text.
    if "thinking" in template and _asked(tokenizer, thinking=True) != _asked(tokenizer, thinking=False):
        options["thinking"] = False
    return options


def _asked(tokenizer: Any, **options: Any) -> str:
    """The prompt of a question."""
    return str(tokenizer.apply_chat_template([_ASKED], tokenize=False, add_generation_prompt=True, **options))


def dated(tokenizer: Any) -> dict[str, Any]:
    """What lets the template of this tokenizer write one date on every day, as a further option; else nothing.

    Llama 3's and SmolLM3's write today's, so that a run that is resumed on another day, or a student that is compared
    on one, would read other prompts than those it was taught with.
    """
    if "strftime_now" not in str(getattr(tokenizer, "chat_template", None)):
        return {}
    # Not as a variable named strftime_now: of those the library lets plain data alone through to a template.
    return {"chat_template": ON_THAT_DAY + tokenizer.get_chat_template()}


def turn_end(tokenizer: Any) -> int:
    """The token that ends the model's turn: what its template writes after an answer.

    It is not always the tokenizer's end of text: Gemma's turns end in <end_of_turn>, Phi's in <|end|>. A student that
    is taught the other one goes on writing after its answer.
    """
    text_ends = int(tokenizer.eos_token_id)
    if not getattr(tokenizer, "chat_template", None):
        return text_ends
    try:
        text = tokenizer.apply_chat_template([_ASKED, {"role": "assistant", "content": _SAID}], tokenize=False)
    except Exception:  # noqa: BLE001 - templates raise what they like, for example on a turn of the assistant
        return text_ends
    ids = tokenizer(text.rpartition(_SAID)[2], add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    return next((int(i) for i in ids if i in special), text_ends)


def thought_end(tokenizer: Any) -> int | None:
    """The token that ends a thought; None where the model has none."""
    found = tokenizer.get_added_vocab().get(THOUGHT_ENDS)
    return None if found is None else int(found)


def spoken(text: str) -> str | None:
    """What a thinking model says after its thoughts; None where the answer ends inside one, and so says nothing."""
    _, _, after = text.rpartition(THOUGHT_ENDS)
    return None if _OPENS in after else after.strip()
