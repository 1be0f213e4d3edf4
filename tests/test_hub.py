"""Downloads against an endpoint on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, file_download

from tests import tiny
from tests.command import call
from tests.inside import Inside
from tests.waiting import until
from workbench import hub
from workbench.app.lookup import Lookups
from workbench.commands.plan import config_of
from workbench.commands.screen import Download
from workbench.errors import InputError
from workbench.models import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Endpoint:
    """Serves a folder as the model `someone/tiny`.

    Attributes:
        asked: the byte from which each file was asked for.
        refuses: status and error code that files are answered with.
        breaks_at: the byte of the weights at which the line goes dead, for good.
        go_on: what the second half of the weights waits for.
    """

    def __init__(self, folder: Path) -> None:
        self.refuses: tuple[int, str] | None = None
        self.breaks_at: int | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.folder, self.asked = folder, []  # type: tuple[Path, list[tuple[str, int]]]
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(False)

            def do_GET(self) -> None:
                self.answer(True)

            def answer(self, body: bool) -> None:
                path = self.path.split("?")[0]
                if path.startswith("/api/models/someone/tiny"):
                    files = [described(p) for p in endpoint.files()]
                    tree = [{"type": "file", "path": f["rfilename"], "size": f["size"], "oid": "0"} for f in files]
                    info = {"id": "someone/tiny", "sha": COMMIT, "siblings": files}
                    self.send(200, json.dumps(tree if "/tree/" in path else info).encode(), {}, body)
                elif path.startswith("/someone/tiny/resolve/") and endpoint.refuses is not None:
                    status, code = endpoint.refuses
                    self.send(status, b"", {"X-Error-Code": code}, body)
                elif path.startswith("/someone/tiny/resolve/"):
                    file = endpoint.folder / path.rsplit("/", 1)[1]
                    if not file.is_file():
                        self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)
                        return
                    content = file.read_bytes()
                    start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
                    if body:
                        endpoint.asked.append((file.name, start))
                    more = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                    more |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
                    self.send(206 if start else 200, content[start:], more, body)
                else:
                    self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

            def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), "Accept-Ranges": "bytes", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if body and endpoint.breaks_at is not None and "Range" not in self.headers and len(content) > 50_000:
                    content = content[: endpoint.breaks_at]
                    self.close_connection = True
                elif body and endpoint.breaks_at is not None and len(content) > 50_000:
                    content, self.close_connection = b"", True
                if body and len(content) > 50_000:
                    self.wfile.write(content[: len(content) // 2])
                    endpoint.go_on.wait(30)
                    content = content[len(content) // 2 :]
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def files(self) -> list[Path]:
        return sorted(p for p in self.folder.iterdir() if p.is_file())


def described(path: Path) -> dict[str, Any]:
    """A file as the hub lists it; weights are kept under their SHA-256."""
    said: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size}
    if path.suffix == ".safetensors":
        mark = hashlib.sha256(path.read_bytes()).hexdigest()
        said["lfs"] = {"sha256": mark, "size": said["size"], "pointerSize": 134}
    return said


def in_cache(folder: Path, name: str) -> tuple[str, str, Path, str]:
    """What the hub's cache is asked for a file of the model with."""
    return "someone/tiny", name, folder / "cache", COMMIT


@pytest.fixture
def endpoint(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    shutil.copytree(tiny_folder, tmp_path / "served")
    (tmp_path / "served" / "pytorch_model.bin").write_bytes(b"never asked for")
    made = Endpoint(tmp_path / "served")
    address = f"http://127.0.0.1:{made.server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16_384)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_download_is_stopped_goes_on_and_is_reported(endpoint: Endpoint, tmp_path: Path) -> None:
    weights = "model.safetensors"
    size = sum(p.stat().st_size for p in endpoint.files() if p.suffix != ".bin")
    seen: list[float] = []
    with pytest.raises(InputError, match="was stopped at") as raised:
        hub.fetch("someone/tiny", None, lambda done, _: seen.append(done), lambda: bool(seen) and seen[-1] > 150_000)
    assert "goes on from there" in raised.value.advice and raised.value.exit_code == 1 and 0 < seen[-1] < size
    complete = {p.name for p in endpoint.files() if huggingface_hub.try_to_load_from_cache(*in_cache(tmp_path, p.name))}
    before = len(endpoint.asked)
    (part,) = (tmp_path / "cache").rglob("*.incomplete")
    had = part.stat().st_size
    assert hub.fetch("someone/tiny", None, lambda done, total: seen.append(done / total))[1] == COMMIT
    assert seen[-1] == 1
    again = {name for name, _ in endpoint.asked[before:]}
    assert weights in again and not again & complete
    assert had > 100_000 and [start for name, start in endpoint.asked[before:] if name == weights] == [had]
    assert not [name for name, _ in endpoint.asked if name.endswith(".bin")]
    got = Path(str(huggingface_hub.try_to_load_from_cache(*in_cache(tmp_path, weights))))
    assert got.read_bytes() == (endpoint.folder / weights).read_bytes()
    asked = len(endpoint.asked)
    hub.fetch("someone/tiny", None)
    assert len(endpoint.asked) == asked, "what is there is not asked for again"


def test_too_little_disk_is_said_before_anything_is_asked_for(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(InputError, match=r"needs 0\.0 GB more on the disk .* 0\.0 GB free"):
        hub.fetch("someone/tiny", None)
    assert not endpoint.asked


def test_pickled_weights_are_not_fetched(endpoint: Endpoint) -> None:
    (endpoint.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no .*safetensors weights on huggingface.co"):
        hub.fetch("someone/tiny", None)
    assert not endpoint.asked


def test_a_model_is_loaded_from_there_and_its_commit_is_kept(endpoint: Endpoint) -> None:
    seen: list[float] = []
    loaded = load("someone/tiny", report=lambda done, total: seen.append(done / total))
    assert loaded.revision == COMMIT and loaded.name == "someone/tiny"
    assert seen[0] < 0.01 and seen[-1] == 1, "its config is here first"
    with pytest.raises(InputError, match="There is no model someone/other"):
        load("someone/other")


def test_a_part_that_does_not_fit_is_not_used(endpoint: Endpoint, tmp_path: Path) -> None:
    mark = hashlib.sha256((endpoint.folder / "model.safetensors").read_bytes()).hexdigest()
    part = tmp_path / "cache" / "models--someone--tiny" / "blobs" / f"{mark}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="model.safetensors of someone/tiny came in two parts that do not fit"):
        hub.fetch("someone/tiny", None)
    assert not part.exists()
    hub.fetch("someone/tiny", None)
    assert endpoint.asked[0] == ("model.safetensors", 1000) and ("model.safetensors", 0) in endpoint.asked


@pytest.mark.parametrize(
    ("status", "code", "said", "advice"),
    [
        (403, "GatedRepo", "someone/tiny asks for its terms to be accepted first", "hf auth login"),
        (404, "RepoNotFound", "There is no model someone/tiny on huggingface.co", "Check the name"),
        (404, "RevisionNotFound", "someone/tiny has no revision 'v9'", "Check the name"),
    ],
)
def test_files_that_the_hub_does_not_give(endpoint: Endpoint, status: int, code: str, said: str, advice: str) -> None:
    endpoint.refuses = status, code
    with pytest.raises(InputError, match=said) as raised:
        hub.fetch("someone/tiny", "v9")
    assert advice in raised.value.advice


def test_a_network_lost_half_way_is_said_and_what_came_is_kept(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    endpoint.breaks_at = 60_000
    with pytest.raises(InputError, match=r"The download of someone/tiny broke off at 0\.00 of 0\.00 GB: ") as raised:
        hub.fetch("someone/tiny", None)
    assert "Check the network" in raised.value.advice and "goes on from there" in raised.value.advice
    (part,) = (tmp_path / "cache").rglob("*.incomplete")
    had, endpoint.breaks_at = part.stat().st_size, None
    assert 0 < had <= 60_000
    before = len(endpoint.asked)
    hub.fetch("someone/tiny", None)
    assert ("model.safetensors", had) in endpoint.asked[before:]


def test_the_command_line_shows_it_and_stops_it(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see = Download.see

    def pressed(self: Download, done: float, total: float) -> None:
        see(self, done, total)
        if 150_000 < done < total:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Download, "see", pressed)
        status, found, said = call(capsys, "check", data, "--model", "someone/tiny")
    assert status == 1 and "The download of someone/tiny was stopped at" in found["error"]
    assert "goes on from there" in found["advice"] and "Stopping ..." in said
    status, found, said = call(capsys, "check", data, "--model", "someone/tiny", "--rows", 2, "--max-new-tokens", 4)
    assert status == 0 and found["model"] == "someone/tiny" and "Downloading someone/tiny" in said
    assert [start for name, start in endpoint.asked if name == "model.safetensors"][-1] > 0


def test_going_on_with_a_run_shows_the_download_too_and_stops_it(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--runs", tmp_path / "runs", "--steps", 1, "--batch", 2, "--max-new-tokens", 2]
    teach = ["teach", data, "--probes", data, *few]
    assert call(capsys, *teach, "--model", "someone/tiny", "--name", "first")[0] == 0
    shutil.copytree(tmp_path / "runs" / "first", tmp_path / "runs" / "cut")
    log = tmp_path / "runs" / "cut" / "events.jsonl"
    log.write_text("".join(line for line in log.open() if '"run_ended"' not in line))
    see = Download.see

    def pressed(self: Download, done: float, total: float) -> None:
        see(self, done, total)
        if 0 < done < total:
            signal.raise_signal(signal.SIGINT)

    for command in (["resume", tmp_path / "runs" / "cut"], [*teach, "--on", "first", "--name", "second"]):
        shutil.rmtree(tmp_path / "cache")
        with monkeypatch.context() as patch:
            patch.setattr(Download, "see", pressed)
            status, found, said = call(capsys, *command)
        assert status == 1 and "The download of someone/tiny was stopped at" in found["error"], command[0]
        status, found, said = call(capsys, *command)
        assert status == 0 and found["finished"] and "Downloading someone/tiny" in said, command[0]


def test_a_plan_asks_a_hub_that_fails_on_the_file_once(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)
    endpoint.refuses = 503, ""
    with pytest.raises(InputError, match="The config.json of someone/tiny cannot be had"):
        config_of("someone/tiny")
    endpoint.refuses = None
    served, where = config_of("someone/tiny")
    assert served["model_type"] == json.loads((endpoint.folder / "config.json").read_text())["model_type"]
    endpoint.refuses = 503, ""
    assert config_of("someone/tiny") == (served, where), "what an earlier call brought is on the disk"
    assert waits == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", "someone/tiny asks for its terms to be accepted first"),
        (401, "RepoNotFound", "There is no model someone/tiny on huggingface.co that can be seen from here"),
        (404, "EntryNotFound", "someone/tiny has no config.json on huggingface.co"),
        (503, "", None),
    ],
)
def test_whoever_looks_a_model_up_asks_once_and_hears_the_same(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str | None
) -> None:
    waits: list[float] = []
    endpoint.refuses = status, code
    words = {
        load: said or "not on this disk, and huggingface.co was not reached",
        config_of: said or "The config.json of someone/tiny cannot be had: the hub does not answer",
    }
    for look_up, expected in words.items():
        with monkeypatch.context() as patch, pytest.raises(InputError, match=expected):
            patch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)
            look_up("someone/tiny")
    assert waits == []
    page = Lookups()
    page.find("someone/tiny")
    until(lambda: page.version)
    problem = page.find("someone/tiny").problem
    assert (said or "The hub does not answer, and someone/tiny is not on this machine") in problem
    endpoint.refuses = None
    page.forget("someone/tiny")
    page.find("someone/tiny")
    until(lambda: page.version == 2)
    found = page.find("someone/tiny")
    assert found.shape is not None and found.download and found.where == "Its weights will be downloaded from the hub."


def test_a_model_on_this_disk_is_loaded_though_the_hub_refuses_it(endpoint: Endpoint) -> None:
    first = load("someone/tiny")
    endpoint.refuses = 403, "GatedRepo"
    again = load("someone/tiny")
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))
    assert again.revision == COMMIT and config_of("someone/tiny")[0]["model_type"] == "qwen3"


def test_each_file_of_weights_is_named_as_its_turn_comes(endpoint: Endpoint) -> None:
    tiny.in_shards(endpoint.folder)
    named: list[str] = []
    hub.fetch("someone/tiny", None, begins=named.append)
    assert named == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", ""]


@pytest.mark.parametrize("shards", [False, True])
def test_weights_that_lie_there_a_second_time_are_not_fetched(endpoint: Endpoint, shards: bool) -> None:
    whole = (endpoint.folder / "model.safetensors").read_bytes()
    if shards:
        tiny.in_shards(endpoint.folder)
    # As Mistral's repositories have them, in names of its own; and what somebody has left there.
    for name in ("consolidated.safetensors", "consolidated-00001-of-00001.safetensors", "old.safetensors"):
        (endpoint.folder / name).write_bytes(whole)
    totals: list[float] = []
    hub.fetch("someone/tiny", None, lambda done, total: totals.append(total))
    got = {name for name, _ in endpoint.asked if name.endswith(".safetensors")}
    assert got == ({f"model-0000{n}-of-00002.safetensors" for n in (1, 2)} if shards else {"model.safetensors"})
    assert {*totals} == {sum(p.stat().st_size for p in endpoint.files() if p.suffix != ".bin") - 3 * len(whole)}
    assert load("someone/tiny").revision == COMMIT


def test_an_index_that_cannot_be_read_keeps_nothing_back(endpoint: Endpoint) -> None:
    tiny.in_shards(endpoint.folder)
    (endpoint.folder / "model.safetensors.index.json").write_text("[half of")
    hub.fetch("someone/tiny", None)
    assert len({name for name, _ in endpoint.asked if name.endswith(".safetensors")}) == 2


def test_the_worker_names_the_file_and_stops_at_a_word(endpoint: Endpoint, tmp_path: Path, tiny_folder: Path) -> None:
    worker = Inside(tmp_path / "runs", tiny_folder)
    try:
        worker.do("render", row={"prompt": "x"})  # its first model is there
        endpoint.go_on.clear()
        loading = worker.call("load", model="someone/tiny")
        until(lambda: any("model.safetensors" in status["phase"] for status in worker.status))
        said = worker.status[-1]
        assert said["phase"] == "Downloading someone/tiny: model.safetensors, 0.00 of 0.00 GB"
        assert worker.do("stop") == {"was": "loading"} and worker.status[-1]["state"] == "stopping"
        endpoint.go_on.set()
        with pytest.raises(InputError, match="was stopped at") as raised:
            loading.result(60)
        assert "it goes on from there" in raised.value.advice
        last = worker.status[-1]
        # It was asked for, and the first model is still there: nothing is wrong.
        assert (last["state"], last["model"], last["error"]) == ("idle", str(tiny_folder), None)
        (part,) = (tmp_path / "cache").rglob("*.incomplete")
        had = part.stat().st_size
        assert worker.do("load", model="someone/tiny")["model"] == "someone/tiny"
        assert had and [start for name, start in endpoint.asked if name == "model.safetensors"] == [0, had]
        assert "Reading someone/tiny into memory" in [status["phase"] for status in worker.status]
    finally:
        endpoint.go_on.set()
        worker.close()
