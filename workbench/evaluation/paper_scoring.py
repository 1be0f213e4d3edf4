"""The scores of the paper's tasks (arXiv 2601.19897), as its released evaluation scripts take them.

The scripts themselves were read in two public copies (proesn/Self-Distillation `eval_science.py`,
kyrylogy/sdft-replication `eval_tooluse.py`). Where ours differs, the function says so.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import Any

from workbench.evaluation.json_values import equal, leading_object

_ACTION = re.compile(r"Action:\s*(\w+)")
_INPUT = re.compile(r"Action Input:\s*")
_ARTICLES = frozenset(("a", "an", "the"))


def answer_tag(completion: str, answer: str) -> bool:
    """What stands in the last `<answer>...</answer>` is the answer, letter for letter (science).

    Without a tag the whole completion has to be the answer, as in the released script.
    """
    last = completion.rsplit("<answer>", 1)[-1]
    return last.split("</answer>", 1)[0].strip() == answer.strip()


def tool_calls(completion: str, answer: str) -> bool:
    """The same actions, each as often, and the same inputs (tool use).

    `answer` is the row's golden_answer as JSON: [{"Action": name, "Action_Input": JSON text}, ...]. The order of the
    calls does not count, and the inputs of all calls are merged into one object, as in the released script. Two
    differences: an input with nested braces is read whole (there a regular expression ends at the first brace), and a
    completion with an input that is no JSON object is wrong (there that input is passed over). An answer that is no
    such list is matched by nothing.
    """
    calls = calls_in(answer)
    if calls is None:
        return False
    wanted: dict[str, Any] = {}
    for _, inputs in calls:
        wanted.update(inputs)
    found: dict[str, Any] = {}
    for match in _INPUT.finditer(completion):
        given = leading_object(completion[match.end() :])
        if given is None:
            return False
        found.update(given)
    if Counter(_ACTION.findall(completion)) != Counter(name for name, _ in calls):
        return False
    try:
        # `1 == True == 1.0` in Python; JSON tells true from 1.
        return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True) or equal(found, wanted)
    except RecursionError:
        return False


def calls_in(answer: str) -> list[tuple[str, dict[str, Any]]] | None:
    """The name and the inputs of each call of an answer to `tool_calls`; None if it is no list of calls.

    Inputs may be an object as well as its JSON text; what is neither counts as none.
    """
    try:
        calls = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(calls, list):
        return None
    found = []
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("Action"), str):
            return None
        given = call.get("Action_Input")
        found.append((call["Action"], given if isinstance(given, dict) else leading_object(str(given)) or {}))
    return found


def says(completion: str, answer: str) -> bool:
    """One of the accepted answers stands in the completion word for word (knowledge, strict).

    `answer` may be a JSON list of accepted answers. Case, punctuation, accents and English articles do not count, as
    in SQuAD's own evaluation. The paper asks GPT-5-mini whether an answer is wholly right.
    """
    said = f" {' '.join(_words(completion))} "
    return any(f" {' '.join(words)} " in said for words in map(_words, _accepted(answer)) if words)


def half_says(completion: str, answer: str) -> bool:
    """At least half of the words of one accepted answer stand in the completion (knowledge, lenient).

    The paper asks GPT-5-mini whether an answer is right in part.
    """
    said = set(_words(completion))
    wanted = [set(words) for words in map(_words, _accepted(answer)) if words]
    return any(2 * len(words & said) >= len(words) for words in wanted)


def has_words(answer: str) -> bool:
    """Whether `says` and `half_says` have anything to look for."""
    return any(map(_words, _accepted(answer)))


def _accepted(answer: str) -> list[str]:
    if answer.startswith("["):
        try:
            values = json.loads(answer)
        except ValueError:
            return [answer]
        if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
            return values
    return [answer]


def _words(text: str) -> list[str]:
    """Words and numbers, folded; what joins or ends words is a space."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    return [word for word in words if word not in _ARTICLES] or words
