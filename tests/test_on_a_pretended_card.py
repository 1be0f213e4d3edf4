"""The loop on a pretended card: nothing is left in the computer's memory, and the numbers are those of a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.families import FAMILIES
from tests.pretend_card import Card, pretended
from tests.test_training import BASIC
from workbench import groups
from workbench.adapters import WEIGHTS_FILE
from workbench.decoding import Decoder, LiveDecoder, ModelDecoder, PackedDecoder
from workbench.demonstrations import Demonstration, read_questions
from workbench.errors import InputError
from workbench.events import RolloutSample, RunEnded, Saved, Step
from workbench.execution import Execution
from workbench.export import export_run
from workbench.memory import estimate, question_bytes, read_shape
from workbench.models import load
from workbench.planning import SPARE
from workbench.roles import Roles, make_roles
from workbench.runs import Run
from workbench.runs.fitting import planned
from workbench.runs.session import Request, Session, begin, student_at
from workbench.sampling import COUNT_EVERY, Choice, Completions, sample
from workbench.settings import DivergenceSettings, KeepSettings, RolloutSettings, Settings, TeacherSettings
from workbench.training import TrainingState, sdft, sft
from workbench.worker.asking import ROLES, Asker, Question, View

TWO = replace(BASIC, optim=replace(BASIC.optim, steps=2))
DECODERS: dict[str, Callable[[Any], Decoder]] = {"packed": PackedDecoder, "live": LiveDecoder, "generic": ModelDecoder}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rollouts, skipped, reverse": {
        "rollout": RolloutSettings(rollouts=3, max_new_tokens=8, top_p=0.9, top_k=50),
        "divergence": DivergenceSettings(divergence="reverse", skip_tokens=2),
    },
    "keep, ema, anchor": {
        "keep": KeepSettings(0.5),
        "teacher": TeacherSettings(teacher="ema", ema_rate=0.5),
        "divergence": DivergenceSettings(anchor=0.5, skip_tokens=0),
    },
    "keep, live, top-k, clip": {
        "keep": KeepSettings(0.34),
        "teacher": TeacherSettings(teacher="live"),
        "divergence": DivergenceSettings(support_size=10, clip=0.05, skip_tokens=0),
    },
    "jsd": {"divergence": DivergenceSettings(divergence="jsd", loss_temperature=2.0, skip_tokens=0)},
}
PARTS = Execution(micro_batch=2, at_once=4, checkpointing=True)
STEPS = [
    ("plain", "packed", Execution()),
    ("plain", "live", Execution()),
    ("plain", "generic", PARTS),
    ("rollouts, skipped, reverse", "packed", PARTS),
    ("rollouts, skipped, reverse", "live", Execution()),
    ("keep, ema, anchor", "packed", Execution()),
    ("keep, ema, anchor", "live", Execution()),
    ("keep, ema, anchor", "generic", Execution()),
    ("keep, live, top-k, clip", "live", PARTS),
    ("jsd", "packed", Execution()),
]


@pytest.fixture
def card(_same_random_numbers: None) -> Iterator[Card]:
    with pretended() as made:
        yield made


def roles_of(folder: Path, settings: Settings, kind: str = "packed", precision: str = "fp32") -> Roles:
    """Roles whose decoders are all of one kind."""
    roles = make_roles(load(str(folder), precision=precision), settings.lora)
    roles.base_decoder, roles.student_decoder = DECODERS[kind](roles.loaded.model), DECODERS[kind](roles.student)
    roles._origin_decoder = roles.base_decoder
    return roles


def assert_same(found: list[Step], expected: list[Step]) -> None:
    assert len(found) == len(expected) > 0
    for mine, reference in zip(found, expected, strict=True):
        for name in ("loss", "gradient_norm", "tokens", "length", "entropy", "agreement", "keep_loss"):
            is_, was = getattr(mine, name), getattr(reference, name)
            assert is_ == (None if was is None else pytest.approx(was, rel=1e-3, abs=1e-5)), name
        assert [s.tokens for s in mine.samples] == [s.tokens for s in reference.samples]


@pytest.mark.parametrize(("name", "kind", "work"), STEPS, ids=str)
def test_sdft_takes_the_steps_it_takes_on_a_cpu(
    name: str,
    kind: str,
    work: Execution,
    tiny_folder: Path,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
) -> None:
    settings = replace(TWO, **VARIANTS[name])
    keep = keep_rows if name.startswith("keep") else ()

    def taught() -> tuple[Roles, list[Step]]:
        roles = roles_of(tiny_folder, settings, kind)
        return roles, list(sdft(roles, rows, settings, keep=keep, execution=work))

    _, expected = taught()
    with pretended():
        roles, found = taught()
        assert roles.loaded.device.type == "cuda"
        assert {p.device.type for p in roles.student.parameters()} == {"cuda"}
    assert_same(found, expected)


@pytest.mark.parametrize("kind", DECODERS)
def test_sft_takes_the_steps_it_takes_on_a_cpu(
    kind: str, tiny_folder: Path, rows: list[Demonstration], keep_rows: list[Demonstration]
) -> None:
    settings = replace(TWO, keep=KeepSettings(0.5))
    expected = list(sft(roles_of(tiny_folder, settings, kind), rows, settings, keep=keep_rows))
    with pretended():
        assert_same(list(sft(roles_of(tiny_folder, settings, kind), rows, settings, keep=keep_rows)), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_a_model_of_each_family_is_taught(family: str, rows: list[Demonstration], tmp_path: Path, card: Card) -> None:
    folder = FAMILIES[family].save(tmp_path)
    loaded = load(str(folder), precision="fp32")
    roles = make_roles(loaded, BASIC.lora)
    steps = [*sdft(roles, rows, TWO), *sft(roles, rows, TWO)]
    assert len(steps) == 4 and all(step.gradient_norm > 0 for step in steps)


def test_a_model_in_half_precision_keeps_its_adapter_whole(
    tiny_folder: Path, rows: list[Demonstration], card: Card
) -> None:
    """What `auto` takes on a card; the adapter is fp32 beside it."""
    loaded = load(str(tiny_folder))
    roles = make_roles(loaded, TWO.lora)
    assert loaded.precision == "bf16" and isinstance(roles.student_decoder, LiveDecoder)
    assert {p.dtype for p in roles.adapter.values()} == {torch.float32}
    state = TrainingState.begin(roles, TWO)
    steps = list(sdft(roles, rows, TWO, state=state, execution=PARTS))
    assert all(step.loss > 0 and step.gradient_norm > 0 for step in steps)
    kept = [v for s in state.optimizer.state.values() for v in s.values()]
    assert {v.device.type for v in kept} == {"cuda"} and {v.dtype for v in kept} == {torch.float32}


def test_a_step_that_runs_out_of_memory_is_taken_again_smaller(
    tiny_folder: Path, rows: list[Demonstration], card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(TWO, optim=replace(TWO.optim, steps=1))
    expected = list(sdft(roles_of(tiny_folder, one), rows, one, execution=Execution(micro_batch=3)))
    roles = roles_of(tiny_folder, one)
    state = TrainingState.begin(roles, one)
    own, asked = state.accumulate, []

    def accumulate(loss: torch.Tensor) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        own(loss)

    monkeypatch.setattr(state, "accumulate", accumulate)
    (found,) = sdft(roles, rows, one, state=state)
    assert found.smaller is not None and found.smaller["micro_batch"] == 3
    assert_same([found], expected)


def events_of(run: Run, *kinds: str) -> list[dict[str, Any]]:
    return [{**e, "seconds": None} for e in run.log.dictionaries() if e["event"] in kinds]


def test_a_run_goes_on_from_its_checkpoint_on_the_card(
    tiny_folder: Path, rows: list[Demonstration], probes: Path, tmp_path: Path
) -> None:
    asked = list(read_questions(probes, need_answer=True).rows)
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=4), teacher=TeacherSettings(teacher="ema"))

    def begun(name: str) -> Run:
        request = Request(name, "sdft", settings, rows[:8], rows[8:], probes=asked, evaluate_every=2, save_every=2)
        return begin(request, load(str(tiny_folder), precision="fp32"), tmp_path)

    on_cpu = begun("cpu")
    list(Session(on_cpu).teach())
    with pretended():
        whole, parts = begun("whole"), begun("parts")
        list(Session(whole).teach())
        events = Session(parts).teach()
        while not isinstance(next(events), Saved):
            pass
        events.close()
        again = Session(parts)
        assert again.state.step == 2
        list(again.teach())
    adapters = [load_file(run.adapter / WEIGHTS_FILE) for run in (whole, parts, on_cpu)]
    for name, value in adapters[0].items():
        assert value.dtype == torch.float32 and torch.equal(value, adapters[1][name])
        # As a whole: where a gradient is next to nothing, AdamW makes a step of its rounding.
        assert float((value - adapters[2][name]).norm()) < 0.01 * float(value.norm()), name
    assert events_of(parts, "step", "evaluated") == events_of(whole, "step", "evaluated")
    assert events_of(on_cpu, "checked") == events_of(whole, "checked")


@pytest.mark.parametrize("teacher", ["base", "original"])
def test_a_second_lesson_on_a_first_and_its_exports(
    teacher: Literal["base", "original"], tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, card: Card
) -> None:
    settings = replace(TWO, optim=replace(TWO.optim, lr=1e-2), teacher=TeacherSettings(teacher=teacher))
    first = begin(Request("first", "sdft", TWO, rows[:8], []), load(str(tiny_folder), precision="fp32"), tmp_path)
    list(Session(first).teach())
    request = Request("second", "sdft", settings, rows[:8], [], on="first", before=first.adapter)
    second = begin(request, load(str(tiny_folder), precision="fp32"), tmp_path)
    assert second.before is not None
    list(Session(second).teach())
    roles = student_at(second)
    ids = torch.tensor([[1, 5, 6, 7, 8, 2]], device=roles.loaded.device)
    said = roles.student(input_ids=ids).logits
    assert float((said - load(str(tiny_folder), precision="fp32").model(input_ids=ids).logits).abs().max()) > 1e-3
    merged = load(str(export_run(second, "merged", tmp_path / "merged")), precision="fp32")
    torch.testing.assert_close(merged.model(input_ids=ids).logits, said, rtol=1e-3, atol=1e-4)
    whole = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_folder), export_run(second, "adapter", tmp_path / "adapter")
    )
    torch.testing.assert_close(whole(input_ids=ids.cpu()).logits, said.detach().cpu(), rtol=1e-3, atol=1e-4)


def test_three_answers_stream_from_one_batch_and_are_mapped(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    def asked() -> tuple[dict[str, Any], RolloutSample, int]:
        loaded = load(str(tiny_folder), precision="fp32")
        asker = Asker(loaded, tmp_path)
        roles = make_roles(loaded, TWO.lora)
        roles.base_decoder = asker.base
        list(sdft(roles, rows, TWO))
        view = View.of(roles, TWO)
        said: list[dict[str, Any]] = []
        question = Question(rows[0], view, ROLES, Choice(0.7, top_p=0.9), seed=1, longest=12, times=2)
        found = asker.ask(question, said.append, bool, time.perf_counter())
        text = found["answers"]["teacher"][0]["text"]
        return found, asker.map(rows[0], view, "teacher", text or "a red ball"), len(said)

    expected = asked()
    with pretended():
        found = asked()
    for role in ROLES:
        assert [a["text"] for a in found[0]["answers"][role]] == [a["text"] for a in expected[0]["answers"][role]]
    assert found[1].tokens == expected[1].tokens
    assert found[1].divergence == pytest.approx(expected[1].divergence, abs=1e-3)
    assert found[2] >= len(ROLES) * 2


def test_a_run_is_planned_for_the_card_that_the_model_is_on(
    tiny_folder: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(str(tiny_folder), precision="fp32")
    settings = replace(TWO, optim=replace(TWO.optim, batch=32), rollout=RolloutSettings(max_new_tokens=128))
    shape = read_shape(loaded.model.config.to_dict())
    whole = estimate(shape, "fp32", settings, question=64, shown=256).teaching
    # What PyTorch keeps back, and does not use, it can use again.
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * 10**8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1.2 * whole - 6e8, 1e12))
    assert replace(planned(loaded, settings), prefix_bytes=0) == Execution(prefix_bytes=0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (-5e8, 1e12))
    with pytest.raises(InputError, match="GB"):
        planned(loaded, settings)


@pytest.mark.parametrize("method", ["sdft", "sft"])
def test_what_is_planned_for_a_small_card_is_measured_on_it(
    method: str,
    tiny_folder: Path,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
    tmp_path: Path,
    card: Card,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = load(str(tiny_folder), precision="fp32")
    settings = replace(TWO, optim=replace(TWO.optim, batch=2), keep=KeepSettings(0.5))
    shape = read_shape(loaded.model.config.to_dict())
    need = estimate(shape, "fp32", settings, work=Execution(prefix_bytes=0))
    stays = need.standing + 16 * shape.adapter(settings.lora.rank)
    each = question_bytes(shape, "fp32", settings)
    assert need.teaching < stays + 3.5 * each
    weights = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((stays + 3.5 * each) / (1 - SPARE) - weights, 1e12))
    asked: list[int] = []

    def on_the_card(decoder: Decoder, prompts: list[tuple[int, ...]], **how: Any) -> Completions:
        asked.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return sample(decoder, prompts, **how)

    monkeypatch.setattr(groups, "sample", on_the_card)
    request = Request("it", method, settings, rows[:4], rows[4:], keep_rows, rows[:6])
    run = begin(request, loaded, tmp_path)
    assert run.config["execution"]["questions"] == 3
    assert isinstance(list(Session(run, loaded).teach())[-1], RunEnded)
    assert max(asked) == 3, "not by trying: nothing ran out"


def waits(decoder: Decoder, prompts: list[list[int]], longest: int, card: Card) -> int:
    """How often the card is waited for while two answers of so many tokens are sampled to each prompt."""
    card.waits.clear()
    never = frozenset({10**6})  # beyond the vocabulary
    made = sample(decoder, prompts, end=never, pad=0, longest=longest, rollouts=2, device="cuda")
    assert made.ids.shape == (2 * len(prompts), longest)
    return card.waited


PROMPTS = [[[40, 41, 42, 43], [50, 51], list(range(60, 80))], [[40, 41, 42, 43]]]  # padded, and not


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("prompts", PROMPTS, ids=["padded", "alone"])
def test_sampling_waits_for_the_card_once_in_eight_tokens(
    kind: str, prompts: list[list[int]], tiny_folder: Path, card: Card
) -> None:
    decoder = roles_of(tiny_folder, TWO, kind).student_decoder
    assert COUNT_EVERY["cuda"] == 8
    assert waits(decoder, prompts, 40, card) - waits(decoder, prompts, 8, card) == (40 - 8) // 8


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_a_model_of_each_family_is_sampled_from_as_rarely_waiting(family: str, tmp_path: Path, card: Card) -> None:
    decoder = make_roles(load(str(FAMILIES[family].save(tmp_path)), precision="fp32"), BASIC.lora).student_decoder
    for prompts in PROMPTS:
        assert waits(decoder, prompts, 40, card) - waits(decoder, prompts, 8, card) == (40 - 8) // 8


@pytest.mark.parametrize("kind", DECODERS)
def test_attention_is_asked_for_as_fused_kernels_take_it(
    kind: str, tiny_folder: Path, rows: list[Demonstration], card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask together with grouped queries would be worked out whole, in fp32."""
    asked: list[tuple[bool, bool]] = []
    own = F.scaled_dot_product_attention

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **how: Any) -> torch.Tensor:
        asked.append((how.get("attn_mask") is not None, bool(how.get("enable_gqa"))))
        return own(q, k, v, **how)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    assert next(sdft(roles_of(tiny_folder, TWO, kind), rows, TWO)).loss > 0
    assert (True, False) in asked and (True, True) not in asked


def test_a_step_waits_as_often_whatever_its_size(tiny_folder: Path, rows: list[Demonstration], card: Card) -> None:
    """For one pass: not once for each answer or token that is scored."""

    def waits(batch: int, longest: int) -> int:
        settings = replace(TWO, optim=replace(TWO.optim, batch=batch), rollout=RolloutSettings(max_new_tokens=longest))
        roles = roles_of(tiny_folder, settings, "live")
        steps = sdft(roles, rows, settings)
        next(steps)
        card.waits.clear()
        next(steps)
        return card.waited

    assert waits(12, 8) == waits(3, 8)
