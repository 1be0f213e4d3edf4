"""Downloads against an endpoint on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from workbench import hub
from workbench.errors import InputError
from workbench.models import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Endpoint:
    """Serves a folder as the model `someone/tiny`.

    Attributes:
        asked: the byte from which each file was asked for.
    """

    def __init__(self, folder: Path) -> None:
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
                    files = [{"rfilename": p.name, "size": p.stat().st_size} for p in endpoint.files()]
                    tree = [{"type": "file", "path": f["rfilename"], "size": f["size"], "oid": "0"} for f in files]
                    info = {"id": "someone/tiny", "sha": COMMIT, "siblings": files}
                    self.send(200, json.dumps(tree if "/tree/" in path else info).encode(), {}, body)
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
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def files(self) -> list[Path]:
        return sorted(p for p in self.folder.iterdir() if p.is_file())


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
        hub.fetch(
            "someone/tiny", None, lambda done, _: seen.append(done), lambda: bool(seen) and seen[-1] > size - 100_000
        )
    assert "kept" in raised.value.advice and 0 < seen[-1] < size
    complete = {p.name for p in endpoint.files() if huggingface_hub.try_to_load_from_cache(*in_cache(tmp_path, p.name))}
    before = len(endpoint.asked)
    assert hub.fetch("someone/tiny", None, lambda done, total: seen.append(done / total))[1] == COMMIT
    assert seen[-1] == 1
    again = {name for name, _ in endpoint.asked[before:]}
    assert weights in again and not again & complete
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
    assert seen[0] == 0 and seen[-1] == 1
    with pytest.raises(InputError, match="There is no model someone/other"):
        load("someone/other")
