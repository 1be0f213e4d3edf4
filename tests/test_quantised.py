"""4-bit and 8-bit models: what is shared, what is refused, and that their gradients are true on a CPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tests import tiny
from workbench import quantised
from workbench.adapters import merge_adapter, save_adapter
from workbench.decoding import LiveDecoder
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.models import LoadedModel, LoadingNote, load, parameters
from workbench.roles import Roles, make_roles
from workbench.sampling import Completions
from workbench.settings import LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import sdft
from workbench.training.student import completion_predictions

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "head_dim": 32}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose layers are wide enough for bitsandbytes' packed product."""
    return tiny.save(tmp_path_factory.mktemp("wide"), **WIDE)


def dequantised(model: Any) -> Any:
    """The same function with plain fp32 weights."""
    from bitsandbytes.functional import dequantize_4bit

    plain = copy.deepcopy(model)
    for name, layer in list(quantised.layers(plain)):
        state = layer.weight.quant_state
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
        linear.weight.data = dequantize_4bit(layer.weight.data, state).float()
        parent, _, last = name.rpartition(".")
        setattr(plain.get_submodule(parent), last, linear)
    plain.is_loaded_in_4bit = plain.is_quantized = False
    plain.config.quantization_config = plain.quantization_method = plain.hf_quantizer = None
    return plain.requires_grad_(False).eval()


def gradients(roles: Roles) -> dict[str, Tensor]:
    """Of a loss in every adapter weight, after B was moved away from 0 and the model has answered once."""
    generator = torch.Generator().manual_seed(1)
    for parameter in roles.adapter.values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    with torch.no_grad():
        roles.student(input_ids=IDS)
        roles.loaded.model(input_ids=IDS)
    loss = roles.student(input_ids=IDS).logits.float().log_softmax(-1)[..., 7].mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in roles.adapter.items() if p.grad is not None}


def test_lora_gradients_are_those_of_the_same_weights_in_full(wide: Path) -> None:
    loaded = load(str(wide), precision="4-bit")
    plain = LoadedModel(dequantised(loaded.model), loaded.tokenizer, loaded.name, None)
    ours, true = gradients(make_roles(loaded, LoraSettings())), gradients(make_roles(plain, LoraSettings()))
    assert ours.keys() == true.keys() and len(ours) == 3 * 7 * 2
    for name, gradient in true.items():
        assert float(gradient.norm()) > 0
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


def test_the_hazard_is_there_without_the_guard_and_gone_with_it(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsandbytes.nn.modules import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this processor has no AVX512-BF16, so bitsandbytes does not take the packed product on it")
    true = gradients(make_roles(load(str(wide), precision="4-bit"), LoraSettings()))
    with monkeypatch.context() as without:
        without.setattr(quantised, "guard", lambda *_: None)
        spoilt = load(str(wide), precision="4-bit")
        wrong = gradients(make_roles(spoilt, LoraSettings()))
    first = [name for name in true if ".layers.0." in name]
    share = [float(wrong[n].norm() / true[n].norm()) if n in wrong else 0.0 for n in first]
    assert min(share) < 0.8, share  # far too short, and nothing was raised
    # A model that was spoilt already is mended on the way into the loop.
    assert all(
        getattr(m.weight.quant_state, "packing_format_for_cpu", False) for _, m in quantised.layers(spoilt.model)
    )
    mended = gradients(make_roles(spoilt, LoraSettings()))
    for name, gradient in true.items():
        # Packing has rounded the scales to bf16 by then; that cannot be undone.
        torch.testing.assert_close(mended[name], gradient, rtol=0.1, atol=0.05 * float(gradient.abs().max()))


@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_a_step_teaches_and_views_share_the_weights(wide: Path, rows: list[Demonstration], precision: str) -> None:
    with pytest.warns(LoadingNote, match="on a CPU is exact"):
        loaded = load(str(wide), precision=precision)
    assert loaded.precision == precision and loaded.notes
    assert parameters(loaded.model) == parameters(load(str(wide)).model)
    roles = make_roles(loaded, LoraSettings())
    views = dict(quantised.layers(roles.student))
    for name, layer in quantised.layers(loaded.model):
        twin = views[f"base_model.model.{name}.base_layer"]
        assert twin.weight is layer.weight
        assert (
            quantised.shared_parts(nn.ModuleList([twin])).keys()
            == quantised.shared_parts(nn.ModuleList([layer])).keys()
        )
    before = loaded.model(input_ids=IDS).logits
    torch.testing.assert_close(roles.student(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-4)
    settings = Settings(optim=OptimSettings(steps=2, batch=2, lr=1e-2), rollout=RolloutSettings(max_new_tokens=6))
    steps = list(sdft(roles, rows, settings))
    assert len(steps) == 2 and all(step.gradient_norm > 0 for step in steps)
    assert torch.equal(loaded.model(input_ids=IDS).logits, before)
    assert float((roles.student(input_ids=IDS).logits - before).abs().max()) > 1e-3


def held_after_forward(roles: Roles) -> int:
    """Bytes that a checkpointed pass over two answers keeps for its gradients."""
    ids = torch.randint(3, 100, (2, 32), generator=torch.Generator().manual_seed(1))
    answers = Completions(ids, torch.ones_like(ids), ids, torch.ones_like(ids))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found = completion_predictions(roles, answers, checkpointing=True)
    events: Any = seen.profiler.kineto_results.events()
    found.values.square().mean().backward()
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.mark.parametrize("beside", [False, True], ids=["plain", "with an earlier adapter beside it"])
def test_checkpointing_keeps_no_more_in_8_bit_than_in_4_bit(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    def taught(precision: str) -> Roles:
        loaded = load(str(wide), precision=precision)
        if beside:
            first = make_roles(loaded, LoraSettings())
            gradients(first)
            save_adapter(first, tmp_path / precision)
            loaded = merge_adapter(loaded, tmp_path / precision)
        roles = make_roles(loaded, LoraSettings())
        roles.student_decoder = LiveDecoder(roles.student)
        return roles

    assert held_after_forward(taught("8-bit")) < 1.5 * held_after_forward(taught("4-bit"))
    lean = gradients(taught("8-bit"))
    monkeypatch.setattr(quantised, "_let_go", lambda *_: None)
    whole = gradients(taught("8-bit"))
    assert whole.keys() == lean.keys() and all(torch.equal(lean[name], whole[name]) for name in whole)


def test_an_earlier_adapter_lies_beside_quantised_weights(wide: Path, tmp_path: Path) -> None:
    loaded = load(str(wide), precision="4-bit")
    roles = make_roles(loaded, LoraSettings())
    gradients(roles)
    save_adapter(roles, tmp_path / "adapter")
    taught = roles.student(input_ids=IDS).logits.detach()
    codes = {name: layer.weight.data.clone() for name, layer in quantised.layers(loaded.model)}
    on = merge_adapter(loaded, tmp_path / "adapter")
    for name, layer in quantised.layers(on.model):
        assert torch.equal(layer.weight.data, codes[name]), name
    assert on.precision == "4-bit"
    torch.testing.assert_close(on.model(input_ids=IDS).logits, taught, rtol=1e-3, atol=1e-3)
    # A second lesson starts there, and its gradient reaches its own adapter alone.
    second = make_roles(on, LoraSettings())
    torch.testing.assert_close(second.student(input_ids=IDS).logits, taught, rtol=1e-3, atol=1e-3)
    assert len(gradients(second)) == 3 * 7 * 2


def test_what_came_quantised_is_read_as_it_is(wide: Path, tmp_path: Path) -> None:
    first = load(str(wide), precision="4-bit")
    first.model.save_pretrained(tmp_path / "nf4")
    first.tokenizer.save_pretrained(tmp_path / "nf4")
    again = load(str(tmp_path / "nf4"))
    assert again.precision == "4-bit"
    assert torch.equal(again.model(input_ids=IDS).logits, first.model(input_ids=IDS).logits)
    with pytest.raises(InputError, match="quantised already"):
        load(str(tmp_path / "nf4"), precision="bf16")


@pytest.mark.parametrize(
    ("method", "said"),
    [("gptq", "gptqmodel"), ("hqq", "pip install hqq"), ("fp8", "on a GPU only")],
)
def test_what_others_have_quantised_is_read_or_refused_in_words(method: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        quantised.choose("auto", {"quant_method": method}, torch.device("cpu"))


def test_a_missing_package_and_an_unknown_precision_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(InputError, match="Unknown precision 'int3'"):
        quantised.choose("int3", None, cpu)
    assert quantised.choose("auto", None, cpu) == quantised.Precision("fp32", torch.float32)
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"sdft-workbench\[gpu\]"):
        quantised.choose("4-bit", None, cpu)
