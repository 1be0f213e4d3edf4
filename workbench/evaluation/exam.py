"""Questions with known answers, put to a decoder: what skill, retention and the teacher check are measured with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import chat
from workbench.decoding import Decoder
from workbench.demonstrations import Demonstration
from workbench.evaluation.intervals import share
from workbench.evaluation.scoring import Scorer, get_scorer
from workbench.events import Measure
from workbench.groups import Groups
from workbench.models import LoadedModel
from workbench.prompts import Prompts
from workbench.sampling import Choice


def answer(
    decoder: Decoder,
    loaded: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    longest: int,
    choice: Choice = Choice(temperature=0),
    seed: int = 0,
    should_stop: Callable[[], bool] = bool,
    groups: Groups | None = None,
) -> list[str]:
    """The decoder's answers to tokenised prompts, greedy by default, in the order asked.

    Args:
        longest: most tokens of an answer.
        groups: how many are answered together; as many as ever are by default, fewer where memory runs out.

    Raises:
        InputError: memory ran out with one prompt at a time.
        Stopped: `should_stop` said yes.
    """
    # Rows of like length together: less padding, and short ones do not wait for long ones.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = (groups or Groups()).complete(
        decoder,
        loaded,
        [prompts[i] for i in order],
        longest=longest,
        choice=choice,
        seed=seed,
        should_stop=should_stop,
    )
    texts = [""] * len(prompts)
    for i, ids in zip(order, found, strict=True):
        texts[i] = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return texts


@dataclass(frozen=True, slots=True)
class Sitting:
    """The answers given to an exam, and which of them hit; `cut_off`: how many ended inside a thought."""

    answers: tuple[str, ...]
    hits: tuple[bool, ...]
    cut_off: int = 0

    @property
    def measure(self) -> Measure:
        """Share of hits with its 95% interval."""
        return measure(self.hits)


def measure(hits: Sequence[bool]) -> Measure:
    """Share of hits, how many it is of, and the Wilson interval."""
    found = share(hits)
    return Measure(found.value, found.n, found.low, found.high)


def what_counts(tokenizer: Any) -> Callable[[str], str | None]:
    """What of an answer counts: all of it, or what follows the thoughts of a model that may think; None where the
    answer ended inside one."""
    return (lambda text: text) if chat.thinking(tokenizer).kind == "never" else chat.spoken


def after_thoughts(scorer: Scorer, tokenizer: Any) -> Scorer:
    """The scorer, for a model that may think: it sees what follows the thoughts, and nothing is never right."""
    counts = what_counts(tokenizer)

    def score(completion: str, answer: str) -> bool:
        said = counts(completion)
        return said is not None and scorer(said, answer)

    return score


def cut_off(texts: Iterable[str], tokenizer: Any) -> int:
    """How many answers ended inside the model's thoughts."""
    counts = what_counts(tokenizer)
    return sum(counts(text) is None for text in texts)


class Exam:
    """Rows with answers, tokenised once, for one model.

    Args:
        rows: those without an answer are passed over; `size` says how many are left.
        scorer: by name, or a callable (completion, answer) -> bool.
        longest: most tokens of an answer.
        groups: how many questions are answered together (see `answer`).

    Raises:
        InputError: a row does not fit the model, or the scorer is unknown.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Prompts,
        rows: Sequence[Demonstration],
        *,
        scorer: str | Scorer = "contains",
        longest: int,
        groups: Groups | None = None,
    ) -> None:
        self.rows = [row for row in rows if row.answer is not None]
        self._loaded = loaded
        self._score = after_thoughts(get_scorer(scorer), loaded.tokenizer)
        self._longest = longest
        self._groups = groups or Groups()
        self._tokens = prompts.tokenise_all(self.rows, loaded.longest, longest)

    @property
    def size(self) -> int:
        """Questions that can be scored."""
        return len(self.rows)

    def sit(self, decoder: Decoder, *, shown: bool = False, should_stop: Callable[[], bool] = bool) -> Sitting:
        """Have the decoder answer every question, reading the demonstration too where `shown`."""
        asked = [t.teacher if shown else t.student for t in self._tokens]
        if not asked:
            return Sitting((), ())
        how: dict[str, Any] = {"longest": self._longest, "groups": self._groups}
        texts = answer(decoder, self._loaded, asked, should_stop=should_stop, **how)
        hits = [self._score(text, row.answer or "") for text, row in zip(texts, self.rows, strict=True)]
        return Sitting(tuple(texts), tuple(hits), cut_off(texts, self._loaded.tokenizer))
