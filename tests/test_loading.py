"""What is loaded is what the files say, number by number, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.families import FAMILIES
from workbench.errors import InputError
from workbench.models import load

pytestmark = pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")


def keep_weights(folder: Path, keep: Callable[[str], bool]) -> None:
    """Leave of the folder's weights those that are to be kept."""
    file = folder / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if keep(n)}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("precision", ["fp32", "4-bit"])
def test_weights_that_the_files_lack_are_not_made_up(tmp_path: Path, precision: str) -> None:
    if precision == "4-bit":
        pytest.importorskip("bitsandbytes")
    folder = tiny.save(tmp_path, tie_word_embeddings=False)
    keep_weights(folder, lambda name: name != "lm_head.weight")
    with pytest.raises(InputError, match=r"lack lm_head\.weight, so") as raised:
        load(str(folder), precision=precision)
    assert "all of its files" in raised.value.advice
    keep_weights(folder, lambda name: ".layers.2." not in name)
    with pytest.raises(
        InputError, match=r"lack lm_head\.weight, model\.layers\.2\.input_layernorm\.weight, .* and 9 more"
    ):
        load(str(folder), precision=precision)


def test_weights_of_other_shapes_are_named(tmp_path: Path) -> None:
    config = tiny.save(tmp_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 444}))
    with pytest.raises(
        InputError, match=r"other shapes .*model\.embed_tokens\.weight \(\[\d+, 64\], not \[444, 64\]\)"
    ):
        load(str(tmp_path))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_no_family_lacks_weights_when_it_is_quantised(tmp_path: Path, name: str, precision: str) -> None:
    pytest.importorskip("bitsandbytes")
    assert load(str(FAMILIES[name].save(tmp_path)), precision=precision).precision == precision


@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_files_that_came_quantised_lack_nothing(tmp_path: Path, precision: str) -> None:
    pytest.importorskip("bitsandbytes")
    first = load(str(tiny.save(tmp_path / "plain")), precision=precision)
    first.model.save_pretrained(tmp_path / "small")
    first.tokenizer.save_pretrained(tmp_path / "small")
    again = load(str(tmp_path / "small"))
    ids: Any = {"input_ids": torch.arange(5, 15)[None]}
    assert again.precision == precision
    torch.testing.assert_close(again.model(**ids).logits, first.model(**ids).logits)
