"""Measuring: scorers, the teacher check, held-out skill, and retention of what the model could do before."""

from workbench.evaluation.answers import refuse_unscorable
from workbench.evaluation.check import verdict
from workbench.evaluation.exam import Exam, Sitting, after_thoughts, answer, cut_off, measure, what_counts
from workbench.evaluation.intervals import Share, share
from workbench.evaluation.retention import Retention, bundled_probes, read_bundled
from workbench.evaluation.scoring import SCORERS, get_scorer

__all__ = [
    "SCORERS",
    "Exam",
    "Retention",
    "Share",
    "Sitting",
    "after_thoughts",
    "answer",
    "bundled_probes",
    "cut_off",
    "get_scorer",
    "measure",
    "read_bundled",
    "refuse_unscorable",
    "share",
    "verdict",
    "what_counts",
]
