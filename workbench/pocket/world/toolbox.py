"""Tools: a request in plain words, answered by the call of an invented tool with its arguments."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import NOUNS, invent, listed

ROOMS = listed("kitchen garden cellar hall attic office porch garage")
UNITS = listed("km m cm kg g hours minutes days cups liters")
VERBS = listed("set send move convert order play count find print start book mark lock water clean paint")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's name, the request that asks for it, and its arguments' kinds in the order of the call.

    `request` holds `{0}`, `{1}` where the arguments stand.
    """

    name: str
    request: str
    kinds: tuple[str, ...]


def _argument(kind: str, r: random.Random) -> tuple[str, str]:
    """An argument as it stands in the request and in the call."""
    if kind == "number":
        number = str(r.randint(1, 99))
        return number, number
    word = r.choice({"room": ROOMS, "thing": NOUNS, "unit": UNITS}[kind])
    return word, f'"{word}"'


_SHAPES = (
    ("{verb} the {0} to {1}", ("room", "number")),
    ("{verb} {0} {1} to the {2}", ("number", "thing", "room")),
    ("{verb} {0} {1} into {2}", ("number", "unit", "unit")),
    ("{verb} the {0} in the {1}", ("thing", "room")),
    ("{verb} {0} for {1} {2}", ("thing", "number", "unit")),
    ("{verb} number {0}", ("number",)),
)


def make(name: str, verb: str, shape: int) -> Tool:
    """A tool whose requests have one of six shapes."""
    request, kinds = _SHAPES[shape]
    return Tool(name, request.replace("{verb}", verb), kinds)


KNOWN = (
    make("warm", "heat", 0),
    make("deliver", "bring", 1),
    make("convert", "convert", 2),
    make("locate", "find", 3),
    make("reserve", "reserve", 4),
    make("dial", "call", 5),
    make("dim", "dim", 0),
    make("store", "put away", 1),
    make("repair", "fix", 3),
    make("rent", "rent", 4),
)


def ask(tool: Tool, r: random.Random) -> Item:
    """A request for this tool with fresh arguments."""
    said, called = zip(*(_argument(kind, r) for kind in tool.kinds), strict=True)
    request = tool.request.format(*said)
    prompt = r.choice([f"Please {request}.", f"{request[0].upper()}{request[1:]}.", f"Which call will {request}?"])
    return Item("toolbox", prompt, f"{tool.name}({', '.join(called)})", "Call {} now.", subject=request)


def random_tool(r: random.Random) -> Tool:
    """A tool that nobody has used."""
    verb = r.choice(VERBS) if r.random() < 0.5 else invent(r, r.choice([1, 2]))
    name = invent(r, r.choice([1, 2, 2])).replace("'", "").replace("-", "_")
    return make(name, verb, r.randrange(len(_SHAPES)))


def known(r: random.Random) -> Item:
    """A request for a known tool."""
    return ask(r.choice(KNOWN), r)


def invented(r: random.Random) -> Item:
    """A request for a tool never used before."""
    return ask(random_tool(r), r)
