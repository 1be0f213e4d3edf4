"""The page Compare: base, teacher and student side by side."""

from __future__ import annotations

from workbench.app.desk import Desk, Shared


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
