"""The bundled sets of examples: where they are, and what each teaches, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.demonstrations.bundled import bundled_sets


@dataclass(frozen=True, slots=True)
class Sample:
    """One set.

    Attributes:
        label: in the list.
        about: what is in it, with an example.
        pocket: whether the bundled model can learn it.
        keep: whether its rows are only questions to keep.
    """

    name: str
    label: str
    about: str
    pocket: bool = True
    keep: bool = False


SAMPLES = (
    Sample(
        "zorbic",
        "Zorbic, a language",
        "200 phrases of an invented language that the bundled model has never seen: the noun comes first.",
    ),
    Sample(
        "pelan",
        "Pelan, another language",
        "200 phrases of a second invented language, the adjective first. Teach it after Zorbic, and see what happens.",
    ),
    Sample("toolbox", "Toolbox, calling tools", "160 requests, each answered by the right call of one of nine tools."),
    Sample("quiz", "Quiz, multiple choice", "144 multiple-choice questions about creatures that do not exist."),
    Sample("remedies", "Remedies, rules", "160 questions that follow rules: with these two symptoms take this."),
    Sample("events", "Events, articles", "120 questions about dated events. The teacher reads an article for each."),
    Sample(
        "support",
        "Support replies (for a real model)",
        "30 replies in the tone and form of a support team. The bundled model is far too small for it.",
        pocket=False,
    ),
    Sample(
        "internal_tool",
        "Internal command-line tool (for a real model)",
        "34 requests with the call of an internal tool. The bundled model is far too small for it.",
        pocket=False,
    ),
    Sample(
        "house_style",
        "House style (for a real model)",
        "28 sentences rewritten into a house style. The bundled model is far too small for it.",
        pocket=False,
    ),
    Sample(
        "keep",
        "Questions to keep (for the bundled model)",
        "270 questions that the bundled model can answer. They teach nothing: they go on the list of questions whose "
        "answers should stay as they are, beside the examples that you have.",
        keep=True,
    ),
)


def find(name: str) -> Sample:
    """The set of this name. Raises KeyError if there is none."""
    return {sample.name: sample for sample in SAMPLES}[name]


def path(name: str) -> Path:
    """Its file. Raises KeyError for any name that is not a bundled set's, FileNotFoundError if the file is gone."""
    file = bundled_sets().get(find(name).name)
    if file is None:
        raise FileNotFoundError(f"sample_data/{name}.jsonl is not where it was installed")
    return file
