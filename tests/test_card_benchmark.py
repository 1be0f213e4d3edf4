"""benchmarks/gpu.py never ends with nothing: what fails or takes too long is null, with its reason."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks import against_trl, gpu, gpu_worker
from benchmarks.bounded import Bounded, measured
from benchmarks.gpu_model import SMALL, config_of, write_quantised
from tests.pretend_card import pretended
from tests.test_docs import ROOT, script
from tests.waiting import until
from workbench import quantised
from workbench.allocations import forget_peak, peak_of
from workbench.decoding import Head, captured
from workbench.models import load
from workbench.pocket import WEIGHTS

PROMISED = {
    "device",
    "measured",
    "peak_gb",
    "over_trl",
    "decode_over_generate",
    "sdft_over_sft",
    "loss_gb",
    "estimate_error",
}
GRAPHS = "WORKBENCH_CUDA_GRAPHS"
OPTIONS = ["--rounds", "1", "--steps", "2", "--length", "8", "--lengths", "8", "16", "--rollouts-list", "1", "2"]
FAKE = """
import json, pathlib, sys
here, kind = pathlib.Path(__file__).parent, sys.argv[1]
with open(here / "log", "a") as log:
    print(" ".join(sys.argv[1:]), file=log)
points = sys.argv[sys.argv.index("--points") + 1:] if "--points" in sys.argv else []
said = {
    "decode": {"generate": [4.0, 4.0], "live": [1.0, 1.0], "as_run": [0.5]},
    "loss": {"peak": [2e8]},
    "cost": {point: [float(eval(point.replace("x", "*")))] for point in points},
    "memory_ours": {"peak": [5e8]},
    "memory_trl": {"peak": [1e9]},
}
if kind != "model":
    print("MEASURED", json.dumps(said.get(kind, {"step": [{"trl": 6.0, "sft": 1.0}.get(kind, 2.0)]})))
if (here / f"no {kind}").exists():
    print("first\\n" * 20 + "it broke", file=sys.stderr)
    sys.exit(3)
"""


def shell(does: str) -> list[str]:
    return ["sh", "-c", does]


def test_what_a_failed_process_had_said_is_kept_and_the_others_go_on() -> None:
    bench = Bounded(limit=60, minutes=60)
    bench.run("one", shell("""echo 'MEASURED {"step": [1, 2]}'; echo noise; echo 'MEASURED {"step": [3]}'"""))
    bench.run("two", shell("""echo 'MEASURED {"step": [4]}'; seq 100 >&2; echo why >&2; exit 3"""))
    bench.run("three", shell("exit 1"))
    assert bench.found == {"one": {"step": [1, 2, 3]}, "two": {"step": [4]}}
    assert bench.failed == {
        "two": "ended with status 3\n" + "\n".join(map(str, range(94, 101))) + "\nwhy",
        "three": "ended with status 1",
    }
    assert [bench.lacks(name) for name in ("one", "two", "three", "four")] == [False, True, True, True]
    bench.run("two", shell("""echo 'MEASURED {"step": [5]}'"""))
    assert bench.found["two"] == {"step": [5]} and not bench.lacks("two")


def test_a_process_that_takes_too_long_is_ended_with_what_it_has_started() -> None:
    bench = Bounded(limit=1, minutes=60)
    bench.run("slow", shell("""sleep 600 & echo "MEASURED {\\"pid\\": [$!]}"; wait"""))
    assert bench.failed == {"slow": "stopped after 1 seconds"}
    (pid,) = bench.found["slow"]["pid"]

    def gone() -> bool:
        try:
            return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(gone, 10)


def test_nothing_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    bench = Bounded(limit=60, minutes=0.1)
    bench.run("late", shell(f"touch {tmp_path}/begun"))
    assert bench.failed == {"late": "not begun: the 0.1 minutes were over"}
    assert not (tmp_path / "begun").exists()


def test_half_a_line_is_no_measurement() -> None:
    assert measured('MEASURED {"step": [1]}\nMEASURED {"step": [2') == {"step": [1]}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a worker that measures nothing and says fixed numbers, and a log of what was asked of it."""
    (tmp_path / "worker.py").write_text(FAKE)
    monkeypatch.setattr(gpu, "WORKER", tmp_path / "worker.py")
    return tmp_path


def asked(folder: Path) -> list[str]:
    log = folder / "log"
    lines = log.read_text().splitlines()
    log.unlink()
    return lines


def found(capsys: pytest.CaptureFixture[str], *options: object) -> dict[str, Any]:
    gpu.main([*OPTIONS, "--json", *map(str, options)])
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_a_program_that_fails_is_null_and_the_same_command_measures_what_is_missing(
    fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fake / "no trl_defaults").touch()
    first = found(capsys, "--out", fake / "gpu.json")
    assert set(first) >= PROMISED
    assert (first["over_trl"], first["sdft_over_sft"], first["decode_over_generate"]) == (3.0, 2.0, 4.0)
    assert (first["peak_gb"], first["memory_over_trl"], first["loss_gb"]) == (0.5, 2.0, 0.2)
    assert first["estimate_error"] is None
    assert first["failed"]["trl_defaults/1"].splitlines()[-1] == "it broke"
    assert first["cost"] == [
        {"length": 8, "rollouts": 8, "seconds": 64.0},
        {"length": 16, "rollouts": 8, "seconds": 128.0},
        {"length": 8, "rollouts": 1, "seconds": 8.0},
        {"length": 8, "rollouts": 2, "seconds": 16.0},
    ]
    assert first["cost_power"] == {"length": 1.0, "rollouts": 1.0}
    kinds = [line.split()[0] for line in asked(fake)]
    assert kinds[:6] == ["model", "ours", "memory_ours", "memory_trl", "trl", "sft"]
    assert json.loads((fake / "gpu.json").read_text()) == first

    (fake / "no trl_defaults").unlink()
    second = found(capsys, "--out", fake / "gpu.json")
    assert [line.split()[0] for line in asked(fake)] == ["model", "trl_defaults"]
    assert second["failed"] == {} and second["over_trl_defaults"] == 1.0
    assert {**second, "failed": 0, "raw": 0} == {**first, "failed": 0, "raw": 0}

    with pytest.raises(SystemExit, match="another work"):
        gpu.main([*OPTIONS, "--length", "9", "--out", str(fake / "gpu.json")])


def test_an_interrupted_run_prints_what_it_has(
    fake: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Bounded.run

    def interrupted(bench: Bounded, name: str, *more: Any) -> None:
        if name == "decode":
            raise KeyboardInterrupt
        run(bench, name, *more)

    monkeypatch.setattr(Bounded, "run", interrupted)
    result = found(capsys)
    assert result["over_trl"] == 3.0 and result["decode_over_generate"] is None
    assert result["failed"]["loss"] == "not begun: interrupted"


def test_without_a_model_nothing_is_measured_and_all_is_null(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fake / "no model").touch()
    result = found(capsys)
    assert len(asked(fake)) == 1
    assert all(result[name] is None for name in PROMISED - {"device", "measured"})
    assert result["failed"]["model"].startswith("ended with status 3")
    assert result["failed"]["trl/1"] == "not begun: there is no model"
    drawer = script("draw_gpu")
    page = drawer.page({**result, "device": "Tesla T4", "gpu": True})
    assert "| peak memory of a step | at most 6.0 GB | - | not measured |" in page
    assert "stand-in has" not in page and "gpu.svg" not in page
    assert "- model: ended with status 3\n" in page
    drawer.draw(result, fake / "gpu.svg")
    assert (fake / "gpu.svg").stat().st_size > 0


def test_a_card_is_known_by_what_the_file_says(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fake / "no cost").touch()
    result = found(capsys) | {"device": "Tesla T4", "gpu": True}
    result["cost"][1]["seconds"] = None
    drawer = script("draw_gpu")
    page = drawer.page(result)
    assert (
        "| TRL's step over ours, the same loss over the whole vocabulary | at least 3 | 3.0 times | measured |" in page
    )
    assert "CPU stand-in" not in page and "gpu.svg" in page
    assert drawer.lines_of_cost(result) == {"answers of 8 tokens, more and more": [(8, 8.0), (16, 16.0), (64, 64.0)]}


def test_the_page_is_what_the_results_say() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8") == script("draw_gpu").page(results), (
        "run: python docs/draw_gpu.py"
    )


def test_the_peak_is_looked_for_after_what_is_to_be_forgotten() -> None:
    def run(forget: bool) -> None:
        kept = torch.ones(1000, 1000)
        torch.ones(3000, 1000).sum()
        if forget:
            forget_peak()
        torch.ones(500, 1000).add_(kept[:500])

    assert peak_of(lambda: run(False)) == pytest.approx(16e6, rel=1e-3)
    assert peak_of(lambda: run(True)) == pytest.approx(6e6, rel=1e-3)


def test_a_step_is_said_after_the_warm_up_whose_peak_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCH", 4), ("LENGTH", 4), ("WARM_UP", gpu_worker.WARM_UP)):
        monkeypatch.setattr(against_trl, name, value)
    seen: list[str] = []
    monkeypatch.setattr("workbench.allocations.forget_peak", lambda: seen.append("forgotten"))
    monkeypatch.setattr(gpu_worker, "say", lambda **found: seen.extend(found))
    gpu_worker.measure_step("ours", rollouts=2, steps=2)
    assert seen == ["forgotten", *["step", "sample", "teacher", "student", "update"] * 2]


def test_steps_that_cannot_be_recorded_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(gpu_worker, "say", lambda **found: said.append(found))
    monkeypatch.setattr(captured, "_given_up", False)

    class Refusing:
        def __init__(self, step: Any) -> None:
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "recorder", lambda device: Refusing if os.environ.get(GRAPHS) else None)
    monkeypatch.setenv(GRAPHS, "")
    with warnings.catch_warnings(), pytest.raises(captured.CaptureNote, match="not permitted when stream is capturing"):
        gpu_worker.measure_decode(20, 1, captured=True)
    monkeypatch.setenv(GRAPHS, "")
    gpu_worker.measure_decode(4, 2, captured=False)
    assert [list(found) for found in said] == [["generate"], ["live"], ["as_run"]] * 2
    assert all(seconds > 0 for found in said for values in found.values() for seconds in values)


@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_the_checkpoint_that_every_process_loads_is_quantised_already(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit

    shape = {**SMALL, "num_hidden_layers": 2, "vocab_size": 1500}
    write_quantised(tmp_path, config_of(shape), "cpu")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((WEIGHTS / file).read_bytes())
    loaded = load(str(tmp_path), precision="4-bit")
    layers = dict(quantised.layers(loaded.model))
    assert loaded.precision == "4-bit" and len(layers) == 2 * 7
    state = layers["model.layers.1.mlp.up_proj"].weight.quant_state
    assert state.quant_type == "nf4" and state.nested
    plain = dequantize_4bit(layers["model.layers.1.mlp.up_proj"].weight.data, state)
    assert plain.shape == (768, 256) and float(plain.std()) == pytest.approx(0.02, rel=0.02)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_the_loss_has_the_head_of_a_loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    types = []
    made = Head.__init__

    def noted(self: Head, weight: torch.Tensor, *more: Any) -> None:
        types.append(weight.dtype)
        made(self, weight, *more)

    monkeypatch.setattr(Head, "__init__", noted)
    monkeypatch.setattr(gpu_worker, "LOSS_TOKENS", 8)
    gpu_worker.measure_loss(4, vocabulary=50)
    with pretended():
        gpu_worker.measure_loss(4, vocabulary=50)
    assert types == [torch.float32, torch.bfloat16]


def test_the_worker_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = gpu.arguments(False).parse_args(OPTIONS)
    seen: list[Any] = []
    monkeypatch.setattr(gpu_worker, "run", lambda options, gpu: seen.append(options) or 0)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    for name in gpu.measurements(options, False):
        command = gpu.command(name, options, tmp_path, ["8x8"] if name == "cost" else [])
        monkeypatch.setattr(sys, "argv", command[1:])
        assert gpu_worker.main() == 0
    assert [s.kind for s in seen] == [name.split("/")[0] for name in gpu.measurements(options, False)]
    assert {s.rollouts for s in seen if s.kind == "sft"} == {1} and {s.rollouts for s in seen if s.kind == "trl"} == {8}
    assert [s.points for s in seen if s.kind == "cost"] == [["8x8"]]
