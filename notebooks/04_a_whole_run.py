# %% [markdown]
# # 04 A whole run
#
# **A model learns a language in some hundred small steps. What can one see while it does, and what does it cost?** This
# notebook teaches a whole lesson and watches four things: what was learned, what was forgotten, how sure the student
# is, and where the teacher disagrees. Then it pulls the plug, goes on, and asks why the student learns from its own
# answers instead of the demonstrations.
#
# It takes up to two minutes on a laptop. Notebook 03 shows what happens inside a step.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

import hashlib
import tempfile
from dataclasses import replace
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML, display

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Checked,
    Evaluated,
    Exam,
    Prompts,
    Request,
    Retention,
    Saved,
    Session,
    Settings,
    Step,
    answer,
    begin,
    load,
    make_roles,
    open_run,
    read,
    read_bundled,
    sample,
    sft,
    split,
    student_at,
)
from workbench.views import CSS, skill_and_retention, skill_chart, token_map

plt.style.use("class.mplstyle")
settings = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
if MODEL == POCKET:  # fewer steps and answers than usual, at a higher rate: it is to be short
    settings = replace(settings, optim=replace(settings.optim, steps=200, batch=16, lr=1.2e-3))
loaded = load(MODEL)
prompts = Prompts(loaded.tokenizer)
parts = split(read("../sample_data/zorbic.jsonl").rows)
runs = Path(tempfile.mkdtemp())

lesson = Request(
    name="zorbic",
    method="sdft",
    settings=settings,
    teaching=parts.teaching,
    held_out=parts.held_out,
    probes=read_bundled(loaded)[::2],
    evaluate_every=40,
    save_every=40,
)
run = begin(lesson, loaded, runs)
teaching = Session(run, loaded).teach()
events = []
for event in teaching:
    events.append(event)
    if isinstance(event, Checked):
        break
HTML(f"<b>{event.verdict}</b>: {escape(event.advice)}")

# %% [markdown]
# A run is a folder, and teaching it is a stream of events. The first event that matters is the check: can the model do
# it when shown how, and not otherwise? It can, so there is something to teach. No step has been taken yet.
#
# Two exams are sat now and then during the lesson:
#
# - **skill**: held-out questions, phrases that are in no demonstration;
# - **retention**: of the questions about other things that the model could answer before, how many it still can.
#
# > **Predict before you run.** Draw the two curves on paper: steps to the right, percent upwards. Does skill rise at
# > once? Does retention fall at all, and if so, when?

# %%
shown = display(HTML(""), display_id=True)
for event in teaching:
    events.append(event)
    if isinstance(event, Evaluated):
        shown.update(
            HTML(f"<style>{CSS}</style>{skill_and_retention(events)}{skill_chart(events)}")
        )

# %% [markdown]
# For a while nothing seems to happen: a phrase counts only if both words are right to the last letter. Then the words
# come, one after the other. The price is at the right end of the other curve.
#
# ## How sure is it?
#
# Every step is an event with numbers. Two of them say what goes on beneath the exams, from the first step on.
#
# > **Predict before you run.** The entropy of a distribution is large when it is spread over many tokens. Will the
# > student's entropy rise or fall while it learns?

# %%
steps = [event for event in events if isinstance(event, Step)]


def smooth(values, over=10):
    """Mean over the last few steps: each step sees other questions."""
    return [
        sum(values[max(0, i - over + 1) : i + 1]) / len(values[max(0, i - over + 1) : i + 1])
        for i in range(len(values))
    ]


figure, (left, right) = plt.subplots(1, 2)
left.plot(smooth([s.loss for s in steps]), label="loss: KL from the teacher")
left.plot(smooth([s.entropy for s in steps]), label="entropy of the student")
left.set(xlabel="step", ylabel="nats per token", ylim=(0, 1.4 * max(s.loss for s in steps)))
left.legend()
right.plot(smooth([100 * s.agreement for s in steps]))
right.set(xlabel="step", ylabel="same first choice, % of tokens", ylim=(0, 100))
plt.show()

# %% [markdown]
# Entropy falls together with the loss. An untaught student is unsure which of many possible words to invent; a taught
# one knows the word. Being surer is not always good: a model that has become sure of *everything* cannot say "I am not
# sure" any more, which is why one watches this curve.
#
# ## Where does the teacher disagree?
#
# Each step keeps a few of the student's answers with the divergence at each token. Here are one from the first step and
# one from the last. Point at a token to see what both would have said there.

# %%
first, last = steps[0].samples[0], steps[-1].samples[0]
HTML(
    f"<style>{CSS}</style>"
    + token_map(first, title="An answer in step 1")
    + "<br>"
    + token_map(last, title=f"An answer in step {steps[-1].step}")
)

# %% [markdown]
# In step 1 the teacher agrees with the wording and disagrees with every piece of the words. Note that it disagrees
# *after* the first mistake too, with advice for somebody who is already on the wrong track. We come back to that.
#
# ## The student at any checkpoint
#
# Checkpoints are students one can talk to. The question is one of those kept back.

# %%
row = parts.held_out[0]
longest = settings.rollout.max_new_tokens
saved = [event.step for event in events if isinstance(event, Saved)]
lines = []
for step in saved:
    student = student_at(run, step, loaded).student_decoder
    said = answer(student, loaded, [prompts.tokenise(row).student], longest=longest)[0]
    lines.append(f"step {step:4d}  {said}")
print(row.question, *lines, f"right      {row.answer}", sep="\n")

# %% [markdown]
# ## Pull the plug, and go on
#
# A lesson of hours will be interrupted: a closed lid, a full disk, a colleague who needs the GPU. What is a run worth
# that was interrupted? We teach a short lesson twice. The second time we drop everything at step 17, as a power cut
# would, and go on from the last checkpoint, that of step 12.
#
# > **Predict before you run.** Answers are sampled at random. Will the two students be *alike*, or *the same, to the
# > last bit*?

# %%
short = replace(
    lesson,
    settings=replace(settings, optim=replace(settings.optim, steps=24, batch=8)),
    held_out=parts.held_out[:8],
    probes=(),
    evaluate_every=24,
    save_every=12,
)


def mark(run):
    """A fingerprint of the finished adapter's weights."""
    return hashlib.sha256((run.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:16]


whole = begin(replace(short, name="whole"), loaded, runs)
list(Session(whole, loaded).teach())

cut = begin(replace(short, name="cut"), loaded, runs)
going = Session(cut, loaded).teach()
for event in going:
    if isinstance(event, Step) and event.step == 17:
        break
going.close()  # nothing is saved here

again = list(Session(open_run("cut", runs), loaded).teach())
resumed = [event.step for event in again if isinstance(event, Step)]
print(f"the second session took steps {resumed[0]} to {resumed[-1]}")
print(f"never interrupted: {mark(whole)}\ninterrupted:       {mark(cut)}")

# %% [markdown]
# The same bits. Nothing is left to chance that depends on the past: which questions a step sees and which random
# numbers it draws with are functions of the seed and of the step's number. So steps 13 to 17 were taken a second time
# and came out as before.
#
# ## Why on its own answers?
#
# There is a simpler way to learn from demonstrations: make the student repeat them, token by token. That is supervised
# fine-tuning, SFT. While it trains, the student is only ever asked: *the demonstration began like this, what comes
# next?* While it answers for itself, it goes on from what it has said itself. Are those the same situations?
#
# A **state** is a question with a beginning of an answer. We teach a second student by SFT, let it answer the very
# questions it was taught with, and count how long its answers stay in states that its training has shown it.
#
# > **Predict before you run.** After five tokens, how many of its answers are still on a demonstration's path?

# %%

copier = make_roles(loaded, settings.lora)
for _ in sft(
    copier, parts.teaching, replace(settings, optim=replace(settings.optim, steps=80, lr=2e-3))
):
    pass


def endings(tokens):
    """The last three tokens at each place of an answer."""
    return [tuple(tokens[max(0, place - 3) : place]) for place in range(len(tokens))]


asked = [prompts.tokenise(row) for row in parts.teaching]
answers = sample(
    copier.student_decoder,
    [one.student for one in asked],
    end=loaded.end,
    pad=loaded.pad,
    longest=longest,
    device=loaded.device,
).lists()
seen = {ending for one in asked for ending in endings(one.target)}
strictly, loosely = [], []
for place in range(longest):
    there = [(one, said) for one, said in zip(asked, answers, strict=True) if len(said) > place]
    if len(there) < 10:
        break
    on_path = [tuple(said[:place]) == one.target[:place] for one, said in there]
    strictly.append(100 * sum(on_path) / len(there))
    loosely.append(100 * sum(endings(said)[place] in seen for _, said in there) / len(there))

figure, axes = plt.subplots()
axes.plot([100] * len(strictly), label="SDFT: it is taught in its own states")
axes.plot(loosely, label="SFT: the last three tokens stand in some demonstration")
axes.plot(strictly, label="SFT: the state is its demonstration's")
axes.set(xlabel="tokens already said", ylabel="share of own answers, %", ylim=(0, 145))
axes.set_yticks(range(0, 101, 20))
axes.legend(loc="upper right")
plt.show()

# %% [markdown]
# Before the first token it is where its training was. A few tokens later hardly any answer is (lowest line). That need
# not be a mistake: there are many ways to say the same. But SFT's loss said nothing about what to do there. It is a map of
# one road, given to somebody who walks off it at once. Even if one asks for the last three tokens only, in whatever
# demonstration, more than half of its states are new after a while (middle line).
#
# For SDFT the line at 100% needs no counting: its loss is taken in the states where the student is, whatever it says,
# and the teacher, who can continue *any* beginning, gives advice there. That is why the teacher must be a model, and why
# the demonstrations alone are not enough.
#
# Which of the two learns more, and which forgets less, is the subject of notebook 05.

# %% tags=["check"]
# Holds this notebook to what it says.
measured = [event for event in events if isinstance(event, Evaluated)]
check = next(event for event in events if isinstance(event, Checked))
assert mark(whole) == mark(cut) and (resumed[0], resumed[-1]) == (13, 24)
assert steps[-1].entropy < steps[0].entropy and steps[-1].loss < steps[0].loss
assert strictly[0] == 100 and strictly[5] < 30 and min(loosely) < 60
if MODEL == POCKET:
    assert check.verdict == "ready" and check.base.value < 0.1
    assert measured[-1].skill.value >= 0.75, measured[-1]
    assert measured[-1].retention.value >= 0.75, measured[-1]
    assert sum(last.divergence) < sum(first.divergence) / 2

# %% [markdown]
# ## Exercises
#
# **1.** What exactly was forgotten? Ask the probes of the base and of the taught student, and list what the base got
# right and the student gets wrong.
#
# <details><summary>Solution</summary>
#
# `Retention` has the base's answers; its exam can be sat by the student. See which kinds of question are there: those that
# look like the ones taught are in most danger.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
taught = student_at(run, loaded=loaded)
retention = Retention(loaded, taught.base_decoder, prompts, lesson.probes, longest=longest)
now = retention.exam.sit(taught.student_decoder)
lost = [
    (probe.question, probe.answer, said)
    for probe, said, before, after in zip(
        retention.exam.rows, now.answers, retention.base.hits, now.hits, strict=True
    )
    if before and not after
]
print(f"{len(lost)} of {retention.known} were forgotten:")
for question, right, said in lost[:8]:
    print(f"  {question}  right: {right}  now: {said}")
assert len(lost) == retention.known - round(measured[-1].retention.value * retention.known)

# %% [markdown]
# **2.** Put a mistake into the student's mouth: begin its answer with a wrong noun. Does it still get the adjective
# right?
#
# <details><summary>Solution</summary>
#
# It does. The question is still before it, and during its lesson it has often said a wrong noun itself and was told by
# the teacher how to go on from there.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
exam = Exam(loaded, prompts, parts.held_out, longest=longest)
sitting = exam.sit(taught.student_decoder)
nouns = sorted({row.answer.split()[0] for row in parts.teaching if row.answer})
asked, wanted = [], []
for number, (row, said) in enumerate(zip(exam.rows, sitting.answers, strict=True)):
    place = said.find(row.answer)
    if place < 0:
        continue
    noun, adjective = row.answer.split()
    wrong = next(word for word in nouns[number % len(nouns) :] + nouns if word != noun)
    beginning = loaded.tokenizer(said[:place] + wrong, add_special_tokens=False)["input_ids"]
    asked.append((*prompts.tokenise(row).student, *beginning))
    wanted.append(adjective)
rest = answer(taught.student_decoder, loaded, asked, longest=longest)
recovered = sum(adjective in said for adjective, said in zip(wanted, rest, strict=True))
print(f"after a wrong noun, the adjective is right in {recovered} of {len(asked)} answers")
if MODEL == POCKET:
    assert recovered > 0.6 * len(asked)

# %% [markdown]
# **3.** Whose skill is it at which step? Find the first evaluation at which the student knows more than half of what the
# teacher can do, and say how many demonstrations it had seen by then.
#
# <details><summary>Solution</summary>
#
# A step sees a batch of questions, so by step *n* it has seen *n* times the batch, each question several times. Count
# with the settings of the run.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
half = next(event for event in measured if event.skill.value > check.teacher.value / 2)
seen = half.step * settings.optim.batch
print(
    f"step {half.step}: {seen:,} answers, {seen / len(parts.teaching):.0f} to each of {len(parts.teaching)} questions"
)
assert 0 < half.step <= settings.optim.steps

# %% [markdown]
# ## Recap
#
# - Watch skill **and** retention: learning alone looks good in any method.
# - Loss, entropy and agreement move long before the exams do.
# - The token map shows where the teacher disagrees, also after a mistake.
# - A run is a folder; interrupted and resumed, it ends with the same bits.
# - SFT learns in the demonstrations' states, SDFT in the student's own. The student will live in its own.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897).
# - Ross, Gordon, Bagnell 2011, *A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
#   Learning*, [arXiv 1011.0686](https://arxiv.org/abs/1011.0686): a learner that imitates meets states that its teacher
#   never visited.
# - Bengio et al. 2015, *Scheduled Sampling*, [arXiv 1506.03099](https://arxiv.org/abs/1506.03099): the same in sequence
#   models.
# - [docs/method.md](../docs/method.md): what skill and retention are, precisely.
