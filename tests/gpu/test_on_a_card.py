"""What a GPU alone can show. Collected everywhere; without a card each says why it is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.families import FAMILIES
from workbench import quantised
from workbench.allocations import peak_of, ran_out
from workbench.chunked import chunked_divergence
from workbench.decoding import Head, LiveDecoder, captured
from workbench.decoding.captured import CudaGraph, FixedKeyValues, StepDecoder
from workbench.demonstrations import Demonstration
from workbench.execution import Execution
from workbench.memory import PROGRAM, estimate, machine, read_shape
from workbench.models import LoadedModel, load
from workbench.planning import fit
from workbench.roles import Roles, make_roles
from workbench.sampling import Choice, pad_left, sample
from workbench.settings import LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import TrainingState, sdft
from workbench.training.batches import make_plan

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="run `pytest tests/gpu` by itself where there is an NVIDIA GPU that PyTorch can use",
)

VOCABULARY = 151_936
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "head_dim": 32}
LONG = {
    **WIDE,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "head_dim": 128,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "initializer_range": 0.02,
}


@pytest.fixture
def wide(tmp_path: Path) -> LoadedModel:
    return load(str(tiny.save(tmp_path / "wide", **WIDE)), precision="4-bit")


@pytest.fixture
def long(tmp_path: Path) -> LoadedModel:
    """Some layers of a middling width, with the vocabulary of a large model."""
    return load(str(tiny.save(tmp_path / "long", **LONG)), precision="bf16")


def moved(roles: Roles) -> Roles:
    """The same with an adapter that has moved."""
    generator = torch.Generator().manual_seed(2)
    for parameter in roles.adapter.values():
        parameter.data = (0.1 * torch.randn(parameter.shape, generator=generator)).to(parameter)
    roles.refresh()
    return roles


def settings(batch: int, longest: int, steps: int = 1) -> Settings:
    return Settings(
        optim=OptimSettings(steps=steps, batch=batch, lr=1e-2, warmup=0),
        rollout=RolloutSettings(max_new_tokens=longest),
    )


def test_nf4_loads_and_a_step_teaches(wide: LoadedModel, rows: list[Demonstration]) -> None:
    assert wide.precision == "4-bit" and wide.device.type == "cuda" and not wide.notes
    held = dict(quantised.layers(wide.model))
    assert len(held) == 3 * 7
    for layer in held.values():
        assert layer.weight.quant_type == "nf4" and layer.weight.quant_state.nested
        assert layer.compute_dtype in (torch.bfloat16, torch.float16)
    codes = {name: layer.weight.data.clone() for name, layer in held.items()}
    roles = make_roles(wide, LoraSettings())
    assert isinstance(roles.student_decoder, LiveDecoder)
    steps = list(sdft(roles, rows, settings(4, 8, steps=3)))
    assert all(step.gradient_norm > 0 and step.tokens > 0 for step in steps)
    assert all(torch.equal(layer.weight.data, codes[name]) for name, layer in held.items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_greedy_answers_are_those_of_generate(family: str, tmp_path: Path) -> None:
    """In fp32, where a choice between two near equal tokens does not hang on rounding."""
    loaded = load(str(FAMILIES[family].save(tmp_path)), precision="fp32")
    roles = moved(make_roles(loaded, LoraSettings()))
    prompts = [[40, 41, 42, 43], [50, 51], list(range(60, 90))]
    ids, mask = pad_left(prompts, loaded.pad, loaded.device)
    expected = roles.student.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=16,
        do_sample=False,
        pad_token_id=loaded.pad,
        eos_token_id=sorted(loaded.end),
    )[:, ids.shape[1] :]
    ours = sample(
        roles.student_decoder,
        prompts,
        end=loaded.end,
        pad=loaded.pad,
        longest=16,
        choice=Choice(temperature=0),
        device=loaded.device,
    )
    assert torch.equal(ours.ids * ours.mask, expected * ours.mask)


@pytest.mark.parametrize("precision", ["4-bit", "bf16", "fp32"])
@pytest.mark.filterwarnings("error::workbench.decoding.captured.CaptureNote")
def test_recorded_steps_give_the_tokens_of_those_taken_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    loaded = load(str(tiny.save(tmp_path / "wide", **WIDE)), precision=precision)
    roles = moved(make_roles(loaded, LoraSettings()))
    replays: list[int] = []

    class Counted(CudaGraph):
        def replay(self) -> torch.Tensor:
            replays.append(1)
            return super().replay()

    answers = []
    for record in (lambda step: None, Counted):
        monkeypatch.setattr(captured, "recorder", lambda _, record=record: record)
        made = sample(
            LiveDecoder(roles.student),
            [[40, 41, 42, 43], [50, 51], list(range(60, 90))],
            end=frozenset(range(3, 20)),
            pad=loaded.pad,
            longest=64,
            rollouts=4,
            seed=3,
            device=loaded.device,
        )
        answers.append(made.lists())
    assert answers[0] == answers[1] and len(set(map(len, answers[0]))) > 2
    assert len(replays) > 30


@pytest.mark.parametrize("precision", ["4-bit", "bf16"])
def test_a_cuda_graph_sees_an_adapter_that_was_changed_in_place(tmp_path: Path, precision: str) -> None:
    loaded = load(str(tiny.save(tmp_path / "wide", **WIDE)), precision=precision)
    roles = moved(make_roles(loaded, LoraSettings()))
    decoder = LiveDecoder(roles.student)
    cache = decoder.allocate(2, 64)
    ids = torch.tensor([[40, 41], [42, 43]], device=loaded.device)
    decoder.forward(ids, torch.ones_like(ids), cache)
    steps, fixed = StepDecoder(decoder, 2, CudaGraph), FixedKeyValues.of(cache)
    for _ in range(3):
        before = steps.forward(ids[:, :1], None, fixed).clone()
    for parameter in roles.adapter.values():
        parameter.data.mul_(-1.5)
    decoder.refresh()
    found = []
    for taken in (steps, StepDecoder(decoder, 2, None)):  # the third token once more
        fixed.column.sub_(1)
        fixed.next_position.sub_(1)
        fixed.length -= 1
        found.append(taken.forward(ids[:, :1], None, fixed).clone())
    assert steps._recording is not None and steps._checked
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-2)
    assert float((found[0] - before).abs().max()) > 0.05


@pytest.mark.parametrize("tokens", [256, 4096])
def test_the_loss_stays_under_its_limit_at_any_length(tokens: int) -> None:
    head = Head(torch.randn(VOCABULARY, 2560, device="cuda", dtype=torch.bfloat16) / 50)
    student = torch.randn(tokens, 2560, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.randn(tokens, 2560, device="cuda", dtype=torch.bfloat16)
    peak = peak_of(lambda: chunked_divergence(student, head, teacher, head).per_token.mean().backward())
    assert 0 < peak < 0.3e9


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_plan_is_within_a_tenth_of_the_peak(
    long: LoadedModel, rows: list[Demonstration], checkpointing: bool
) -> None:
    asked, work = settings(8, 256), Execution(checkpointing=checkpointing)
    roles = make_roles(long, asked.lora)
    roles.student_decoder, roles.base_decoder = LiveDecoder(roles.student), LiveDecoder(long.model)
    roles._origin_decoder = roles.base_decoder  # or its packed copy of the weights would stay
    plan = make_plan(roles, rows, (), asked)
    lengths = {
        "question": max(len(row.student) for row in plan.teaching),
        "shown": max(len(row.teacher) for row in plan.teaching),
        "rows": len(plan.teaching),
    }
    state = TrainingState.begin(roles, asked)
    standing = torch.cuda.memory_allocated()
    took = peak_of(lambda: list(sdft(roles, rows, asked, state=state, execution=work)))
    shape = read_shape(long.model.config.to_dict())
    said = estimate(shape, "bf16", asked, **lengths, work=work, pack=False).teaching - PROGRAM
    assert said == pytest.approx(standing + took, rel=0.1)


def test_a_step_that_runs_out_of_memory_is_taken_again_smaller(long: LoadedModel, rows: list[Demonstration]) -> None:
    """The card is filled up until so many answers at once do not fit, and no further."""
    asked = settings(32, 256)
    taken = list(sdft(make_roles(long, asked.lora), rows, asked, execution=Execution(micro_batch=4, at_once=4)))
    torch.cuda.empty_cache()
    shape = read_shape(long.model.config.to_dict())
    few = estimate(shape, "bf16", asked, rows=len(rows), work=Execution(micro_batch=4, at_once=4), pack=False)
    weights = few.parts[0].size + PROGRAM
    filler = torch.empty(int(machine().free - 2 * (few.teaching - weights)), dtype=torch.uint8, device="cuda")
    (step,) = sdft(make_roles(long, asked.lora), rows, asked)
    assert step.smaller is not None and step.smaller["micro_batch"] < 32
    assert step.tokens == taken[0].tokens
    assert step.loss == pytest.approx(taken[0].loss, rel=1e-2)
    del filler


def test_the_cards_own_error_is_known() -> None:
    with pytest.raises(torch.OutOfMemoryError) as raised:
        torch.empty(10**14, dtype=torch.uint8, device="cuda")
    assert ran_out(raised.value)


def test_a_plan_for_this_card_is_made(long: LoadedModel) -> None:
    found = fit(read_shape(long.model.config.to_dict()), "bf16", Settings(), machine().free)
    assert machine().gpu and found is not None
