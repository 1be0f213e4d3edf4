"""`workbench plan`: what fits, from the config alone, and how a run is carried out accordingly."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.command import QUICK, call
from workbench import memory
from workbench.commands.plan import config_of
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.events import Step
from workbench.execution import QUESTIONS, Execution
from workbench.memory import Machine, estimate, question_bytes, read_shape
from workbench.models import LoadedModel
from workbench.planning import KNOWN, SPARE, fit, refusal, together
from workbench.runs import Run, fitting
from workbench.runs import session as session_module
from workbench.runs.session import Request, begin
from workbench.settings import OptimSettings, RolloutSettings, Settings, TeacherSettings
from workbench.training import recovery

NAME = "Qwen/Qwen3-4B-Instruct-2507"
SHAPE = read_shape(KNOWN[NAME])


@pytest.mark.parametrize("gigabytes", [5, 6, 8, 12, 16, 24, 48, 80])
def test_a_plan_fits_and_the_next_larger_one_does_not(gigabytes: int) -> None:
    settings, room = Settings(), gigabytes * 1e9
    found = fit(SHAPE, "4-bit", settings, room)
    assert found is not None
    assert found.need.teaching <= (1 - SPARE) * room
    assert found.need == estimate(SHAPE, "4-bit", settings, work=found.work)
    micro = found.work.micro_batch or settings.optim.batch
    if micro < settings.optim.batch:
        more = replace(found.work, micro_batch=2 * micro)
        assert estimate(SHAPE, "4-bit", settings, work=more).teaching > (1 - SPARE) * room


def test_more_memory_is_never_slower() -> None:
    plans = [fit(SHAPE, "4-bit", Settings(), gb * 1e9) for gb in (5, 6, 8, 12, 16, 24, 48, 160)]
    work = [(p.work.checkpointing, -(p.work.micro_batch or 32)) for p in plans if p is not None]
    assert len(work) == 8 and work[-1] == (False, -32) and work[0][0]
    assert [w[0] for w in work] == sorted((w[0] for w in work), reverse=True)


def test_the_teachers_prompts_are_kept_in_half_of_what_is_left_over() -> None:
    """On a 4B model a token takes 147 kB: 100 prompts of 256 tokens are 3.8 GB."""
    found = {gb: fit(SHAPE, "4-bit", Settings(), gb * 1e9) for gb in (6, 8, 24, 48)}
    kept = {}
    for gb, plan in found.items():
        assert plan is not None
        kept[gb] = {part.name: part.size for part in plan.need.parts}.get("Teacher's prompts", 0.0)
        bare = estimate(SHAPE, "4-bit", Settings(), work=replace(plan.work, prefix_bytes=0)).teaching
        half = ((1 - SPARE) * gb * 1e9 - bare) / 2
        assert 0 <= half - plan.work.prefix_bytes < 1e8
        assert kept[gb] == min(plan.work.prefix_bytes, 100 * 256 * 147_456)
    assert kept[48] == 100 * 256 * 147_456
    moving = replace(Settings(), teacher=TeacherSettings(teacher="ema"))
    plan = fit(SHAPE, "4-bit", moving, 48e9)
    assert plan is not None and "Teacher's prompts" not in [part.name for part in plan.need.parts]


@pytest.mark.parametrize("gigabytes", [5, 6, 8, 12, 16, 24, 48])
@pytest.mark.parametrize("batch", [8, 32])
def test_a_model_is_measured_in_what_the_plan_leaves_it(batch: int, gigabytes: int) -> None:
    """All 128 questions at once would take 18 GB beside a 4B model in 4-bit."""
    settings = Settings(optim=OptimSettings(batch=batch))
    found = fit(SHAPE, "4-bit", settings, gigabytes * 1e9)
    assert found is not None
    usable, each = (1 - SPARE) * gigabytes * 1e9, question_bytes(SHAPE, "4-bit", settings)
    stays = found.need.standing + 16 * SHAPE.adapter(settings.lora.rank) + found.work.prefix_bytes
    assert stays + found.work.asked * each <= usable
    assert found.work.asked == QUESTIONS or stays + (found.work.asked + 1) * each > usable
    alone = together(SHAPE, "4-bit", settings, gigabytes * 1e9)
    assert found.work.asked < alone or alone == QUESTIONS
    # One is tried where arithmetic leaves no room.
    assert together(SHAPE, "4-bit", settings, 3e9) == 1


def test_what_does_not_fit_is_refused_with_its_arithmetic() -> None:
    assert fit(SHAPE, "bf16", Settings(), 8e9) is None
    said = refusal(SHAPE, "bf16", Settings(), 8e9)
    least = estimate(SHAPE, "bf16", Settings(), work=Execution(1, 1, True, prefix_bytes=0)).teaching
    assert f"needs {least / 1e9:.1f} GB" in said.problem and "weights 8.0 GB" in said.problem
    assert "4-bit" in said.advice
    assert "in 4-bit its weights take about a quarter" in said.advice
    experts = replace(SHAPE, experts=64)  # which stay as they are
    assert "in 4-bit" not in refusal(experts, "bf16", Settings(), 8e9).advice


def test_the_command_says_what_it_plans(capsys: pytest.CaptureFixture[str]) -> None:
    status, found, said = call(capsys, "plan", NAME, "--gpu-memory", 6)
    assert status == 0 and found["fits"] and found["precision"] == "4-bit" and found["checkpointing"]
    assert found["predicted"] < 6e9 and 1 <= found["micro_batch"] < 32
    assert 1 <= found["questions"] < 32 and f"up to {found['questions']} questions" in " ".join(said.split())
    assert sum(found["parts"].values()) > found["predicted"] - 1e6


def test_the_command_reads_a_folder(capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> None:
    status, found, _ = call(capsys, "plan", tiny_folder, "--gpu-memory", 8, "--precision", "fp32", "--batch", 8)
    assert status == 0 and found["micro_batch"] == 8 and not found["checkpointing"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((NAME, "--gpu-memory", 2), "does not fit"),
        (("no/such-model",), "cannot be had"),
        ((NAME, "--gpu-memory", -1), "--gpu-memory is -1"),
    ],
)
def test_the_command_refuses(arguments: tuple[Any, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = call(capsys, "plan", *arguments)
    assert status == 2 and said in found["error"] and found["advice"]


def test_planning_needs_no_torch() -> None:
    code = "import sys, workbench.planning, workbench.memory; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_is_planned_for_the_memory_there_is(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()

    def has(room: float, gpu: bool) -> None:
        monkeypatch.setattr(fitting, "computer", lambda: Machine("it", room, room, False))
        monkeypatch.setattr(fitting, "free_on", lambda device: room if gpu else None)

    shape = read_shape(tiny_model.model.config.to_dict())
    needs = estimate(shape, "fp32", settings, work=Execution(prefix_bytes=0)).teaching
    has((needs + 4.3e9) / (1 - SPARE), True)
    assert fitting.planned(tiny_model, settings) == Execution(prefix_bytes=2_100_000_000)
    has(1.01 * needs / (1 - SPARE), True)
    assert fitting.planned(tiny_model, settings) == Execution(prefix_bytes=0)
    has(0.97 * needs, True)
    assert fitting.planned(tiny_model, settings).micro_batch == settings.optim.batch // 2
    has(1e6, True)
    with pytest.raises(InputError, match="does not fit"):
        fitting.planned(tiny_model, settings)
    has(1e6, False)
    assert fitting.planned(tiny_model, settings) == Execution(1, 1, True, prefix_bytes=0)


def test_a_teacher_that_is_loaded_beside_the_model_takes_room(
    tiny_model: LoadedModel, rows: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(rollout=RolloutSettings(max_new_tokens=64), teacher=TeacherSettings(teacher="original"))
    shape = read_shape(tiny_model.model.config.to_dict())
    weights = sum(p.numel() * p.element_size() for p in tiny_model.model.parameters())
    needs = estimate(shape, "fp32", settings, work=Execution(prefix_bytes=0)).teaching
    monkeypatch.setattr(fitting, "free_on", lambda device: needs / (1 - SPARE) - weights / 2)

    def micro(name: str, before: Path | None) -> int:
        made = begin(Request(name, "sdft", settings, rows, [], before=before), tiny_model, tmp_path)
        return int(made.config["execution"]["micro_batch"])

    assert micro("first", None) == 0, "the model teaches itself"
    (tmp_path / "adapter").mkdir()
    assert micro("second", tmp_path / "adapter") == settings.optim.batch // 2


def test_a_card_that_pytorch_cannot_use_has_no_say_in_how_a_run_is_planned(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "NVIDIA GeForce RTX 3090, 24576, 1\n"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, said, ""))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64e9, available=32e9))
    memory._has_gpu.cache_clear()
    try:
        assert memory.machine().gpu
        assert fitting.planned(tiny_model, Settings()).prefix_bytes > 10e9, "of the memory that it is taught in"
        assert fitting.asked_together(tiny_model, Settings()) == 128
    finally:
        memory._has_gpu.cache_clear()


def test_a_run_keeps_how_it_is_carried_out_and_what_it_came_to(
    capsys: pytest.CaptureFixture[str],
    data: Path,
    probes: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, failed = session_module.TrainingState.accumulate, []

    def accumulate(self: Any, loss: Any) -> None:
        if self.step == 1 and not failed:
            failed.append(1)
            raise MemoryError
        own(self, loss)

    monkeypatch.setattr(session_module.TrainingState, "accumulate", accumulate)
    monkeypatch.setattr(recovery, "free_memory", lambda: None)
    status, found, said = call(
        capsys, "teach", data, "--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs", *QUICK,
        "--micro-batch", 4, "--name", "few",
    )  # fmt: skip
    assert status == 0 and found["run"].endswith("few")
    run = Run(tmp_path / "runs" / "few")
    assert run.config["execution"] == Execution(micro_batch=4).to_dict()
    steps = [event for event in run.log.read() if isinstance(event, Step)]
    assert [s.smaller for s in steps if s.smaller] == [{"micro_batch": 2, "at_once": 0}]
    assert "Memory ran out in step 2" in said and "2 learned from at a time" in said
    # Whoever goes on with it goes on with as few at a time.
    assert session_module.Session(run)._work() == Execution(micro_batch=2)
    assert json.loads((run.path / "config.json").read_text())["execution"]["micro_batch"] == 4


def test_a_network_that_is_not_there_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def ask(url: str, **_: Any) -> None:
        asked.append("/".join(url.split("/")[3:5]))
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    # A download would try it six times.
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("it was downloaded"))
    assert config_of(NAME)[1] == "by its published config.json, which comes with the workbench"
    with pytest.raises(InputError, match="The config.json of no/such cannot be had"):
        config_of("no/such")
    assert asked == [NAME, "no/such"]


def test_a_name_that_can_be_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'a b' is neither a folder nor a Hugging Face id"):
        config_of("a b")
