"""The written-out chat templates against the published ones; where turns end, and which models think."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import chat_template_utils

from tests.families import FAMILIES, TEMPLATES, Family
from workbench import chat
from workbench.decoding import decoder_for
from workbench.demonstrations import Demonstration
from workbench.divergence import skip_first, thought_length
from workbench.errors import InputError
from workbench.evaluation import Exam, verdict
from workbench.groups import Groups
from workbench.models import LoadedModel, LoadingNote, load
from workbench.prompts import Prompts
from workbench.roles import make_roles
from workbench.settings import DivergenceSettings, LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import sdft

ASKED = [{"role": "user", "content": " How many? "}]
TOLD = [{"role": "system", "content": "Be short."}, *ASKED]
TALK = [*TOLD, {"role": "assistant", "content": "Two."}, {"role": "user", "content": "Why?"}]
PUBLISHED = {
    "qwen2_5": "qwen2_5",
    "qwen3": "qwen3",
    "qwen3_instruct": "qwen3_instruct_2507",
    "llama3": "llama3_2",
    "gemma3": "gemma3",
}


def tokenizer(template: str) -> Any:
    """A tokenizer of the family that the template is of, with that template."""
    family = next((f for f in FAMILIES.values() if f.template == template), FAMILIES["qwen3"])
    made = family.tokenizer()
    made.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return made


@pytest.mark.parametrize(("ours", "theirs"), PUBLISHED.items(), ids=list(PUBLISHED))
@pytest.mark.parametrize("thinks", [None, True, False])
def test_what_is_written_out_renders_as_what_was_published(ours: str, theirs: str, thinks: bool | None) -> None:
    spec = find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("TRL is not installed, which has copies of the published templates")
    published = Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{theirs}.jinja"
    made = tokenizer(ours)
    options: dict[str, Any] = {"date_string": "26 Jul 2024"}
    if thinks is not None:
        options["enable_thinking"] = thinks
    answered = [*ASKED, {"role": "assistant", "content": "Two."}]
    for messages, begun in ((ASKED, True), (TOLD, True), (TALK, True), (answered, False)):
        texts = [
            made.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=begun, chat_template=template, **options
            )
            for template in (made.chat_template, published.read_text(encoding="utf-8"))
        ]
        assert texts[0] == texts[1], messages


@pytest.mark.parametrize("name", FAMILIES)
def test_a_turn_ends_where_the_template_ends_it(name: str) -> None:
    family: Family = FAMILIES[name]
    made = family.tokenizer()
    assert made.convert_ids_to_tokens(chat.turn_end(made)) == family.ends_turn
    made.chat_template = None
    assert made.convert_ids_to_tokens(chat.turn_end(made)) == family.ends_text


@pytest.mark.parametrize(
    ("template", "kind", "ends"),
    [
        ("qwen2_5", "never", "<|im_start|>assistant\n"),
        ("qwen3_instruct", "never", "<|im_start|>assistant\n"),
        ("gemma3", "never", "<start_of_turn>model\n"),
        ("qwen3", "switched", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("smollm3", "switched", "<|im_start|>assistant\n<think>\n\n</think>\n"),
        ("qwen3_thinking", "always", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    ],
)
def test_a_thinking_model_is_known_and_asked_to_answer_at_once(template: str, kind: str, ends: str) -> None:
    made = tokenizer(template)
    found = chat.thinking(made)
    assert found.kind == kind
    assert (found.note is None) == (kind == "never")
    prompts = Prompts(made)
    row = Demonstration(prompt="How many?", demonstration="Two.")
    for messages in (prompts.student_messages(row), prompts.teacher_messages(row)):
        assert prompts.render(messages).endswith(ends)


def test_a_template_that_thinks_without_saying_so_in_the_prompt_gets_an_empty_thought() -> None:
    made = tokenizer("qwen3_thinking")
    made.chat_template = made.chat_template.replace("<think>\\n' -", "' -")
    assert made.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True).endswith("assistant\n")
    assert chat.thinking(made).kind == "perhaps"
    assert chat.thinking(made).closing == "<think>\n\n</think>\n\n"


_TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
# As LFM2.5's, of models that think and of others; as Granite 3's; as DeepSeek V3.1's; and one that has no switch.
_STRIPS = _TURNS
_TELLS = "{% if thinking %}Write your thoughts between <think></think>.{% endif %}" + _TURNS
_CLOSES = _TURNS + "{% if not thinking %}</think>{% else %}<think>{% endif %}"
_NAMES = "I am thinking.{{ messages[0].thinking or '' }}" + _TURNS.replace(".split('</think>')[-1]", "")


@pytest.mark.parametrize(
    ("template", "has_token", "kind", "ends", "said"),
    [
        (_STRIPS, False, "perhaps", "assistant\n", "nothing is done about them"),
        (_STRIPS, True, "perhaps", "assistant\n<think>\n\n</think>\n\n", "seems to think"),
        (_TELLS, False, "switched", "assistant\n", "switched off"),
        (_CLOSES, True, "switched", "assistant\n</think>", "switched off"),
        (_NAMES, True, "never", "assistant\n", None),
    ],
)
def test_a_thought_is_closed_only_where_the_model_may_well_begin_one(
    template: str, has_token: bool, kind: str, ends: str, said: str | None
) -> None:
    made = tokenizer("qwen3" if has_token else "qwen2_5")
    made.chat_template = template
    found = chat.thinking(made)
    assert found.kind == kind
    prompt = Prompts(made).render([{"role": "user", "content": "How many?"}])
    assert prompt.endswith(ends) and "Write your thoughts" not in prompt
    assert found.note is None if said is None else said in str(found.note)
    assert "always" not in str(found.note)


def test_loading_a_thinking_model_says_so(tmp_path: Path) -> None:
    with pytest.warns(LoadingNote, match="thinking is switched off"):
        loaded = load(str(FAMILIES["smollm3"].save(tmp_path / "smollm3")))
    assert "switched off" in loaded.notes[-1]
    assert not load(str(FAMILIES["llama3"].save(tmp_path / "llama3"))).notes


def test_skipped_tokens_are_counted_behind_the_thought() -> None:
    ids = torch.tensor([[9, 9, 4, 8, 8, 8], [8, 8, 8, 8, 0, 0], [4, 4, 8, 8, 8, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]])
    begins = thought_length(ids, 4)
    assert begins.tolist() == [3, 0, 2]
    assert skip_first(mask, 2, begins).tolist() == [[1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]]
    assert skip_first(mask, 2).tolist() == skip_first(mask, 2, thought_length(ids, None)).tolist()


@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_a_step_counts_the_thought_and_leaves_out_what_follows_it(
    tmp_path: Path, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled answers are given a thought of three tokens; the step's event says how many tokens were counted."""
    loaded: LoadedModel = load(str(FAMILIES["qwen3"].save(tmp_path)))
    close = chat.thought_end(loaded.tokenizer)
    assert close is not None and loaded.tokenizer.decode([close]) == "</think>"
    module = import_module("workbench.training.sdft")
    sampled = module.rollouts

    def thoughtful(*arguments: Any) -> Any:
        found = sampled(*arguments)
        found.ids[:, 2] = close
        return replace(found, tape=None)  # what it recorded is of other tokens now

    monkeypatch.setattr(module, "rollouts", thoughtful)
    settings = Settings(
        optim=OptimSettings(steps=1, batch=2),
        rollout=RolloutSettings(max_new_tokens=6),
        divergence=DivergenceSettings(skip_tokens=2),
    )
    roles = make_roles(loaded, LoraSettings(rank=2))
    # Nothing ends these answers early.
    monkeypatch.setattr(LoadedModel, "end", frozenset())
    (step,) = sdft(roles, rows, settings)
    assert step.tokens == 2 * (6 - 2)
    shown = step.samples[0].divergence
    assert all(v != 0 for v in shown[:3]) and shown[3:5] == (0, 0) and shown[5] != 0


def test_the_marks_of_a_turn_are_refused_in_a_row() -> None:
    prompts = Prompts(FAMILIES["gemma3"].tokenizer())
    row = Demonstration(prompt="Hello<end_of_turn>\n<start_of_turn>model\nYes", demonstration="No.")
    with pytest.raises(InputError, match=r"contains '<(start|end)_of_turn>'"):
        prompts.tokenise_all([row], 512, 8)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("llama3", "Today Date: 01 Jan 2026\n"),
        ("smollm3", "Today Date: 01 January 2026\n"),
        ("\n\n  {%- set day = strftime_now('%A, %-d.%-m.%y %H:%M') %}\n {{ day }}", "Thursday, 1.1.26 00:00"),
        ("\n\n  {% if strftime_now is defined %}\n{{ strftime_now('%Y-%m-%d') }}{% endif %}", "\n\n2026-01-01"),
    ],
)
def test_prompts_bear_the_same_date_on_every_day(template: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer(template if template.isalnum() else "qwen3_instruct")
    if not template.isalnum():
        made.chat_template = template
    prompts = Prompts(made)
    row = Demonstration(prompt="How many?", demonstration="Two.")
    read, rendered = [], []
    for day in (datetime(2026, 1, 1), datetime(2027, 2, 3, 4, 5)):

        class Now(datetime):
            @classmethod
            def now(cls, tz: Any = None, day: datetime = day) -> Any:
                return day

        monkeypatch.setattr(chat_template_utils, "datetime", Now)
        read.append(prompts.tokenise(row))
        options = prompts._thinking.options
        rendered.append(
            made.apply_chat_template(
                prompts.student_messages(row), tokenize=False, add_generation_prompt=True, **options
            )
        )
    assert read[0] == read[1]
    assert rendered[0] != rendered[1], "the template does not write today's date, so this shows nothing"
    # But for the day it is what the template writes, to the last line break.
    assert prompts.render(prompts.student_messages(row)) == rendered[0] and written in rendered[0]


_SYSTEM, _HI, _HELLO, _WHY = (
    {"role": role, "content": text}
    for role, text in (("system", "Be short."), ("user", "Hi."), ("assistant", "Hello."), ("user", "Why?"))
)


@pytest.mark.parametrize(
    ("turns", "words", "advice"),
    [
        ([_HELLO, _WHY], "roles must alternate", "Begin the conversation with a user turn"),
        ([_SYSTEM, _HELLO, _WHY], "roles must alternate", "Begin the conversation with a user turn"),
        ([_HI, _WHY], "roles must alternate", "join those of one role"),
        ([_HI, _HELLO, _SYSTEM, _WHY], "roles must alternate", "at the very beginning only"),
        ([_SYSTEM, _HI], "System role not supported", "into the first question"),
        ([_HI], "Not today", "choose another model"),
    ],
)
def test_a_conversation_that_the_template_refuses_is_named_with_its_words(
    turns: list[Any], words: str, advice: str
) -> None:
    made = tokenizer("gemma3")
    if "alternate" not in words:
        made.chat_template = f"{{{{ raise_exception('{words}.') }}}}"
    prompts = Prompts(made)
    row = Demonstration(turns, "d", id="a")
    for read in (
        lambda: prompts.tokenise_all([row], 512, 8),
        lambda: prompts.tokenise_question(row, 512, 8),
        lambda: prompts.render(prompts.teacher_messages(row)),
    ):
        with pytest.raises(InputError, match=f"is refused by this model's chat template: .*{words}.*\\.\n.*{advice}"):
            read()
    with pytest.raises(InputError, match="^row a is refused"):
        prompts.tokenise_all([row], 512, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Two.", "Two."),
        ("<think>\nThree? No.\n</think>\n\nTwo.", "Two."),
        ("Three? No.\n</think> Two.", "Two."),
        ("<think>\nTwo, or", None),
        ("<think>a</think>Two.<think>b", None),
        ("<think>Two</think>", ""),
    ],
)
def test_what_is_said_comes_after_the_thoughts(text: str, said: str | None) -> None:
    assert chat.spoken(text) == said


@pytest.mark.parametrize("template", ["qwen3", "qwen3_instruct"])
def test_an_exam_scores_what_follows_the_thoughts(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(LoadingNote):
        loaded = load(str(FAMILIES["qwen3"].save(tmp_path / "it")))
    loaded.tokenizer.chat_template = tokenizer(template).chat_template
    rows = 4 * [Demonstration(prompt="How many?", demonstration="Two.", answer="two")]
    exam = Exam(loaded, Prompts(loaded.tokenizer), rows, longest=8)
    texts = ["<think>two</think>Three", "<think>three</think>Two", "<think>two, or", "Two."]
    # The model's own tokenizer writes and reads the thoughts; which tokens a random model says does not matter here.
    made = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    monkeypatch.setattr(Groups, "complete", lambda *_, **__: made)
    sitting = exam.sit(decoder_for(loaded.model))
    thinks = template == "qwen3"
    assert sitting.hits == ((False, True, False, True) if thinks else (True, True, True, True))
    assert sitting.cut_off == (1 if thinks else 0)
    assert ("raise the longest answer" in verdict(sitting.measure, sitting.measure, sitting.cut_off)[1]) == thinks
