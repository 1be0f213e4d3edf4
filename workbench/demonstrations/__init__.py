"""Demonstrations: what a person showed. Read from files or pasted text, checked, split, written."""

from workbench.demonstrations.columns import Columns
from workbench.demonstrations.reading import Reading, parse, read, read_questions
from workbench.demonstrations.record import Demonstration, Message
from workbench.demonstrations.splitting import Split, split
from workbench.demonstrations.writing import write

__all__ = [
    "Columns",
    "Demonstration",
    "Message",
    "Reading",
    "Split",
    "parse",
    "read",
    "read_questions",
    "split",
    "write",
]
