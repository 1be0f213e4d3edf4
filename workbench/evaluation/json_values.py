"""JSON in what a model says: where its values stand, and when two of them are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_BEGINS = re.compile(r"[\[{\"]|(?<![\w.])-?\d|\b(?:true|false|null)\b")


def values_in(text: str) -> Iterator[Any]:
    """Every JSON value of a text in its order, those inside an object or a list among them.

    A number, a text or a word is read to its end: there is no 5 in 15, nor in "5 apples".
    """
    at = 0
    while match := _BEGINS.search(text, at):
        at = match.start() + 1
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        # What is taken for a text may begin at a stray quotation mark, and hold the value that is looked for.
        if not isinstance(value, dict | list) and not (isinstance(value, str) and {"{", "["} & set(value)):
            at = end
        yield value


def leading_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text begins with."""
    try:
        value, _ = _DECODER.raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def equal(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, true and 1 are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
