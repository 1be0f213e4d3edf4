"""What was taught on one base, in one precision, is not put on another without a word."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny
from workbench.adapters import CONFIG_FILE, merge_adapter, save_adapter
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.memory import estimate, read_shape
from workbench.models import LoadedModel, load
from workbench.planning import KNOWN, fit
from workbench.roles import make_roles
from workbench.runs.session import Request, Session, begin
from workbench.settings import LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.worker.asking import Asker


def test_an_adapter_of_another_base_of_the_same_shapes_is_refused(tiny_model: LoadedModel, tmp_path: Path) -> None:
    save_adapter(make_roles(tiny_model, LoraSettings()), tmp_path / "adapter")
    other = load(str(tiny.save(tmp_path / "other", seed=1)))
    with pytest.raises(InputError, match=r"was made on .*tiny-model.*; .*other is another model"):
        merge_adapter(other, tmp_path / "adapter")
    # The same weights under another name, and the same name elsewhere, are the model it was made on.
    twin = load(str(tiny.save(tmp_path / "twin")))
    with warnings.catch_warnings():  # the libraries' notes to each other are not for our users
        warnings.simplefilter("error", FutureWarning)
        merge_adapter(twin, tmp_path / "adapter")
    moved = load(str(tiny.save(tmp_path / "moved" / Path(tiny_model.name).name, seed=1)))
    merge_adapter(moved, tmp_path / "adapter")


def test_an_adapter_of_another_revision_is_refused(tiny_model: LoadedModel, tmp_path: Path) -> None:
    save_adapter(make_roles(tiny_model, LoraSettings()), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps(config | {"revision": "aaaa"}))
    with pytest.raises(InputError, match="at revision aaaa"):
        merge_adapter(replace(tiny_model, revision="bbbb"), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")
def test_a_run_in_another_precision_is_not_asked_with_these_weights(
    tiny_model: LoadedModel, rows: list[Demonstration], tmp_path: Path
) -> None:
    settings = Settings(optim=OptimSettings(steps=1, batch=2), rollout=RolloutSettings(max_new_tokens=4))
    run = begin(Request("run", "sdft", settings, rows[:4], []), tiny_model, tmp_path)
    list(Session(run, tiny_model).teach())
    assert Asker(tiny_model, tmp_path).start_of(run) is tiny_model
    half = load(tiny_model.name, precision="bf16")
    with pytest.raises(InputError, match="was taught in fp32; .* is in memory in bf16") as raised:
        Asker(half, tmp_path).view("run")
    assert "in fp32 on the Model page" in raised.value.advice


def test_8_bit_is_planned_between_4_bit_and_16() -> None:
    shape = read_shape(KNOWN["Qwen/Qwen3-4B-Instruct-2507"])
    weights = {p: estimate(shape, p, Settings()).parts[0].size / 1e9 for p in ("4-bit", "8-bit", "bf16")}
    # 3.63e9 weights in linear layers, 0.39e9 in the embedding, which stays in 16 bits.
    assert weights["8-bit"] == pytest.approx(3.633 + 2 * 0.389, rel=1e-3)
    assert weights["4-bit"] < weights["8-bit"] < weights["bf16"]
    assert fit(shape, "8-bit", Settings(), 6e9) is None
    assert fit(shape, "8-bit", Settings(), 12e9) is not None
