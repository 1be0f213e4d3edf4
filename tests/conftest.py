"""Shared fixtures: a tiny model on disk, loaded, and rows to teach it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Nothing in the tests may reach for the network, and figures must not depend on the machine's cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch  # noqa: E402

from tests import tiny  # noqa: E402
from workbench.demonstrations import Demonstration  # noqa: E402
from workbench.models import LoadedModel, load  # noqa: E402


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 model on disk."""
    return tiny.save(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def tiny_model(tiny_folder: Path) -> LoadedModel:
    """The same, loaded afresh for each test."""
    return load(str(tiny_folder))


@pytest.fixture
def rows() -> list[Demonstration]:
    """Twelve rows to teach."""
    words = ["red", "blue", "green", "big", "small", "old", "new", "hot", "cold", "fast", "slow", "dark"]
    return [
        Demonstration(
            prompt=f"How do you say {word} ball in Zorbic?",
            demonstration=f"The reply is mipa {'tolu ' * (i % 3 + 1)}{word}.",
            answer=f"mipa {word}",
            id=f"row-{i}",
        )
        for i, word in enumerate(words)
    ]


@pytest.fixture
def keep_rows() -> list[Demonstration]:
    """Seven keep rows."""
    return [Demonstration(prompt=f"What is {i} plus 4?", keep=True) for i in range(7)]


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """Tests neither see nor leave a random state of others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
