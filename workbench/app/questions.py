"""What is asked of base, teacher and student, and what they said. No Gradio here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.runs import Run, list_runs

ROLES = ("base", "teacher", "student")

POCKET_CAN = (
    ("What is 3 plus 4?", "7"),
    ("What is the opposite of hot?", "cold"),
    ("What is the capital of France?", "Paris"),
    ("What does a pig say?", "oink"),
    ("Which is larger, 5 or 9?", "9"),
    ("What is the second word of tree river king?", "river"),
    ("How do you say red ball in Sotri?", "fosefo tuti"),
)
"""Questions that the pocket model can answer, with the right answer."""

POCKET_CANNOT = (
    ("How do you say red ball in Zorbic?", "zofi kuzura"),
    ("What is 3 times 4?", "12"),
    ("What is 23 plus 9?", "32"),
    ("What is the capital of Germany?", "Berlin"),
    ("Who wrote Hamlet?", "Shakespeare"),
)
"""Questions that it cannot answer: nobody has taught it that."""

_STEP = re.compile(r"step-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. Temperature 0 takes the likeliest token each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    longest: int | None = None

    def __post_init__(self) -> None:
        for name, holds, allowed in (
            ("Temperature", 0 <= self.temperature <= 5, "between 0 and 5"),
            ("Top-p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("Top-k", self.top_k >= 0, "0 or more"),
            ("The seed", 0 <= self.seed < 2**31, "between 0 and 2147483647"),
            ("The longest answer", self.longest is None or 1 <= self.longest <= 4096, "between 1 and 4096 tokens"),
        ):
            if not holds:
                raise InputError(f"{name} must be {allowed}.", "Change it under How the answers are drawn.")

    @classmethod
    def of(cls, temperature: Any, top_p: Any, top_k: Any, seed: Any, longest: Any) -> Sampling:
        """From what the fields of a page hold; an empty field stands for its default."""
        return cls(
            float(temperature or 0),
            float(top_p or 1),
            int(top_k or 0),
            int(seed or 0),
            int(longest) if longest else None,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it is put to the worker.

    Attributes:
        messages: the conversation, which ends with the question.
        run, step: whose student answers; None for the base alone, and for the latest step.
        right, scorer: the right answer where it is known, and how answers are compared with it.
    """

    messages: tuple[dict[str, str], ...]
    demonstration: str | None = None
    context: str | None = None
    run: str | None = None
    step: int | None = None
    right: str | None = None
    scorer: str = "contains"

    @property
    def text(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]

    @property
    def shown(self) -> str:
        """What the teacher is shown, empty if nothing."""
        return self.context or self.demonstration or ""

    def arguments(self, sampling: Sampling, roles: Sequence[str] = ROLES, times: int = 1) -> dict[str, Any]:
        """The arguments of the worker's `ask`."""
        return {
            "messages": [dict(message) for message in self.messages],
            "demonstration": self.demonstration,
            "context": self.context,
            "run": self.run,
            "step": self.step,
            "roles": list(roles),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "longest": sampling.longest,
            "times": times,
            "right": self.right,
            "scorer": self.scorer,
        }


@dataclass
class Answers:
    """What has come back so far.

    Attributes:
        texts, tokens, seconds, prompts: by role.
        right: whether each is right, by role, where that is known.
        problem: why it failed, and what to do; empty if it did not.
        stopped: whether somebody asked for its end.
    """

    texts: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)
    done: bool = False
    problem: str = ""
    stopped: bool = False

    def take(self, reply: dict[str, Any]) -> None:
        """One reply of the worker to `ask`."""
        kind = reply.get("reply")
        if kind == "token" and reply.get("time", 0) == 0:
            self.texts[reply["role"]] = str(reply["text"])
        elif kind == "done":
            self.done = True
            result = reply["result"]
            self.prompts.update(result["prompts"])
            for role, answers in result["answers"].items():
                self.texts[role] = str(answers[0]["text"])
                self.tokens[role] = int(answers[0]["tokens"])
                self.seconds[role] = float(answers[0]["seconds"])
                if answers[0].get("right") is not None:
                    self.right[role] = bool(answers[0]["right"])
        elif kind == "failed":
            self.done = True
            self.problem = f"{reply['problem']} {reply['advice']}"
            self.stopped = bool(reply.get("stopped"))


def find_run(runs: Path, name: str | None) -> Run | None:
    """The run of this name, None for none.

    Only names of runs that are in the folder are looked at, so that no text from a page becomes a path.

    Raises:
        InputError: there is no such run.
    """
    if not name:
        return None
    for run in list_runs(runs):
        if run.name == name:
            return run
    raise InputError(f"There is no run {name!r} any more.", "Choose another one; Runs lists those that there are.")


def run_names(runs: Path) -> list[str]:
    """Runs whose student can be asked, the newest first."""
    return [run.name for run in reversed(list_runs(runs)) if run.adapter.is_dir() or saved_steps(run)]


def saved_steps(run: Run) -> list[int]:
    """The steps at which the student can be asked, lowest first."""
    found = [_STEP.fullmatch(p.name) for p in run.checkpoints.iterdir()] if run.checkpoints.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def shown_by(row: Demonstration | None) -> str:
    """What the teacher is shown with a row."""
    return "" if row is None else row.context or row.demonstration or ""


def make_question(
    text: str,
    *,
    shown: str = "",
    row: Demonstration | None = None,
    run: str | None = None,
    step: int | None = None,
    turns: Sequence[dict[str, str]] = (),
    scorer: str = "contains",
) -> Question:
    """Put a question together.

    Args:
        shown: what the person lets the teacher see.
        row: the row that asks the same; its own turns and context are used as they stand.
        turns: the conversation before it; what is right after that is not known.
        scorer: how the answers are compared with the row's.

    Raises:
        InputError: there is no question.
    """
    if not text.strip():
        raise InputError("There is no question yet.", "Write one, or click one of the examples.")
    before = [dict(turn) for turn in turns]
    if not before and row is not None and not isinstance(row.prompt, str):
        before = [{"role": m["role"], "content": m["content"]} for m in row.prompt[:-1]]
    messages = (*before, {"role": "user", "content": text.strip()})
    right = None if row is None or turns else row.answer
    if row is not None and row.context is not None and shown.strip() == row.context.strip():
        return Question(messages, row.demonstration, row.context, run, step, right, scorer)
    return Question(messages, shown.strip() or None, None, run, step, right, scorer)


def at_step(question: Question, step: int) -> Question:
    """The same for the student as it was at another step."""
    return replace(question, step=step)


def follow(replies: Iterable[dict[str, Any]], clock: Any, pause: float = 0.08) -> Iterator[Answers]:
    """The answers as they grow: the first word at once, then no more often than every `pause` seconds."""
    answers, last = Answers(), float("-inf")
    for reply in replies:
        answers.take(reply)
        if answers.done or clock() - last >= pause:
            last = clock()
            yield answers


def tally(answers: Sequence[dict[str, Any]]) -> list[tuple[str, int, bool | None]]:
    """Different answers with how often each was given and whether it is right, the most frequent first."""
    counted = Counter((str(a["text"]).strip(), a.get("right")) for a in answers).most_common()
    return [(text, n, right) for (text, right), n in counted]
