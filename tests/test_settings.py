"""Settings refuse what cannot be carried out; wrong use is refused before torch is there."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.settings import GROUPS, Settings

NUMBERS = [(kind, f.name) for kind in GROUPS.values() for f in fields(kind) if isinstance(f.default, float)]


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=[name for _, name in NUMBERS])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_setting_is_a_finite_number(kind: type, name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is {value}; it must be a finite number, "):
        kind(**{name: value})


FIELDS = [(kind, f) for kind in GROUPS.values() for f in fields(kind)]


@given(st.sampled_from(FIELDS), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([1]))
def test_a_setting_is_of_its_kind_or_refused_by_name(field: tuple[type, Field[Any]], value: Any) -> None:
    kind, one = field
    try:
        kind(**{one.name: value})
    except InputError as refused:
        assert str(refused).startswith(f"--{one.name.replace('_', '-')} is {value!r}; it must be ")
    else:
        assert type(value) is type(one.default) or (type(value), type(one.default)) == (int, float)


@pytest.mark.parametrize(
    ("group", "name", "value", "allowed"),
    [
        ("optim", "steps", 2.5, "a whole number"),
        ("optim", "steps", 3.0, "a whole number"),
        ("optim", "steps", True, "a whole number"),
        ("optim", "seed", math.inf, "a whole number"),
        ("optim", "lr", "1e-3", "a number"),
        ("optim", "lr", True, "a number"),
        ("optim", "weight_decay", None, "a number"),
        ("divergence", "tail", 1, "true or false"),
        ("lora", "targets", ["q_proj"], "text"),
    ],
)
def test_a_value_of_another_kind_is_refused(group: str, name: str, value: Any, allowed: str) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(InputError, match=re.escape(f"--{flag} is {value!r}; it must be {allowed}.")):
        Settings.from_dict({group: {name: value}})


def test_a_whole_number_does_where_any_number_does() -> None:
    assert Settings.from_dict({"optim": {"lr": 1, "weight_decay": 0}}).optim.lr == 1


CHOSEN = [(kind, f.name, f.metadata["choices"]) for kind in GROUPS.values() for f in fields(kind)]


@pytest.mark.parametrize(("kind", "name", "choices"), [c for c in CHOSEN if c[2]], ids=str)
def test_a_choice_is_one_of_those_that_are_named(kind: type, name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(kind(**{name: choice}), name) == choice
    with pytest.raises(InputError) as refused:
        kind(**{name: "forwards"})
    assert f"--{name} is 'forwards'" in str(refused.value) and all(choice in str(refused.value) for choice in choices)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["teach", "missing.jsonl"], "There is no file missing.jsonl"),
        (["check", "missing.jsonl"], "There is no file missing.jsonl"),
        (["teach", "ROWS", "--save-every", "0"], "--save-every is 0"),
        (["recipe", "science", "--data", "missing"], "There is no science_data/train_data"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_torch(arguments: list[str], says: str, data: Path) -> None:
    told = [str(data) if a == "ROWS" else a for a in arguments]
    code = f"import sys; from workbench.cli import main; main({told!r}); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n" and says in said.stderr


def test_the_bundled_model_goes_on_under_its_original_self() -> None:
    from workbench.settings import GOING_ON, POCKET_DEFAULTS, own_defaults

    assert own_defaults(False, True) == {}
    assert own_defaults(True) == POCKET_DEFAULTS
    second = Settings.from_dict(own_defaults(True, True))
    assert second.teacher.teacher == "original"
    assert second.optim.lr == GOING_ON["optim"]["lr"] > Settings.from_dict(POCKET_DEFAULTS).optim.lr
    assert second.lora == Settings.from_dict(POCKET_DEFAULTS).lora
