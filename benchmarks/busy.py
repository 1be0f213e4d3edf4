"""A step on a machine that is busy with something else: python benchmarks/busy.py --json

Teaching shares the machine with the browser that shows it. Steps of SDFT on the bundled model are timed with as many
threads as there are cores, alone and beside as many processes that never rest, with OpenMP's own way of waiting and
with the bounded one that `workbench` asks for (`GOMP_SPINCOUNT`). Each measurement is a fresh process; they take turns.

    busy_over_alone        how much longer a step takes beside the others, OpenMP's own way
    bounded_over_alone     the same with bounded waiting
    cost_alone             a step with bounded waiting over one without, nothing else running
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from teaching import arguments, data, machine, say, settings

from workbench import POCKET, load, make_roles, sdft

STEPS, WARM_UP = 6, 2
WAITING = {"own": {"GOMP_SPINCOUNT": "300000"}, "bounded": {}}
"""Settings of the environment; the number is libgomp's own where nothing is asked of it."""


def measure() -> list[float]:
    """Seconds of each step."""
    chosen = settings(0, steps=STEPS + WARM_UP)
    roles = make_roles(load(POCKET), chosen.lora)
    times, start = [], time.perf_counter()
    for _ in sdft(roles, data("zorbic", 0).teaching, chosen):
        now = time.perf_counter()
        times.append(now - start)
        start = now
    return times[WARM_UP:]


@contextmanager
def never_rests() -> Iterator[None]:
    """As many processes that never rest as there are cores."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def timed(waiting: dict[str, str]) -> list[float]:
    """Step times of a fresh process with this environment."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, __file__, "--task", "measure"],
        capture_output=True,
        text=True,
        check=True,
        env=inherited | waiting,
    )
    found: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=3).parse_args(arguments_given)
    if options.task:
        print("\n" + json.dumps(measure()))
        return
    times: dict[str, list[float]] = {}
    for number in range(options.seeds):
        for company, beside in (("alone", nullcontext), ("busy", never_rests)):
            for name, waiting in WAITING.items():
                with beside():
                    times.setdefault(f"{name}_{company}", []).extend(timed(waiting))
                say(f"round {number + 1} {name} {company}: {statistics.median(times[f'{name}_{company}']):.3f} s")
    step = {name: statistics.median(values) for name, values in times.items()}
    result: dict[str, Any] = {
        "busy_over_alone": round(step["own_busy"] / step["own_alone"], 2),
        "bounded_over_alone": round(step["bounded_busy"] / step["own_alone"], 2),
        "cost_alone": round(step["bounded_alone"] / step["own_alone"], 3),
        "step_s": {name: round(value, 4) for name, value in step.items()},
        "machine": machine(),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k:20}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
