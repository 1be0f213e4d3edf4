"""What a process that was killed while it wrote has left: it neither goes out with a run nor stays for ever."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.fake_run import finished
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.runs import Run, zips


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
