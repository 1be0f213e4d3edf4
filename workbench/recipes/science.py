"""Science questions: chemistry of SciKnowEval, level 3, multiple choice, with reasoning written by GPT-4o.

The released files (see `RELEASED`) have for teaching `messages` (system, user) and `output_text`
("<reasoning>...</reasoning> <answer>X</answer>"), and for the test `prompt` (messages) and `answer` (a letter): read in
two public copies of the released code, kyrylogy/sdft-replication `datasets_sdft.py` and proesn/Self-Distillation
`eval_science.py`. SciKnowEval (hicai-zju/SciKnowEval, arXiv 2406.09098) is under MIT by its page.
"""

from __future__ import annotations

import re

from workbench.demonstrations import Demonstration
from workbench.demonstrations.record import Message
from workbench.recipes.recipe import RELEASED, Recipe, Rows, Source, Tables, hold_back, is_text

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)


def _conversation(messages: object) -> tuple[Message, ...] | None:
    """The turns of a row, if they are text and end with the user's."""
    if not isinstance(messages, list) or not messages:
        return None
    turns = tuple(Message(role=str(m.get("role")), content=m.get("content")) for m in messages)
    return turns if turns[-1]["role"] == "user" and is_text(*(t["content"] for t in turns)) else None


def rows(tables: Tables, seed: int) -> Rows:
    """Published rows as demonstrations; 5% of those to teach are held back to choose the checkpoint by."""
    found, test = [], []
    for number, row in enumerate(tables["train"]):
        prompt, text = _conversation(row["messages"]), row["output_text"]
        answers = _ANSWER.findall(text) if is_text(text) else []
        if prompt is not None and answers:
            found.append(Demonstration(prompt, text, answers[-1], id=f"train-{number}"))
    for number, row in enumerate(tables["test"]):
        prompt = _conversation(row["prompt"])
        if prompt is not None and is_text(row["answer"]):
            test.append(Demonstration(prompt, answer=row["answer"].strip(), id=f"test-{number}"))
    lost = len(tables["train"]) + len(tables["test"]) - len(found) - len(test)
    teaching, validation = hold_back(found, 0.05, 100, seed)
    notes = (f"{lost} rows without a question, or without an answer in its tag, were left out.",) if lost else ()
    return Rows(teaching, validation, test, notes=notes)


SCIENCE = Recipe(
    name="science",
    title="Science questions (multiple choice)",
    data="Chemistry of SciKnowEval, level 3, each with a right answer by GPT-4o, as released by the authors",
    licence="SciKnowEval: MIT; the authors state none for the released files",
    size="about 2,674 rows to teach and 507 to test with",
    missing="The 5% that the authors chose the checkpoint by are not published; 5% of the rows to teach, at most 100, "
    "are held back instead.",
    sources={
        "train": Source(
            RELEASED, "science_data/train_data/data-00000-of-00001.arrow", "arrow", ("messages", "output_text")
        ),
        "test": Source(RELEASED, "science_data/eval_data/data-00000-of-00001.arrow", "arrow", ("prompt", "answer")),
    },
    rows=rows,
    scores={"accuracy": "answer-tag"},
    validated_by="answer-tag",
    epochs={"sdft": 2, "sft": 1},
    max_new_tokens=1024,
    paper={"accuracy": {"base": 32.1, "sft": 66.2, "sdft": 70.2}},
)
