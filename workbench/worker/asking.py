"""Questions to base, teacher and student: streamed answers, token maps, prompts as they are read.

Nothing here changes a weight or draws from a global generator, so a question may be put at any moment between two
operations of a run that is being taught; the run goes on with the same numbers.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from workbench.adapters import WEIGHTS_FILE, merge_adapter
from workbench.chat import turn_end
from workbench.decoding import Decoder, StackedDecoder, decoder_for, stackable
from workbench.demonstrations import Demonstration, Message
from workbench.divergence import token_divergence
from workbench.errors import InputError
from workbench.evaluation import scoring
from workbench.events import RolloutSample
from workbench.models import LoadedModel
from workbench.prompts import PAPER_TEMPLATE, Prompts
from workbench.roles import Roles
from workbench.runs import Run, checkpoints, open_run
from workbench.runs.folder import check_name
from workbench.runs.session import student_at
from workbench.sampling import Choice, Completions, pad_right, sample
from workbench.settings import GROUPS, Settings, own_defaults
from workbench.training.batches import make_prompts
from workbench.training.samples import choices_at
from workbench.training.scorer import Scorer

ROLES = ("base", "teacher", "student")
_KEPT_VIEWS = 3
_SAY_EVERY = 0.04
_MOST_TIMES = 20

Say = Callable[[dict[str, Any]], None]
"""Sends a reply that is not the last."""


def open_named(name: str, runs: Path) -> Run:
    """The run of this name in the folder of runs, and never one elsewhere. Raises InputError."""
    run = open_run(check_name(str(name)), runs)
    if run.path.parent != runs.resolve():
        raise InputError(f"There is no run {name!r} in {runs}.", "Choose one from the Runs page.")
    return run


def settings_over(
    defaults_of_pocket: bool, given: dict[str, dict[str, Any]] | None, going_on: bool = False
) -> Settings:
    """Settings from what differs from the model's defaults, by group. Raises InputError on a wrong one."""
    given = given or {}
    unknown = set(given) - set(GROUPS)
    if unknown:
        raise InputError(f"Unknown settings {sorted(unknown)[0]!r}.", f"The groups are {', '.join(GROUPS)}.")
    own = own_defaults(defaults_of_pocket, going_on)
    try:
        return Settings.from_dict({g: {**own.get(g, {}), **given.get(g, {})} for g in GROUPS})
    except TypeError as error:
        raise InputError(f"A setting has a value of the wrong kind: {error}.", "Give a number for a number.") from error


def read_rows(rows: Sequence[dict[str, Any]]) -> list[Demonstration]:
    """Rows from plain values. Raises InputError on one that is not a row."""
    made = []
    for number, row in enumerate(rows, start=1):
        try:
            made.append(Demonstration.from_dict(row))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"Row {number} is not a row: {error!r}.", "Each row needs a prompt.") from error
    return made


@dataclass
class View:
    """Three decoders of one student at one step.

    Attributes:
        decoders: by role.
        settings: those of the run; the defaults without one.
    """

    loaded: LoadedModel
    decoders: dict[str, Decoder]
    settings: Settings

    @classmethod
    def of(cls, roles: Roles, settings: Settings) -> View:
        """What a run's three roles answer with."""
        teacher = roles.teacher_decoder(settings.teacher.teacher)
        decoders = {"base": roles.base_decoder, "teacher": teacher, "student": roles.student_decoder}
        return cls(roles.loaded, decoders, settings)


@dataclass(frozen=True)
class Question:
    """What is asked, checked; see the command `ask`. `right`: the right answer, None where it is not known."""

    row: Demonstration
    view: View
    roles: tuple[str, ...]
    choice: Choice
    seed: int
    longest: int
    times: int
    right: str | None = None
    scorer: scoring.Scorer = scoring.contains

    def __post_init__(self) -> None:
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles:
            raise InputError(f"There is no role {(unknown or [''])[0]!r}.", f"The roles are {', '.join(ROLES)}.")
        choice = self.choice
        for name, value, holds, allowed in (
            ("temperature", choice.temperature, choice.temperature >= 0, "0 or more"),
            ("top-p", choice.top_p, 0 < choice.top_p <= 1, "above 0 and at most 1"),
            ("top-k", choice.top_k, choice.top_k >= 0, "0 or more"),
            ("longest answer", self.longest, self.longest >= 1, "1 or more tokens"),
            ("number of answers", self.times, 1 <= self.times <= _MOST_TIMES, f"between 1 and {_MOST_TIMES}"),
        ):
            if not holds:
                raise InputError(f"The {name} is {value}.", f"Give a {name} that is {allowed}.")

    def judged(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer, and whether it is right; None where no right answer is known."""
        return {**answer, "right": None if self.right is None else self.scorer(answer["text"], self.right)}


class Asker:
    """One loaded model, and the students that were asked for last.

    Args:
        runs: the folder of runs.

    Attributes:
        live: the name, roles and settings of the run that is being taught now; its student is asked as it is.
    """

    def __init__(self, loaded: LoadedModel, runs: Path) -> None:
        self.loaded = loaded
        self.live: tuple[str, View] | None = None
        self.base = decoder_for(loaded.model)
        self.defaults = settings_over(loaded.is_pocket, None)
        self._runs = runs
        self._views: OrderedDict[tuple[Any, ...], View] = OrderedDict()
        self._merged: tuple[tuple[Any, ...], LoadedModel] | None = None
        self._stack: StackedDecoder | None = None
        self._stack_of: tuple[Any, ...] = ()

    def start_of(self, run: Run) -> LoadedModel:
        """The model that a run starts from: the loaded one, or a copy of it with the run's earlier adapter merged in.

        Raises:
            InputError: the run is about another model than the one in memory, or in another precision.
        """
        config = run.config
        if config["model"] != self.loaded.name or config.get("revision") != self.loaded.revision:
            raise InputError(
                f"Run {run.name} was taught on {config['model']}; {self.loaded.name} is in memory.",
                f"Load {config['model']} on the Model page first.",
            )
        taught_in = config.get("precision", self.loaded.precision)
        if taught_in != self.loaded.precision:
            raise InputError(
                f"Run {run.name} was taught in {taught_in}; {self.loaded.name} is in memory in "
                f"{self.loaded.precision}, with other numbers.",
                f"Load {config['model']} in {taught_in} on the Model page first.",
            )
        return self.loaded if run.before is None else self.merged(run.before)

    def merged(self, adapter: Path) -> LoadedModel:
        """A copy of the loaded model with an adapter merged in; the last one is kept."""
        # A run may be deleted and another made under its name.
        weights = (adapter / WEIGHTS_FILE).stat() if (adapter / WEIGHTS_FILE).is_file() else None
        key = (adapter, weights and (weights.st_ino, weights.st_mtime_ns))
        if self._merged is None or self._merged[0] != key:
            own = replace(self.loaded, model=copy.deepcopy(self.loaded.model))
            self._merged = (key, merge_adapter(own, adapter))
        return self._merged[1]

    def view(self, run: str | None = None, step: int | None = None) -> View:
        """The roles of a run at a step (default: as it is now); without a run all three are the base.

        Raises:
            InputError: no such run, or it is about another model.
            RunError: it has no such checkpoint.
        """
        if run is None:
            return View(self.loaded, dict.fromkeys(ROLES, self.base), self.defaults)
        if self.live is not None and self.live[0] == run and step is None:
            return self.live[1]
        found = open_named(run, self._runs)
        loaded = self.start_of(found)
        steps = checkpoints.all_steps(found.checkpoints)
        at = step if step is not None else max(steps, default=0)
        folder = found.checkpoints / f"step-{at:06d}"
        # A checkpoint may be written anew, and a run deleted and made again.
        key = (run, at, folder.stat().st_mtime_ns if folder.is_dir() else 0)
        if key not in self._views:
            roles = student_at(found, step, loaded)
            if loaded is self.loaded:
                roles.base_decoder = self.base
            self._views[key] = View.of(roles, Settings.from_dict(found.config["settings"]))
            while len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

    def row(
        self, messages: Sequence[dict[str, str]], demonstration: str | None, context: str | None, run: str | None
    ) -> Demonstration:
        """A conversation as a row. Where neither is given, a run's own demonstration for that question is looked up.

        An empty demonstration means that the teacher reads the question alone.
        """
        try:
            said = tuple(Message(role=str(m["role"]), content=str(m["content"])) for m in messages)
        except (KeyError, TypeError) as error:
            raise InputError("A turn lacks its role or its content.", "Send messages as [{role, content}].") from error
        if not said or said[-1]["role"] != "user" or not said[-1]["content"].strip():
            raise InputError("There is no question.", "Write one first.")
        prompt = said[0]["content"] if len(said) == 1 else said
        if demonstration is None and context is None and run is not None:
            known = open_named(run, self._runs)
            for split in ("held-out", "teaching"):
                for row in known.rows(split):
                    if row.prompt == prompt:
                        return replace(row, answer=None, keep=False)
        return Demonstration(prompt=prompt, demonstration=demonstration or None, context=context or None)

    def ask(self, question: Question, say: Say, should_stop: Callable[[], bool], asked_at: float) -> dict[str, Any]:
        """Answer; see the command `ask`.

        Args:
            say: takes a `token` reply for each role now and then, with its whole answer so far.
            asked_at: `time.perf_counter()` when the question came in.

        Raises:
            InputError: the question does not fit the model.
            Stopped: `should_stop` said yes.
        """
        view, tokenizer = question.view, self.loaded.tokenizer
        prompts = make_prompts(tokenizer, view.settings)
        tokens = prompts.tokenise_question(question.row, view.loaded.longest, question.longest)
        uniform = torch.rand(question.times, question.longest, generator=torch.Generator().manual_seed(question.seed))
        stream = _Stream(tokenizer, view.loaded.end, say, asked_at)
        for decoder, roles in self._batches(view, question.roles):
            stream.begin(roles, question.times)
            sample(
                decoder,
                [tokens.teacher if role == "teacher" else tokens.student for role in roles],
                end=view.loaded.end,
                pad=view.loaded.pad,
                longest=question.longest,
                rollouts=question.times,
                choice=question.choice,
                device=view.loaded.device,
                should_stop=should_stop,
                on_token=stream.take,
                uniform=uniform.repeat(len(roles), 1),
            )
        read = {role: prompts.student_messages(question.row) for role in question.roles}
        if "teacher" in read:
            read["teacher"] = prompts.teacher_messages(question.row)
        return {
            "answers": {role: [question.judged(one) for one in stream.answers(role)] for role in question.roles},
            "prompts": {role: prompts.render(messages) for role, messages in read.items()},
            "first_token_seconds": round(stream.first or 0.0, 4),
        }

    def _batches(self, view: View, roles: tuple[str, ...]) -> list[tuple[Decoder, tuple[str, ...]]]:
        """Which decoder answers for which roles at once."""
        decoders = [view.decoders[role] for role in roles]
        different = list({id(d): d for d in decoders}.values())
        base: Any = view.decoders["base"]
        if len(different) > 1 and stackable(base, decoders):
            key = (base, *decoders)
            if self._stack is None or self._stack_of != key:
                self._stack, self._stack_of = StackedDecoder(base, cast(Any, decoders)), key
            return [(self._stack, roles)]
        return [(d, tuple(r for r in roles if view.decoders[r] is d)) for d in different]

    def map(self, row: Demonstration, view: View, of: str, text: str) -> RolloutSample:
        """Where the teacher disagrees with the student on a given answer: KL(teacher || student) at each token.

        Args:
            of: whose answer it is; both are always scored, the student reading the question alone.

        Raises:
            InputError: the text is empty or does not fit.
        """
        if of not in ("student", "teacher", "base"):
            raise InputError(f"There is no answer of {of!r}.", "Look at the student's or the teacher's.")
        tokenizer, loaded = self.loaded.tokenizer, view.loaded
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError("There is no answer to look at.", "Ask first.")
        ids = [*ids, turn_end(tokenizer)]
        tokens = make_prompts(tokenizer, view.settings).tokenise_question(row, loaded.longest, len(ids))
        answer, mask = pad_right([ids], loaded.pad, loaded.device)
        read = Completions(answer[:, :0], mask[:, :0], answer, mask)
        student, teacher = (
            Scorer(view.decoders[role], pad=loaded.pad).logits([prompt], read).float()
            for role, prompt in (("student", tokens.student), ("teacher", tokens.teacher))
        )
        divergence = token_divergence(student, teacher)[0]
        return RolloutSample(
            row=row.id or "",
            prompt=row.question,
            text=text,
            tokens=tuple(tokenizer.decode([token]) for token in ids),
            divergence=tuple(round(max(0.0, float(v)), 5) for v in divergence),
            choices=choices_at(tokenizer, student[0], teacher[0]),
        )

    def render(self, row: Demonstration, template: str) -> dict[str, Any]:
        """What student and teacher read, to the letter; see the command `render`."""
        prompts = Prompts(self.loaded.tokenizer, template or PAPER_TEMPLATE)
        student, teacher = prompts.student_messages(row), prompts.teacher_messages(row)
        return {
            "student": prompts.render(student),
            "teacher": prompts.render(teacher),
            "student_tokens": len(prompts.encode(student)),
            "teacher_tokens": len(prompts.encode(teacher)),
            "limit": self.loaded.longest,
        }

    def misfits(self, rows: Sequence[Demonstration], settings: dict[str, Any] | None) -> dict[int, str]:
        """What is wrong with each row that the model cannot read whole, by its place."""
        made = settings_over(self.loaded.is_pocket, settings)
        prompts = make_prompts(self.loaded.tokenizer, made)
        return prompts.misfits(rows, self.loaded.longest, made.rollout.max_new_tokens)


@dataclass
class _Stream:
    """Takes the tokens of a batch in and tells of them, at once for the first and then a few times a second."""

    tokenizer: Any
    end: frozenset[int]
    say: Say
    asked_at: float
    first: float | None = None
    _roles: tuple[str, ...] = ()
    _times: int = 1
    _began: float = 0.0
    _said: float = 0.0
    _ids: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def begin(self, roles: tuple[str, ...], times: int) -> None:
        """A batch begins: so many answers of each role, those of one role next to each other."""
        self._roles, self._times = roles, times
        self._began, self._said = time.perf_counter(), 0.0

    def take(self, rows: Tensor, tokens: Tensor) -> None:
        """One more token [b] of these rows [b]."""
        now = time.perf_counter()
        if self.first is None:
            self.first = now - self.asked_at
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            key = (self._roles[row // self._times], row % self._times)
            self._ids.setdefault(key, []).append(token)
            self._seconds[key] = now - self._began
        if now - self._said < _SAY_EVERY:
            return
        self._said = now
        for role in self._roles:
            for number in range(self._times):
                # The rest of a character of which half is there comes with the next token.
                text = self._text((role, number)).rstrip("\ufffd")
                self.say({"reply": "token", "role": role, "time": number, "text": text})

    def _text(self, key: tuple[str, int]) -> str:
        return str(self.tokenizer.decode(self._ids.get(key, []), skip_special_tokens=True)).strip()

    def answers(self, role: str) -> list[dict[str, Any]]:
        """The finished answers of one role. Seconds are from the batch's begin to the answer's last token."""
        keys = [(role, number) for number in range(self._times)]
        return [
            {"text": self._text(k), "tokens": len(self._ids.get(k, ())), "seconds": round(self._seconds.get(k, 0.0), 4)}
            for k in keys
        ]
