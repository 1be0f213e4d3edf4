"""What a run is begun with, beside the rows: method, settings, what it starts from. No Gradio here."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from workbench.errors import InputError
from workbench.settings import GROUPS


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen, with the defaults of the command line.

    Attributes:
        settings: by group and name, only what differs from the model's defaults.
        method: sdft or sft.
        on: the run whose result is taught further; None for the model as it was loaded.
        run: the run in view on Teach and Compare.
        strict: whether wrong rows block the good ones.
    """

    settings: dict[str, dict[str, Any]]
    method: str = "sdft"
    on: str | None = None
    run: str | None = None
    held_out: float = 0.3
    scorer: str = "contains"
    evaluate_every: int = 50
    save_every: int = 50
    strict: bool = False

    def with_setting(self, group: str, name: str, value: Any) -> Choices:
        """The same with another setting; None: the model's default. Raises InputError on a wrong value or name."""
        kind = GROUPS.get(group)
        if kind is None or name not in {f.name for f in fields(kind)}:
            raise InputError(f"There is no setting {name!r} in {group!r}.", "See docs/settings.md for those that are.")
        if value is not None:
            kind(**{name: value})
        groups = {g: dict(v) for g, v in self.settings.items()}
        groups.setdefault(group, {})[name] = value
        kept = {g: {n: v for n, v in values.items() if v is not None} for g, values in groups.items()}
        return replace(self, settings={g: v for g, v in kept.items() if v})
