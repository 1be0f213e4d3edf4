"""Who may talk to the server: this machine's own pages, unless the person says otherwise; and how much may come in."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "[::1]")
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
"""The page loads nothing from other hosts, whatever a text in it says, and no other page may frame it."""

UPLOAD = 20 << 20
"""Bytes that a file may have which a page takes in."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def trusted_hosts(host: str, share: bool = False) -> list[str]:
    """Names under which the server may be asked for. A name of another site that points here is not among them."""
    names = list(LOCAL)
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if host not in ("0.0.0.0", "::"):
        names.append(name.lower())
    else:
        own = socket.gethostname().lower()
        names += [own, f"{own}.local", socket.getfqdn().lower(), *_addresses()]
    if share:
        names.append("*.gradio.live")
    return list(dict.fromkeys(names))


def _addresses() -> list[str]:
    """This machine's addresses, as far as they can be found without asking anybody."""
    found = []
    with contextlib.suppress(OSError):
        found += [str(about[4][0]) for about in socket.getaddrinfo(socket.gethostname(), None)]
    # Connecting a datagram socket sends nothing; it only chooses the address that would be used.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        found.append(probe.getsockname()[0])
    return [f"[{address}]" if ":" in address else address for address in found]


class SameOrigin:
    """Refuses what another site's page sends here: everything but GET and HEAD must come from this server's own page.

    A browser always says where such a request comes from; a program that does not is no browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD") and not _own(headers):
            refusal = PlainTextResponse("This request comes from another site's page; it was refused.", 403)
            await refusal(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, receive, careful)


def _own(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
