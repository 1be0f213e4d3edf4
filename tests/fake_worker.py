"""A worker without a model, for tests of pages: the same protocol, scripted answers, run folders of real shape.

    Worker(runs, command=[sys.executable, str(Path("tests/fake_worker.py"))])

Everything is at once, but for what is said to wait: a run takes its steps without pause up to step
`FAKE_HOLD_AT` (environment; default: none), and there it waits for `stop` or `go_on`. A question with the word `boom`
fails, one with `hold` streams a token and waits for `go_on`, as a list of a run's questions does whose name holds it;
`die` ends the process with exit status 3. A model named `missing` cannot be loaded, and one named `some/large` is
downloaded until `stop` or `go_on`. `teach` on a run that was stopped goes on with `resume`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import random
import sys
import threading
from pathlib import Path
from typing import Any

# Run by its path, so that the folder above is not looked in by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fake_run import config_of, events_of, measure, sample_of, verdict  # noqa: E402
from workbench.demonstrations import Demonstration, split  # noqa: E402
from workbench.errors import InputError, WorkbenchError  # noqa: E402
from workbench.events import Evaluated, Event, RunEnded, RunStarted, Step  # noqa: E402
from workbench.hub import Halted  # noqa: E402
from workbench.runs import Run, free_name, open_run  # noqa: E402
from workbench.runs.folder import check_name, create  # noqa: E402
from workbench.runs.log import EventWriter  # noqa: E402
from workbench.settings import GROUPS, POCKET_DEFAULTS, Settings  # noqa: E402
from workbench.worker.protocol import DOWNLOADING, LONG, SHORT, WasStopped, from_line, to_line  # noqa: E402

TEMPLATE = "This is an example for a response to the question:"


class Fake:
    def __init__(self, runs: Path, model: str) -> None:
        self.runs, self.model = runs, None
        self.first = model
        self.state, self.run, self.phase, self.error = "loading", None, "Loading the model", None
        self.stop, self.go_on = threading.Event(), threading.Event()
        self.long: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.news, self.ended = threading.Condition(), set[int]()  # numbers of the commands that alone were stopped
        self.busy = threading.Lock()
        self.printing = threading.Lock()

    def say(self, **values: Any) -> None:
        # The server may be gone: then the input ends too, and with it the process.
        with self.printing, contextlib.suppress(OSError):
            sys.stdout.buffer.write(to_line(values))
            sys.stdout.buffer.flush()

    def become(self, state: str, phase: str = "", run: str | None = None, error: str | None = None) -> None:
        self.state, self.phase, self.run, self.error = state, phase, run, error
        self.say(id=0, reply="status", state=state, model=self.model, run=run, phase=phase, error=error)

    def serve(self) -> None:
        threading.Thread(target=self.read, daemon=True).start()
        self.become("loading", "Loading the model")
        self.guard({"id": -1, "do": "load", "model": self.first})
        while (command := self.long.get()) is not None:
            self.guard(command)

    def read(self) -> None:
        for line in sys.stdin.buffer:
            command = from_line(line)
            do = command["do"]
            if do == "stop" and command.get("of") is not None:
                self.release(int(command["of"]))
                self.say(id=command["id"], reply="done", result={"was": self.state})
            elif do == "stop":
                was = self.state
                if was not in ("idle", "loading") or self.phase.startswith(DOWNLOADING):
                    self.become("stopping", "Saving", self.run)
                    self.stop.set()
                    self.release()
                self.say(id=command["id"], reply="done", result={"was": was})
            elif do == "go_on":
                self.release()
                self.say(id=command["id"], reply="done", result={})
            elif do == "die":
                os._exit(3)
            elif do in SHORT:
                threading.Thread(target=self.guard, args=(command,), daemon=True).start()
            elif do in LONG and self.busy.acquire(blocking=False):
                self.stop.clear()
                self.go_on.clear()
                self.long.put(command)
            elif do in LONG:
                self.fail(command, "The worker is busy: " + (self.phase or self.state) + ".", "Wait, or press Stop.")
            else:
                self.fail(command, f"There is no command {do!r}.", "Use another.")
        self.stop.set()
        self.release()
        self.long.put(None)

    def release(self, number: int | None = None) -> None:
        """What waits goes on; with a number, that command alone, and it ends."""
        with self.news:
            self.ended.add(number) if number is not None else self.go_on.set()
            self.news.notify_all()

    def hold(self, number: int) -> None:
        """Wait for `go_on`, or for the end of this command."""
        with self.news:
            self.news.wait_for(lambda: self.go_on.is_set() or number in self.ended)
        if number in self.ended:
            raise WasStopped("It was stopped before it had finished.", "Start it again when you like.")

    def fail(self, command: dict[str, Any], problem: str, advice: str, **kind: bool) -> None:
        self.say(id=command["id"], reply="failed", problem=problem, advice=advice, **kind)

    def guard(self, command: dict[str, Any]) -> None:
        """Perform one command, whatever comes of it."""
        error = None
        try:
            arguments = {k: v for k, v in command.items() if k not in ("id", "do")}
            result = getattr(self, "do_" + command["do"])(command["id"], **arguments)
        except WorkbenchError as failure:
            asked_for = isinstance(failure, Halted) and self.model is not None
            error = str(failure) if command["do"] == "load" and not asked_for else None
            self.finish(command, error)
            if command["id"] >= 0:
                kind = {"input": isinstance(failure, InputError), "stopped": isinstance(failure, WasStopped)}
                self.fail(command, failure.problem, failure.advice, **kind)
            return
        except Exception as failure:
            self.finish(command, None)
            self.fail(command, f"{type(failure).__name__}: {failure}", "Report this.")
            return
        self.finish(command, error)
        if command["id"] >= 0:
            self.say(id=command["id"], reply="done", result=result)

    def finish(self, command: dict[str, Any], error: str | None) -> None:
        """Before it is answered: who has the answer may send the next one at once."""
        if command["do"] in LONG:
            if command["id"] >= 0:  # the first model was asked for by nobody
                self.busy.release()
            self.become("idle", error=error)

    def do_load(self, _: int, model: str, revision: str | None = None, precision: str = "auto") -> dict[str, Any]:
        self.become("loading", "Loading the model")
        if model == "missing":
            raise InputError("There is no model missing.", "Check the name.")
        if model == "some/large":
            self.become("loading", f"{DOWNLOADING} {model}: model-00001-of-00002.safetensors, 0.30 of 8.00 GB")
            self.go_on.wait()
            if self.stop.is_set():
                problem = f"The download of {model} was stopped at 0.30 of 8.00 GB."
                raise Halted(problem, "Ask for the model again: it goes on from there.")
        self.model = model
        return {"model": model, "parameters": 4_000_000, "longest": 512, "pocket": model == "pocket", "seconds": 0.1}

    def do_render(self, _: int, row: dict[str, Any], template: str = "") -> dict[str, Any]:
        question = Demonstration.from_dict(row).question
        shown = row.get("context") or row.get("demonstration")
        student = f"<|user|>{question}<|assistant|>"
        teacher = student if not shown else f"<|user|>\n{question}\n\n{TEMPLATE}\n{shown}\n<|assistant|>"
        tokens = [len(text.split()) + 4 for text in (student, teacher)]
        return {
            "student": student,
            "teacher": teacher,
            "student_tokens": tokens[0],
            "teacher_tokens": tokens[1],
            "limit": 512,
        }

    def do_check(
        self,
        number: int,
        rows: list[dict[str, Any]],
        settings: dict[str, Any] | None = None,
        n: int = 50,
        scorer: str = "contains",
        seed: int = 0,
        method: str = "sdft",
    ) -> dict[str, Any]:
        self.become("checking", "Asking with and without the example")
        scored = [row for row in rows if row.get("answer") and not row.get("keep")]
        random.Random(seed).shuffle(scored)
        asked = scored[:n]
        for done in range(0, len(asked), 25):
            self.say(id=number, reply="progress", done=done, of=len(asked))
        base, teacher = (measure(0, len(asked)), measure(len(asked), len(asked))) if asked else (None, None)
        word, advice = verdict(base, teacher)
        return {
            "model": self.model,
            "base": base and {s: getattr(base, s) for s in base.__slots__},
            "teacher": teacher and {s: getattr(teacher, s) for s in teacher.__slots__},
            "verdict": word,
            "advice": advice,
            "seconds": 0.5,
            "estimate_seconds": 60.0,
            "costs": {"method": method, "batch": 32, "step": 0.25, "measuring": 1.0, "before": 3.0},
            "cost_problem": "",
            "rows": [
                {
                    "id": row.get("id", str(i + 1)),
                    "question": Demonstration.from_dict(row).question,
                    "answer": row["answer"],
                    "base": "I do not know that.",
                    "teacher": f"It is {row['answer']}.",
                    "base_right": False,
                    "teacher_right": True,
                }
                for i, row in enumerate(asked)
            ],
        }

    def do_teach(
        self,
        number: int,
        name: str,
        method: str = "sdft",
        rows: Any = (),
        keep: Any = (),
        probes: Any = None,
        settings: dict[str, Any] | None = None,
        held_out: float = 0.3,
        scorer: str = "contains",
        evaluate_every: int = 50,
        save_every: int = 50,
        on: str | None = None,
        source: str = "",
    ) -> dict[str, Any]:
        check_name(name)
        groups = {g: {**POCKET_DEFAULTS.get(g, {}), **(settings or {}).get(g, {})} for g in GROUPS}
        made = Settings.from_dict(groups)
        parts = split([Demonstration.from_dict(row) for row in rows], held_out)
        kept = [Demonstration.from_dict({**row, "keep": True}) for row in keep] + list(parts.keep)
        own = [{"prompt": f"What is {i} plus 4?", "answer": str(i + 4)} for i in range(10)]
        asked = own if probes is None else probes
        config = config_of(method, str(self.model), made, source, on, scorer, evaluate_every, save_every)
        sides = {"teaching": parts.teaching, "held-out": parts.held_out, "keep": kept}
        run = create(self.runs, name, config, sides, [Demonstration.from_dict(p) for p in asked])
        return self.go(number, run)

    def do_resume(self, number: int, run: str) -> dict[str, Any]:
        return self.go(number, open_run(check_name(run), self.runs))

    def go(self, number: int, run: Run) -> dict[str, Any]:
        """Take a run on from where its log ends."""
        self.become("teaching", "Measuring what it can do before", run.name)
        self.say(id=number, reply="progress", run=run.name)
        held = run.log.read()
        writer = EventWriter(run.log, len(held))
        step, state = max((e.step for e in held if isinstance(e, Step)), default=0), "stopped"
        with run.locked():
            for event in self.events(run, len(held)):
                if isinstance(event, Step):
                    hold = os.environ.get("FAKE_HOLD_AT")
                    if hold is not None and event.step > int(hold):
                        self.go_on.wait() if not self.stop.is_set() else None
                    if self.stop.is_set():
                        break
                    step = event.step
                    if self.phase != "Teaching":
                        self.become("teaching", "Teaching", run.name)
                if isinstance(event, Evaluated):
                    self.become("teaching", "Measuring skill and retention", run.name)
                writer.write(event)
            else:
                state = "finished"
            if state == "stopped" and step:
                folder = run.checkpoints / f"step-{step:06d}"
                folder.mkdir(exist_ok=True)
        writer.close()
        return {"run": run.name, "state": state, "step": step}

    def events(self, run: Run, after: int) -> Any:
        """All events of a run, those that the log holds already left out."""
        yield from list(events_of(run))[after:]

    def do_ask(
        self,
        number: int,
        messages: list[dict[str, str]],
        demonstration: str | None = None,
        context: str | None = None,
        run: str | None = None,
        step: int | None = None,
        roles: Any = ("base", "teacher", "student"),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        longest: int | None = None,
        times: int = 1,
        right: str | None = None,
        scorer: str = "contains",
    ) -> dict[str, Any]:
        if run is not None:
            open_run(check_name(run), self.runs)
        question = messages[-1]["content"]
        if "boom" in question:
            raise WorkbenchError("This question fails.", "Ask another.")
        shown = context or demonstration
        unknown = f"I do not know: {question}"
        learned = f"Learned at step {step}." if step else "Learned."
        texts = {"base": unknown, "teacher": shown or unknown, "student": learned if run else unknown}
        answers: dict[str, list[dict[str, Any]]] = {role: [] for role in roles}
        for role in roles:
            for time in range(times):
                text = texts[role] + (f" ({time + 1})" if temperature and time else "")
                words = text.split(" ")
                # A very long answer comes in larger pieces.
                for end in range(1, len(words) + 1, 1 + len(words) // 100):
                    self.say(id=number, reply="token", role=role, time=time, text=" ".join(words[:end]))
                    if "hold" in question and end == 1:
                        self.hold(number)
                judged = None if right is None else text.startswith(shown or right)
                answers[role].append({"text": text, "tokens": len(words), "seconds": 0.05, "right": judged})
        rendered = self.do_render(number, {"prompt": question, "demonstration": shown})
        prompts = {role: rendered["teacher" if role == "teacher" else "student"] for role in roles}
        return {"answers": answers, "prompts": prompts, "first_token_seconds": 0.01}

    def do_fit(self, _: int, rows: list[dict[str, Any]], settings: Any = None) -> dict[str, Any]:
        most = int(os.environ.get("FAKE_LONGEST", "1000000"))
        return {"misfits": {i: "It is too long." for i, row in enumerate(rows) if len(str(row["prompt"])) > most}}

    def do_map(self, number: int, messages: list[dict[str, str]], text: str = "", **_: Any) -> dict[str, Any]:
        return {"sample": sample_of("", messages[-1]["content"], text or "Nothing.").to_dict()}

    def do_sit(self, number: int, run: str, step: int | None = None, what: str = "held-out") -> dict[str, Any]:
        found = open_run(check_name(run), self.runs)
        self.become("working", "Asking all three", run)
        rows = found.rows("held-out") if what == "held-out" else found.probes()
        self.say(id=number, reply="progress", done=0, of=len(rows))
        if "hold" in run:
            self.hold(number)
        taught = what == "held-out"
        lines = []
        for i, row in enumerate(rows):
            right = f"It is {row.answer}."
            lines.append(
                {
                    "id": row.id or str(i + 1),
                    "question": row.question,
                    "answer": row.answer,
                    "tags": list(row.tags),
                    "base": "I do not know that." if taught else right,
                    "teacher": right if taught else None,
                    # The first probe is forgotten.
                    "student": right if taught or i else "It is gone.",
                    "base_right": not taught,
                    "teacher_right": True if taught else None,
                    "student_right": taught or i > 0,
                }
            )
        return {"rows": lines, "seconds": 0.2}

    def do_export(self, number: int, run: str, kind: str, destination: str) -> dict[str, Any]:
        open_run(check_name(run), self.runs)
        self.become("working", "Writing the export", run)
        folder = Path(destination)
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"# {run} as {kind}\n")
        return {"path": str(folder)}

    def do_import_adapter(self, number: int, folder: str, name: str) -> dict[str, Any]:
        self.become("working", "Reading the adapter", name)
        if not (Path(folder) / "adapter_config.json").is_file():
            raise InputError(f"{folder} has no adapter_config.json.", "Name a PEFT adapter's folder or a run.")
        name = free_name(self.runs, name)
        settings = Settings.from_dict({g: POCKET_DEFAULTS.get(g, {}) for g in GROUPS})
        config = config_of("imported", str(self.model), settings, folder)
        run = create(self.runs, name, config, {}, [])
        events: list[Event] = [RunStarted(name, "imported", str(self.model), 0, 0, 0, 0, 0), RunEnded(0, 0.0)]
        writer = EventWriter(run.log, 0)
        for event in events:
            writer.write(event)
        writer.close()
        return {"run": name}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--revision")
    parser.add_argument("--precision")
    options = parser.parse_args()
    Fake(options.runs, options.model).serve()


if __name__ == "__main__":
    main()
