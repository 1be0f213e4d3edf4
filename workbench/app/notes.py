"""Short messages in a page: what was done, what is wrong, what to do."""

from __future__ import annotations

from workbench.errors import WorkbenchError
from workbench.views.text import shown

_LONGEST = 2000


def note(text: str, kind: str = "done") -> str:
    """A message as HTML; nothing for an empty one.

    Args:
        kind: `done`, `info` or `wrong`; said in words by `wrong`, as colour is not for everybody.
    """
    if not text:
        return ""
    lines = "".join(f"<p>{shown(line, _LONGEST)}</p>" for line in text.splitlines() if line.strip())
    return f'<div class="note note-{kind}" role="{"alert" if kind == "wrong" else "note"}">{lines}</div>'


def wrong(error: WorkbenchError) -> str:
    """What went wrong and what to do, as HTML."""
    said = str(error)
    # A sentence may begin with a file's name, which stays as it is, or with "the pasted text".
    return note("T" + said[1:] if said.startswith("the ") else said, "wrong")
