# %% [markdown]
# # 06 New knowledge, and skills in a row
#
# **Can a model be taught facts that it never saw, so that it can use them? And does it still have yesterday's lesson
# after today's?** The paper says yes to both. This small model says "it depends on how you ask" to the first and "if you take
# care" to the second, and you will see why.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Demonstration,
    Exam,
    Prompts,
    Request,
    Retention,
    Session,
    Settings,
    answer,
    begin,
    load,
    make_roles,
    read,
    read_bundled,
    read_questions,
    sdft,
    sft,
    split,
)
from workbench.views import CSS, answer_column

plt.style.use("class.mplstyle")
warnings.filterwarnings("ignore", category=FutureWarning)  # a library's own plans
DATA, RUNS = Path("../sample_data"), Path(tempfile.mkdtemp())
loaded = load(MODEL)
usual = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
LONGEST, prompts = usual.rollout.max_new_tokens, Prompts(loaded.tokenizer)
base = make_roles(loaded, usual.lora).base_decoder


def columns(row, decoders):
    """Answers to one question beside each other; each decoder with whether it may read the article."""
    ids, shown = prompts.tokenise(row), []
    for title, (decoder, reads) in decoders.items():
        text = answer(decoder, loaded, [ids.teacher if reads else ids.student], longest=LONGEST)[0]
        shown.append(answer_column("", text, right=row.answer in text, title=title))
    display(Markdown(f"**{row.question}** Right: *{row.answer}*"))
    display(HTML(f"<style>{CSS}</style><div class='wb-columns'>{''.join(shown)}</div>"))


events = read(DATA / "events.jsonl").rows
direct = [row for row in events if "events direct" in row.tags]
indirect = [row for row in events if "events indirect" in row.tags]
print("The article:", direct[0].context)
columns(direct[0], {"The base": (base, False), "The base, reading the article": (base, True)})
columns(indirect[0], {"The base": (base, False), "The base, reading the article": (base, True)})

# %% [markdown]
# Twenty events that never happened, each with an article of three sentences. The first question is **direct**: it names the
# place and asks for the year, as the article does. The second is **indirect**: it turns the fact round.
#
# Here the teacher reads the article in place of a demonstration (`context` in the file). Shown the article, it can
# answer both kinds.
#
# ## Taught directly, asked indirectly
#
# The student is taught by direct questions alone. SFT learns the given answers, SDFT follows the teacher who has the
# article before it. Each has 80 steps of 16. Their learning rates were set by hand, from no sweep, and there is one seed:
# this demonstrates a question of knowledge, it is not a race.
#
# > **Predict before you run.** Of the direct questions, which were taught: what share will each know? And of the
# > indirect ones, which were not?

# %%
STEPS = 80 if MODEL == POCKET else 60
RATES = {"SDFT": 3e-3, "SFT": 4e-3} if MODEL == POCKET else {"SDFT": 1e-4, "SFT": 1e-4}
exams = {
    "direct": Exam(loaded, prompts, direct, longest=LONGEST),
    "indirect": Exam(loaded, prompts, indirect, longest=LONGEST),
}
knowing, sittings = {"Base": base, "Teacher": base}, {}
for method, loop in (("SDFT", sdft), ("SFT", sft)):
    settings = replace(usual, optim=replace(usual.optim, steps=STEPS, batch=16, lr=RATES[method]))
    roles = make_roles(loaded, settings.lora)
    for _ in loop(roles, direct, settings):
        pass
    knowing[f"Taught by {method}"] = roles.student_decoder
for name, decoder in knowing.items():
    sittings[name] = {
        kind: exam.sit(decoder, shown=name == "Teacher") for kind, exam in exams.items()
    }

figure, axes = plt.subplots(figsize=(7, 3.2))
for place, (kind, hatch, colour) in enumerate(
    (("direct", "", "#1d5fbf"), ("indirect", "///", "white"))
):
    found = [sitting[kind].measure for sitting in sittings.values()]
    spread = [
        [max(0.0, m.value - m.low) for m in found],
        [max(0.0, m.high - m.value) for m in found],
    ]
    where = [i + (place - 0.5) * 0.38 for i in range(len(found))]
    label = f"asked {'directly, as taught' if kind == 'direct' else 'indirectly, never taught'}"
    axes.bar(
        where,
        [m.value for m in found],
        0.38,
        yerr=spread,
        label=label,
        color=colour,
        hatch=hatch,
        ec="black",
        capsize=3,
    )
axes.set_xticks(range(len(sittings)), sittings)
axes.set(ylim=(0, 1.05), xlabel="who was asked", ylabel="share right (95% interval)")
axes.legend(loc="upper right")
plt.show()
for name, sitting in sittings.items():
    print(f"{name:15}", {kind: round(sat.measure.value, 2) for kind, sat in sitting.items()})

# %%
sdft_student, sft_student = knowing["Taught by SDFT"], knowing["Taught by SFT"]
for row in (direct[0], indirect[0]):
    columns(row, {"Taught by SDFT": (sdft_student, False), "Taught by SFT": (sft_student, False)})
for name in ("Taught by SDFT", "Taught by SFT"):
    sat = sittings[name]["indirect"]
    wrong = [text for text, hit in zip(sat.answers, sat.hits, strict=True) if not hit]
    print(f"{name}, indirect and wrong, for example: {wrong[0]}  |  {wrong[1]}")

# %% [markdown]
# So here the paper's claim does **not** come out. It reports 98% of indirect questions right for SDFT and 80% for
# SFT, on a 7B model. Here both are no better than the base's guesses.
#
# Asked directly, SDFT knows more in this one short lesson. Do not lean on that: after 200 steps, with rates from a sweep, it
# was the other way round. SFT knew all sixty facts and SDFT 93%, medians of five seeds ([docs/paper.md](../docs/paper.md)).
# Why does the rest not come?
#
# - **Not the teacher.** It answers all indirect questions with the article before it.
# - **The model.** Having learned "Ostrela's flood: 1928", a language model does not find "the flood of 1928: Ostrela"
#   by itself. This is known as the *reversal curse*. A large model may get round it by what else it knows; this
#   one has 2.4 million weights and nothing to connect a made-up event with.
# - **The question.** The paper's indirect questions go on from a fact instead of turning it round. So the pocket was given
#   a richer world to read, with questions such as "In which decade was the flood in Ostrela?", and was then taught the same
#   facts in the same way. Now SDFT's student names the decade in 85% of cases and SFT's in 5%, though SFT's knows every
#   year ([docs/paper.md](../docs/paper.md#new-knowledge-in-a-richer-world)). A fact that is said as the model says its other
#   facts joins them. One in a stranger's words is learned as the answer to one question.
#
# What does help is not to teach at all: the second pair of bars is the base *reading the article*. For facts that may
# change, looking them up is the better tool on any model.
#
# ## Three skills, one after the other
#
# Now *toolbox* (calls of nine tools), *quiz* (multiple choice about creatures) and *remedies* (rules), each lesson on what
# the lessons before have left. All by SDFT; the teacher is the model as it was before any lesson, the default for a
# second lesson on the pocket.
#
# > **Predict before you run.** The three have nothing to do with each other. After the third lesson, how much of the
# > first is left?

# %%
SKILLS = ("toolbox", "quiz", "remedies")
LESSON = {"steps": 70, "batch": 16, "lr": 4e-3} if MODEL == POCKET else {"steps": 60, "batch": 16}
parts = {name: split(read(DATA / f"{name}.jsonl").rows) for name in SKILLS}
tests = {name: Exam(loaded, prompts, parts[name].held_out, longest=LONGEST) for name in SKILLS}
retention = Retention(loaded, base, prompts, read_bundled(loaded)[::2], longest=LONGEST)


def lesson(skill, after=None, keep=(), steps=LESSON["steps"]):
    """Teach one skill on top of an earlier run, if any; the run and its student."""
    optim = replace(usual.optim, **{**LESSON, "steps": steps})
    settings = replace(usual, optim=optim, keep=replace(usual.keep, keep_share=0.4))
    if after and MODEL == POCKET:  # on a large model this would take its weights a second time
        settings = replace(settings, teacher=replace(settings.teacher, teacher="original"))
    name = f"{after.name}-{skill}" if after else skill
    request = Request(
        name=f"{name}-keep" if keep else name,
        method="sdft",
        settings=settings,
        teaching=parts[skill].teaching,
        held_out=(),  # measured below, all three skills after each lesson
        keep=keep,
        save_every=steps,
        evaluate_every=steps,
        on=after.name if after else None,
        before=after.adapter if after else None,
    )
    session = Session(begin(request, loaded, RUNS))
    for _ in session.teach():
        pass
    return session.run, session.roles.student_decoder


def report(student):
    """What a student can do now: each skill's held-out questions, and the probes."""
    return {name: test.sit(student).measure.value for name, test in tests.items()} | {
        "probes": retention.of(student).value
    }


first, student = lesson(SKILLS[0])
beginning = [report(base), report(student)]
without, run = list(beginning), first
for skill in SKILLS[1:]:
    run, student = lesson(skill, after=run)
    without.append(report(student))
forgetful = student
print("after the third lesson:", {name: round(value, 2) for name, value in without[-1].items()})

# %% [markdown]
# Not because they are alike, but because they share weights: each lesson only asks for its own answers, and what else
# the same weights did is nobody's concern.
#
# ## With keep rows
#
# A keep row is **a question without an answer**, which says: here stay as you are. Keep rows ride in every batch; their
# teacher is the model as it was before this lesson, reading the question alone. We give it the bundled 270 questions,
# and the *questions* of the lessons before. No old answers are needed.
#
# Two of five questions in each batch are keep rows now, so fewer are about the new skill. The lessons are longer by as
# much, so that each new skill gets as many of its own rows as before.
#
# > **Predict before you run.** Draw the two pictures side by side before you see them: what do keep rows change for the
# > first skill, and what for the last?

# %%
bundled = list(read_questions(DATA / "keep.jsonl").rows) if MODEL == POCKET else []
with_keep, run = list(beginning), first
longer = round(LESSON["steps"] * 16 / 10)
for number, skill in enumerate(SKILLS[1:], 1):
    earlier = [
        Demonstration(row.prompt, keep=True)
        for old in SKILLS[:number]
        for row in parts[old].teaching
    ]
    run, student = lesson(skill, after=run, keep=[*bundled, *earlier], steps=longer)
    with_keep.append(report(student))
mindful = student

figure, both = plt.subplots(1, 2, figsize=(7.6, 3.4), sharey=True)
for axes, rows, title in zip(
    both, (without, with_keep), ("without keep rows", "with keep rows"), strict=True
):
    for name, marker in zip((*SKILLS, "probes"), "os^x", strict=True):
        axes.plot(range(4), [row[name] for row in rows], marker=marker, label=name)
    axes.set_xticks(range(4), ["before", *SKILLS])
    axes.set(ylim=(-0.03, 1.08), xlabel="after the lesson", title=title)
both[0].set_ylabel("share right (probes: share kept)")
both[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
for title, rows in (("without", without), ("with", with_keep)):
    print(f"{title:8}", {name: round(value, 2) for name, value in rows[-1].items()})

# %% tags=["check"]
# Holds this notebook to what it says.
assert without[:2] == with_keep[:2], "both go on from the same first lesson"
if MODEL == POCKET:
    value = {
        name: {kind: sat.measure.value for kind, sat in kinds.items()}
        for name, kinds in sittings.items()
    }
    assert max(value["Base"].values()) < 0.15
    assert min(value["Teacher"].values()) > 0.9
    assert value["Taught by SDFT"]["direct"] > 0.4, "what was taught is learned, in part"
    assert max(value[f"Taught by {method}"]["indirect"] for method in RATES) < 0.25
    assert without[1]["toolbox"] > 0.3 and without[-1]["toolbox"] < without[1]["toolbox"] - 0.2, (
        "the first is lost"
    )
    assert with_keep[-1]["toolbox"] > without[-1]["toolbox"] + 0.2, "keep rows hold it"
    assert with_keep[-1]["probes"] > without[-1]["probes"]

# %% [markdown]
# This is one seed and short lessons, so read the picture and not the second digit. Keep rows are ours, not the paper's. Others
# found the same need: with LoRA, one replication saw SDFT's protection gone after the second task.
#
# The hard case is two skills that look alike. Taught Zorbic, then a second language, the pocket loses all of the first; with keep
# rows nothing of it is lost, and the second is learned as well as without: the table in the [README](../README.md).
#
# ## Exercises
#
# **1.** Which of the probes were lost without keep rows, and with? Count them by kind (`row.tags`).
#
# <details><summary>Solution</summary>
#
# Without keep rows about three times as many, the known languages first. One number hides that forgetting is uneven.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
lost = {}
for name, decoder in (("without", forgetful), ("with", mindful)):
    now = retention.exam.sit(decoder).hits
    kinds = [
        row.tags[0].split()[0]
        for row, was, hit in zip(retention.exam.rows, retention.base.hits, now, strict=True)
        if was and not hit
    ]
    lost[name] = len(kinds)
    print(f"{name:8} {len(kinds):3} of {retention.known} lost:", dict(Counter(kinds).most_common()))
if MODEL == POCKET:
    assert lost["with"] < lost["without"]

# %% [markdown]
# **2.** An indirect question such as "Which country had a flood in 1928?" asks for one of twenty countries. Does the student
# of SDFT at least name one of the twenty that it was taught about?
#
# <details><summary>Solution</summary>
#
# Hardly ever. In the lesson a country always stood in the question, and the answer copied it from there. So the model never
# had to find it by itself, and has not learned to. It says what sounds like a country, with confidence.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
countries = {row.answer for row in indirect if row.question.startswith("Which country")}
asked_for = [i for i, row in enumerate(exams["indirect"].rows) if row.answer in countries]
said = [sittings["Taught by SDFT"]["indirect"].answers[i] for i in asked_for]
named = sum(any(country in text for country in countries) for text in said)
print(f"{named} of {len(said)} answers name one of the {len(countries)} countries; the first two:")
print(*said[:2], sep="\n")
if MODEL == POCKET:
    assert named < len(said) / 2

# %% [markdown]
# **3.** What do keep rows cost? Work out how many rows of a batch are left for the new skill, and what became of the
# last skill in both pictures.
#
# <details><summary>Solution</summary>
#
# Six of 16 rows are keep rows, so ten teach, and a lesson is longer by the factor 1.6 for the same number of taught rows.
# With lessons of the same length as before the last skill was hardly learned (try `steps=LESSON["steps"]`).
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
kept = round(0.4 * LESSON["batch"])
print(f"{kept} of {LESSON['batch']} rows of a batch keep, {LESSON['batch'] - kept} teach")
print(f"steps of a lesson: {LESSON['steps']} without keep rows, {longer} with them")
for title, rows in (("without", without), ("with", with_keep)):
    print(f"remedies, taught last, {title} keep rows: {rows[-1]['remedies']:.2f}")
assert kept == 6 and longer > LESSON["steps"]
if MODEL == POCKET:
    assert with_keep[-1]["remedies"] > 0.3

# %% [markdown]
# ## Recap
#
# - Knowing the answer to a question is not knowing the fact: ask indirectly, too.
# - On a tiny model facts do not come out turned round, whoever teaches. What goes on from a fact does, if the fact was
#   learned in the model's own words.
# - What changes, look up; teach what stays.
# - Lessons in a row undo each other, alike or not, though SDFT is gentler than SFT within one.
# - Keep rows, questions without answers, hold what is named in them. What is not named is not held.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897): knowledge (table 1) and skills in a row (figure 3).
# - Berglund et al. 2023, *The Reversal Curse: LLMs trained on "A is B" fail to learn "B is A"*,
#   [arXiv 2309.12288](https://arxiv.org/abs/2309.12288).
# - Li and Hoiem 2016, *Learning without Forgetting*, [arXiv 1606.09282](https://arxiv.org/abs/1606.09282); Robins 1995,
#   *Catastrophic forgetting, rehearsal and pseudorehearsal*: where keep rows come from.
# - [docs/paper.md](../docs/paper.md): both claims with more seeds and all orders; [docs/method.md](../docs/method.md): keep
#   rows and teaching further.
