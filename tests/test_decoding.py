"""The packed decoder, the generic one and transformers compute the same; sampling is what it says."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tests import tiny
from workbench import decoding, sampling
from workbench.decoding import LiveDecoder, ModelDecoder, PackedDecoder, decoder_for
from workbench.decoding.live import runs_live
from workbench.decoding.packed import inner_model
from workbench.demonstrations import Demonstration
from workbench.models import load
from workbench.roles import Roles, make_roles
from workbench.sampling import COUNT_EVERY, Choice, Stopped, pad_left, sample
from workbench.settings import LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import sdft
from workbench.training.student import completion_logits, model_logits

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


def taught(folder: Path, family: str, targets: str = "all-linear", **changes: Any) -> Roles:
    """Roles of a tiny model whose adapter has moved."""
    roles = make_roles(load(str(tiny.save(folder / family, family, **changes))), LoraSettings(targets=targets))
    generator = torch.Generator().manual_seed(2)
    for parameter in roles.adapter.values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    roles.refresh()
    return roles


@pytest.fixture(params=["qwen3", "qwen2", "llama"])
def roles(request: pytest.FixtureRequest, tmp_path: Path) -> Roles:
    return taught(tmp_path, request.param)


def test_packed_equals_generic_equals_transformers(roles: Roles) -> None:
    assert isinstance(roles.student_decoder, PackedDecoder)
    ids, mask = pad_left(PROMPTS, 0)
    more = torch.tensor([[5, 9], [6, 10], [7, 11]])
    found = []
    for decoder in (roles.student_decoder, LiveDecoder(roles.student), ModelDecoder(roles.student)):
        cache = decoder.allocate(3, 20)
        first = decoder.forward(ids, mask, cache, keep=2)
        found.append(torch.cat([first, decoder.forward(more, None, cache, keep=2)], 1))
    for row, prompt in enumerate(PROMPTS):
        whole = torch.tensor([[*prompt, *more[row].tolist()]])
        reference = roles.student(input_ids=whole).logits[0, -4:]
        for logits in found:
            torch.testing.assert_close(logits[row], reference, rtol=1e-4, atol=2e-4)


def test_greedy_decoding_gives_the_tokens_of_generate(roles: Roles) -> None:
    ids, mask = pad_left(PROMPTS, 0)
    expected = roles.student.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=[3, 77]
    )[:, ids.shape[1] :]
    for decoder in (roles.student_decoder, LiveDecoder(roles.student), ModelDecoder(roles.student)):
        ours = sample(decoder, PROMPTS, end=frozenset({3, 77}), pad=0, longest=12, choice=Choice(0))
        assert torch.equal(ours.ids * ours.mask, (expected * ours.mask)[:, : ours.ids.shape[1]])
        assert ours.ids.shape[1] == expected.shape[1]


@pytest.mark.parametrize("longest", [6, 10])
def test_rows_that_are_seen_late_to_have_ended_answer_the_same(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    options = {"end": frozenset({3, 20, 21, 22}), "pad": 0, "longest": longest, "rollouts": 4, "seed": 3}
    streamed: list[tuple[list[int], list[int]]] = []
    at_once = sample(roles.student_decoder, PROMPTS, **options)
    monkeypatch.setitem(COUNT_EVERY, "cpu", 4)
    late = sample(
        roles.student_decoder, PROMPTS, on_token=lambda r, t: streamed.append((r.tolist(), t.tolist())), **options
    )
    assert torch.equal(late.ids, at_once.ids) and torch.equal(late.mask, at_once.mask)
    told: list[list[int]] = [[] for _ in late.lists()]
    for rows, tokens in streamed:
        for row, token in zip(rows, tokens, strict=True):
            told[row].append(token)
    assert told == late.lists()


@pytest.mark.parametrize("rollouts", [1, 3])
@pytest.mark.parametrize("record", [True, False])
def test_training_pass_equals_the_models_own(roles: Roles, rollouts: int, record: bool) -> None:
    completions = sample(
        roles.student_decoder,
        PROMPTS,
        end=frozenset(range(3, 60)),
        pad=0,
        longest=9,
        rollouts=rollouts,
        record=record,
        seed=1,
    )
    assert (completions.tape is not None) == record
    assert len(set(completions.mask.sum(1).tolist())) > 1, "rows should end at different tokens"
    counted = completions.mask.bool()
    parameters = list(roles.adapter.values())
    found = []
    own = model_logits(roles.student, replace(completions, rollouts=1))
    for logits in (completion_logits(roles, completions), own):
        loss = (logits.log_softmax(-1)[..., 7] * counted).sum()
        found.append((logits[counted].detach(), torch.autograd.grad(loss, parameters)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=2e-4)
    scale = max(float(g.abs().max()) for g in found[1][1])
    for mine, reference in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * scale)


def test_training_pass_with_an_adapter_on_some_layers(tmp_path: Path) -> None:
    roles = taught(tmp_path, "qwen3", targets="q_proj,down_proj")
    completions = sample(roles.student_decoder, PROMPTS, end=frozenset(), pad=0, longest=5, record=True)
    parameters = list(roles.adapter.values())
    assert len(parameters) == 3 * 2 * 2
    gradients = [
        torch.autograd.grad(logits.log_softmax(-1)[..., 9].sum(), parameters)
        for logits in (completion_logits(roles, completions), model_logits(roles.student, completions))
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-4 * float(reference.abs().max()))


def test_other_architectures_take_the_generic_way(tmp_path: Path) -> None:
    model = tiny.model("qwen3")
    model.config.use_sliding_window = True
    assert isinstance(decoder_for(model), ModelDecoder)
    model.config.use_sliding_window = False
    assert isinstance(decoder_for(model), PackedDecoder)


def test_large_models_are_run_over_their_own_layers(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PACK_AT_MOST", 0)
    decoder = decoder_for(roles.student)
    assert isinstance(decoder, LiveDecoder)
    options = {"end": frozenset({3, 20, 21, 22}), "pad": 0, "longest": 10, "rollouts": 4}
    expected = sample(roles.student_decoder, PROMPTS, seed=3, **options).lists()
    assert sample(decoder, PROMPTS, seed=3, **options).lists() == expected
    assert len(set(map(len, expected))) > 1, "rows should leave the batch"
    # An update is taken over into the same tensors: a captured graph would see it.
    held = [p.data_ptr() for projection in decoder._projections for p in (projection._a, projection._b)]
    for parameter in roles.adapter.values():
        parameter.data.mul_(-1.5)
    roles.refresh()
    assert sample(decoder, PROMPTS, seed=3, **options).lists() == expected
    decoder.refresh()
    changed = sample(decoder, PROMPTS, seed=3, **options).lists()
    assert changed == sample(roles.student_decoder, PROMPTS, seed=3, **options).lists() != expected
    assert held == [p.data_ptr() for projection in decoder._projections for p in (projection._a, projection._b)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_the_adapter_stays_whole_beside_the_weights(
    tmp_path: Path, rows: list[Demonstration], precision: str
) -> None:
    loaded = load(str(tiny.save(tmp_path / "half", initializer_range=0.2)), precision=precision)
    roles = make_roles(loaded, LoraSettings())
    assert {p.dtype for p in roles.adapter.values()} == {torch.float32}
    assert isinstance(roles.student_decoder, LiveDecoder) and isinstance(roles.base_decoder, PackedDecoder)
    settings = Settings(
        optim=OptimSettings(steps=3, batch=4, lr=1e-2, warmup=0), rollout=RolloutSettings(max_new_tokens=6)
    )
    assert all(step.gradient_norm > 0 for step in sdft(roles, rows, settings))
    ids = torch.tensor([PROMPTS[0]])
    ours = roles.student_decoder.forward(ids, None, roles.student_decoder.allocate(1, 8), keep=4)
    with torch.no_grad():
        own, base = roles.student(input_ids=ids).logits, loaded.model(input_ids=ids).logits
    moved = float((own - base).abs().max())
    assert float((ours - own).abs().max()) < 0.2 * moved


def test_an_adapter_on_head_or_embedding_is_not_left_out(tmp_path: Path) -> None:
    for targets in ("q_proj,lm_head", "q_proj,embed_tokens"):
        made = taught(tmp_path / targets, "qwen3", targets=targets, tie_word_embeddings=False)
        assert isinstance(made.student_decoder, ModelDecoder)
        cache = made.student_decoder.allocate(1, 8)
        ids = torch.tensor([PROMPTS[0]])
        logits = made.student_decoder.forward(ids, None, cache, keep=4)
        torch.testing.assert_close(logits, made.student(input_ids=ids).logits, rtol=1e-4, atol=2e-4)


def test_variants_of_lora_take_the_generic_way() -> None:
    for more in ({"use_dora": True}, {"lora_bias": True}):
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **more)
        assert not runs_live(inner_model(get_peft_model(tiny.model("qwen3"), config)))


def test_same_seed_same_tokens_and_rows_do_not_depend_on_neighbours(roles: Roles) -> None:
    options = {"end": frozenset({3, 20, 21, 22}), "pad": 0, "longest": 10}
    one = sample(roles.student_decoder, PROMPTS, seed=4, **options)
    again = sample(roles.student_decoder, PROMPTS, seed=4, **options)
    other = sample(roles.student_decoder, PROMPTS, seed=5, **options)
    assert one.lists() == again.lists() != other.lists()
    # Rows ending early leave the batch; those that stay must not notice.
    never = sample(roles.student_decoder, PROMPTS, seed=4, **{**options, "end": frozenset()})
    for short, whole in zip(one.lists(), never.lists(), strict=True):
        assert whole[: len(short)] == short


def test_rollouts_of_one_prompt_differ_and_lie_together(roles: Roles) -> None:
    found = sample(roles.student_decoder, PROMPTS, end=frozenset(), pad=0, longest=8, rollouts=4, seed=0)
    assert found.ids.shape == (12, 8)
    assert len({tuple(row) for row in found.lists()}) > 6
    for row in range(12):
        prompt = found.prompt_ids[row][found.prompt_mask[row].bool()].tolist()
        assert prompt == PROMPTS[row // 4]


def test_an_answer_ends_with_its_end_token(roles: Roles) -> None:
    found = sample(roles.student_decoder, PROMPTS * 8, end=frozenset(range(3, 100)), pad=0, longest=6, seed=0)
    for row in found.lists():
        assert all(token < 3 or token >= 100 for token in row[:-1])
        assert len(row) == 6 or 3 <= row[-1] < 100


def test_sampling_follows_the_distribution() -> None:
    """Frequencies of 40,000 draws against the probabilities: chi-square with 4 degrees of freedom."""
    logits = torch.tensor([[0.1, 1.5, -0.7, 0.9, -2.0]]).expand(40_000, -1)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(8))
    for choice, kept in ((Choice(), [0, 1, 2, 3, 4]), (Choice(temperature=0.5), [0, 1, 2, 3, 4])):
        drawn = torch.bincount(choice(logits, uniform), minlength=5).double()
        expected = (logits[0] / choice.temperature).softmax(-1).double()[kept] * 40_000
        assert float(((drawn - expected) ** 2 / expected).sum()) < 18.5  # 0.1% of fair samples exceed this


@pytest.mark.parametrize("vocabulary", [sampling.LARGE + 1, 128 * 100, 20_011])
def test_a_large_vocabulary_is_sampled_as_a_small_one(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = 4 * torch.randn(6, vocabulary, generator=generator)
    # Most tokens cannot be chosen, the first and the last of them among these.
    logits[torch.rand(6, vocabulary, generator=generator) < 0.9] = -torch.inf
    logits[:, [0, -1]] = -torch.inf
    weights = logits.softmax(-1).double()
    total = weights.cumsum(-1)
    tokens = total.masked_select(weights > 1e-6)[:200]  # where one ends and the next begins
    edges = torch.cat([tokens, total[:, sampling.BLOCK - 1 :: sampling.BLOCK].flatten()]).clamp(0, 1 - 2**-53)
    for number in [0.0, 0.5, 1 - 2**-53, *edges.tolist()]:
        uniform = torch.full((6,), number, dtype=torch.double)
        token = Choice()(logits, uniform)
        assert bool((weights.gather(-1, token[:, None]) > 0).all()), number
        sought, end = uniform.double() * total[:, -1], total.gather(-1, token[:, None])[:, 0]
        begin = end - weights.gather(-1, token[:, None])[:, 0]
        assert bool((begin - 1e-6 <= sought).all() and (sought <= end + 1e-6).all()), number


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "choice", [Choice(top_k=5), Choice(top_p=0.7), Choice(0.7, 0.8, 6), Choice(1.3, 0.5, 30)], ids=str
)
def test_the_tokens_that_are_left_to_choose_from_are_those_of_transformers(seed: int, choice: Choice) -> None:
    logits = 2 * torch.randn(1, 40, generator=torch.Generator().manual_seed(seed))
    theirs = TemperatureLogitsWarper(choice.temperature)(None, logits)
    for warper in ([TopKLogitsWarper(choice.top_k)] if choice.top_k else []) + [TopPLogitsWarper(choice.top_p)]:
        theirs = warper(None, theirs)
    expected = theirs.softmax(-1)[0]
    draws = 20_000
    uniform = (torch.arange(draws) + 0.5) / draws  # evenly over the whole: shares come out exactly, up to a draw each
    found = choice(logits.expand(draws, -1), uniform).bincount(minlength=40) / draws
    assert set(found.nonzero().flatten().tolist()) == set(expected.nonzero().flatten().tolist())
    torch.testing.assert_close(found, expected, rtol=0, atol=2 / draws)


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([[0.1, 1.5, -0.7, 0.9, -2.0]]).expand(2_000, -1)
    uniform = torch.rand(2_000, generator=torch.Generator().manual_seed(9))
    assert set(Choice(top_k=2)(logits, uniform).tolist()) == {1, 3}
    probabilities = logits[0].softmax(-1)
    assert float(probabilities[1]) < 0.6 < float(probabilities[1] + probabilities[3])
    assert set(Choice(top_p=0.6)(logits, uniform).tolist()) == {1, 3}
    assert set(Choice(temperature=0)(logits, uniform).tolist()) == {1}
    assert int(Choice()(logits[:1], torch.tensor([0.9999999]))[0]) == 4


def test_rows_leave_a_cache_one_buffer_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PackedDecoder(tiny.model()).allocate(4, 6)
    for buffer in (*cache.keys, *cache.values):
        buffer.normal_()
    expected = [buffer[[3, 1]].clone() for buffer in (*cache.keys, *cache.values)]
    before = [weakref.ref(buffer) for buffer in (*cache.keys, *cache.values)]
    there: list[int] = []
    select = torch.Tensor.index_select

    def seen(tensor: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
        there.append(sum(ref() is not None for ref in before))
        return select(tensor, dim, index)

    monkeypatch.setattr(torch.Tensor, "index_select", seen)
    chosen = cache.rows(torch.tensor([3, 1]))
    assert there[: len(before)] == [6, 5, 4, 3, 2, 1], "two whole caches would be more than was planned"
    for buffer, rows in zip((*chosen.keys, *chosen.values), expected, strict=True):
        assert torch.equal(buffer, rows)


def test_stopping_while_sampling(roles: Roles) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        sample(
            roles.student_decoder,
            PROMPTS,
            end=frozenset(),
            pad=0,
            longest=9,
            should_stop=lambda: next(asked),
        )


def test_streaming_gives_every_token_once(roles: Roles) -> None:
    said: dict[int, list[int]] = {}

    def hear(rows: torch.Tensor, tokens: torch.Tensor) -> None:
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            said.setdefault(row, []).append(token)

    found = sample(
        roles.student_decoder,
        PROMPTS,
        end=frozenset(range(3, 60)),
        pad=0,
        longest=9,
        seed=1,
        on_token=hear,
    )
    assert [said[row] for row in range(3)] == found.lists()
