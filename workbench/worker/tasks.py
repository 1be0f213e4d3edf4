"""The long commands: check, teach, go on, sit a run's questions, export, import. They run in the model's thread."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from workbench import evaluation
from workbench.adapters import CONFIG_FILE, WEIGHTS_FILE, check_adapter, save_adapter
from workbench.decoding import Decoder
from workbench.demonstrations import split
from workbench.errors import InputError
from workbench.evaluation import after_thoughts, answer, cut_off, get_scorer, measure, refuse_unscorable, verdict
from workbench.events import Checked, Evaluated, RunEnded, RunStarted, Saved, Step
from workbench.export import export_run
from workbench.groups import Groups
from workbench.models import LoadedModel
from workbench.prompts import PromptTokens
from workbench.roles import make_roles
from workbench.runs import Run, checkpoints, free_name
from workbench.runs.fitting import asked_together
from workbench.runs.folder import check_name, create
from workbench.runs.log import EventWriter
from workbench.runs.session import METHODS, Request, Session, begin, versions
from workbench.settings import LoraSettings, Settings
from workbench.training import TrainingState
from workbench.training.batches import make_prompts
from workbench.worker.asking import Asker, Say, View, open_named, read_rows, settings_over
from workbench.worker.costs import check_costs

_AT_A_TIME = 32
_UNMARKED = 8  # questions of a check that nobody marks

BEFORE, TEACHING = "Measuring what it can do before", "Teaching"
MEASURING, SAVING = "Measuring skill and retention", "Saving"


class Tasks:
    """The long commands over one loaded model.

    Args:
        asker: the model in memory.
        runs: the folder of runs.
        should_stop: asked at every token and between phases.
        tell: says which phase has begun, of which run.
    """

    def __init__(
        self, asker: Asker, runs: Path, should_stop: Callable[[], bool], tell: Callable[[str, str | None], None]
    ) -> None:
        self._asker = asker
        self._runs = runs
        self._should_stop = should_stop
        self._tell = tell

    def check(
        self,
        say: Say,
        rows: Sequence[dict[str, Any]],
        settings: dict[str, Any] | None = None,
        n: int = 50,
        scorer: str = "contains",
        seed: int = 0,
        method: str = "sdft",
    ) -> dict[str, Any]:
        """The base with and without the demonstration, on `n` rows that have an answer; on a few where none has.

        What teaching will cost is worked out from a few real steps and from the time that the answers took: the
        measurements in between are answers too.

        Raises:
            InputError: a row does not fit the model, or its answer the scorer.
            Stopped: the person asked to stop.
        """
        _check_method(method)
        loaded, made = self._asker.loaded, settings_over(self._asker.loaded.is_pocket, settings)
        given = read_rows(rows)
        refuse_unscorable(given, scorer)
        taught = [row for row in given if not row.keep]
        if not taught:
            raise InputError("There is no row to check.", "Add rows with a question and a demonstration.")
        hit = get_scorer(scorer)
        self._tell("Asking with and without the example", None)
        longest = made.rollout.max_new_tokens
        tokens = make_prompts(loaded.tokenizer, made).tokenise_all(taught, loaded.longest, longest)
        scored = [t for t in tokens if t.row.answer is not None]
        # Where nothing can be marked, a few answers beside each other still show whether an example helps.
        open_ended, n = not scored, n if scored else min(n, _UNMARKED)
        scored = scored or list(tokens)
        random.Random(seed).shuffle(scored)
        asked = scored[: max(1, n)]
        began = time.perf_counter()
        sides: dict[str, tuple[Decoder, bool]] = {
            "base": (self._asker.base, False),
            "teacher": (self._asker.base, True),
        }
        lines = self._ask(asked, loaded, sides, made, hit, say)
        seconds = time.perf_counter() - began
        shares = {
            role: None if open_ended else measure([line[f"{role}_right"] for line in lines])
            for role in ("base", "teacher")
        }
        lost = cut_off((line[role] for line in lines for role in shares), loaded.tokenizer)
        word, advice = verdict(shares["base"], shares["teacher"], lost)
        each = seconds / (2 * len(asked)) if asked else 0.0
        self._tell("Taking a few steps to see how long they take", None)
        probes = len(evaluation.read_bundled(loaded))
        cost = check_costs(loaded, self._asker.base, taught, made, method, each, probes, self._should_stop)
        return {
            "model": loaded.name,
            **{role: None if share is None else asdict(share) for role, share in shares.items()},
            "verdict": word,
            "advice": advice,
            "seconds": round(seconds, 3),
            **cost,
            "rows": [{k: v for k, v in line.items() if k != "tags"} for line in lines],
        }

    def sit(self, say: Say, run: str, step: int | None = None, what: str = "held-out") -> dict[str, Any]:
        """A run's held-out questions or probes with the answers of all roles (probes have no teacher).

        Raises:
            InputError, RunError: no such run, checkpoint or kind of questions.
            Stopped: the person asked to stop.
        """
        if what not in ("held-out", "probes"):
            raise InputError(f"There are no questions {what!r}.", "Ask for held-out or probes.")
        found, view = open_named(run, self._runs), self._asker.view(run, step)
        self._tell("Asking the held-out questions" if what == "held-out" else "Asking the retention probes", run)
        rows = found.rows("held-out") if what == "held-out" else found.probes()
        longest = view.settings.rollout.max_new_tokens
        prompts = make_prompts(view.loaded.tokenizer, view.settings)
        tokens = prompts.tokenise_all(rows, view.loaded.longest, longest)
        sides = {role: (view.decoders[role], role == "teacher") for role in ("base", "teacher", "student")}
        if what == "probes":
            del sides["teacher"]
        began = time.perf_counter()
        hit = get_scorer(str(found.config["scorer"]) if what == "held-out" else "contains")
        lines = self._ask(tokens, view.loaded, sides, view.settings, hit, say)
        if what == "probes":
            lines = [{**line, "teacher": None, "teacher_right": None} for line in lines]
        return {"rows": lines, "seconds": round(time.perf_counter() - began, 3)}

    def _ask(
        self,
        tokens: Sequence[PromptTokens],
        loaded: LoadedModel,
        sides: dict[str, tuple[Decoder, bool]],
        settings: Settings,
        hit: Callable[[str, str], bool],
        say: Say,
    ) -> list[dict[str, Any]]:
        """Each row with the answer of each role and whether it is right (None: the row has no answer)."""
        lines: list[dict[str, Any]] = []
        groups = Groups(asked_together(loaded, settings))
        hit = after_thoughts(hit, loaded.tokenizer)
        for start in range(0, len(tokens), _AT_A_TIME):
            say({"reply": "progress", "done": start, "of": len(tokens)})
            part = tokens[start : start + _AT_A_TIME]
            texts = {
                role: answer(
                    decoder,
                    loaded,
                    [t.teacher if shown else t.student for t in part],
                    longest=settings.rollout.max_new_tokens,
                    should_stop=self._should_stop,
                    groups=groups,
                )
                for role, (decoder, shown) in sides.items()
            }
            for i, row in enumerate(t.row for t in part):
                line: dict[str, Any] = {
                    "id": row.id or str(start + i + 1),
                    "question": row.question,
                    "answer": row.answer,
                    "tags": list(row.tags),
                    **{role: found[i] for role, found in texts.items()},
                }
                for role, found in texts.items():
                    line[f"{role}_right"] = None if row.answer is None else hit(found[i], row.answer)
                lines.append(line)
        say({"reply": "progress", "done": len(tokens), "of": len(tokens)})
        return lines

    def teach(
        self,
        say: Say,
        name: str,
        rows: Sequence[dict[str, Any]],
        method: str = "sdft",
        keep: Sequence[dict[str, Any]] = (),
        probes: Sequence[dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        held_out: float = 0.3,
        scorer: str = "contains",
        evaluate_every: int = 50,
        save_every: int = 50,
        on: str | None = None,
        source: str = "",
    ) -> dict[str, Any]:
        """Make a run and teach it. A `progress` reply names it as soon as its folder is there.

        Raises:
            InputError: a row, a setting or the name is wrong; nothing was written.
            RunError: the disk; what was saved is intact.
        """
        check_name(name)
        _check_method(method)
        for what, value in (("evaluate_every", evaluate_every), ("save_every", save_every)):
            if value < 1:
                raise InputError(f"{what} is {value}.", "Give it 1 or more.")
        given = read_rows(rows)
        refuse_unscorable(given, scorer)
        loaded, earlier = self._asker.loaded, None
        made = settings_over(loaded.is_pocket, settings, on is not None)
        self._tell("Getting ready", name)
        if on:
            earlier = open_named(on, self._runs)
            self._asker.start_of(earlier)
            if not earlier.adapter.is_dir():
                raise InputError(f"Run {on} is not finished.", "Resume it first.")
            loaded = self._asker.merged(earlier.adapter)
        parts = split(given, held_out=held_out, seed=made.optim.seed)
        kept = [*parts.keep, *read_rows(keep)]
        request = Request(
            name=name,
            method=method,
            settings=made,
            teaching=parts.teaching,
            held_out=parts.held_out,
            keep=[row.to_keep() for row in kept],
            probes=evaluation.read_bundled(loaded) if probes is None else read_rows(probes),
            scorer=scorer,
            evaluate_every=evaluate_every,
            save_every=save_every,
            source=source,
            on=on or None,
            before=None if earlier is None else earlier.adapter,
        )
        return self._go(say, begin(request, loaded, self._runs), loaded)

    def resume(self, say: Say, run: str) -> dict[str, Any]:
        """Go on with a run from its last checkpoint. Raises InputError, RunError."""
        found = open_named(run, self._runs)
        return self._go(say, found, self._asker.start_of(found))

    def _go(self, say: Say, run: Run, loaded: LoadedModel) -> dict[str, Any]:
        say({"reply": "progress", "run": run.name})
        held = run.log.read()
        if any(isinstance(event, RunEnded) for event in held) and run.adapter.is_dir():
            last = max((e.step for e in held if isinstance(e, Step)), default=0)
            return {"run": run.name, "state": "finished", "step": last}
        self._tell(BEFORE, run.name)
        session = Session(run, loaded)
        if loaded is self._asker.loaded:
            session.roles.base_decoder = self._asker.base
        self._asker.live = (run.name, View.of(session.roles, session.settings))
        steps, config = session.settings.optim.steps, run.config
        state = "stopped"
        try:
            for event in session.teach(self._should_stop):
                if isinstance(event, RunStarted):
                    self._tell(BEFORE, run.name)
                elif isinstance(event, Checked | Saved):
                    self._tell(TEACHING, run.name)
                elif isinstance(event, Step):
                    last = event.step == steps
                    due = last or event.step % int(config["evaluate_every"]) == 0
                    self._tell(MEASURING if due else TEACHING, run.name)
                elif isinstance(event, Evaluated):
                    due = event.step == steps or event.step % int(config["save_every"]) == 0
                    self._tell(SAVING if due else TEACHING, run.name)
                elif isinstance(event, RunEnded):
                    state = "finished"
        finally:
            self._asker.live = None
        return {"run": run.name, "state": state, "step": session.state.step}

    def export(self, say: Say, run: str, kind: str, destination: str) -> dict[str, Any]:
        """Write a finished run for other programs, to an absolute folder. Raises InputError, RunError."""
        folder = Path(destination)
        if not folder.is_absolute():
            raise InputError(f"{destination} is not a whole path.", "Name the folder from the root on.")
        found = open_named(run, self._runs)
        self._tell("Writing the export", run)
        return {"path": str(export_run(found, kind, folder))}

    def import_adapter(self, say: Say, folder: str, name: str) -> dict[str, Any]:
        """Make a finished run of a PEFT adapter for the loaded model.

        Its factors are put into an adapter of one rank over the same layers, zero where there are none, so that the
        student is what the adapter's author had.

        Raises:
            InputError: it is not a plain LoRA adapter of this model, or the name cannot be a run's.
        """
        loaded, source = self._asker.loaded, Path(folder).expanduser()
        name = free_name(self._runs, check_name(name))
        self._tell("Reading the adapter", name)
        check_adapter(source, loaded)
        config = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = load_file(source / WEIGHTS_FILE)
        ranks = [t.shape[0] for key, t in tensors.items() if ".lora_A." in key]
        layers = {key.split(".lora_")[0].rpartition(".")[2] for key in tensors}
        lora = LoraSettings(rank=max(ranks), alpha=max(ranks), targets=",".join(sorted(layers)))
        settings = Settings.from_dict({**self._asker.defaults.to_dict(), "lora": asdict(lora)})
        roles = make_roles(loaded, settings.lora)
        _fill(roles.adapter, tensors, config)
        roles.refresh()
        what: dict[str, Any] = {
            "method": "imported",
            "model": loaded.name,
            "revision": loaded.revision,
            "source": source.name,
            "on": None,
            "scorer": "contains",
            "evaluate_every": 50,
            "save_every": 50,
            "settings": settings.to_dict(),
            "notes": [],
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "threads": torch.get_num_threads(),
        }
        probes = evaluation.read_bundled(loaded)
        run = create(self._runs, name, what, {}, probes)
        save_adapter(roles, run.adapter)
        checkpoints.save(run.checkpoints, 0, TrainingState.begin(roles, settings).tensors(), 2)
        writer = EventWriter(run.log, 0)
        writer.write(RunStarted(name, "imported", loaded.name, 0, 0, 0, 0, len(probes)))
        writer.write(RunEnded(0, 0.0))
        writer.close()
        return {"run": name}


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}.", f"Teach by {' or '.join(METHODS)}.")


@torch.no_grad()
def _fill(adapter: dict[str, Any], tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Put a PEFT adapter's factors into one whose scale is 1, padding its ranks with zeros."""
    for parameter in adapter.values():
        parameter.zero_()
    ours = {name.replace(".default.", "."): parameter for name, parameter in adapter.items()}
    patterns = config.get("rank_pattern"), config.get("alpha_pattern")
    if any(patterns):
        raise InputError("The adapter has other ranks or scales in some layers.", "Only plain LoRA adapters are read.")
    root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    for name, tensor in tensors.items():
        if name not in ours:
            raise InputError(f"The adapter changes {name}, which cannot be taught here.", "Use another adapter.")
        parameter = ours[name]
        if ".lora_A." in name:
            parameter[: tensor.shape[0]] = tensor
        else:
            parameter[:, : tensor.shape[1]] = tensor * (config["lora_alpha"] / root)
