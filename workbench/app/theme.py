"""How the workbench looks: one theme for light and dark, fonts of the system only."""

from __future__ import annotations

import importlib
import importlib.util

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """The one theme."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        secondary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=SANS,
        font_mono=MONO,
    ).set(
        # White on the primary button: 4.5 to 1 and more, light and dark.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def css() -> str:
    """The frame's rules, and those of the views."""
    found = importlib.util.find_spec("workbench.views.css") if importlib.util.find_spec("workbench.views") else None
    views = importlib.import_module("workbench.views.css").CSS if found else ""
    return FRAME + views


FRAME = """
.gradio-container { max-width: 1180px !important; margin: 0 auto; }
#heading h1 { font-size: 1.5rem; margin: .2rem 0; }
#heading p { margin: 0; color: var(--body-text-color-subdued); }
.status-line { margin: 0; padding: .5rem .8rem; border-left: 4px solid var(--neutral-400);
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere; }
.status-ready { border-color: #15803d; }
.status-busy { border-color: #1d4ed8; }
.status-error { border-color: #b91c1c; font-weight: 600; }
ol.steps { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; margin: 0; padding: 0; }
ol.steps .step { flex: 1 1 11rem; margin: 0; padding: .4rem .7rem; border: 1px solid var(--border-color-primary);
  border-radius: 6px; font-size: .85rem; overflow-wrap: anywhere; }
ol.steps .step b { display: block; color: var(--body-text-color); }
ol.steps .step span { color: var(--body-text-color-subdued); }
ol.steps .step-done { border-color: #15803d; }
ol.steps .step-done b::after { content: " \\2713"; color: #15803d; }
.dark ol.steps .step-done b::after { color: #4ade80; }
.visually-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
"""
