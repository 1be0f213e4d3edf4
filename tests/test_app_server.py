"""The frame: who is let in, what is public, what is loaded, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from tests.desks import FAKE
from tests.fake_run import config_of, events_of
from tests.waiting import until
from workbench import cli
from workbench.app import code, guard, intake, server, status
from workbench.app.desk import Desk, Viewers
from workbench.app.server import Options
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.events import RunEnded, RunStarted, Step
from workbench.runs import Run
from workbench.runs.folder import create
from workbench.runs.log import EventWriter
from workbench.settings import Settings
from workbench.worker import Worker

HERE = Path(__file__).parent
PUBLIC = {"/models", "/load_demonstrations", "/check", "/teach", "/status", "/stop", "/compare", "/runs"}


def desk_at(runs: Path) -> Desk:
    return Desk.at(runs, Worker(runs, command=FAKE))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return desk_at(tmp_path / "runs")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The app as a browser on this machine reaches it; the worker is not started."""
    app = server.make_app(desk_at(tmp_path_factory.mktemp("server") / "runs"))
    with TestClient(app, base_url="http://127.0.0.1:7860") as made:
        yield made


def write_run(runs: Path, name: str, steps: int = 3) -> Run:
    settings = Settings.from_dict({"optim": {"steps": steps}})
    rows = [Demonstration(f"Q{i}?", demonstration=f"A{i}.", answer=f"A{i}", id=str(i)) for i in range(4)]
    sides = {"teaching": rows[:3], "held-out": rows[3:]}
    return create(runs, name, config_of("sdft", "pocket", settings, "rows"), sides, rows)


def test_neither_torch_nor_transformers_comes_with_the_app() -> None:
    program = (
        "import sys, pathlib, tempfile\n"
        "from workbench.app import server\n"
        "from workbench.app.desk import Desk\n"
        "from workbench.worker import Worker\n"
        "assert 'gradio' not in sys.modules, 'gradio is imported while the worker loads, not before'\n"
        "runs = pathlib.Path(tempfile.mkdtemp())\n"
        "server.make_app(Desk.at(runs, Worker(runs)))\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_page_is_there_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "googleapis" not in page.text and "fonts.gstatic" not in page.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860"])
def test_own_names_are_let_in(client: TestClient, host: str) -> None:
    assert client.get("/config", headers={"host": host}).status_code == 200


def upload(client: TestClient, content: bytes = b"a => b", **headers: str) -> int:
    answer = client.post("/gradio_api/upload", files={"files": ("rows.txt", content)}, headers=headers)
    return int(answer.status_code)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_what_another_sites_page_sends_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert upload(client, **headers) == 403


def test_what_the_own_page_or_a_program_sends_is_taken(client: TestClient) -> None:
    assert upload(client) == 200
    assert upload(client, origin="http://127.0.0.1:7860", **{"sec-fetch-site": "same-origin"}) == 200


def test_an_upload_has_a_limit(client: TestClient) -> None:
    assert upload(client, b"x" * 21_500_000) == 413


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "../pyproject.toml"])
def test_no_file_of_this_machine_is_given_out(client: TestClient, path: str) -> None:
    for route in (f"/gradio_api/file={path}", f"/file={path}"):
        assert client.get(route).status_code in (403, 404)


def test_the_endpoints_are_public_and_documented_and_all_else_is_private(client: TestClient) -> None:
    named = client.get("/gradio_api/info").json()["named_endpoints"]
    assert {"/models", "/status", "/check", "/load_demonstrations"} <= set(named) <= PUBLIC
    for name, about in named.items():
        assert about["description"], name
        for parameter in about["parameters"]:
            assert parameter["type"] and parameter["parameter_name"], name
            assert "Any" not in str(parameter["python_type"]["type"]).split("["), (name, parameter)


def test_the_six_tabs_and_the_names_are_there(client: TestClient) -> None:
    config = client.get("/config").json()
    parts = [part["props"] for part in config["components"]]
    tabs = [part["props"]["label"] for part in config["components"] if part["type"] == "tabitem"]
    assert tabs[:6] == list(server.PAGES)
    assert {"status", "verdict"} <= {part.get("elem_id") for part in parts}
    assert {"Sample set", "Paste examples", "Upload examples"} <= {part.get("label") for part in parts}
    assert {"Use this set", "Check the teacher", "Show the code"} <= {str(part.get("value")) for part in parts}
    assert not config["run_history"] and not config["analytics_enabled"] and config["footer_links"] == ["api"]
    assert client.get("/monitoring").status_code in (403, 404)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "0.0.0.0"},
        {"host": "192.168.1.5"},
        {"share": True},
        {"auth": "nobody"},
        {"auth": ":word"},
        {"auth": "name:"},
        {"port": 70000},
    ],
)
def test_an_open_door_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Options(tmp_path, **wrong)


def test_a_door_with_a_password_is_not(tmp_path: Path) -> None:
    assert Options(tmp_path, host="0.0.0.0", auth="me:secret:x", share=True).auth == "me:secret:x"
    assert Options(tmp_path, host="::1") and Options(tmp_path, host="localhost")


def test_a_password_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.time, "sleep", lambda _: None)
    app = server.make_app(desk_at(tmp_path / "runs"), auth="me:secret:x")
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        assert client.get("/config").status_code == 401
        assert client.post("/login", data={"username": "me", "password": "secret"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "secret:x"}).status_code == 200


def test_hosts_of_a_server_for_others() -> None:
    assert "192.168.1.5" in guard.trusted_hosts("192.168.1.5") and "[fe80::1]" in guard.trusted_hosts("fe80::1")
    assert socket.gethostname().lower() in guard.trusted_hosts("0.0.0.0") and "0.0.0.0" not in guard.trusted_hosts(
        "0.0.0.0"
    )
    assert "*.gradio.live" in guard.trusted_hosts("127.0.0.1", share=True)
    assert "*.gradio.live" not in guard.trusted_hosts("127.0.0.1")


def test_a_taken_port_is_said_with_the_next_free_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port} is taken") as refused:
            server.listen("127.0.0.1", port)
        assert "is free: --port " in refused.value.advice
    with server.listen("127.0.0.1", port) as free:
        assert free.getsockname()[1] == port
    with pytest.raises(InputError, match="listen"):
        server.listen("203.0.113.7", port)


def test_without_a_word_the_next_free_port_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        with server.listen("127.0.0.1", None) as used:
            assert used.getsockname()[1] > server.PORT
    assert f"Port {server.PORT} is taken" in capsys.readouterr().err


def test_the_command_starts_the_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[Options] = []
    monkeypatch.setattr(server, "serve", started.append)
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "here"))
    assert cli.main([]) == 0 and started[0] == Options(tmp_path / "here")
    flags = ["--host", "0.0.0.0", "--port", "8123", "--runs", str(tmp_path), "--model", "some/model", "--auth", "a:b"]
    assert cli.main(["app", *flags]) == 0
    assert started[1] == Options(tmp_path, "0.0.0.0", 8123, "some/model", "a:b")
    assert cli.main(["app", "--share"]) == 2 and len(started) == 2


def test_one_part_that_fails_does_not_hide_the_others() -> None:
    def fails() -> list[Any]:
        raise RuntimeError("broken")

    asked = [(lambda: [1, 2], 2), (fails, 2), (None, 1), (lambda: [3], 2), (lambda: [4], 1)]
    assert server.gather(asked, "same") == [1, 2, "same", "same", "same", "same", "same", 4]


def test_the_steps_say_whether_the_next_can_begin(desk: Desk) -> None:
    assert [words for _, words, _ in status.steps(desk)][:3] == [
        "choose or write some",
        "needs examples",
        "needs examples",
    ]
    intake.use_sample(desk, "zorbic")
    assert [words for _, words, _ in status.steps(desk)][:3] == ["140 teach, 60 kept back", "can begin", "can begin"]
    desk.drafts.set_check({"verdict": "ready"})
    assert status.steps(desk)[1][1:] == ("ready to teach", True)
    for verdict in ("weak", "cannot"):
        desk.drafts.set_check({"verdict": verdict})
        assert status.steps(desk)[1][1:] == (status.VERDICTS[verdict], False), "no tick beside such words"
    run = write_run(desk.runs, "zorbic")
    writer = EventWriter(run.log, 0)
    for event in events_of(run):
        writer.write(event)
    writer.close()
    desk.drafts.choose(run="zorbic")
    assert status.steps(desk)[2][1] == "zorbic is finished: 100% right" and status.steps(desk)[3][1] == "can begin"
    imported = write_run(desk.runs, "imported")
    writer = EventWriter(imported.log, 0)
    for event in (RunStarted("imported", "imported", "pocket", 0, 0, 0, 0, 0), RunEnded(0, 0.0)):
        writer.write(event)
    writer.close()
    desk.drafts.choose(run="imported")
    assert status.steps(desk)[3][1] == "can begin"
    desk.drafts.choose(run="../gone")
    assert status.steps(desk)[2][1] == "can begin"


def test_the_header_is_sent_only_when_it_changes(desk: Desk) -> None:
    cursor: dict[str, Any] = {}
    assert all(isinstance(part, str) for part in status.poll(desk, cursor, None))
    assert status.poll(desk, cursor, None) == [None, None]
    desk.drafts.replace_rows([{"prompt": "a", "demonstration": "b"}], "<b>")
    line, steps = status.poll(desk, cursor, None)
    assert line is None and isinstance(steps, str) and "<b>1 Examples" in steps


def test_many_viewers_poll_less_often() -> None:
    now = 0.0
    viewers = Viewers(lambda: now)
    pages: list[dict[str, Any]] = [{} for _ in range(10)]
    assert [viewers.every(page) for page in pages] == [None] * 3 + [1.3, 1.7, 2.0, 2.2, 2.2, 2.2, 2.2]
    assert [viewers.every(page) for page in pages[:2]] == [2.2, 2.2]
    assert viewers.every(pages[0]) is None
    now = 16.0  # the others have been closed
    assert viewers.every(pages[0]) == 1.0


def test_events_are_read_on_from_where_reading_ended(desk: Desk) -> None:
    run = write_run(desk.runs, "numbers", steps=5)
    events = list(events_of(run))
    writer = EventWriter(run.log, 0)
    for event in events[:4]:
        writer.write(event)
    assert [type(e) for e in desk.events("numbers")] == [type(e) for e in events[:4]]
    for event in events[4:]:
        writer.write(event)
    writer.close()
    with run.log.path.open("ab") as file:
        file.write(b'{"seq": 99, "event": "st')
    found = desk.events("numbers")
    assert len(found) == len(events)
    assert not any(e.samples for e in found if isinstance(e, Step))
    assert desk.step("numbers", 4) == next(e for e in events if isinstance(e, Step) and e.step == 4)
    assert desk.step("numbers", 6) is None
    run.log.path.write_bytes(b"")
    assert desk.events("numbers") == []
    EventWriter(run.log, 0).write(RunStarted("numbers", "sdft", "pocket", 5, 3, 1, 0, 4))
    assert len(desk.events("numbers")) == 1


@pytest.mark.parametrize("name", ["../runs", "/etc", ".draft", ""])
def test_no_path_is_taken_for_a_run(desk: Desk, name: str) -> None:
    write_run(desk.runs, "numbers")
    with pytest.raises(InputError):
        desk.events(name)


def test_the_code_of_the_examples_runs_as_it_stands(desk: Desk) -> None:
    intake.use_text(desk, 'One "is"? => It\'s 1.\nTwo $HOME? => 2 `ls`.\nThree? => 3.')
    made = code.examples(desk)
    done = subprocess.run([sys.executable, "-c", made.python], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 teach, 1 are kept back for the test", done.stderr


def test_the_server_ends_in_order_and_its_endpoints_answer(tmp_path: Path) -> None:
    from gradio_client import Client
    from gradio_client.utils import Status

    program = (
        "import sys, pathlib\n"
        "from workbench.app.server import Options, serve\n"
        f"serve(Options(pathlib.Path({str(tmp_path / 'runs')!r}), port=0, worker={FAKE!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    said = tmp_path / "said.txt"
    with said.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        client = Client(address, verbose=False)
        assert client.predict(sample="zorbic", api_name="/load_demonstrations")["teaching"] == 140
        assert client.predict(n=20, api_name="/check")["verdict"] == "ready"
        found = client.predict(api_name="/status")
        assert found["state"] == "idle" and found["steps"]["Check"] == "ready to teach"
        assert client.predict(api_name="/models")["loaded"] == "pocket"
        with pytest.raises(InputError, match=f"open on {tmp_path / 'runs'} already, at {address}"):
            server.serve(server.Options(tmp_path / "runs", port=0, worker=FAKE))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        waiting = client.submit(run="", question="hold on", api_name="/compare")
        until(lambda: waiting.status().code is Status.PROCESSING)
    finally:
        process.send_signal(signal.SIGINT)
        code_ = process.wait(60)
    assert code_ == 0
    # The client is connected to the end; it is told to go, not cut off with a trace.
    assert said.read_text().splitlines() == [
        "Leave this window open; Ctrl-C ends it.",
        "Closing: the model is being told to save and end.",
    ]
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def test_without_a_network_there_is_no_public_address_and_the_server_goes_on(tmp_path: Path) -> None:
    program = (
        "import pathlib\nfrom workbench.app.server import Options, serve\n"
        f"serve(Options(pathlib.Path({str(tmp_path / 'runs')!r}), port=0, auth='a:b', share=True, worker={FAKE!r}))"
    )
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:1")
    environment = {**os.environ, **nowhere, "NO_PROXY": "", "no_proxy": "", "PYTHONPATH": str(HERE.parent)}
    environment.pop("GRADIO_SHARE_SERVER_ADDRESS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        address = said[0].removeprefix("The workbench is at ").strip()
        assert address.startswith("http://127.0.0.1:"), said
        assert said[2] == "No public address could be had: Could not get share link from Gradio API Server.\n", said
        assert said[3].startswith("This machine can use the workbench all the same."), said
        assert httpx.get(f"{address}/config", trust_env=False, timeout=60).status_code == 401
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest == "Closing: the model is being told to save and end.\n"
