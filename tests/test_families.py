"""Each family that the documentation names: loaded, asked, taught, with its real classes and templates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from tests.families import FAMILIES
from workbench.decoding import ModelDecoder, PackedDecoder
from workbench.decoding.packed import flat, inner_model
from workbench.demonstrations import Demonstration
from workbench.models import LoadedModel, load
from workbench.roles import Roles, make_roles
from workbench.sampling import Choice, pad_left, sample
from workbench.settings import DivergenceSettings, LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import sdft
from workbench.training.batches import make_prompts
from workbench.training.student import checkpointed, completion_logits, hidden_without_cache, model_hidden, model_logits

pytestmark = pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")

LONGEST = 8
SETTINGS = Settings(
    lora=LoraSettings(rank=2, alpha=4),
    optim=OptimSettings(steps=1, batch=2, lr=1e-2, warmup=0),
    rollout=RolloutSettings(max_new_tokens=LONGEST),
    divergence=DivergenceSettings(skip_tokens=1),
)


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(name: str, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(str(FAMILIES[name].save(tmp_path_factory.mktemp(name))))


@pytest.fixture
def roles(loaded: LoadedModel) -> Roles:
    """Roles whose adapter has moved."""
    made = make_roles(loaded, SETTINGS.lora)
    generator = torch.Generator().manual_seed(3)
    for parameter in made.adapter.values():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    made.refresh()
    return made


def test_both_prompts_are_written_by_the_familys_template(
    name: str, loaded: LoadedModel, rows: list[Demonstration]
) -> None:
    prompts = make_prompts(loaded.tokenizer, SETTINGS)
    tokens = prompts.tokenise_all(rows[:2], loaded.longest, LONGEST)[0]
    asked = prompts.render(prompts.student_messages(rows[0]))
    assert loaded.tokenizer.decode(tokens.student) == asked
    assert rows[0].question in asked and rows[0].demonstration not in asked
    assert rows[0].demonstration in prompts.render(prompts.teacher_messages(rows[0]))
    # The completion begins at the same place for both, and nothing is put before the template's own beginning.
    assert tokens.student[-2:] == tokens.teacher[-2:]
    begins = FAMILIES[name].begins
    if begins is not None and name != "phi4-mini":
        assert asked.startswith(begins) and asked.count(begins) == 1
    # What is taught to end an answer is what the template ends a turn with, and it ends a rollout.
    end = loaded.tokenizer.convert_tokens_to_ids(FAMILIES[name].ends_turn)
    assert tokens.target is not None and tokens.target[-1] == end and end in loaded.end


def test_greedy_answers_are_those_of_generate(roles: Roles, rows: list[Demonstration]) -> None:
    """Of prompts longer than Gemma's window, of unequal length, with the adapter."""
    loaded = roles.loaded
    tokens = make_prompts(loaded.tokenizer, SETTINGS).tokenise_all(rows[:2], loaded.longest, LONGEST)
    asked = [tokens[0].student, tokens[1].teacher]
    ids, mask = pad_left(asked, loaded.pad)
    expected = roles.student.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=LONGEST,
        do_sample=False,
        pad_token_id=loaded.pad,
        eos_token_id=sorted(loaded.end),
    )[:, ids.shape[1] :]
    ours = sample(
        roles.student_decoder, asked, end=loaded.end, pad=loaded.pad, longest=LONGEST, choice=Choice(temperature=0)
    )
    assert ours.ids.shape == expected.shape
    assert torch.equal(ours.ids * ours.mask, expected * ours.mask)
    assert len(set(ours.ids[0].tolist())) > 2, "an answer that says one thing over and over would show nothing"


def test_the_way_it_is_run(name: str, roles: Roles) -> None:
    flat = name in ("qwen2.5", "qwen3", "llama3")
    assert isinstance(roles.student_decoder, PackedDecoder if flat else ModelDecoder)
    assert roles.head is not None, "the loss would make all logits at once"


def test_the_adapter_goes_on_every_linear_layer_of_the_language_model(name: str, roles: Roles) -> None:
    found = {n.split(".lora_")[0].rsplit(".", 1)[1] for n in roles.adapter}
    assert found == set(FAMILIES[name].targets)
    assert len(roles.adapter) == 2 * 2 * len(found), "two layers, two factors each"
    assert not [n for n in roles.adapter if "vision" in n or "lm_head" in n]


def test_a_step_moves_the_adapter_as_autograd_says(roles: Roles, rows: list[Demonstration]) -> None:
    before = {n: p.detach().clone() for n, p in roles.adapter.items()}
    base = roles.loaded.model.state_dict()
    kept = {n: t.clone() for n, t in base.items()}
    (step,) = sdft(roles, rows, SETTINGS)
    assert step.tokens > 0 and step.loss > 0 and step.gradient_norm > 0
    moved = [n for n, p in roles.adapter.items() if not torch.equal(p, before[n])]
    assert len(moved) == len(before)
    assert all(torch.equal(t, kept[n]) for n, t in base.items())


def test_gradients_are_those_of_the_models_own_forward(roles: Roles, rows: list[Demonstration]) -> None:
    loaded = roles.loaded
    tokens = make_prompts(loaded.tokenizer, SETTINGS).tokenise_all(rows[:2], loaded.longest, LONGEST)
    answers = sample(
        roles.student_decoder,
        [tokens[0].student, tokens[1].teacher],
        end=loaded.end,
        pad=loaded.pad,
        longest=LONGEST,
        record=True,
    )
    parameters = list(roles.adapter.values())
    found = []
    for logits in (completion_logits(roles, answers), model_logits(roles.student, answers)):
        loss = (logits.log_softmax(-1)[..., 7] * answers.mask).sum()
        found.append(torch.autograd.grad(loss, parameters))
    scale = max(float(g.abs().max()) for g in found[1])
    for mine, reference in zip(*found, strict=True):
        assert float(reference.abs().max()) > 0
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * scale)


def test_a_prompt_is_read_once_for_all_its_answers_with_the_same_gradients(
    roles: Roles, rows: list[Demonstration]
) -> None:
    loaded = roles.loaded
    assert roles.head is not None
    tokens = make_prompts(loaded.tokenizer, SETTINGS).tokenise_all(rows[:2], loaded.longest, LONGEST)
    prompts = [tokens[0].student, tokens[1].teacher]
    answers = sample(
        roles.student_decoder, prompts, end=frozenset(), pad=loaded.pad, longest=LONGEST, rollouts=3, seed=2
    )
    lengths = torch.tensor([LONGEST, 3, 1, 6, LONGEST, 5])
    answers = replace(answers, mask=(torch.arange(LONGEST) < lengths[:, None]).long())
    parameters = list(roles.adapter.values())
    read: list[int] = []
    layer = [m for m in roles.student.modules() if isinstance(m, GradientCheckpointingLayer)][-1]  # after any pictures'
    hook = layer.register_forward_hook(lambda module, inputs, output: read.append(inputs[0][..., 0].numel()))
    found = []

    def see(logits: torch.Tensor) -> None:
        loss = (logits.log_softmax(-1)[..., 7] * answers.mask).sum()
        found.append((logits.detach()[answers.mask.bool()], torch.autograd.grad(loss, parameters)))

    see(model_logits(roles.student, answers))
    see(roles.head(model_hidden(roles.student, answers)))
    wide, last = answers.prompt_ids.shape[1] - 1, 6 * LONGEST
    assert read == [2 * wide, last, 2 * wide, last]
    read.clear()
    with checkpointed(roles.student):
        held = hidden_without_cache(roles.student, answers)
    see(roles.head(held))
    if flat(inner_model(roles.student)):
        assert read[0] == 2 * (wide + 1) + 6 * (LONGEST - 1)
    hook.remove()
    see(model_logits(roles.student, replace(answers, rollouts=1)))
    reference, expected = found.pop()
    scale = max(float(g.abs().max()) for g in expected)
    for logits, gradients in found:
        torch.testing.assert_close(logits, reference, rtol=1e-4, atol=2e-4)
        for mine, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5 * scale)
