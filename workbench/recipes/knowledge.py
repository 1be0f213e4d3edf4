"""Knowledge: facts of articles, asked without the article.

The paper's nine articles on disasters of 2025 and the questions that GPT-5 wrote about them are not published. The
nearest public thing is SQuAD 1.1 (rajpurkar/squad: id, title, context, question, answers {text, answer_start};
cc-by-sa-4.0): articles of Wikipedia with questions that people wrote. The same group used it for knowledge asked
without its passage (arXiv 2506.10943). Its articles are old, so the model knows some of them: the base is not at 0.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from workbench.demonstrations import Demonstration
from workbench.recipes.recipe import Recipe, Rows, Source, Tables, hold_back, is_text

ARTICLES = 9
_ASKED = ("title", "context", "question", "answers")


def _answers(row: Mapping[str, Any]) -> list[str]:
    """The accepted answers, each once, in the order given."""
    answers = row["answers"]
    texts = answers.get("text", []) if isinstance(answers, dict) else []
    return list(dict.fromkeys(text for text in texts if is_text(text)))


def _question(row: Mapping[str, Any]) -> str:
    return f"About {row['title'].replace('_', ' ')}: {row['question'].strip()}"


def rows(tables: Tables, seed: int) -> Rows:
    """Nine articles drawn with the seed; of each passage with five questions or more, every fifth is for the test.

    The teacher reads passage and answer (the paper's best: 89, against 75 with the text alone); SFT gets the answer.
    """
    whole = [r for r in tables["train"] if is_text(r["title"], r["context"], r["question"]) and _answers(r)]
    titles = sorted({r["title"] for r in whole})
    random.Random(seed).shuffle(titles)
    chosen = set(titles[:ARTICLES])
    passages: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in whole:
        if row["title"] in chosen:
            passages[row["context"]].append(row)
    found: list[Demonstration] = []
    test: list[Demonstration] = []
    for passage in passages.values():
        for place, row in enumerate(passage, 1):
            name = str(row.get("id") or f"{row['title']}-{len(found) + len(test)}")
            answers = _answers(row)
            accepted = json.dumps(answers, ensure_ascii=False)
            if place % 5 == 0:
                test.append(Demonstration(_question(row), answer=accepted, id=name))
            else:
                shown = f"{row['context']}\n\nThe answer: {answers[0]}"
                found.append(Demonstration(_question(row), answers[0], accepted, context=shown, id=name))
    other = [
        Demonstration(row["question"], answer=json.dumps(_answers(row), ensure_ascii=False), id=f"other-{number}")
        for number, row in enumerate(tables.get("other", ()))
        if is_text(row["question"]) and _answers(row)
    ]
    teaching, validation = hold_back(found, 0.05, 100, seed)
    names = ", ".join(title.replace("_", " ") for title in sorted(chosen))
    return Rows(teaching, validation, test, other, notes=(f"The articles: {names}.",))


KNOWLEDGE = Recipe(
    name="knowledge",
    title="Knowledge of articles",
    data="Nine articles of SQuAD 1.1's validation part (the nearest public set), four of five questions to learn from",
    licence="cc-by-sa-4.0",
    size="about 1,500 to 2,000 questions, by the articles drawn (a file of about 2 MB)",
    missing="The paper's articles, its questions and its questions that need the facts indirectly (OOD) are not "
    "published, so OOD is not scored unless --data DIR has plain_text/other.parquet of one's own (question, answers). "
    "The paper's judge is GPT-5-mini: here strict is one of SQuAD's accepted answers word for word, lenient is half "
    "of its words.",
    sources={
        "train": Source("rajpurkar/squad", "plain_text/validation-00000-of-00001.parquet", "parquet", _ASKED),
        "other": Source("", "plain_text/other.parquet", "parquet", ("question", "answers"), optional=True),
    },
    rows=rows,
    scores={"strict": "says", "lenient": "half-says"},
    validated_by="says",
    epochs={"sdft": 4, "sft": 2},
    max_new_tokens=256,
    paper={
        "strict": {"base": 0.0, "sft": 80.0, "sdft": 89.0},
        "lenient": {"base": 0.0, "sft": 95.0, "sdft": 100.0},
        "ood": {"base": 0.0, "sft": 80.0, "sdft": 98.0},
    },
)
