"""What teaching will cost: a few real steps, taken with an adapter that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from workbench.decoding import Decoder
from workbench.demonstrations import Demonstration
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.roles import make_roles
from workbench.runs.fitting import planned
from workbench.runs.session import METHODS
from workbench.sampling import Stopped
from workbench.settings import Settings
from workbench.worker.protocol import teaching_seconds

HELD_OUT = 0.3
"""The share of rows that is kept back, as a run does it by default."""

_MOST, _LONGEST = 4, 2.0
"""Steps that are taken, and seconds after which no third one is begun."""


def step_seconds(
    loaded: LoadedModel,
    base: Decoder,
    rows: Sequence[Demonstration],
    settings: Settings,
    method: str,
    should_stop: Callable[[], bool],
) -> tuple[float | None, str]:
    """Seconds that a step takes with these settings, and why that cannot be said (empty if it can).

    The first step reads what later ones find read, so it counts only where no other one could be taken.

    Raises:
        Stopped: `should_stop` said yes.
    """
    spent: list[float] = []
    try:
        work = planned(loaded, settings)
        roles = make_roles(loaded, settings.lora, settings.optim.seed)
        roles.base_decoder = base
        began = time.perf_counter()
        for step in METHODS[method](roles, rows, settings, should_stop=should_stop, execution=work):
            spent.append(sum(step.seconds.values()))
            if len(spent) == _MOST or (len(spent) > 1 and time.perf_counter() - began > _LONGEST):
                break
        else:
            if should_stop():
                raise Stopped
    except WorkbenchError as error:
        return None, str(error)
    return median(spent[1:] or spent), ""


def check_costs(
    loaded: LoadedModel,
    base: Decoder,
    rows: Sequence[Demonstration],
    settings: Settings,
    method: str,
    answer: float,
    probes: int,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """What a check says about the cost of teaching these rows.

    Args:
        answer: seconds of one answer to a question.

    Returns:
        estimate_seconds; costs, which `protocol.teaching_seconds` makes it of, so that a page can make it anew when
        the number of steps is changed; and cost_problem, why both are None.

    Raises:
        Stopped: `should_stop` said yes.
    """
    step, problem = step_seconds(loaded, base, rows, settings, method, should_stop)
    if step is None:
        return {"estimate_seconds": None, "costs": None, "cost_problem": problem}
    held_out = HELD_OUT * len(rows)
    costs = {
        "method": method,
        "batch": settings.optim.batch,
        "step": round(step, 4),
        "measuring": round(answer * (held_out + probes), 4),
        "before": round(answer * held_out, 4),
    }
    seconds = round(teaching_seconds(costs, settings.optim.steps, settings.optim.batch), 1)
    return {"estimate_seconds": seconds, "costs": costs, "cost_problem": ""}
