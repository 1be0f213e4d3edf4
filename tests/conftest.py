"""Shared fixtures: a tiny model on disk, loaded, and rows to teach it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Nothing in the tests may reach for the network, and figures must not depend on the machine's cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # another process of tests runs beside this one
    os.environ["OMP_NUM_THREADS"] = "1"
# A model is loaded onto a card where there is one; all tests but those of tests/gpu work in the computer's memory.
if not any("gpu" in argument for argument in sys.argv[1:]):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Before torch: the package says how long torch's threads spin, which matters on a busy machine.
import workbench  # noqa: E402, F401, I001
import torch  # noqa: E402

from tests import tiny  # noqa: E402
from tests.command import QUICK, call  # noqa: E402
from tests.inside import Inside  # noqa: E402
from workbench.demonstrations import Demonstration, write  # noqa: E402
from workbench.models import LoadedModel, load  # noqa: E402

# The same examples each time, and no say in how fast they are made: neither chance nor a busy machine turns a test red.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pages' tests take longest, so they come first: the other process takes everything else meanwhile."""
    items.sort(key=lambda item: item.path.parent.name == "pages", reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How tests are dealt out to the processes of `make test`: file by file, and all of the pages' as if one file.

    Each of these has a browser, a server and a model, so two of them at once would wait for one another.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "pages" if file.startswith("tests/pages/") else file

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files for download go where pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture
def data(tmp_path: Path, rows: list[Demonstration]) -> Path:
    """The twelve rows as a file."""
    write(rows, tmp_path / "rows.jsonl")
    return tmp_path / "rows.jsonl"


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """Three probes as a file; the tiny model says an e now and then."""
    write([Demonstration(f"What is {i}?", answer="e") for i in range(3)], tmp_path / "probes.jsonl")
    return tmp_path / "probes.jsonl"


@pytest.fixture
def taught(
    capsys: pytest.CaptureFixture[str], data: Path, probes: Path, tiny_folder: Path, tmp_path: Path
) -> dict[str, Any]:
    """What `teach` printed about the finished run `rows` in the folder `runs`."""
    status, found, _ = call(
        capsys, "teach", data, "--model", tiny_folder, "--probes", probes, "--runs", tmp_path / "runs", *QUICK
    )
    assert status == 0
    return found


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """Tests neither see nor leave a random state of others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def inside(tmp_path: Path, tiny_folder: Path) -> Iterator[Inside]:
    """A worker's service in this process, with the tiny model; its runs are in `runs`."""
    made = Inside(tmp_path / "runs", tiny_folder)
    yield made
    made.close()
