"""A button that writes a file when it is pressed, and hands it to the browser at once.

Gradio's own DownloadButton hands out the file that was there before the press, so it would have to be written anew at
each change of what is in it, pressed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app.desk import QUIET

_HAND_OVER = """(file) => {
  if (!file) return;
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""


def button(write: Callable[..., Path | str | None], inputs: Sequence[Any] = (), **look: Any) -> gr.Button:
    """Declare the button Download.

    Args:
        write: writes the file for the values of `inputs`; None where there is nothing to be had.
        look: how the button looks, as Gradio's Button takes it.
    """
    press = gr.Button("Download", **look)
    # Its own button is never seen; the component is what makes the file one that the server gives out.
    file = gr.DownloadButton("File", visible="hidden")

    def written(*values: Any) -> str | None:
        made = write(*values)
        return None if made is None else str(made)

    press.click(written, list(inputs), file, **QUIET).success(None, file, None, js=_HAND_OVER, **QUIET)
    return press
