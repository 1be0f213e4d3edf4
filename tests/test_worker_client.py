"""The end of the pipe without torch, against a worker without a model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import FAKE
from workbench.errors import InputError, WorkbenchError
from workbench.runs import open_run
from workbench.worker import Status, Worker, WorkerDied, client

ROWS = [{"prompt": f"question {i}", "demonstration": f"reply {i}", "answer": f"{i}", "id": f"r{i}"} for i in range(10)]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path, command=FAKE)
    made.start()
    yield made
    made.close()


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_client_and_fake_need_no_torch() -> None:
    code = "import sys, workbench.worker, tests.fake_worker; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert run.stdout == "False\n", run.stderr


def test_replies_come_in_order_and_can_be_read_again(worker: Worker) -> None:
    call = worker.call("ask", messages=question("Who?"), demonstration="Me.")
    replies = list(call)
    assert [r["reply"] for r in replies[:-1]] == ["token"] * (len(replies) - 1) and replies[-1]["reply"] == "done"
    assert list(call) == replies and call.done()
    assert call.result()["answers"]["teacher"][0]["text"] == "Me."


def test_failures_are_raised_as_what_they_are(worker: Worker) -> None:
    with pytest.raises(WorkbenchError, match="This question fails") as failed:
        worker.call("ask", messages=question("boom")).result(60)
    assert not isinstance(failed.value, InputError)
    with pytest.raises(InputError, match="cannot be a run's name"):
        worker.call("resume", run="../elsewhere").result(60)
    with pytest.raises(WorkbenchError, match="cannot be sent"):
        worker.call("ask", messages=object()).result(60)
    with pytest.raises(WorkbenchError, match="no command"):
        worker.call("sing").result(60)


def test_a_wait_has_a_limit(worker: Worker) -> None:
    call = worker.call("ask", messages=question("hold"))
    assert next(iter(call))["reply"] == "token"
    with pytest.raises(TimeoutError):
        call.result(0.01)
    worker.call("go_on").result(60)
    call.result(60)


def test_status_follows_and_its_version_rises(worker: Worker) -> None:
    first = worker.wait(lambda s: s.state == "idle", 60)
    assert first == Status(True, "idle", "pocket", None, "", None, first.version, 0)
    worker.call("teach", name="a", rows=ROWS, settings={"optim": {"steps": 3}}).result(60)
    assert worker.status.version > first.version and worker.status.state == "idle"
    assert open_run("a", worker.runs).summary()["state"] == "finished"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HOLD_AT", "5")


def teach(worker: Worker) -> Any:
    call = worker.call("teach", name="a", rows=ROWS, settings={"optim": {"steps": 9}})
    assert next(iter(call)) == {"id": 1, "reply": "progress", "run": "a"}
    worker.wait(lambda s: s.phase == "Teaching", 60)
    return call


def test_a_second_long_command_is_refused(held: None, worker: Worker) -> None:
    call = teach(worker)
    with pytest.raises(WorkbenchError, match="busy"):
        worker.call("check", rows=ROWS).result(60)
    assert worker.call("stop").result(60) == {"was": "teaching"}
    assert call.result(60)["state"] == "stopped"


def test_a_worker_that_dies_is_started_again(held: None, worker: Worker) -> None:
    call = teach(worker)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="killed"):
        call.result(60)
    status = worker.wait(lambda s: s.alive and s.state == "idle", 60)
    assert status.restarts == 1 and worker.pid != pid
    assert status.error is not None and "teaching run a" in status.error and "Resume" in status.error
    # Said until something else is begun.
    worker.call("render", row=ROWS[0]).result(60)
    assert worker.status.error == status.error
    worker.call("check", rows=ROWS).result(60)
    assert worker.status.error is None


def test_it_starts_again_with_the_model_that_was_loaded_last(worker: Worker) -> None:
    worker.call("load", model="other", precision="bf16").result(60)
    with pytest.raises(InputError):
        worker.call("load", model="missing").result(60)
    worker.restart()
    status = worker.wait(lambda s: s.restarts == 1 and s.state == "idle", 60)
    assert status.model == "other" and status.error is None


def test_after_three_deaths_within_a_minute_it_waits(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_BACK_OFF", (2.0,))  # long enough to be seen on a busy machine
    for number in range(1, 4):
        worker.wait(lambda s: s.alive and s.state == "idle", 60)
        worker.call("die")
        status = worker.wait(lambda s, n=number: s.restarts == n, 60)  # type: ignore[misc]
    status = worker.wait(lambda s: "within a minute" in (s.error or ""), 60)
    assert not status.alive
    with pytest.raises(WorkerDied, match="not there just now"):
        worker.call("render", row=ROWS[0]).result(60)
    assert worker.wait(lambda s: s.alive and s.state == "idle", 60).restarts == 3


def test_closing_ends_the_process_and_its_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    made = Worker(tmp_path, command=FAKE)
    with pytest.raises(WorkbenchError, match="not started"):
        made.call("render", row=ROWS[0]).result(60)
    made.start()
    pid = made.pid
    made.call("render", row=ROWS[0]).result(60)
    made.close()
    assert pid is not None and not Path(f"/proc/{pid}").exists()
    assert not made.status.alive
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive(), thread
    with pytest.raises(WorkbenchError, match="closed"):
        made.call("render", row=ROWS[0]).result(60)


def test_nothing_is_started_again_while_it_is_being_closed(tmp_path: Path) -> None:
    made = Worker(tmp_path, command=FAKE)
    made.start()
    keeper, closing = made._keeper, made._closing
    assert keeper is not None
    # As if it were closed just after the keeper had looked.
    closing.wait = lambda timeout=None: closing.set()  # type: ignore[method-assign,assignment,return-value,func-returns-value]
    made.call("die")
    keeper.join(60)
    assert not keeper.is_alive() and not made.status.alive


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="could not be started"):
        Worker(tmp_path, command=["/no/such/program"]).start()


def test_a_long_line_passes(worker: Worker) -> None:
    text = "x\u2028\U0001f600\u202e" + "y" * 200_000
    assert text in worker.call("render", row={"prompt": text}).result(60)["student"]
