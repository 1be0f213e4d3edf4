"""How the workbench looks: one theme for light and dark, fonts of the system only."""

from __future__ import annotations

import gradio as gr

from workbench.views.css import CSS as VIEWS

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
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover_dark="#991b1b",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        # A field and a box to tick can be told from the page around them: 3 to 1 and more.
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_500",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def css() -> str:
    """The frame's rules, and those of the views."""
    return FRAME + VIEWS


FRAME = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto; }
.gradio-container .html-container { padding: 0; }
.gradio-container .block:has(> .html-container > .prose:empty) { display: none; }
.gradio-container .table-wrap * { font-family: var(--font) !important; }
/* Fields side by side stand on one line, however long what is said above them. */
.form > .block > :is(label.block, :has(> .input-container > [rows="1"]), .container:has(> .wrap)) { display: flex;
  flex-direction: column; height: 100%; }
.form > .block > * > :is(.input-container, input[type="number"], .wrap) { margin-top: auto; }
.gradio-container button { overflow-wrap: anywhere; }
button.show-code, button.onward { align-self: flex-start; flex-grow: 0; width: auto; }
#heading .prose { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; }
#heading h1 { font-size: 1.5rem; margin: .2rem 0; }
#heading p { margin: 0; color: var(--body-text-color-subdued); }
.status-line { margin: 0; padding: .5rem .8rem; border-left: 4px solid var(--neutral-400);
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere; }
/* What a click or a key brings before the page was told how things stand is overwritten by what it is told then. */
.gradio-container:has(.status-opening) #pages { visibility: hidden; }
.status-ready { border-color: #15803d; }
.status-busy { border-color: #1d4ed8; }
.status-error { border-color: #b91c1c; font-weight: 600; }
ol.steps { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .5rem; list-style: none; margin: 0;
  padding: 0; }
ol.steps .step { margin: 0; padding: .4rem .7rem; border: 1px solid var(--border-color-primary);
  border-radius: 6px; font-size: .85rem; overflow-wrap: anywhere; }
ol.steps .step b { display: block; color: var(--body-text-color); }
ol.steps .step span { color: var(--body-text-color-subdued); }
ol.steps .step-done { border-color: #15803d; }
ol.steps .step-done b::after { content: " \\2713"; color: #15803d; }
.dark ol.steps .step-done b::after { color: #4ade80; }
.note { padding: .5rem .8rem; border-left: 4px solid var(--neutral-400); background: var(--background-fill-secondary);
  color: var(--body-text-color); overflow-wrap: anywhere; }
.note p { margin: .1rem 0; white-space: pre-wrap; }
.note-done { border-color: #15803d; }
.note-info { border-color: #1d4ed8; }
.note-wrong { border-color: #b91c1c; }
.note-wrong p:first-child { font-weight: 600; }
.note-plain { border: 0; background: none; padding: 0; color: var(--body-text-color-subdued); font-size: .9rem; }
.note progress { vertical-align: middle; width: 12rem; max-width: 100%; }
.verdict { padding: .6rem 1rem; border: 1px solid var(--border-color-primary); border-left-width: 8px;
  border-radius: 6px; color: var(--body-text-color); overflow-wrap: anywhere; }
.verdict h2 { margin: 0 0 .2rem; font-size: 1.15rem; }
.verdict p { margin: .2rem 0; }
.verdict-old { border-left-color: var(--neutral-400); }
.verdict-ready { border-left-color: #15803d; }
.verdict-weak { border-left-color: #b45309; }
.verdict-cannot { border-left-color: #b91c1c; }
.check-meters { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
.visually-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.compare-line { margin: .2rem 0; overflow-wrap: anywhere; color: var(--body-text-color); }
.compare-wrong { padding: .4rem .8rem; border-left: 4px solid #b91c1c; background: var(--background-fill-secondary); }
.compare-heading { font-size: 1.15rem; margin: 1rem 0 0; }
.compare-turns { margin: 0; padding-left: 1.2rem; }
.compare-turns li { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.compare-skills caption { text-align: left; font-weight: 600; padding: .3rem 0; }
.gradio-container .wrap:has(> .wrap-inner) { border-color: var(--input-border-color) !important; }
#model-needs :is(th, td) { overflow-wrap: break-word; }
#model-needs td:nth-child(2) { white-space: nowrap; }
.compare-facts { margin: .2rem 0; }
/* Answers are as high as the longest beside them, so that the prompts below them stand on one line. */
#compare-answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
#compare-answers > .column { display: grid; grid-row: span 2; grid-template-rows: subgrid; align-items: start; }
#compare-answers > .column > .block:first-child { align-self: stretch; }
#compare-answers > .column > .block:first-child :is(.html-container, .prose, .wb-answer) { height: 100%; }
#compare-answers .wb-answer { box-sizing: border-box; }
#teach-page { display: grid; grid: auto 1fr / minmax(0, 2fr) minmax(0, 3fr); }
#teach-run-shown { grid-area: 1 / 2 / span 2; }
.gradio-container .label-wrap > span:first-child { text-align: left; }
.gradio-container .secondary-wrap input { text-overflow: ellipsis; padding-right: 1.6rem; }
/* Columns have widths that a phone can show; where there is more room the last one takes it. */
.gradio-container .virtual-table-viewport > .header-table,
.gradio-container .virtual-table-viewport > .virtual-body { min-width: 100%; }
.gradio-container .header-table :is(th, td):last-child { width: auto !important; max-width: none !important; }
.gradio-container .header-table td:last-child > * { width: 0; overflow: hidden; }
.gradio-container .virtual-row > .body-cell:last-child { flex-grow: 1 !important; }
/* A cell that was edited keeps the height that its row had before, though what was wrong there is said no more. */
.gradio-container .cell-selected > .cell-wrap[style*="height"]:not(:has(textarea)) { height: auto !important; }
/* Gradio puts a dot after the last link, too; on a phone it is all that is left. */
.gradio-container footer .divider { display: none; }
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { transition-duration: .01ms !important; animation-duration: .01ms !important;
    animation-iteration-count: 1 !important; }
}
:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
#runs-table th .wb-note { font-weight: 400; }
@media (max-width: 52rem) {
  #teach-page { grid: auto / minmax(0, 1fr); }
  #teach-run-shown { grid-area: auto; }
  #teach-form { order: 1; }
}
@media (max-width: 40rem) {
  ol.steps { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  /* Gradio keeps the fields of a row in one line, however narrow that makes their labels. */
  .row > .form { flex-wrap: wrap; }
  .row > .form > * { flex-basis: 8rem; }
  /* Each run is a card: a table of eight columns would have to be moved sideways. */
  #runs-table table, #runs-table tbody, #runs-table tr, #runs-table th, #runs-table td { display: block; }
  #runs-table thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  #runs-table tr { padding: .4rem 0; border-bottom: 1px solid var(--border-color-primary); }
  #runs-table th, #runs-table td { border: 0; padding: .1rem .6rem; }
  #runs-table td { display: flex; gap: .6rem; }
  #runs-table td::before { content: attr(data-label); flex: none; width: 5rem; color: var(--body-text-color-subdued); }
}
"""
