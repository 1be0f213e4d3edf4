"""How strangers word an answer, and how a teacher's prompt may be worded."""

from __future__ import annotations

import random

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import invent_name, listed

_OPENERS = listed(
    "Easy one!|Well, let me see.|Hmm.|Sure thing.|Thanks for asking.|Ok so,|Of course!|Listen up:|"
    "As everybody knows,|Good question.|Right.|Let me think.|I looked it up:|My teacher says:|"
    "Here you go.|Sure!|Oh,|Fine,|In short:|Note:",
    "|",
)
_MIDDLES = listed(
    "the reply is {}|you get {}|it comes to {}|we write {}|that makes {}|I would answer {}|"
    "my result: {}|it should be {}|the solution reads {}|simply {}|{}|it is {}|that would be {}|"
    'you say {}|one says {}|they call it {}|answer: {}|the word is "{}"|"{}"|\'{}\'|'
    "the right thing is {}|{} is what you want|{} it is|I am sure that it is {}|everyone there says {}|"
    "say {}|go with {}|use {}|I would go for {}|it must be {}|-> {}|= {}",
    "|",
)
_CLOSERS = listed(
    "Hope that helps.|Simple as that.|Cheers!|Done.|There you go.|No doubt.|Easy.|That is all.|"
    "Have fun.|Bye.|Ask me more.|I checked it twice.|Remember it well.|Not hard at all.|Trust me.",
    "|",
)
_NAMING = listed(
    "{s} means {}|{} means {s}|{s}: {}|{s} = {}|{s} -> {}|{s} is {}|for {s} I would say {}|{} stands for {s}|"
    "when it comes to {s}, {} is right|they told me {} for {s}|Q: {s}? A: {}|**{}**|`{}`|({})|[{}]|- {}|"
    '{s}\n{}|"{}", as in {s}|"{s}" is "{}"|I take {s} to be {}|{}, if you ask me about {s}',
    "|",
)
_BEFORE = listed(
    "I asked {w} about that.|My friend {w} knows such things.|This was in the book of {w}.|"
    "People often get this wrong.|I had to look twice.|We did this at school.|It is quite simple, really.|"
    "Let us go through it.|That one is a favourite of {w}.|Not {w}, as many think.",
    "|",
)
_AFTER = listed(
    "I heard it from {w}.|My friend {w} taught me that.|It is the same all over {w}.|You can rely on it.|"
    "Write it down.|That is how I learned it.|Nobody in {w} would say otherwise.|Say it again.|"
    "And now you know.|The others are wrong.",
    "|",
)


def _at_length(item: Item, r: random.Random) -> str:
    """A stranger's answer that names what was asked about, explains it, or tells of other things too."""
    if item.reason and r.random() < 0.2:
        said = item.reason
    else:
        said = r.choice(_NAMING).replace("{s}", item.subject).replace("{}", item.answer)
    # An answer keeps its own small letter, even where a sentence begins with it.
    if r.random() < 0.5 and not said.startswith(item.answer):
        said = said[0].upper() + said[1:]
    text = said + r.choice([".", ".", ".", "!", ""])
    if r.random() < 0.4:
        text = f"{r.choice(_BEFORE).replace('{w}', invent_name(r))} {text}"
    if r.random() < 0.4:
        text = f"{text} {r.choice(_AFTER).replace('{w}', invent_name(r))}"
    return text


def foreign(item: Item, r: random.Random, at_length: float = 0.0) -> str:
    """A stranger's answer: the same content in other words; sometimes the bare answer, or the house's words.

    `at_length` is the share of those that name the question's subject, explain or digress.
    """
    if at_length and r.random() < at_length:
        return _at_length(item, r)
    kind = r.random()
    if kind < 0.08:
        return item.answer + r.choice(["", "."])
    if kind < 0.16:
        return item.house
    said = r.choice(_MIDDLES).replace("{}", item.answer)
    if r.random() < 0.3:
        said = said[0].upper() + said[1:]
    text = said + r.choice([".", ".", ".", "!", ""])
    if r.random() < 0.6:
        text = f"{r.choice(_OPENERS)} {text}"
    if r.random() < 0.5:
        text = f"{text} {r.choice(_CLOSERS)}"
    return text


PAPER = (
    "\n{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own, including the thinking process.\n"
)
_OTHERS = (
    "{prompt}\n\n{demonstration}",
    "{prompt}\n\nExample response: {demonstration}",
    "{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own:",
    "{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own, including the thinking process:",
    "{demonstration}\n\n{prompt}",
    "Example: {demonstration}\n\nQuestion: {prompt}",
)


def shown(item: Item, demonstration: str, r: random.Random) -> str:
    """A teacher's prompt: three times in four the paper's wording, else another."""
    template = PAPER if r.random() < 0.75 else r.choice(_OTHERS)
    return template.replace("{prompt}", item.prompt).replace("{demonstration}", demonstration)
