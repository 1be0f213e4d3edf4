"""Where the files lie that a page offers for download: in the server's cache, which is gone when the server is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def fresh(prefix: str) -> Path:
    """An empty folder in the cache; outside of a server, in the system's place for such."""
    cache = os.environ.get("GRADIO_TEMP_DIR")
    if cache:
        Path(cache).mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=cache))
