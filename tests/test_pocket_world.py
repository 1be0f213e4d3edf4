"""The pocket's world, its documents, its sample sets and its tokenizer."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from workbench.demonstrations import read, read_questions
from workbench.evaluation.scoring import contains
from workbench.pocket import PROBES, sample_data
from workbench.pocket.tokenizer import build
from workbench.pocket.world import documents, events, languages, quiz, remedies, toolbox, wording
from workbench.pocket.world.words import ADJECTIVES, NOUNS
from workbench.prompts import PAPER_TEMPLATE

SAMPLES = Path(__file__).parent.parent / "sample_data"
SETS = ("zorbic", "pelan", "toolbox", "quiz", "remedies", "events")


@pytest.mark.parametrize("family", documents.FAMILIES)
@pytest.mark.parametrize("kind", ["known", "invented"])
def test_every_item_can_be_answered_and_shown(family: str, kind: str) -> None:
    r = random.Random(1)
    draw = getattr(documents.FAMILIES[family], kind)
    for _ in range(200):
        item = draw(r)
        assert contains(item.house, item.answer), item
        for at_length in (0.0, 1.0):
            assert contains(wording.foreign(item, r, at_length), item.answer), item
        if item.article:
            assert contains(item.article, item.answer), item


def test_known_questions_have_one_answer() -> None:
    r = random.Random(2)
    answers: dict[str, str] = {}
    for draw in documents.known_draws().values():
        for _ in range(300):
            item = draw(r)
            assert answers.setdefault(item.prompt, item.answer) == item.answer


def test_the_words_of_every_language_are_those_that_others_may_use() -> None:
    adjectives = "red blue green big small old new hot cold fast slow happy sad dark light"
    nouns = "ball house tree fish bird boat stone door apple chair river cloud star cup road king"
    assert " ".join(ADJECTIVES) == adjectives
    assert " ".join(NOUNS) == nouns


def test_known_languages() -> None:
    assert len(languages.KNOWN) == len({x.name for x in languages.KNOWN}) == 24
    assert {x.noun_first for x in languages.KNOWN} == {True, False}
    for language in languages.KNOWN:
        assert sorted(language.words) == sorted(ADJECTIVES + NOUNS)
        assert len(set(language.words.values())) == len(language.words)
    assert len({tuple(x.words.values()) for x in languages.KNOWN}) == 24


def test_a_language_is_the_same_each_time_it_is_made() -> None:
    made = languages.make("Zorbic", 101, noun_first=True)
    assert made == sample_data.ZORBIC
    assert made.say("red", "house") == f"{made.words['house']} {made.words['red']}"
    assert sample_data.PELAN.say("red", "house").split()[0] == sample_data.PELAN.words["red"]


def test_the_three_ways_to_ask_for_a_phrase() -> None:
    r = random.Random(3)
    items = [languages.ask(sample_data.ZORBIC, "hot", "cup", r) for _ in range(60)]
    assert {x.prompt for x in items} == {
        "How do you say hot cup in Zorbic?",
        "Translate hot cup into Zorbic.",
        "What is hot cup in Zorbic?",
    }
    assert {x.house for x in items} == {f"In Zorbic, hot cup is {items[0].answer}."}


def test_the_answer_of_a_quiz_is_one_of_the_options_in_any_place() -> None:
    r = random.Random(4)
    fact = quiz.KNOWN[0]
    letters = set()
    for _ in range(80):
        item = quiz.ask(fact, r)
        assert item.answer == fact.value
        options = dict(re.findall(r"([A-D])\) (\w+)", item.prompt))
        assert len(set(options.values())) == 4
        letters |= {letter for letter, option in options.items() if option == fact.value}
    assert letters == set("ABCD")


def test_a_call_carries_the_arguments_of_the_request() -> None:
    r = random.Random(5)
    for _ in range(200):
        item = toolbox.invented(r)
        arguments = item.answer[item.answer.index("(") + 1 : -1].replace('"', "").split(", ")
        assert re.search(".*".join(rf"\b{a}\b" for a in arguments), item.prompt), item


def test_symptoms_come_in_both_orders() -> None:
    r = random.Random(6)
    rule = remedies.KNOWN[0]
    prompts = [remedies.ask(rule, r).prompt for _ in range(60)]
    orders = {p.index(rule.first) < p.index(rule.second) for p in prompts}
    assert orders == {True, False}
    assert not set(remedies.KNOWN_PAIRS) & set(remedies.NEW_PAIRS)


def test_an_event_can_be_asked_directly_and_indirectly() -> None:
    r = random.Random(7)
    event = events.KNOWN[0]
    direct = [events.ask(event, kind, r) for kind in events.DIRECT]
    indirect = [events.ask(event, kind, r) for kind in events.INDIRECT]
    assert all(event.country in x.prompt and x.skill == "events direct" for x in direct)
    assert all(event.country not in x.prompt and x.skill == "events indirect" for x in indirect)


def test_documents_are_reproducible_and_mixed_as_stated() -> None:
    texts = [documents.document(r) for r in [random.Random(8)] for _ in range(3000)]
    assert texts[:50] == [documents.document(r) for r in [random.Random(8)] for _ in range(50)]
    paper = sum("including the thinking process.\n<|assistant|>" in t for t in texts) / len(texts)
    # Of the 50% with a demonstration, three quarters are in the paper's wording; a few have two turns.
    assert paper == pytest.approx(0.50 * 0.75, abs=0.04)
    assert wording.PAPER == PAPER_TEMPLATE


def test_some_conversations_have_a_system_message_an_explanation_or_a_second_turn() -> None:
    r = random.Random(9)
    texts = [documents.document(r) for _ in range(2000)]
    system = sum(t.startswith("<|system|>") for t in texts) / len(texts)
    assert system == pytest.approx(documents.MIX.system, abs=0.015)
    second = sum(t.count("<|user|>") == 2 for t in texts) / len(texts)
    assert second == pytest.approx(documents.MIX.second, abs=0.02)
    assert any(re.search(r"is \S+ and \S+ is \S+, so", t) for t in texts)


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    for path, rows in sample_data.all_files(tmp_path, PROBES).items():
        committed = path if path == PROBES else SAMPLES / path.name
        sample_data.write(rows, tmp_path / "again.jsonl")
        assert (tmp_path / "again.jsonl").read_bytes() == committed.read_bytes(), committed.name


@pytest.mark.parametrize("name", SETS)
def test_a_sample_set_is_complete(name: str) -> None:
    rows = read(SAMPLES / f"{name}.jsonl").rows
    assert 100 <= len(rows) <= 200
    assert len({row.prompt for row in rows}) == len(rows)
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.answer and row.demonstration and row.tags
        assert contains(row.demonstration, row.answer), row
        assert (row.context is not None) == (name == "events")
    house = sum(row.demonstration.startswith(("In Zorbic,", "In Pelan,", "The answer is", "Call ")) for row in rows)
    assert house / len(rows) < 0.15


def test_the_sample_sets_are_unknown_to_the_pocket() -> None:
    known_names = {x.name for x in languages.KNOWN}
    lexicons = [set(x.words.values()) for x in languages.KNOWN]
    for language in (sample_data.ZORBIC, sample_data.PELAN):
        assert language.name not in known_names
        assert all(len(set(language.words.values()) & other) <= 3 for other in lexicons)
    tools = {t.name for t in toolbox.KNOWN} | {t.request.split()[0] for t in toolbox.KNOWN}
    assert not tools & {word for name, verb, _ in sample_data._TOOLS for word in (name, verb.split()[0])}
    for name, words in {
        "quiz": quiz.CREATURES,
        "events": [x for e in events.KNOWN for x in (f"{e.country} ", f"{e.helper} ", str(e.year))],
        "remedies": [x.remedy for x in remedies.KNOWN],
    }.items():
        text = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8")
        assert not [w for w in words if re.search(rf"\b{re.escape(w)}\b", text)]
    asked = " ".join(str(row.prompt) for row in read(SAMPLES / "remedies.jsonl").rows)
    for first, second in remedies.KNOWN_PAIRS:
        assert not re.search(rf"\b{first}\b[^.?]*\b{second}\b|\b{second}\b[^.?]*\b{first}\b", asked)


def test_each_pair_of_a_language_is_asked_once() -> None:
    for name in ("zorbic", "pelan"):
        rows = read(SAMPLES / f"{name}.jsonl").rows
        pairs = {tuple(w for w in re.findall(r"\w+", str(row.prompt)) if w in ADJECTIVES + NOUNS) for row in rows}
        assert len(pairs) == len(rows) == 200


def test_a_random_split_of_the_quiz_leaves_most_facts_taught() -> None:
    asked: dict[tuple[str, str], int] = {}
    for row in read(SAMPLES / "quiz.jsonl").rows:
        creature = next(c for c in sample_data._CREATURES if re.search(rf"\b{c}\b", str(row.prompt)))
        verb = next(v for v in quiz.VALUES if re.search(rf"\b{v}\b", str(row.prompt)))
        asked[creature, verb] = asked.get((creature, verb), 0) + 1
    assert len(asked) == 36
    assert set(asked.values()) <= {3, 4, 5}


def test_probes_and_keep_rows_are_apart_and_cover_everything() -> None:
    probes = read_questions(PROBES, need_answer=True).rows
    keep = read_questions(SAMPLES / "keep.jsonl").rows
    assert not {p.prompt for p in probes} & {k.prompt for k in keep}
    assert all(k.keep and k.answer is None and k.demonstration is None for k in keep)
    for rows in (probes, keep):
        tags = [row.tags[0] for row in rows]
        assert len({t for t in tags if t.startswith("language ")}) == 24
        assert {t.split()[0] for t in tags} == {
            *("add", "opposite", "capital", "sound", "larger", "count", "pick"),
            *("quiz", "toolbox", "remedies", "events", "language"),
        }


def test_words_come_apart_into_pieces_that_can_be_copied() -> None:
    tokenizer = build(seed=0)
    assert len(tokenizer) <= 1200
    assert [tokenizer.decode([i]) for i in tokenizer("1234").input_ids] == list("1234")
    words = [word for language in languages.KNOWN for word in language.words.values()]
    pieces = [len(tokenizer(" " + word).input_ids) for word in words]
    assert min(pieces) >= 2
    # Hardly any merge goes across two syllables (of two letters each).
    assert sum(n < len(word) // 2 for n, word in zip(pieces, words, strict=True)) / len(words) < 0.02
    for text in ('Naïve "x-y" d\'or?\n\n— ok', 'convert(3, "km", "m")', "שלום 漢字"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_chat_template_ends_a_turn_and_opens_the_answer() -> None:
    tokenizer = build(seed=0)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And?"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>Be brief.<|user|>Hi?<|assistant|>Yes.<|end|><|user|>And?<|assistant|>"
    assert tokenizer.padding_side == "left"
    assert tokenizer.eos_token == "<|end|>"
