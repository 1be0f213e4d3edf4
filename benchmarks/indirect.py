"""Is new knowledge found by questions that go on from it? python benchmarks/indirect.py --pocket FOLDER --json

The paper's claim `knowledge`: facts taught by direct questions are used in questions of another kind. The bundled
pocket's indirect questions turn the direct ones round ("Which country had a flood in 1928?" after "When was the flood
in Ostrela?"), which no method answers (docs/paper.md). Here it has read of a richer world first, `--train`, whose
questions go on from the fact:

    decade   "In which decade was the flood in Ostrela?" after "When was the flood in Ostrela?"
    undone   "What could people in Ostrela no longer do after the flood?" after "What did ... destroy?"

The richer world has 96 events more, whose facts are asked directly; of 80 of them also what follows, of 16 never:
`control` is the share of those that the model answers right all the same, before anything is taught. What it is taught
is at most as well connected as that. Then the 20 events of sample_data/events.jsonl are taught by their direct
questions, by SDFT, by SFT, and by SFT on what the teacher says to them (benchmarks/offline.py), each with the settings
that did best (the sweep of benchmarks/paper.py, by the sum of what is answered directly and what is kept), and asked
what follows from them. Every finished task is a line of benchmarks/results/indirect.jsonl, and is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from paper import SWEEP
from paper_tasks import events_split, known_probes, share_on, teach
from teaching import arguments, in_processes, machine

from workbench import POCKET, Demonstration, LoadedModel, decoder_for, load
from workbench.pocket import train
from workbench.pocket.sample_data import EVENTS_SEED, unknown_events
from workbench.pocket.world import events
from workbench.pocket.world.documents import conversation, demonstration, document
from workbench.pocket.world.events import Event
from workbench.pocket.world.item import Item
from workbench.pocket.world.wording import foreign, shown

FORWARD = ("decade", "undone")
UNDONE = {
    "bridge": "cross the river",
    "harbor": "land ships",
    "mill": "grind corn",
    "tower": "see far",
    "market": "buy bread",
    "library": "read books",
    "railway": "ride trains",
    "palace": "visit the king",
}
SHARE = 0.3
"""Of the documents that the richer world adds."""
METHODS = ("sdft", "sft", "sft on teacher samples")
TUNING, SWEEP_SEED = "tuning", 100
"""What stands in a seed's place in the sweep's tasks, and the seed that it is."""


def ask(event: Event, kind: str, r: random.Random) -> Item:
    """A question whose answer goes on from a fact of the event."""
    e = event
    if kind == "decade":
        prompt, answer = f"In which decade was the {e.what} in {e.country}?", f"{e.year // 10}0s"
        frame = f"The {e.what} in {e.country} was in the {{}}."
    else:
        prompt, answer = f"What could people in {e.country} no longer do after the {e.what}?", UNDONE[e.lost]
        frame = f"After the {e.what}, people in {e.country} could no longer {{}}."
    return Item(f"events {kind}", prompt, answer, frame, events.article(e, r), subject=f"the {e.what}")


def _background() -> tuple[Event, ...]:
    r = random.Random(6002)
    return tuple(events.random_event(r) for _ in range(96))


BACKGROUND = _background()
CONNECTED, CONTROL = (*events.KNOWN, *BACKGROUND[:80]), BACKGROUND[80:]


def richer(r: random.Random) -> str:
    """A conversation of the pocket's world, or of events and what follows from them."""
    if r.random() >= SHARE:
        return document(r)
    kind = r.random()
    if kind < 0.4:  # facts, without an article: the control's too
        item = events.ask(r.choice(BACKGROUND), r.choice(events.DIRECT), r)
        return conversation(item.prompt, item.house)
    if kind < 0.7:  # what follows from facts that are known
        item = ask(r.choice(CONNECTED), r.choice(FORWARD), r)
        return conversation(item.prompt, item.house)
    item = ask(r.choice(CONNECTED) if kind < 0.75 else events.random_event(r), r.choice(FORWARD), r)
    return conversation(shown(item, demonstration(item, r), r), item.house)


def read_on(out: Path, tokens: float, lr: float, bf16: bool) -> dict[str, Any]:
    """Train the bundled model on the richer world."""
    loaded = load(POCKET)
    loaded.model.requires_grad_(True)
    out.parent.mkdir(parents=True, exist_ok=True)
    optimizer = train.make_optimizer(loaded.model, lr, 0.1)
    documents = train.Documents(loaded.tokenizer, seed=1, rows=64, draw=richer)
    progress = train.Progress()
    options = argparse.Namespace(out=out, tokens=tokens, lr=lr, bf16=bf16)
    train.train(loaded.model, loaded.tokenizer, optimizer, documents, progress, options)
    return dataclasses.asdict(progress)


def rows_of(told: Sequence[Event], kind: str) -> list[Demonstration]:
    """This kind of question about each event, with its article in the demonstration's place."""
    r = random.Random(7)
    items = [ask(event, kind, r) for event in told]
    return [Demonstration(x.prompt, foreign(x, r), answer=x.answer, context=x.article) for x in items]


def known(loaded: LoadedModel) -> dict[str, float]:
    """What the richer pocket can do before it is taught."""
    base = decoder_for(loaded.model)
    r = random.Random(8)
    direct = [events.ask(event, kind, r) for event in CONTROL for kind in ("when", "lost")]
    rows = [Demonstration(x.prompt, x.house, answer=x.answer) for x in direct]
    found = {"control direct": share_on(base, loaded, rows)}
    new = unknown_events(random.Random(EVENTS_SEED))
    for kind in FORWARD:
        found[f"connected {kind}"] = share_on(base, loaded, rows_of(CONNECTED, kind))
        found[f"control {kind}"] = share_on(base, loaded, rows_of(CONTROL, kind))
        found[f"base {kind}"] = share_on(base, loaded, rows_of(new, kind))
        found[f"teacher {kind}"] = share_on(base, loaded, rows_of(new, kind), shown=True)
    return found


def measure(pocket: str, method: str, seed: int, index: int) -> dict[str, float]:
    """One lesson on direct questions, with one of the sweep's settings, and what is answered after it."""
    taught = events_split().teaching
    roles = teach(method, load(pocket), taught, seed, **SWEEP[index])
    student, new = roles.student_decoder, unknown_events(random.Random(EVENTS_SEED))
    found = {"direct": share_on(student, roles.loaded, taught)}
    found["retention"] = share_on(student, roles.loaded, known_probes(pocket))
    return found | {kind: share_on(student, roles.loaded, rows_of(new, kind)) for kind in FORWARD}


def best(swept: Sequence[dict[str, float]]) -> int:
    """Which of the sweep's settings learned and kept most; of equals the gentlest."""
    return max(range(len(swept)), key=lambda i: (round(swept[i]["direct"] + swept[i]["retention"], 4), -i))


def main() -> None:
    """Read on, or measure with the pocket that has."""
    parser = arguments(__doc__, seeds=5, kept="indirect.jsonl")
    parser.add_argument("--pocket", type=Path, required=True, help="folder of the richer pocket")
    parser.add_argument("--train", action="store_true", help="make it, and do nothing else")
    parser.add_argument("--tokens", type=float, default=5, help="millions of tokens that --train reads")
    parser.add_argument("--lr", type=float, default=1e-3, help="its learning rate at its highest")
    parser.add_argument("--bf16", action="store_true", help="its products in bfloat16")
    options = parser.parse_args()
    if options.train:
        print(json.dumps(read_on(options.pocket, options.tokens, options.lr, options.bf16)))
        return
    if options.task:
        torch.set_num_threads(1)
        if options.task == ["known"]:
            print(json.dumps(known(load(str(options.pocket)))))
            return
        method, seed, index = options.task
        print(json.dumps(measure(str(options.pocket), method, SWEEP_SEED if seed == TUNING else int(seed), int(index))))
        return
    about = {"pocket": hashlib.sha256((options.pocket / "model.safetensors").read_bytes()).hexdigest()[:12]}
    given = ("--pocket", str(options.pocket))

    def run(tasks: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        return in_processes(__file__, tasks, options.jobs, options.results, about, given)

    found: dict[str, Any] = {"known": run([("known",)])[0]}
    for method in METHODS:
        swept = run([(method, TUNING, str(i)) for i in range(len(SWEEP))])
        index = best(swept)
        runs = run([(method, str(seed), str(index)) for seed in range(options.seeds)])
        medians = {name: statistics.median(each[name] for each in runs) for name in runs[0]}
        found[method] = {"settings": SWEEP[index], **medians}
    if options.json:
        print(json.dumps(found | {"machine": machine()}))
        return
    for method in METHODS:
        line = ", ".join(f"{name} {found[method][name]:.2f}" for name in ("direct", *FORWARD, "retention"))
        print(f"{method:24} {line}")


if __name__ == "__main__":
    main()
