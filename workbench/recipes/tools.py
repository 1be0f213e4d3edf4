"""Tool use: ToolAlpaca's instructions with the documentation of an interface, and the calls that do it.

The released files (see `RELEASED`) have `prompt` (text), `golden_answer` ([{Action, Action_Input}]) and, for teaching
only, `golden_response` (texts, joined by line breaks): kyrylogy/sdft-replication `datasets_sdft.py`. ToolAlpaca is
github.com/tangqiaoyu/ToolAlpaca, arXiv 2306.05301.
"""

from __future__ import annotations

import json

from workbench.demonstrations import Demonstration
from workbench.recipes.recipe import RELEASED, Recipe, Rows, Source, Tables, hold_back, is_text


def _calls(answer: object) -> str | None:
    """The golden calls as JSON text, if there are any."""
    if not isinstance(answer, list) or not answer:
        return None
    kept = [{"Action": c.get("Action"), "Action_Input": c.get("Action_Input")} for c in answer if isinstance(c, dict)]
    whole = len(kept) == len(answer) and all(is_text(call["Action"]) for call in kept)
    return json.dumps(kept, ensure_ascii=False) if whole else None


def _response(value: object) -> str:
    return "\n".join(str(part) for part in value) if isinstance(value, list) else str(value or "")


def rows(tables: Tables, seed: int) -> Rows:
    """Published rows as demonstrations; 5% of those to teach are held back to choose the checkpoint by."""
    found, test = [], []
    for number, row in enumerate(tables["train"]):
        text, calls = _response(row["golden_response"]), _calls(row["golden_answer"])
        if is_text(row["prompt"], text) and calls is not None:
            found.append(Demonstration(row["prompt"], text, calls, id=f"train-{number}"))
    for number, row in enumerate(tables["test"]):
        calls = _calls(row["golden_answer"])
        if is_text(row["prompt"]) and calls is not None:
            test.append(Demonstration(row["prompt"], answer=calls, id=f"test-{number}"))
    lost = len(tables["train"]) + len(tables["test"]) - len(found) - len(test)
    teaching, validation = hold_back(found, 0.05, 100, seed)
    notes = (f"{lost} rows without a question, a response or a call were left out.",) if lost else ()
    return Rows(teaching, validation, test, notes=notes)


TOOLS = Recipe(
    name="tools",
    title="Tool use",
    data="ToolAlpaca with its own demonstrations, as released by the authors",
    licence="ToolAlpaca: see its repository; the authors state none for the released files",
    size="4,046 rows to teach and 97 to test with (68 before March 2026, when the paper's numbers were taken)",
    missing="The rows that the authors chose the checkpoint by are not published; 5% of the rows to teach, at most "
    "100, are held back instead.",
    sources={
        "train": Source(
            RELEASED,
            "tooluse_data/train_data/data-00000-of-00001.arrow",
            "arrow",
            ("prompt", "golden_answer", "golden_response"),
        ),
        "test": Source(
            RELEASED, "tooluse_data/eval_data/data-00000-of-00001.arrow", "arrow", ("prompt", "golden_answer")
        ),
    },
    rows=rows,
    scores={"accuracy": "tool-calls"},
    validated_by="tool-calls",
    epochs={"sdft": 2, "sft": 1},
    max_new_tokens=1024,
    paper={"accuracy": {"base": 42.9, "sft": 63.2, "sdft": 70.6}},
)
