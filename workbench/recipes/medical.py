"""Medical questions: HuatuoGPT-o1's English responses to learn from, its verifiable questions to be tested on.

FreedomIntelligence/medical-o1-reasoning-SFT has Question, Complex_CoT and Response (config `en`: medical_o1_sft.json);
FreedomIntelligence/medical-o1-verifiable-problem has "Open-ended Verifiable Question" and "Ground-True Answer". Both
pages say apache-2.0, arXiv 2412.18925. The second's commit is its last one by its history page; of the first only an
abbreviated one was found (fc2c9e8), so it is not pinned.
"""

from __future__ import annotations

import random

from workbench.demonstrations import Demonstration
from workbench.recipes.recipe import Recipe, Rows, Source, Tables, is_text

TEST_ROWS, VALIDATION_ROWS = 1000, 100
QUESTION, ANSWER = "Open-ended Verifiable Question", "Ground-True Answer"


def rows(tables: Tables, seed: int) -> Rows:
    """Responses to teach; of the verifiable questions that are not among them, 1,000 to test with and 100 more."""
    teaching = [
        Demonstration(row["Question"], row["Response"], id=f"train-{number}")
        for number, row in enumerate(tables["train"])
        if is_text(row["Question"], row["Response"])
    ]
    seen = {row.question.strip() for row in teaching}
    whole = [(i, r) for i, r in enumerate(tables["test"]) if is_text(r[QUESTION], r[ANSWER])]
    free = [(i, r) for i, r in whole if r[QUESTION].strip() not in seen]
    random.Random(seed).shuffle(free)
    held = min(VALIDATION_ROWS, max(0, len(free) // 10))
    # What the teacher is shown of a validation row is its answer: there is no response to it.
    asked = [
        Demonstration(r[QUESTION], answer=r[ANSWER], context=r[ANSWER] if place < held else None, id=f"problem-{i}")
        for place, (i, r) in enumerate(free[: held + TEST_ROWS])
    ]
    notes = []
    if lost := len(tables["train"]) - len(teaching):
        notes.append(f"{lost} rows without a question or a response were left out.")
    if lost := len(whole) - len(free):
        notes.append(f"{lost} verifiable questions are among those taught, and are not asked in the test.")
    return Rows(teaching, asked[:held], asked[held:], notes=tuple(notes))


MEDICAL = Recipe(
    name="medical",
    title="Medical questions",
    data="HuatuoGPT-o1's English responses, without its chains of thought; its verifiable questions for the test",
    licence="apache-2.0 (both data sets)",
    size="about 20,000 rows to teach (58 MB) and 1,000 of 40,600 verifiable questions to test with (12 MB)",
    missing="Which 1,000 questions the authors asked is not published: 1,000 are drawn with the seed, none of them "
    "among the rows taught. The paper's judge is GPT-5-mini, which needs an account: here the model as it was before "
    "teaching judges, reading the true answer; and the share of answers that hold at least half of the true answer's "
    "words is given beside it, which needs no judge.",
    sources={
        "train": Source(
            "FreedomIntelligence/medical-o1-reasoning-SFT", "medical_o1_sft.json", "json", ("Question", "Response")
        ),
        "test": Source(
            "FreedomIntelligence/medical-o1-verifiable-problem",
            "medical_o1_verifiable_problem.json",
            "json",
            (QUESTION, ANSWER),
            revision="46d5175eb74fdef3516d51d52e8c40db04bbdf35",
        ),
    },
    rows=rows,
    scores={"judged": "judge", "words": "half-says"},
    validated_by="half-says",
    epochs={"sdft": 2, "sft": 1},
    max_new_tokens=1024,
    paper={"judged": {"base": 30.1, "sft": 35.5, "sdft": 40.2}},
)
