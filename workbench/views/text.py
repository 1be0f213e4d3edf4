"""Words of users and models as they may stand in a page: escaped, clipped, with what cannot be seen made visible."""

from __future__ import annotations

import html
import unicodedata

_SIGNS = {" ": "\u2423", "\n": "\u23ce", "\r": "\u240d", "\t": "\u21e5", "\u00a0": "\u237d"}


def escape(text: object) -> str:
    """Text that may stand between tags and inside quoted attributes; see `plain`."""
    return html.escape(plain(str(text)), quote=True)


def clip(text: str, longest: int = 300) -> str:
    """Text of at most about `longest` characters, with how many were left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\u2026 ({len(text) - longest:,} more characters)"


def shown(text: str, longest: int = 300) -> str:
    """A user's or model's text for a page: clipped, escaped, and kept from changing the direction of what follows."""
    return f"<bdi>{escape(clip(text, longest))}</bdi>"


def plain(text: str) -> str:
    """The same text with invisible and direction-changing characters spelled out as U+202E; line breaks stay."""
    return "".join(c if c in "\n\t" or not _hidden(c) else f"U+{ord(c):04X}" for c in text)


def visible(token: str, longest: int = 60) -> str:
    """A token in one line: white space by signs if it has nothing else, line breaks by a sign always."""
    if not token:
        return "\u2205"
    if "\ufffd" in token and not token.strip(" \ufffd"):
        return "part of a character"
    if not token.strip():
        token = "".join(_SIGNS.get(c, c) for c in token)
    made = "".join(_SIGNS[c] if c in "\n\r\t" else c for c in token)
    return plain(made if len(made) <= longest else made[:longest] + "\u2026")


def percent(share: float) -> str:
    """A share as `93%`."""
    return f"{round(share * 100)}%"


def _hidden(character: str) -> bool:
    """Control and format characters, halves of surrogate pairs; not the joiners that emoji and scripts need."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\u200c\u200d"
