"""Exports are read by the programs that they are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny
from tests.families import FAMILIES
from workbench import quantised
from workbench.demonstrations import Demonstration, Message
from workbench.errors import InputError
from workbench.export import export_run
from workbench.export.card import model_card
from workbench.models import load
from workbench.prompts import Prompts
from workbench.runs import Run
from workbench.runs.session import Request, Session, begin, student_at
from workbench.settings import OptimSettings, RolloutSettings, Settings, TeacherSettings

IDS = torch.tensor([[1, 5, 6, 7, 8, 2]])


@pytest.fixture
def run(tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> Run:
    settings = Settings(
        optim=OptimSettings(steps=3, batch=4, lr=1e-2, warmup=0),
        rollout=RolloutSettings(max_new_tokens=6),
        teacher=TeacherSettings(teacher="original"),  # the only kind that TRL does not know by this name
    )
    request = Request("run", "sdft", settings, rows[:8], rows[8:], source="rows.jsonl")
    made = begin(request, load(str(tiny_folder)), tmp_path / "runs")
    list(Session(made).teach())
    return made


@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_a_merged_model_of_a_quantised_run_says_what_was_taught(
    rows: list[Demonstration], tmp_path: Path, precision: str
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny.save(tmp_path / "base", hidden_size=128, intermediate_size=256, head_dim=32)
    settings = Settings(
        optim=OptimSettings(steps=3, batch=4, lr=3e-2, warmup=0), rollout=RolloutSettings(max_new_tokens=6)
    )
    made = begin(Request("run", "sdft", settings, rows[:8], []), load(str(folder), precision=precision), tmp_path)
    list(Session(made).teach())
    roles = student_at(made)
    student, base = roles.student(input_ids=IDS).logits, roles.loaded.model(input_ids=IDS).logits
    moved = float((student - base).abs().max())
    assert moved > 1
    merged = export_run(made, "merged", tmp_path / "merged")
    again = load(str(merged))
    assert again.precision == "fp32" and not quantised.is_quantised(again.model)
    far = float((again.model(input_ids=IDS).logits - student).abs().max())
    # In 8 bits activations are rounded too, which written-out weights do not do.
    assert far < (1e-4 if precision == "4-bit" else 0.2) * moved
    assert f"The base was taught in {precision}" in (merged / "README.md").read_text()


def test_adapter_and_merged_say_what_the_student_says(
    run: Run,
    tiny_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    student = student_at(run).student(input_ids=IDS).logits
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    assert float((base(input_ids=IDS).logits - student).abs().max()) > 1e-3
    adapter = export_run(run, "adapter", tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(base, adapter)
    torch.testing.assert_close(loaded(input_ids=IDS).logits, student, rtol=1e-4, atol=1e-4)
    capfd.readouterr()
    recwarn.clear()
    merged = export_run(run, "merged", tmp_path / "merged")
    assert capfd.readouterr() == ("", "") and [str(w.message) for w in recwarn if w.category is FutureWarning] == []
    whole = AutoModelForCausalLM.from_pretrained(merged)
    torch.testing.assert_close(whole(input_ids=IDS).logits, student, rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(merged).chat_template
    for folder in (adapter, merged):
        card = (folder / "README.md").read_text()
        assert "self-distillation" in card and '"rank": 16' in card and "| held-out questions, after teaching |" in card
        assert not any(file.suffix in (".bin", ".pt") for file in folder.iterdir())


def test_the_trl_script_runs_as_it_stands(run: Run, tmp_path: Path) -> None:
    folder = export_run(run, "trl", tmp_path / "trl")
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and rows[0]["privileged_context"] == run.rows("teaching")[0].demonstration
    script = (folder / "train.py").read_text()
    assert 'chat_template_kwargs={"enable_thinking": False, "thinking": False}' in script
    assert "teacher_model_kind='base'" in script
    assert "distillation_alpha=0.0" in script and "num_loss_tokens_to_skip=3" in script and "max_steps=3" in script
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "train.py"], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    base = AutoModelForCausalLM.from_pretrained(run.config["model"])
    before = base(input_ids=IDS).logits
    after = PeftModel.from_pretrained(base, folder / "output")(input_ids=IDS).logits
    assert float((after - before).abs().max()) > 1e-4


def test_the_trl_script_writes_the_runs_date_into_its_prompts(run: Run, tmp_path: Path) -> None:
    script = (export_run(run, "trl", tmp_path / "trl") / "train.py").read_text()
    lines = script[script.index('if "strftime_now" in') : script.index("trainer = ")]
    tokenizer = FAMILIES["llama3"].tokenizer()
    asked = [Message(role="user", content="What day is it?")]
    expected = Prompts(tokenizer).render(asked)
    exec(lines, {"tokenizer": tokenizer})
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == expected
    assert "01 Jan 2026" in expected


def test_the_card_of_the_bundled_model_can_be_run_as_it_stands(run: Run) -> None:
    config = run.config
    assert f"from_pretrained({config['model']!r})" in model_card(run, "adapter")
    (run.path / "config.json").write_text(json.dumps({**config, "model": "pocket"}))
    card = model_card(run, "adapter")
    assert "from workbench.pocket import WEIGHTS\n\nbase = AutoModelForCausalLM.from_pretrained(WEIGHTS)" in card
    assert "base_model:" not in card


def test_an_adapter_from_elsewhere_is_not_said_to_have_been_taught_here(run: Run, tmp_path: Path) -> None:
    own = model_card(run, "adapter")
    assert "by self-distillation fine-tuning (SDFT) of" in own and "from 8 demonstrations" in own
    assert "tags: [self-distillation, sdft-workbench]" in own and "arXiv" in own and '"steps": 3' in own
    (run.path / "config.json").write_text(json.dumps({**run.config, "method": "imported", "source": "theirs"}))
    for name in ("demonstrations.jsonl", "events.jsonl"):
        (run.path / name).write_text("")
    card = (export_run(run, "adapter", tmp_path / "adapter") / "README.md").read_text()
    assert "that was imported into SDFT Workbench from `theirs` on" in card and "Nothing: it came as it is." in card
    assert "How and from what it was taught is not known" in card and '"rank": 16' in card
    assert not [word for word in ("SFT)", "demonstrations", "distillation", "arXiv", '"steps"') if word in card]
    with pytest.raises(InputError, match="imported as an adapter.*no script can repeat it.\nExport it as an adapter"):
        export_run(run, "trl", tmp_path / "trl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "runs"]


def test_what_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no export 'gguf'"):
        export_run(run, "gguf", tmp_path / "x")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_run(run, "adapter", full)
    assert (full / "file").read_text() == "mine"
    (run.adapter / "adapter_config.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        export_run(run, "adapter", tmp_path / "x")
    assert not (tmp_path / "x").exists()
