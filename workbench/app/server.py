"""The pages put together, and served: `workbench` or `python -m workbench app`.

    build(desk)      all pages, as Gradio blocks
    make_app(desk)   the same behind the guard, as a FastAPI app
    serve(options)   the worker, the app and a web server, until Ctrl-C

The server owns no model and keeps nothing that is not in the folder of runs: a page is a view of that folder.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when gradio is imported: no message goes home, and no summary of past events is kept.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "200")
os.environ["GRADIO_MCP_SERVER"] = "False"
os.environ.pop("GRADIO_VIBE_MODE", None)

from workbench.app import receipts  # noqa: E402
from workbench.app.desk import EACH, QUIET, Cursor, Desk, Shared, Tick  # noqa: E402
from workbench.app.guard import UPLOAD, SameOrigin, is_loopback, trusted_hosts  # noqa: E402
from workbench.app.holding import held  # noqa: E402
from workbench.errors import InputError  # noqa: E402
from workbench.worker import Worker  # noqa: E402

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

PORT = 7860
PAGES = ("Examples", "Check", "Teach", "Compare", "Runs", "Model")
_PATIENCE = 20
"""Polls for which a page waits to be told that it was loaded."""

SENTENCE = "Teach a language model a skill from your examples, watch it learn, and see what it forgot."

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How the app is started.

    Attributes:
        port: None takes the first free one from `PORT` on.
        auth: who may enter, as `user:password`.
        worker: how to start the worker process; None for the real one.
    """

    runs: Path
    host: str = "127.0.0.1"
    port: int | None = None
    model: str = "pocket"
    auth: str | None = None
    share: bool = False
    worker: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.auth is not None and (":" not in self.auth or not all(self.auth.split(":", 1))):
            raise InputError("--auth needs a name and a password.", "Write --auth NAME:PASSWORD.")
        if self.auth is None and (self.share or not is_loopback(self.host)):
            asked = "--share" if self.share else f"--host {self.host}"
            raise InputError(
                f"{asked} lets others reach this workbench, and whoever reaches it can teach, delete and read runs.",
                "Add --auth NAME:PASSWORD, or leave it out to work on this machine alone.",
            )
        if self.port is not None and not 0 <= self.port < 65536:
            raise InputError(f"--port is {self.port}.", "Give it a number between 1 and 65535.")


def build(desk: Desk) -> gr.Blocks:
    """All pages."""
    import gradio as gr

    from workbench.app import check, compare, examples, model, runs, status, teach
    from workbench.app.skipping import Pages

    pages = dict(zip(PAGES, (examples, check, teach, compare, runs, model), strict=True))
    with Pages(title="SDFT Workbench", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.HTML(f"<h1>SDFT Workbench</h1><p>{SENTENCE}</p>", elem_id="heading", padding=False)
        line = gr.HTML(status.OPENING, elem_id="status", padding=False, js_on_load=_LIVE)
        steps = gr.HTML(status.steps_html(desk), elem_id="steps", padding=False)
        timer = gr.Timer(EACH)
        cursor = gr.State({})
        receipt = gr.Number(0, precision=0, visible=False)
        # Kept by the browser, not with the drafts: a phone beside the projector may be on another page.
        last = gr.BrowserState(PAGES[0].lower(), storage_key="workbench.page", secret="none")
        with gr.Tabs(elem_id="pages", overflow_behavior="wrap") as tabs:
            shared = Shared(desk, tabs, line, timer, cursor)
            shared.on_load(lambda: [status.status_html(desk), status.steps_html(desk)], [line, steps])
            shared.on_tick(lambda seen: status.poll(desk, seen, gr.skip()), [line, steps])
            for name, page in pages.items():
                with gr.Tab(name, id=name.lower()) as tab:
                    page.build(desk, shared)
                tab.select(partial(_enter, name.lower()), cursor, [cursor, last], **QUIET)
        _wire(blocks, shared, cursor, receipt, last)
        _publish(desk)
    made: gr.Blocks = blocks
    return made


# A reader of the screen hears a change only in a region that was there before it, so the mark is on what stays.
_LIVE = """
const place = element.closest('#status') || element;
place.setAttribute('role', 'status');
place.setAttribute('aria-live', 'polite');
"""


def _enter(tab: str, cursor: Cursor) -> list[Any]:
    """A page comes into view; the browser keeps which. Before the loading it is the first, which nobody chose."""
    import gradio as gr

    if "loaded" not in cursor and tab == PAGES[0].lower():
        return [gr.skip(), gr.skip()]
    cursor["tab"] = tab  # in place: a copy would lose what a poll under way writes
    return [cursor, tab]


def _wire(blocks: gr.Blocks, shared: Shared, cursor: gr.State, receipt: gr.Number, last: gr.BrowserState) -> None:
    """One request for everything that is loaded, and one a second for everything that changes."""
    import gradio as gr

    def load(seen: Cursor, page: Any) -> list[Any]:
        # This page has been shown nothing yet. In place: a poll under way would put the old cursor back.
        first = PAGES[0].lower()
        tab = seen.get("tab") or (page if page in map(str.lower, PAGES) else first)
        seen.clear()
        seen.update(tab=tab, waits=_PATIENCE, loaded=True)
        loaded = gather([(f, len(o)) for f, o in shared.loads], gr.skip())
        # Where it is already, it is not put: whoever is quick has opened another one by now.
        return [seen, gr.skip() if tab == first else gr.Tabs(selected=tab), *loaded, receipts.LOADED]

    def tick(seen: Cursor, got: float | None) -> list[Any]:
        view = seen.get("tab", "examples")
        # What a poll shows while the page is being loaded is overwritten by what the loading found before it, and would
        # never be shown again. So polling begins when the page sends back the receipt that came with that; if it was
        # lost on its way, after a while.
        waits = 0 if got == receipts.LOADED else seen.get("waits", _PATIENCE)
        if "waits" in seen:
            seen["waits"] = max(0, waits - 1)
        number = gr.skip() if waits else receipts.begin(seen, got)
        asked = [
            (partial(_noted, function, seen) if tab in (None, view) and not waits else None, len(outputs))
            for function, outputs, tab in shared.ticks
        ]
        every = shared.desk.viewers.every(seen)
        return [seen, number, gr.skip() if every is None else gr.Timer(every), *gather(asked, gr.skip())]

    blocks.load(load, [cursor, last], [cursor, shared.tabs, *_distinct(shared.loads), receipt], **QUIET)
    parts = _distinct([t[:2] for t in shared.ticks])
    shared.timer.tick(tick, [cursor, receipt], [cursor, receipt, shared.timer, *parts], **QUIET)


def _noted(function: Tick, cursor: Cursor) -> Sequence[Any]:
    """What a part of the page has to show; one that fails has shown nothing, whatever it noted before."""
    before = receipts.notes(cursor)
    try:
        return function(cursor)
    except Exception:
        receipts.strike(cursor, before)
        raise


def _publish(desk: Desk) -> None:
    """The endpoints that belong to no page."""
    from gradio.events import api

    from workbench.app import status

    def models() -> dict[str, Any]:
        """Which model is in memory, and what a model can be named.

        Returns:
            loaded (its name, or null while it is being loaded), state, error, and named: what may be given as a name.
        """
        now = desk.worker.status
        named = {
            "pocket": "the bundled model, for a laptop without a network",
            "a hub id": "such as Qwen/Qwen3-4B-Instruct-2507",
            "a folder": "with config.json, weights and tokenizer",
        }
        return {"loaded": now.model, "state": now.state, "error": now.error, "named": named}

    def status_() -> dict[str, Any]:
        """What is going on, at once.

        Returns:
            state (loading, idle, checking, teaching, stopping or working), sentence (the same for people), model, run,
            phase, error, examples (what is loaded, by number), and steps: how each of the four steps stands.
        """
        now, drafts = desk.worker.status, desk.drafts
        return {
            "state": now.state,
            "sentence": status.sentence(desk),
            "model": now.model,
            "run": now.run,
            "phase": now.phase,
            "error": now.error,
            "examples": {"name": drafts.name, "rows": len(drafts.rows), "wrong": len(drafts.problems)},
            "steps": {name: words for name, words, _ in status.steps(desk)},
        }

    api(models, api_name="models", queue=False)
    api(status_, api_name="status", queue=False)


def _distinct(registered: Sequence[tuple[Any, list[Any]]]) -> list[Any]:
    return [output for _, outputs in registered for output in outputs]


def gather(asked: Sequence[tuple[Any, int]], unchanged: Any) -> list[Any]:
    """What functions give, one after the other. One that fails does not keep the others from being shown.

    Args:
        asked: each function (None: not now) with how many values it gives.
        unchanged: stands for a value that need not be shown again.
    """
    values: list[Any] = []
    for function, count in asked:
        given: list[Any] | None = None
        if function is not None:
            try:
                given = list(function())
                if len(given) != count:
                    raise ValueError(f"{function} gave {len(given)} values for {count} outputs")
            except Exception:
                _log.exception("A part of the page could not be brought up to date")
                given = None
        values += given if given is not None else [unchanged] * count
    return values


def make_app(desk: Desk, host: str = "127.0.0.1", auth: str | None = None, share: bool = False) -> FastAPI:
    """The pages behind the guard."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.routes import App
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from workbench.app import cards, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # The one that is added last is asked first.
    app.add_middleware(SameOrigin)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=trusted_hosts(host, share), www_redirect=False)
    gr.mount_gradio_app(
        app,
        build(desk),
        path="/",
        server_name=host,
        footer_links=["api"],
        run_history=False,
        auth=None if auth is None else partial(_admit, auth),
        allowed_paths=[],
        blocked_paths=[str(desk.runs)],
        show_error=True,
        max_file_size=UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme.theme(),
        css=theme.css() + cards.css(),
    )
    mounted = (getattr(route, "app", None) for route in app.routes)
    app.state.closing = next(pages.stop_event for pages in mounted if isinstance(pages, App))
    return app


def _admit(auth: str, user: str, password: str) -> bool:
    """Whether these are the right name and password; a wrong guess costs a second."""
    right = secrets.compare_digest(f"{user}:{password}".encode(), auth.encode())
    if not right:
        time.sleep(1.0)
    return right


def listen(host: str, port: int | None) -> socket.socket:
    """A socket to be served on.

    Raises:
        InputError: the port is taken (the next free one is named), or the address is none of this machine.
    """
    first = PORT if port is None else port
    for number in range(first, min(first + 100, 65536)):
        try:
            found = _bind(host, number)
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno not in _TAKEN:
                raise InputError(
                    f"{host}:{number} cannot be listened on: {error}.", "Choose another --host."
                ) from error
            continue
        if number == first or port is None:
            if number != first:
                print(f"Port {first} is taken by another program, so port {number} is used.", file=sys.stderr)
            return found
        found.close()
        raise InputError(f"Port {first} is taken by another program.", f"Port {number} is free: --port {number}")
    raise InputError(f"The ports from {first} on are taken.", "Name a free one with --port.")


_TAKEN = (13, 48, 98, 10013, 10048)  # taken, or not for everybody; on Linux, macOS and Windows


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host.strip("[]"), port))
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made


def serve(options: Options) -> None:
    """Start the worker and serve the pages until Ctrl-C; then end both in order."""
    runs = options.runs.expanduser().absolute()
    if runs.exists() and not runs.is_dir():
        raise InputError(f"{runs} is a file, not a folder of runs.", "Name a folder with --runs DIR.")
    with held(runs) as note:
        _serve(options, runs, note)


def _serve(options: Options, runs: Path, note: Callable[[str], None]) -> None:
    sock = listen(options.host, options.port)
    worker = Worker(runs, options.model, options.worker)
    worker.start()  # the model is loaded while this process imports gradio
    # Uploads and files to be fetched; gone when the server is.
    cache = tempfile.mkdtemp(prefix="workbench-")
    os.environ["GRADIO_TEMP_DIR"] = cache
    # As Ctrl-C, so that a server that is told to end also closes its worker in order.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(options, Desk.at(runs, worker), sock, note)
    except KeyboardInterrupt:
        pass
    finally:
        print("Closing: the model is being told to save and end.", file=sys.stderr)
        worker.close()
        sock.close()
        shutil.rmtree(cache, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _run(options: Options, desk: Desk, sock: socket.socket, note: Callable[[str], None]) -> None:
    import uvicorn

    from workbench.app import tunnel
    from workbench.app.asking import under_way

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Each page holds a connection open, and so does each answer that is still written; told to end, they need
            # not be cut off, with a trace of each.
            app.state.closing.set()
            under_way(desk).end(desk.worker)
            await super().shutdown(sockets)

    app = make_app(desk, options.host, options.auth, options.share)
    port = sock.getsockname()[1]
    shown = "localhost" if options.host in ("0.0.0.0", "::") else options.host
    # A busy machine may take some seconds to answer the last polls; what is cut off leaves a trace on the terminal.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10, ws="none")
    server = Server(config)
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    note(address)
    print(f"The workbench is at {address}", flush=True)
    print("Leave this window open; Ctrl-C ends it.", file=sys.stderr)
    if options.share:
        # Beside the server: this machine need not wait for the network.
        threading.Thread(target=tunnel.share, args=(port,), name="share", daemon=True).start()
    server.run(sockets=[sock])
