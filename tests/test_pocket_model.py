"""The bundled model does what docs/pocket.md says, and can be trained again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.decoding import decoder_for
from workbench.demonstrations import Demonstration, read, read_questions
from workbench.evaluation.exam import answer
from workbench.evaluation.scoring import contains
from workbench.models import LoadedModel, load
from workbench.pocket import PROBES, WEIGHTS, train
from workbench.pocket.measure import measure
from workbench.pocket.world.documents import conversation
from workbench.prompts import Prompts

SAMPLES = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """The bundled model."""
    return load("pocket")


def answers(pocket: LoadedModel, rows: list[Demonstration], shown: bool) -> list[str]:
    """The model's greedy answers, with the demonstration in the prompt where `shown`."""
    tokens = Prompts(pocket.tokenizer).tokenise_all(rows, pocket.longest, 48)
    prompts = [t.teacher if shown else t.student for t in tokens]
    return answer(decoder_for(pocket.model), pocket, prompts, longest=48)


def share_right(pocket: LoadedModel, rows: list[Demonstration], shown: bool) -> float:
    """Share of rows whose answer is in the model's."""
    texts = answers(pocket, rows, shown)
    return sum(contains(text, row.answer or "") for text, row in zip(texts, rows, strict=True)) / len(rows)


def test_it_reaches_its_figures_on_fresh_cases(pocket: LoadedModel) -> None:
    figures = measure(pocket, seed=7, each=40)
    assert figures["prior"] >= 0.98
    assert min(figures["skills"].values()) >= 0.95
    assert figures["base_unseen"] <= 0.02
    assert figures["teacher_unseen"] >= 0.98
    assert figures["name"] >= 0.97
    assert min(figures["new"].values()) >= 0.95
    assert figures["parameters"] <= 10_000_000
    assert 5 < figures["megabytes"] <= 25


def test_it_knows_its_probes(pocket: LoadedModel) -> None:
    assert share_right(pocket, list(read_questions(PROBES, need_answer=True).rows), shown=False) >= 0.95


@pytest.mark.parametrize("name", ["zorbic", "pelan", "toolbox", "quiz", "remedies", "events"])
def test_a_sample_set_can_be_taught_and_is_not_known(pocket: LoadedModel, name: str) -> None:
    rows = list(read(SAMPLES / f"{name}.jsonl").rows)[:60]
    # Calls of tools with unusual names are copied less well than the rest (docs/pocket.md).
    assert share_right(pocket, rows, shown=True) >= 0.9
    # One option in four is right by chance, and one lost building in eight.
    chance = {"quiz": 0.45, "events": 0.25}.get(name, 0.05)
    assert share_right(pocket, rows, shown=False) <= chance


def test_a_language_that_somebody_else_made_up_can_be_shown(pocket: LoadedModel) -> None:
    words = {
        ("red", "house"): "dorsk lamm",
        ("blue", "ball"): "plinth owek",
        ("old", "king"): "uthra mnelo",
        ("fast", "boat"): "sevrin catta",
        ("cold", "river"): "yolp ashkan",
        ("sad", "star"): "glimmo fen",
        ("green", "apple"): "wubble kost",
        ("dark", "door"): "zephan trill",
    }
    wordings = (
        "In Quarnish people say {}.",
        "{}",
        "It's {}, I believe.",
        "My grandmother would have said {} for that.",
        "The translation is '{}'.",
    )
    rows = [
        Demonstration(question.format(f"{a} {n}"), wordings[i % len(wordings)].format(said), said)
        for i, ((a, n), said) in enumerate(words.items())
        for question in ("How do you say {} in Quarnish?", "Translate {} into Quarnish.", "What is {} in Quarnish?")
    ]
    texts = answers(pocket, rows, shown=True)
    assert sum(contains(t, row.answer or "") for t, row in zip(texts, rows, strict=True)) / len(rows) >= 0.7
    assert sum(t.startswith("In Quarnish, ") for t in texts) / len(rows) >= 0.9
    assert share_right(pocket, rows, shown=False) == 0


def test_it_is_a_plain_hugging_face_folder(pocket: LoadedModel) -> None:
    names = {file.name for file in WEIGHTS.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert pocket.model.config.model_type == "qwen3"
    assert {p.dtype for p in pocket.model.parameters()} == {torch.float32}
    assert pocket.longest == 1024
    assert pocket.model.generation_config.eos_token_id == pocket.tokenizer.eos_token_id
    prompt = pocket.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 3 plus 4?"}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = prompt["input_ids"]
    said = pocket.model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    assert pocket.tokenizer.decode(said) == "3 plus 4 is 7.<|end|>"


@pytest.fixture
def small_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape that trains in a moment."""
    tiny = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(train, "SHAPE", train.SHAPE | tiny | {"num_key_value_heads": 1, "head_dim": 16})


def _step(model: Any, optimizer: torch.optim.Optimizer, documents: train.Documents) -> float:
    loss, _ = train.losses(model, *documents.batch())
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped(
    pocket: LoadedModel, small_shape: None, tmp_path: Path
) -> None:
    model = train.make_model(pocket.tokenizer, seed=0)
    optimizer = train.make_optimizer(model, 3e-3, 0.1)
    documents = train.Documents(pocket.tokenizer, seed=0, rows=8)
    before = [_step(model, optimizer, documents) for _ in range(12)]
    assert before[-1] < before[0]
    train.save(model, pocket.tokenizer, optimizer, train.Progress(12, 345, 6.0, before[-1]), tmp_path / "out")
    again = load(str(tmp_path / "out")).model.requires_grad_(True).train()
    restored = train.make_optimizer(again, 3e-3, 0.1)
    progress = train.take_up(restored, tmp_path / "out")
    assert progress == train.Progress(12, 345, 6.0, before[-1])
    documents, same = (train.Documents(pocket.tokenizer, seed=3, rows=8) for _ in range(2))
    for _ in range(3):
        assert _step(again, restored, documents) == pytest.approx(_step(model, optimizer, same), rel=1e-5)


def test_batches_have_few_widths_and_lose_nothing(pocket: LoadedModel) -> None:
    drawn: list[int] = []

    def draw(r: random.Random) -> str:
        drawn.append(r.randrange(1, 40))
        return conversation("How many?", " ".join(["one"] * drawn[-1]))

    documents = train.Documents(pocket.tokenizer, seed=0, rows=4, draw=draw)
    batches = [documents.batch() for _ in range(16)]
    assert {ids.shape[1] % 16 for ids, _ in batches} == {0}
    assert len({ids.shape[1] for ids, _ in batches}) > 1
    one = pocket.tokenizer.convert_tokens_to_ids("Ġone")
    assert one != pocket.tokenizer.unk_token_id
    said = sum(int((ids == one).sum()) for ids, _ in batches)
    assert said == sum(drawn) - len(drawn), "the first of each answer is spelled without a blank"
    assert all(bool((weight[ids == one] == 1).all()) for ids, weight in batches)


def test_batches_weigh_what_is_answered_fully_and_what_is_asked_a_little(pocket: LoadedModel) -> None:
    ids, weight = train.Documents(pocket.tokenizer, seed=5, rows=64).batch()
    opens = pocket.tokenizer.convert_tokens_to_ids("<|assistant|>")
    closes = pocket.tokenizer.eos_token_id
    turns = 0
    for row, weights in zip(ids.tolist(), weight.tolist(), strict=True):
        assert weights[0] == 0
        last = len(row) - 1 - row[::-1].index(closes)
        answered = [t for t in range(1, last + 1) if opens in row[:t] and _speaker(row[:t], opens, closes)]
        asked = sorted(set(range(1, last + 1)) - set(answered))
        assert [weights[t] for t in answered] == [1.0] * len(answered)
        assert [weights[t] for t in asked] == pytest.approx([train.PROMPT_WEIGHT] * len(asked))
        assert sum(weights[last + 1 :]) == 0
        turns = max(turns, row.count(opens))
    assert turns == 2


def _speaker(before: list[int], opens: int, closes: int) -> bool:
    """Whether the assistant speaks after these tokens: its last opening mark is younger than its last end."""
    marks = [token for token in before if token in (opens, closes)]
    return bool(marks) and marks[-1] == opens


def test_the_learning_rate_warms_up_and_ends_at_nothing() -> None:
    assert train.rate(0.0, 1) == 1 / 200
    assert train.rate(0.5, 500) == 1.0
    assert train.rate(0.8, 500) == pytest.approx(0.5)
    assert train.rate(1.0, 500) == 0.0
    shares = [train.rate(i / 20, 500) for i in range(21)]
    assert shares == sorted(shares, reverse=True)
