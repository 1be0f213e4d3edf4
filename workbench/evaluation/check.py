"""The teacher check: can the model do it when it is shown how, and not otherwise?

SDFT can only teach what the teacher can do: where the base with a demonstration is no better than the base without
one, there is nothing to learn from it (the paper's 3B model fell behind SFT for this reason, section 4).
"""

from __future__ import annotations

from workbench.events import Measure

POOR = 0.3
"""Below this share a teacher cannot teach."""


def verdict(base: Measure | None, teacher: Measure | None, cut_off: int = 0) -> tuple[str, str]:
    """`ready`, `weak` or `cannot`, and the reason with what to do, in a sentence or two.

    Args:
        base, teacher: shares on the same questions, without and with the demonstration; None if no row has an
            answer to score.
        cut_off: how many of their answers ended inside the model's thoughts.
    """
    word, advice = _judged(base, teacher)
    if cut_off:
        each = "One answer" if cut_off == 1 else f"{cut_off} answers"
        advice = (
            f"{each} of both ended inside the model's thoughts, which counts as wrong: raise the longest answer "
            f"(--max-new-tokens) first. {advice}"
        )
    return word, advice


def _judged(base: Measure | None, teacher: Measure | None) -> tuple[str, str]:
    if base is None or teacher is None or teacher.n == 0:
        return "weak", (
            "No row has an answer, so nothing can be scored. Teaching works all the same; add an answer column to "
            "see whether it helps."
        )
    seen = f"{_count(teacher)} of {teacher.n} questions with the example, {_count(base)} of {base.n} without"
    if base.good:
        return "weak", (
            f"The model can do most of this already: {seen}. There is little to teach; choose harder questions."
        )
    poor = teacher.value < POOR
    if poor or teacher.low <= base.value:
        found = (
            "The model cannot do this even when shown how" if poor else "An example helps the model too little to tell"
        )
        return "cannot", (
            f"{found}: {seen}. Teaching from these examples would not help. "
            "Try a stronger model, clearer demonstrations, or a longest answer that leaves room for it; for a "
            "behaviour the model never shows, teach by SFT."
        )
    if not teacher.good:
        return "weak", (
            f"The model does this only partly when shown how: {seen}. The student will hardly do better than its "
            "teacher. Look at the demonstrations of the questions it missed."
        )
    return "ready", f"The model can do this when shown how: {seen}. Good to teach."


def _count(measure: Measure) -> int:
    return round(measure.value * measure.n)
