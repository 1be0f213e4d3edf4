"""SDFT Workbench: teach a language model a skill from demonstrations, and see what it forgot.

    from workbench import POCKET, load, make_roles, read, sdft, split, Settings

    roles = make_roles(load(POCKET), Settings().lora)
    parts = split(read("sample_data/zorbic.jsonl").rows)
    for step in sdft(roles, parts.teaching, Settings()):
        print(step.step, step.loss)

What is named here is the public API; everything else may change.
"""

from workbench.decoding import decoder_for
from workbench.demonstrations import (
    Columns,
    Demonstration,
    Message,
    Reading,
    Split,
    parse,
    read,
    read_questions,
    split,
    write,
)
from workbench.divergence import report, sequence_mean, skip_first, token_divergence
from workbench.errors import InputError, RunError, WorkbenchError
from workbench.evaluation import (
    SCORERS,
    Exam,
    Retention,
    answer,
    get_scorer,
    measure,
    read_bundled,
    share,
    verdict,
)
from workbench.events import (
    Checked,
    Evaluated,
    Event,
    Measure,
    RolloutSample,
    RunEnded,
    RunStarted,
    Saved,
    Step,
)
from workbench.export import export
from workbench.models import POCKET, LoadedModel, load
from workbench.prompts import PAPER_TEMPLATE, Prompts, PromptTokens
from workbench.roles import Roles, make_roles
from workbench.runs import Request, Run, Session, begin, list_runs, open_run, student_at
from workbench.sampling import Choice, Completions, Stopped, sample
from workbench.settings import (
    POCKET_DEFAULTS,
    DivergenceSettings,
    KeepSettings,
    LoraSettings,
    OptimSettings,
    RolloutSettings,
    Settings,
    TeacherSettings,
)
from workbench.training import TrainingState, sdft, sft
from workbench.training.scorer import Scorer
from workbench.training.student import completion_logits

__all__ = [
    "Checked",
    "Choice",
    "Columns",
    "Completions",
    "Demonstration",
    "DivergenceSettings",
    "Evaluated",
    "Event",
    "Exam",
    "InputError",
    "KeepSettings",
    "LoadedModel",
    "LoraSettings",
    "Measure",
    "Message",
    "OptimSettings",
    "PAPER_TEMPLATE",
    "POCKET",
    "POCKET_DEFAULTS",
    "PromptTokens",
    "Prompts",
    "Reading",
    "Request",
    "Retention",
    "Roles",
    "RolloutSample",
    "RolloutSettings",
    "Run",
    "RunEnded",
    "RunError",
    "RunStarted",
    "SCORERS",
    "Saved",
    "Scorer",
    "Session",
    "Settings",
    "Split",
    "Step",
    "Stopped",
    "TeacherSettings",
    "TrainingState",
    "WorkbenchError",
    "answer",
    "begin",
    "completion_logits",
    "decoder_for",
    "export",
    "get_scorer",
    "list_runs",
    "load",
    "make_roles",
    "measure",
    "open_run",
    "parse",
    "read",
    "read_bundled",
    "read_questions",
    "report",
    "sample",
    "sdft",
    "sequence_mean",
    "sft",
    "share",
    "skip_first",
    "split",
    "student_at",
    "token_divergence",
    "verdict",
    "write",
]
