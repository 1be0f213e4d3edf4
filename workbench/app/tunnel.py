"""A public address for a server of this machine."""

from __future__ import annotations

import secrets
import sys


def share(port: int) -> None:
    """Get a public address for a port and say it, or say that there is none. Waits for the network."""
    from gradio.networking import setup_tunnel

    try:
        address = setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:
        said = f"{error}".strip().rstrip(".") or type(error).__name__
        print(f"No public address could be had: {said}.", file=sys.stderr)
        print("This machine can use the workbench all the same. Check the network and start it again.", file=sys.stderr)
    else:
        print(f"For others, for a week at most: {address}", flush=True)
