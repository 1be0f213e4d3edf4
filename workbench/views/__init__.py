"""Events as HTML and tables: pure functions, for the browser pages and for notebooks. No torch, no Gradio.

Everything that a person, a file or a model said is escaped. Put `css.CSS` before what is shown in a notebook:

    IPython.display.HTML(f"<style>{CSS}</style>" + token_map(step.samples[0]))
"""

from workbench.views.columns import answer_column, change, three_columns
from workbench.views.css import CSS
from workbench.views.curves import loss_chart, loss_frame, overlay, skill_chart, skill_frame, sparkline
from workbench.views.meters import meter, skill_and_retention
from workbench.views.token_map import token_map
from workbench.views.words import progress_sentence, state_sentence

__all__ = [
    "CSS",
    "answer_column",
    "change",
    "loss_chart",
    "loss_frame",
    "meter",
    "overlay",
    "progress_sentence",
    "skill_and_retention",
    "skill_chart",
    "skill_frame",
    "sparkline",
    "state_sentence",
    "three_columns",
    "token_map",
]
