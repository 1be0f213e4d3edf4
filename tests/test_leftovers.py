"""What a process that was killed while it wrote has left: it neither goes out with a run nor stays for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fake_run import finished
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, RunError
from workbench.models import load
from workbench.runs import Run, zips
from workbench.runs.folder import unfinished
from workbench.runs.session import Request, Session, begin
from workbench.settings import OptimSettings, RolloutSettings, Settings


@pytest.fixture
def run(tmp_path: Path, rows: list[Demonstration]) -> Run:
    """A finished run that somebody once took up again, which was killed in the middle of everything."""
    made = finished(tmp_path / "runs", "run", rows)
    for folder in (made.checkpoints / ".tmp-step-000015-7", made.checkpoints / ".tmp-old-000005-7"):
        folder.mkdir()
        (folder / "state.json").write_text("half of")
    (made.path / ".tmp-adapter-7").mkdir()
    (made.path / ".tmp-adapter-7" / "adapter_config.json").write_text("half of")
    (made.path / ".note.part").write_text("half of")
    (made.path / "lock").write_text("")
    return made


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def zip_of(path: Path, files: dict[str, bytes], root: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(root + name, content)
    return path


def whole(run: Run) -> dict[str, bytes]:
    """The files of the run that are a run's."""
    return {n: c for n, c in files(run.path).items() if c != b"half of" and n != "lock"}


def test_leftovers_do_not_go_out(run: Run, tmp_path: Path) -> None:
    packed = zips.pack(run.path, tmp_path / "run.zip")
    assert set(zipfile.ZipFile(packed).namelist()) == {f"run/{name}" for name in whole(run)}
    assert files(zips.import_run(packed, tmp_path / "runs", "again").path) == whole(run)


def test_a_recipes_run_comes_back_without_the_scores_of_its_test(run: Run, tmp_path: Path) -> None:
    before = whole(run)
    (run.path / "recipe.json").write_text("{}")
    packed = zips.pack(run.path, tmp_path / "run.zip")
    assert files(zips.import_run(packed, tmp_path / "runs", "again").path) == before


@pytest.mark.parametrize("root", ["", "run/", "./", ".run/"])
def test_leftovers_do_not_come_in(run: Run, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MOST_BYTES", sum(map(len, whole(run).values())))
    packed = zip_of(tmp_path / "run.zip", files(run.path), root)
    assert files(zips.import_run(packed, tmp_path / "runs", "again").path) == whole(run)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (".tmp/../../evil.json", "outside of itself"),
        ("/.tmp/evil.json", "outside of itself"),
        (".tmp\\..\\evil.json", "outside of itself"),
        ("..", "outside of itself"),
        ("checkpoints/tmp-step-000001/state.json", "no run has"),
    ],
)
def test_a_dot_opens_no_way_out(run: Run, tmp_path: Path, name: str, says: str) -> None:
    packed = zip_of(tmp_path / "run.zip", {**whole(run), name: b"{}"})
    with pytest.raises(InputError, match=says):
        zips.import_run(packed, tmp_path / "runs", "again")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.zip", "runs"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run"]


def test_who_teaches_a_run_clears_it(tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> None:
    settings = Settings(optim=OptimSettings(steps=1, batch=4), rollout=RolloutSettings(max_new_tokens=4))
    run = begin(Request("run", "sdft", settings, rows[:8], []), load(str(tiny_folder)), tmp_path)
    left = [run.path / ".tmp-adapter-7", run.checkpoints / ".tmp-step-000001-7", run.checkpoints / ".tmp-old-000001-7"]
    for folder in left:
        folder.mkdir()
    list(Session(run).teach())
    assert not [folder for folder in left if folder.exists()]
    assert run.adapter.is_dir() and run.summary()["state"] == "finished"


def test_a_run_that_nobody_makes_any_more_goes_when_the_next_is_made(tmp_path: Path, rows: list[Demonstration]) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(RunError, match="could not be written"), unfinished(runs, "one"):
        raise OSError("The cable was pulled.")
    assert list(runs.iterdir()) == [], "who fails clears up"
    killed = runs / ".unfinished-killed-7-00000000"
    killed.mkdir()
    with unfinished(runs, "one") as one:
        assert not killed.exists()
        one.mkdir()
        killed.mkdir()
        with unfinished(runs, "two") as two:
            two.mkdir()
            assert one.is_dir() and killed.is_dir(), "they may be somebody's"
        finished(runs, "three", rows)
        assert one.is_dir() and not two.exists()
        os.rename(one, runs / "one")
    finished(runs, "four", rows)
    assert sorted(p.name for p in runs.iterdir()) == ["four", "one", "three"]


def test_one_that_began_while_another_was_made_is_left_alone_after_it(tmp_path: Path) -> None:
    with ExitStack() as open_still:
        with unfinished(tmp_path, "first"):
            second = open_still.enter_context(unfinished(tmp_path, "second"))
            second.mkdir()
        with unfinished(tmp_path, "third"):
            assert second.is_dir()
    assert not second.exists()


def test_another_process_that_makes_a_run_is_seen(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from workbench.runs.folder import unfinished\n"
        "with unfinished(Path(sys.argv[1]), 'theirs') as path: path.mkdir(); print(path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        with unfinished(tmp_path, "mine"):
            assert theirs.is_dir()
        process.kill()
    assert theirs.is_dir()
    with unfinished(tmp_path, "mine"):
        assert not theirs.exists()
