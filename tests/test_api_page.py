"""docs/api.md does what it says, against a server with a worker that answers at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the pages' helper needs playwright, which is missing")

from tests.desks import FAKE  # noqa: E402
from tests.pages.served import ROOT, Served  # noqa: E402

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_is_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {}
    with Served(tmp_path / "runs", FAKE) as served:
        for block in blocks:
            exec(compile(block.replace("http://127.0.0.1:7860", served.address), "docs/api.md", "exec"), names)
    said = capsys.readouterr().out
    assert "140 teach, 60 are kept back for the test" in said and "ready" in said
    assert said.count("idle") == 1 and "student: Learned." in said
    assert names["run"] == "from-a-program" and names["now"]
    for endpoint in ("models", "load_demonstrations", "check", "teach", "status", "stop", "compare", "runs"):
        assert f"/{endpoint}" in PAGE
