"""What a person reads in the terminal: standard error only, plain English, figures with their counts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from workbench.events import Checked, Evaluated, Measure, Step

console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str = "") -> None:
    """A line of text, shown as it is (no markup: it may hold what a file or a model said)."""
    console.print(text, markup=False)


def heading(text: str) -> None:
    """The title of a part."""
    console.print()
    console.print(f"[bold]{escape(text)}[/bold]")


def percent(measure: Measure | None) -> str:
    """`48 of 50 (96%)`, or a dash where nothing could be measured."""
    if measure is None or measure.n == 0:
        return "-"
    return f"{round(measure.value * measure.n)} of {measure.n} ({measure.value:.0%})"


def interval(measure: Measure | None) -> str:
    """The 95% interval, `87-99%`."""
    return "-" if measure is None else f"{measure.low * 100:.0f}-{measure.high * 100:.0f}%"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; the first column is left-aligned, the others right-aligned."""
    made = Table(title=escape(title), title_justify="left", title_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(escape(column), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(made)


def show_check(checked: Checked) -> None:
    """The teacher check."""
    heading("Can the model do it when it is shown how, and not otherwise?")
    if checked.base is not None and checked.teacher is not None:
        say(f"  base, question alone:           {percent(checked.base)}, 95% interval {interval(checked.base)}")
        say(f"  teacher, question and example:  {percent(checked.teacher)}, 95% interval {interval(checked.teacher)}")
    say(f"  {checked.verdict}: {checked.advice}")


class Meter:
    """The progress bar of a run: step, skill, retention and time left."""

    def __init__(self, title: str, steps: int, done: int = 0) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("step {task.completed}/{task.total}  skill {task.fields[skill]}  kept {task.fields[kept]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task(escape(title), total=steps, completed=done, skill="  -", kept="  -")

    def __enter__(self) -> Meter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def see(self, event: object) -> None:
        """Take in an event; those that say nothing about progress are passed over."""
        if isinstance(event, Step):
            self._progress.update(self._task, completed=event.step)
        elif isinstance(event, Evaluated):
            self._progress.update(self._task, skill=_share(event.skill), kept=_share(event.retention))


class Download:
    """The progress bar of a download, shown from the first report on that says that something is missing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=2,
        )

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def see(self, done: float, total: float) -> None:
        """Take in how many bytes are there, and of how many."""
        if self._progress.task_ids:
            self._progress.update(self._progress.task_ids[0], completed=done)
            if done >= total:
                self._progress.stop()
        elif done < total:
            self._progress.add_task(escape(f"Downloading {self._name}"), total=total, completed=int(done))
            self._progress.start()


def _share(measure: Measure | None) -> str:
    return "  -" if measure is None else f"{measure.value:.0%}"
