"""One demonstration: a question, and how somebody answered it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict


class Message(TypedDict):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A row of a demonstrations file.

    Attributes:
        prompt: the question, or a conversation that ends with a user turn.
        demonstration: how somebody answered it; None only in keep rows and in questions without one.
        answer: what a scorer looks for in a completion.
        context: a text (an article, say) that takes the demonstration's place in the teacher's prompt.
        keep: the model's answer to this question should stay as it is.
    """

    prompt: str | tuple[Message, ...]
    demonstration: str | None = None
    answer: str | None = None
    context: str | None = None
    id: str | None = None
    tags: tuple[str, ...] = ()
    keep: bool = False

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1]["content"]

    def to_keep(self) -> Demonstration:
        """The question alone, whatever else the row holds, as a keep row."""
        return Demonstration(prompt=self.prompt, id=self.id, tags=self.tags, keep=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; fields that say nothing are left out."""
        prompt: Any = self.prompt if isinstance(self.prompt, str) else [dict(m) for m in self.prompt]
        values: dict[str, Any] = {"prompt": prompt}
        for name in ("demonstration", "answer", "context", "id"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.tags:
            values["tags"] = list(self.tags)
        if self.keep:
            values["keep"] = True
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Demonstration:
        """The inverse of `to_dict`. Values are taken as they are; files are checked by `read`."""
        prompt = values["prompt"]
        if not isinstance(prompt, str):
            prompt = tuple(Message(role=m["role"], content=m["content"]) for m in prompt)
        return cls(
            prompt=prompt,
            demonstration=values.get("demonstration"),
            answer=values.get("answer"),
            context=values.get("context"),
            id=values.get("id"),
            tags=tuple(values.get("tags", ())),
            keep=bool(values.get("keep", False)),
        )


def row_of(rows: Iterable[Demonstration], question: str) -> Demonstration | None:
    """The row that asks this question, None if there is none. A keep row does not count: it has no answer."""
    asked = question.strip()
    return next((row for row in rows if not row.keep and row.question.strip() == asked), None)
