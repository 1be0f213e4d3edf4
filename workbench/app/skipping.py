"""Pages that do no work for what has not changed, nor while nobody asks for anything."""

from __future__ import annotations

from typing import Any

import gradio as gr

try:
    from gradio.components.base import _Keywords

    _LEFT_OUT: Any = _Keywords.FINISHED_ITERATING
except (ImportError, AttributeError):  # not part of Gradio's public interface: without it pages work, more slowly
    _LEFT_OUT = None


PAUSE = 0.01
"""Seconds between two looks for what was asked."""


class Pages(gr.Blocks):  # type: ignore[misc, unused-ignore]
    """Gradio's blocks, but for `gr.skip()`: there a component is made anew for each value that is not to change.

    A poll skips nearly all of its many outputs, and that was nearly all of what it cost.

    Gradio looks a thousand times a second whether something is in its queue, which takes some of a core from the
    teaching all the time; a hundred times are enough for who asks.
    """

    def queue(self, *args: Any, **kwargs: Any) -> Any:
        """See gradio."""
        made = super().queue(*args, **kwargs)
        self._queue.sleep_when_free = PAUSE
        return made

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """What is sent to the page; see gradio."""
        several = isinstance(predictions, list | tuple) and len(predictions) == len(block_fn.outputs)
        if _LEFT_OUT is None or not several:
            given: list[Any] = await super().postprocess_data(block_fn, predictions, state)
            return given
        skipped = [
            value == gr.skip() if isinstance(value, dict) and not block.stateful else False
            for value, block in zip(predictions, block_fn.outputs, strict=True)
        ]
        # Gradio leaves out what has this mark.
        rest = [_LEFT_OUT if no else value for no, value in zip(skipped, predictions, strict=True)]
        made = await super().postprocess_data(block_fn, rest, state)
        return [gr.skip() if no else value for no, value in zip(skipped, made, strict=True)]
