"""Conversations: lists of messages as chat models, OpenAI's fine-tuning files and ShareGPT write them."""

from __future__ import annotations

import json
from typing import Any

from workbench.demonstrations.cells import checked
from workbench.demonstrations.record import Message

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


def conversation(value: list[Any], column: str) -> tuple[tuple[Message, ...], str | None]:
    """The turns up to the last user turn, and the assistant's after it, if there is one.

    Raises:
        ValueError: a turn has no text or an unknown role, or there is no user turn before the answer.
    """
    messages = [_message(turn, column, number) for number, turn in enumerate(value, start=1)]
    last_turn = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"column {column!r} has no user turn before the answer")
    return tuple(messages), last_turn


def joined(value: Any, column: str) -> Any:
    """A list of texts, or of messages, as one text; any other value as it is."""
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(part, str) for part in value):
        return "\n".join(value)
    if _are_turns(value):
        return "\n".join(_message(part, column, number)["content"] for number, part in enumerate(value, start=1))
    return value


def answer_in(value: Any, column: str) -> Any:
    """What the assistant says after the last user turn of a list of messages; any other value as `joined` has it.

    Preference data give an answer as the whole conversation, the question in it.

    Raises:
        ValueError: a turn has no text or an unknown role, or nothing is said after the last user turn.
    """
    if not isinstance(value, list) or not value or not _are_turns(value):
        return joined(value, column)
    messages = [_message(part, column, number) for number, part in enumerate(value, start=1)]
    asked = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    said = [message["content"] for message in messages[asked + 1 :] if message["role"] == "assistant"]
    if not said:
        raise ValueError(f"column {column!r} has no answer after its last user turn")
    return "\n".join(said)


def unpacked(value: Any) -> Any:
    """A conversation that a table holds as JSON text, unpacked; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            turns = json.loads(value)
        except (ValueError, RecursionError):
            return value
        # JSON may be what is taught: a list of people and their roles, or of flights from one place to another.
        if _are_turns(turns) and any(
            {"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys() for turn in turns
        ):
            return turns
    return value


def with_its_question(value: Any, asked: Any) -> Any:
    """A demonstration that a table holds as the JSON text of a conversation, unpacked; any other value as it is.

    JSON text may be what is taught. It is a conversation where the prompt is the JSON text of one, too, or where a
    user turn of it says what the prompt says.
    """
    turns = unpacked(value)
    if not isinstance(value, str) or not isinstance(turns, list):
        return value
    roles = [_ROLES.get(str(turn.get("role", turn.get("from"))).strip().lower()) for turn in turns]
    said = [turn.get("content", turn.get("value")) for turn, role in zip(turns, roles, strict=True) if role == "user"]
    both = isinstance(asked, str) and isinstance(unpacked(asked), list)
    return turns if both or (isinstance(asked, str) and asked in said) else value


def _are_turns(value: list[Any]) -> bool:
    return all(isinstance(part, dict) and ("role" in part or "from" in part) for part in value)


def _message(turn: Any, column: str, number: int) -> Message:
    if not isinstance(turn, dict):
        raise ValueError(f"column {column!r} is a list, but its item {number} is not a message with role and content")
    said = turn.get("role", turn.get("from"))
    role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    where = f"{column!r}, message {number}"
    if role is None:
        raise ValueError(f"column {where} has the role {said!r}, not system, user or assistant")
    content = turn.get("content", turn.get("value"))
    if content is None and turn.get("tool_calls"):
        raise ValueError(f"column {where} calls a tool and has no text; only text is taught: write the call as text")
    return Message(role=role, content=checked(_parts(content, where), where))


def _parts(content: Any, where: str) -> Any:
    """Content in parts (`[{"type": "text", "text": ...}]`) as one text; any other value as it is."""
    if not isinstance(content, list) or not content or not all(isinstance(part, dict) for part in content):
        return content
    other = next((part.get("type") for part in content if part.get("type") != "text"), None)
    if other is not None:
        raise ValueError(f"column {where} has a part of type {other!r}; only text is taught")
    texts = [part.get("text") for part in content]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else content
