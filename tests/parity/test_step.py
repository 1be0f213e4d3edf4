"""Our whole step against TRL's SDFTTrainer: prompts, logits, loss, gradients and the updated adapter.

The settings are those under which TRL, the authors' code and ours are meant to agree: full vocabulary, forward KL,
frozen base as teacher, no importance sampling, no cut. Where ours differs on purpose, the last tests show it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

from workbench.demonstrations import Demonstration
from workbench.models import LoadedModel
from workbench.prompts import PAPER_TEMPLATE, Prompts
from workbench.roles import Roles, make_roles
from workbench.sampling import Completions, pad_right, sample
from workbench.settings import DivergenceSettings, LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import TrainingState, sdft
from workbench.training.student import completion_predictions

LONGEST = 12
SKIP = 3
RATE = 1e-3
# AdamW's first step is the gradient's sign where the gradient is far above epsilon, so that rounding alone would flip
# it where it is about 0. A larger epsilon, for both, makes the step a smooth function of the gradient.
EPSILON = 1e-3
TRL_TEMPLATE = PAPER_TEMPLATE.replace("{demonstration}", "{privileged_context}")


@pytest.fixture
def taught(tiny_model: LoadedModel) -> Roles:
    """Roles whose adapter has moved: with B = 0 student and base could not be told apart."""
    roles = make_roles(tiny_model, LoraSettings())
    generator = torch.Generator().manual_seed(1)
    for parameter in roles.adapter.values():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    roles.refresh()
    return roles


def settings(rows: list[Demonstration], **changes: Any) -> Settings:
    return Settings(
        optim=OptimSettings(steps=1, batch=len(rows), lr=RATE, warmup=0, schedule="constant", **changes),
        rollout=RolloutSettings(max_new_tokens=LONGEST),
        divergence=DivergenceSettings(skip_tokens=SKIP),
    )


def trl_trainer(student: Any, tokenizer: Any, rows: list[Demonstration], folder: Path, **changes: Any) -> SDFTTrainer:
    data = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row.prompt}], "privileged_context": row.demonstration} for row in rows]
    )
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": len(rows),
        "gradient_accumulation_steps": 1,
        "max_steps": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "adam_epsilon": EPSILON,
        "logging_steps": 1,
        "max_grad_norm": 1.0,
        "distillation_mode": "full_logits",
        "distillation_alpha": 0.0,
        "distillation_is_clip": None,
        "num_loss_tokens_to_skip": SKIP,
        "teacher_model_kind": "base",
        "temperature": 1.0,
        "num_generations": 1,
        "num_iterations": 1,
        "max_prompt_length": None,
        "max_completion_length": LONGEST,
        "disable_dropout": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "shuffle_dataset": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "teacher_prompt_template": TRL_TEMPLATE,
        **changes,
    }
    return SDFTTrainer(model=student, args=SDFTConfig(**arguments), train_dataset=data, processing_class=tokenizer)


def fixed_answers(roles: Roles, rows: list[Demonstration]) -> dict[str, list[int]]:
    """One sampled answer for each prompt, the same for both."""
    prompts = Prompts(roles.loaded.tokenizer)
    completions = sample(
        roles.student_decoder,
        [prompts.tokenise(row).student for row in rows],
        end=roles.loaded.end,
        pad=roles.loaded.pad,
        longest=LONGEST,
        seed=3,
    )
    return {str(row.prompt): ids for row, ids in zip(rows, completions.lists(), strict=True)}


def give_answers(trainer: SDFTTrainer, answers: list[list[int]]) -> None:
    trainer._generate_transformers = lambda prompt_ids: (prompt_ids, answers)  # type: ignore[method-assign]


def one_step(roles: Roles, rows: list[Demonstration], chosen: Settings, answers: dict[str, list[int]], patch: Any):
    """Our step on these answers."""

    def rollouts(_roles: Any, batch: Any, *_: Any) -> Completions:
        from workbench.sampling import pad_left

        prompt_ids, prompt_mask = pad_left([row.student for row in batch], roles.loaded.pad)
        ids, mask = pad_right([answers[str(row.row.prompt)] for row in batch], roles.loaded.pad)
        return Completions(prompt_ids, prompt_mask, ids, mask)

    import sys

    patch.setattr(sys.modules["workbench.training.sdft"], "rollouts", rollouts)
    state = TrainingState.begin(roles, chosen)
    for group in state.optimizer.param_groups:
        group["eps"] = EPSILON
    (event,) = sdft(roles, rows, chosen, state=state)
    return event


def test_prompts_token_by_token(tiny_model: LoadedModel, rows: list[Demonstration], tmp_path: Path) -> None:
    roles = make_roles(tiny_model, LoraSettings())
    trainer = trl_trainer(roles.student, tiny_model.tokenizer, rows, tmp_path)
    prompts = Prompts(tiny_model.tokenizer)
    conversations = [
        *rows,
        Demonstration(
            prompt=(
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "What is {1}?"},
                {"role": "assistant", "content": "One."},
                {"role": "user", "content": "And {prompt} 2?"},
            ),
            demonstration="Two {demonstration} {braces}.",
        ),
    ]
    for row in conversations:
        ours = prompts.tokenise(row)
        messages = [dict(m) for m in prompts.student_messages(row)]
        composed = trainer.teacher_context_builder._compose_teacher_prompt(messages, row.demonstration)
        assert list(ours.student) == trainer._tokenize_prompts([messages])[0]
        assert list(ours.teacher) == trainer._tokenize_prompts([composed])[0]


def test_one_optimizer_step(
    taught: Roles, rows: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(rows)
    answers = fixed_answers(taught, rows)
    assert min(map(len, answers.values())) >= 1 and max(map(len, answers.values())) > SKIP
    theirs = make_roles(taught.loaded, LoraSettings())
    for (name, ours), (other, copy) in zip(taught.adapter.items(), theirs.adapter.items(), strict=True):
        assert name == other
        copy.data = ours.data.clone()
    before = {name: p.detach().clone() for name, p in taught.adapter.items()}
    trainer = trl_trainer(theirs.student, taught.loaded.tokenizer, rows, tmp_path)
    give_answers(trainer, [answers[str(row.prompt)] for row in rows])
    outcome = trainer.train()
    event = one_step(taught, rows, chosen, answers, monkeypatch)
    assert event.loss == pytest.approx(outcome.training_loss, rel=1e-5)
    (norm,) = (entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry)
    assert event.gradient_norm == pytest.approx(float(norm), rel=1e-5)
    after = dict(trainer.model.named_parameters())
    moved = 0.0
    for name, parameter in taught.adapter.items():
        torch.testing.assert_close(parameter.data, after[name].data, rtol=1e-5, atol=1e-7)
        moved = max(moved, float((parameter.data - before[name]).abs().max()))
    assert moved > 0.5 * RATE


def test_gradients_of_one_step(taught: Roles, rows: list[Demonstration], tmp_path: Path) -> None:
    """AdamW's first step hides the gradient's size, so the gradients are compared too."""
    answers = fixed_answers(taught, rows)
    trainer = trl_trainer(taught.student, taught.loaded.tokenizer, rows, tmp_path)
    give_answers(trainer, [answers[str(row.prompt)] for row in rows])
    batch = trainer._prepare_training_batch([dict(row) for row in trainer.train_dataset])
    loss = trainer.compute_loss(taught.student.eval(), batch)
    parameters = list(taught.adapter.values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    theirs = torch.autograd.grad(loss, parameters)
    from workbench.divergence import sequence_mean, skip_first
    from workbench.sampling import pad_left
    from workbench.training.comparing import compare
    from workbench.training.scorer import Scorer

    prompts = Prompts(taught.loaded.tokenizer)
    tokens = [prompts.tokenise(row) for row in rows]
    prompt_ids, prompt_mask = pad_left([t.student for t in tokens], 0)
    ids, mask = pad_right([answers[str(row.prompt)] for row in rows], 0)
    completions = Completions(prompt_ids, prompt_mask, ids, mask)
    teacher = Scorer(taught.base_decoder, pad=0, head=taught.head, frozen_prompts=[t.teacher for t in tokens])
    per_token = compare(
        completion_predictions(taught, completions),
        teacher.predict([t.teacher for t in tokens], completions),
        mask,
        settings(rows),
    ).per_token
    ours = torch.autograd.grad(sequence_mean(per_token, skip_first(mask, SKIP)), parameters)
    scale = max(float(g.abs().max()) for g in theirs)
    assert scale > 1e-4
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * scale)


def test_frozen_teacher_is_the_raw_base(taught: Roles, rows: list[Demonstration]) -> None:
    from workbench.sampling import pad_left
    from workbench.training.scorer import Scorer

    prompts = Prompts(taught.loaded.tokenizer)
    tokens = [prompts.tokenise(row) for row in rows[:4]]
    ids, mask = pad_right([[5, 6, 7, 8], [9, 3], [10, 11, 3], [12]], 0)
    prompt_ids, prompt_mask = pad_left([t.teacher for t in tokens], 0)
    completions = Completions(prompt_ids, prompt_mask, ids, mask)
    asked = [t.teacher for t in tokens]
    scored = Scorer(taught.base_decoder, pad=0, frozen_prompts=asked).logits(asked, completions)
    again = Scorer(taught.teacher_decoder("base"), pad=0).logits(asked, completions)
    for i, row in enumerate(tokens):
        length = int(mask[i].sum())
        whole = torch.tensor([[*row.teacher, *ids[i, :length].tolist()]])
        raw = taught.loaded.model(input_ids=whole).logits[0, len(row.teacher) - 1 : -1]
        torch.testing.assert_close(scored[i, :length], raw, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again[i, :length], raw, rtol=1e-5, atol=1e-5)
        with taught.student.disable_adapter():
            off = taught.student(input_ids=whole).logits[0, len(row.teacher) - 1 : -1]
        torch.testing.assert_close(off, raw, rtol=1e-6, atol=1e-6)


def test_a_long_teacher_prompt_is_refused_where_trl_cuts_it(
    tiny_model: LoadedModel, rows: list[Demonstration], tmp_path: Path
) -> None:
    """TRL keeps the last 512 tokens of a teacher's prompt, so that the question is lost first. Ours is never cut."""
    from workbench.errors import InputError

    roles = make_roles(tiny_model, LoraSettings())
    long = Demonstration(prompt="Which word was first?", demonstration="so " * 400, id="long")
    trainer = trl_trainer(roles.student, tiny_model.tokenizer, rows, tmp_path, max_prompt_length=64)
    composed = trainer.teacher_context_builder._compose_teacher_prompt(
        [{"role": "user", "content": long.prompt}], long.demonstration
    )
    cut = trainer._tokenize_prompts([composed])[0]
    assert len(cut) == 64 and "first?" not in tiny_model.tokenizer.decode(cut)
    with pytest.raises(InputError, match=r"row long has \d+ tokens; the limit is 244"):
        sdft(roles, [long], settings([long]))


def test_ema_starts_as_the_student_where_trl_starts_at_zero(
    taught: Roles, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL averages both factors from zero, so that early on B A lags quadratically; ours is a copy from the start."""
    from dataclasses import replace

    from workbench.settings import TeacherSettings

    chosen = replace(settings(rows), teacher=TeacherSettings(teacher="ema", ema_rate=0.25))
    start = {name: p.detach().clone() for name, p in taught.adapter.items()}
    state = TrainingState.begin(taught, chosen)
    for name, shadow in taught.ema_adapter.items():
        assert torch.equal(shadow, start[name]) and float(shadow.abs().max()) > 0
    list(sdft(taught, rows, chosen, state=state))
    for name, shadow in taught.ema_adapter.items():
        expected = 0.75 * start[name] + 0.25 * taught.adapter[name].data
        torch.testing.assert_close(shadow, expected, rtol=1e-6, atol=1e-8)
