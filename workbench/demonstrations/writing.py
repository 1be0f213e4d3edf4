"""Write demonstrations as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from workbench.demonstrations.record import Demonstration


def write(rows: Iterable[Demonstration], path: Path) -> None:
    """Write rows to `path` as JSON lines in UTF-8.

    `read` gives back rows that have a demonstration or a context, and keep rows; `read_questions` any others. An id is
    cut to what a report has room for, and a prompt that is the JSON text of a conversation becomes that conversation.
    """
    text = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")
