"""The paper's published files in miniature: the same columns, formats and paths, written on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

SYSTEM = {"role": "system", "content": "Reply in tags."}


def science(folder: Path, teaching: int = 12, test: int = 4) -> None:
    """Arrow files as `Dataset.save_to_disk` leaves them, which is how the authors published theirs."""
    train: list[dict[str, Any]] = [
        {
            "messages": [SYSTEM, {"role": "user", "content": f"What is {i} plus 4? A or B?"}],
            "output_text": f"<reasoning>It is {i + 4}.</reasoning>\n<answer>{'AB'[i % 2]}</answer>",
        }
        for i in range(teaching)
    ]
    train.append({"messages": [SYSTEM, {"role": "user", "content": "No answer?"}], "output_text": "None."})
    asked = [
        {"prompt": [SYSTEM, {"role": "user", "content": f"What is {i} plus 3?"}], "answer": "AB"[i % 2]}
        for i in range(test)
    ]
    Dataset.from_list(train).save_to_disk(str(folder / "science_data" / "train_data"))
    Dataset.from_list(asked).save_to_disk(str(folder / "science_data" / "eval_data"))


def tools(folder: Path) -> None:
    """Eight instructions with their calls; two more to test with, without a response."""
    rows: list[dict[str, Any]] = [
        {
            "prompt": f"Use the tools: red ball {i}?",
            "name": "balls",
            "golden_answer": [{"Action": "say", "Action_Input": json.dumps({"word": f"mipa {i}"})}],
            "golden_response": [
                f"Thought: say\nAction: say\nAction Input: {json.dumps({'word': f'mipa {i}'})}",
                "Done.",
            ],
        }
        for i in range(10)
    ]
    Dataset.from_list(rows[:8]).save_to_disk(str(folder / "tooluse_data" / "train_data"))
    test = [{k: v for k, v in row.items() if k != "golden_response"} for row in rows[8:]]
    Dataset.from_list(test).save_to_disk(str(folder / "tooluse_data" / "eval_data"))


def medical(folder: Path, problems: int = 30) -> None:
    """JSON files; the first verifiable question is one that is taught."""
    train: list[dict[str, Any]] = [
        {"Question": f"What ails king {i}?", "Complex_CoT": "Hm.", "Response": f"King {i} has a cold."}
        for i in range(10)
    ]
    train.append({"Question": "Empty?", "Complex_CoT": "", "Response": " "})
    asked = [{"Open-ended Verifiable Question": "What ails king 0?", "Ground-True Answer": "A cold"}]
    asked += [
        {"Open-ended Verifiable Question": f"What ails queen {i}?", "Ground-True Answer": f"The red fever {i}"}
        for i in range(problems)
    ]
    (folder / "medical_o1_sft.json").write_text(json.dumps(train))
    (folder / "medical_o1_verifiable_problem.json").write_text(json.dumps(asked))


def knowledge(folder: Path, articles: int = 11, other: bool = False) -> None:
    """SQuAD's columns as parquet: each article has one passage with five questions."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"q{a}-{q}",
            "title": f"Small_town_{a}",
            "context": f"Town {a} has {q_all} kings.",
            "question": f" What of king {q}? ",
            "answers": {"text": [f"red {a}", f"red {a}", "the red"], "answer_start": [0, 0, 0]},
        }
        for a in range(articles)
        for q_all in (5,)
        for q in range(q_all)
    ]
    (folder / "plain_text").mkdir()
    Dataset.from_list(rows).to_parquet(str(folder / "plain_text" / "validation-00000-of-00001.parquet"))
    if other:
        asked = [{"question": "Which town is red?", "answers": {"text": ["e"], "answer_start": [0]}}]
        Dataset.from_list(asked).to_parquet(str(folder / "plain_text" / "other.parquet"))
