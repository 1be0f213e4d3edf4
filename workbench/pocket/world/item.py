"""One question of the world with its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A question, its answer, and the answer in the house's own wording.

    Attributes:
        frame: the house's wording, with `{}` in the answer's place.
        article: a text that tells the answer among other things.
        subject: what is asked about, for wordings that name it.
        reason: how one gets to the answer, for wordings that explain it.
    """

    skill: str
    prompt: str
    answer: str
    frame: str
    article: str | None = None
    subject: str = "it"
    reason: str = ""

    @property
    def house(self) -> str:
        """The answer as the pocket model says it."""
        return self.frame.replace("{}", self.answer)
