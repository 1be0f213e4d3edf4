"""Gradio's tables on a phone: each row is a card, and before each cell stands the head of its column."""

from __future__ import annotations

import json
from collections.abc import Sequence

from workbench.app import check, rows, sittings


def css() -> str:
    """The rules for all tables."""
    tables: dict[str, Sequence[str]] = {
        "#examples-table": rows.HEADERS,
        "#check-table": check.HEADERS,
        "#compare-table.held-out": sittings.headers("held-out"),
        "#compare-table.probes": sittings.headers("probes"),
    }
    return "".join(_cards(table, heads) for table, heads in tables.items())


def _cards(table: str, heads: Sequence[str]) -> str:
    # JSON's strings are strings of CSS as long as nothing in them has to be escaped.
    labels = "".join(
        f"{table} .body-cell[data-col='{place}']::before {{ content: {json.dumps(head)}; }}\n"
        for place, head in enumerate(heads)
    )
    return f"@media (max-width: 40rem) {{{_RULES.replace('TABLE', table)}{labels}}}\n"


_RULES = """
TABLE .header-table { display: block; position: absolute; height: 1px; overflow: hidden; clip-path: inset(50%); }
TABLE :is(.header-table, .virtual-body) { width: 100% !important; }
TABLE .virtual-table-viewport { max-height: 70vh !important; }
TABLE .virtual-row { flex-direction: column; padding: .3rem 0; border-bottom: 1px solid var(--border-color-primary); }
TABLE .body-cell { display: flex; align-items: baseline; width: 100% !important; flex: none !important;
  border: 0 !important; min-height: 0; padding: 0 .6rem; }
TABLE .body-cell::before { flex: none; width: 6.5rem; color: var(--body-text-color-subdued); }
TABLE .body-cell > * { flex: 1 1 auto; min-width: 0; min-height: 0; padding-block: .15rem; }
TABLE .body-cell.static:has(.text:empty) { display: none; }
"""
