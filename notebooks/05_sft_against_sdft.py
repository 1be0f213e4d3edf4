# %% [markdown]
# # 05 SFT against SDFT
#
# **You have demonstrations. Why not simply train on them, word for word?** That is supervised fine-tuning (SFT), and
# it is simpler. What does SDFT give for its price, and when should you not pay it?
#
# You first see many finished runs in one plot, then race both methods yourself, and then meet a case that SFT wins.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

import json
import statistics
import textwrap
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Exam,
    Prompts,
    Retention,
    Settings,
    answer,
    get_scorer,
    load,
    make_roles,
    read,
    read_bundled,
    sdft,
    sft,
    split,
    verdict,
)
from workbench.views import CSS, answer_column

plt.style.use("class.mplstyle")
HOME = Path("..")
lines = (HOME / "benchmarks" / "results" / "lesson.jsonl").read_text().splitlines()
results = [line | line.get("found", {}) for line in map(json.loads, lines)]
NAMES = {
    "sdft": "SDFT, its defaults",
    "sdft_both": "SDFT, tuned",
    "sft": "SFT, tuned",
    "sft_keep": "SFT as tuned without keep rows, with them",
}
MARKS = {
    "sdft": ("o", "none"),
    "sdft_both": ("D", "none"),
    "sft": ("X", "black"),
    "sft_keep": ("s", "#b0b0b0"),
}
finished = {name: [r for r in results if r["task"].split()[0] == name] for name in NAMES}

figure, axes = plt.subplots(figsize=(7, 3.6))
for name, runs in finished.items():
    marker, face = MARKS[name]
    label = f"{NAMES[name]} ({len(runs)} seeds)"
    kept, skill = [r["retention"] for r in runs], [r["skill"] for r in runs]
    axes.scatter(
        kept,
        skill,
        80,
        marker=marker,
        facecolor=face,
        edgecolor="black",
        label=label,
        zorder=3,
        clip_on=False,
    )
axes.plot(1, 0, "k*", markersize=12, clip_on=False, label="before teaching", zorder=3)
axes.set(xlim=(0, 1.05), ylim=(-0.05, 1.08), xlabel="retention: share still right of what it knew")
axes.set(
    ylabel="skill: held-out questions right", title="Zorbic, taught in two ways: a mark is a run"
)
axes.legend(loc="lower left", bbox_to_anchor=(0.28, 0.12))
plt.show()

# %% [markdown]
# Up is learning, right is remembering; every run began at the star. **These runs were not made just now.** They are the
# committed results of `python benchmarks/lesson.py --seeds 5 --json`, which takes some hours: a made-up language, taught from
# the same 140 demonstrations by both methods.
#
# No two marks of SDFT and SFT come near each other. Before you believe such a plot, ask:
#
# - **Is it one lucky run?** No: five seeds each, with another split, adapter and sampling.
# - **Was the loser tuned?** Yes, and harder. Rate, steps and layers of both were tried on a quarter of seed 0's teaching
#   rows, kept aside: thirty-two settings of SFT, sixteen of SDFT (the diamonds). SDFT's defaults (the circles) were found
#   on this language's test questions and probes, so those marks flatter it a little. SFT with keep rows (the squares) was
#   not tuned anew: it has the setting that was chosen without them, the one that learns most and keeps nothing, and
#   might do better with its own. Here are all settings:

# %%
figure, axes = plt.subplots(figsize=(7, 3.6))
sweeps = {}
for method in ("sdft", "sft"):
    sweeps[method] = [r for r in results if r["task"].startswith(f"tune {method} ")]
    marker, face = MARKS[method]
    axes.scatter(
        [r["retention"] for r in sweeps[method]],
        [r["validation"] for r in sweeps[method]],
        60,
        marker=marker,
        facecolor=face,
        edgecolor="black",
        label=f"{method.upper()} ({len(sweeps[method])} settings)",
        clip_on=False,
    )
axes.set(xlim=(0, 1.05), ylim=(0, 1.08), xlabel="retention", ylabel="skill on the validation rows")
axes.set_title("Learning rate, steps and layers: a mark is a setting")
axes.legend(loc="center")
plt.show()
for method, sweep in sweeps.items():
    for what, of in (
        ("learns most", lambda r: (r["validation"], r["retention"])),
        ("keeps most", lambda r: (r["retention"], r["validation"])),
    ):
        best = max(sweep, key=of)
        print(
            f"{method.upper():4} that {what}: skill {best['validation']:.2f}, kept {best['retention']:.2f} "
            f"(rate {best['lr']:g}, {best['steps']} steps, {best['targets']})"
        )
top = max(sweeps["sft"], key=lambda r: (r["validation"], r["retention"]))
for varied, other in (("lr", "steps"), ("steps", "lr")):
    same = [r for r in sweeps["sft"] if all(r[k] == top[k] for k in (other, "targets"))]
    near = {r[varied]: round(r["validation"], 2) for r in sorted(same, key=lambda r: r[varied])}
    print(f"SFT's skill around its best, by {varied}: {near}")

# %% [markdown]
# Every method trades learning against keeping. SDFT's marks run along the top, then down the right side; SFT's lie along the
# two axes: what learns keeps nothing, what keeps learns nothing. The first plot has SFT at the setting that learns most,
# with three times the steps and ten times the learning rate of the best SDFT; hotter or longer still, it learns less (the
# last two lines).
#
# ## The race, live
#
# Now you race them on something quicker: *remedies*, made-up rules such as "with cough and yawning take pindor". **Same
# rows, same batches of 16, same 60 steps, same adapter, and the same tuning for both**: each may choose among three
# learning rates, by the lower of two shares, skill on validation rows and retention. Sixty steps are a fifth of a usual run,
# so the rates are high.
#
# > **Predict before you run.** SFT reads the right answers, SDFT never does: its teacher does. Which of the two will
# > answer more held-out questions? And which will still count, name capitals and speak its old languages?

# %%
loaded = load(MODEL)
usual = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
LONGEST = usual.rollout.max_new_tokens
STEPS, RATES = 60, (3e-3, 6e-3, 1e-2) if MODEL == POCKET else (1e-4, 3e-4, 6e-4)
rows = read(
    HOME / "sample_data" / ("remedies.jsonl" if MODEL == POCKET else "internal_tool.jsonl")
).rows
prompts = Prompts(loaded.tokenizer)
base = make_roles(loaded, usual.lora).base_decoder
retention = Retention(loaded, base, prompts, read_bundled(loaded)[::4], longest=LONGEST)
METHODS = {"SDFT": sdft, "SFT": sft}


def examine(rows, scorer="contains"):
    return Exam(loaded, prompts, rows, scorer=scorer, longest=LONGEST)


def teach(method, rows, rate, seed=0, exam=None, steps=STEPS):
    """A fresh student taught these rows; with an exam also its path, (retention, skill) every 20 steps."""
    settings = replace(usual, optim=replace(usual.optim, steps=steps, batch=16, lr=rate, seed=seed))
    roles, path = make_roles(loaded, settings.lora, seed), [(1.0, 0.0)]
    for step in METHODS[method](roles, rows, settings):
        if exam and step.step % 20 == 0:
            student = roles.student_decoder
            path.append((retention.of(student).value, exam.sit(student).measure.value))
    return roles.student_decoder, path


outer = split(rows, seed=0)
inner = split(outer.teaching, held_out=0.25, seed=0)  # the held-out rows of `outer` stay unseen
validation, tuned = examine(inner.held_out), {}
for method in METHODS:
    found = {}
    for rate in RATES:
        student, _ = teach(method, inner.teaching, rate)
        found[rate] = validation.sit(student).measure.value, retention.of(student).value
        print(f"{method:5} lr {rate:g}: skill {found[rate][0]:.2f}, retention {found[rate][1]:.2f}")
    tuned[method] = max(found, key=lambda rate: min(found[rate]))
    print(f"{method:5} chooses lr {tuned[method]:g}\n")

# %%
SEEDS, paths, students = (0, 1), {}, {}
for seed in SEEDS:
    parts = split(rows, seed=seed)
    for method in METHODS:
        student, path = teach(method, parts.teaching, tuned[method], seed, examine(parts.held_out))
        paths[method, seed], students[method, seed] = path, student
        print(f"{method:5} seed {seed}: skill {path[-1][1]:.2f}, retention {path[-1][0]:.2f}")

figure, axes = plt.subplots(figsize=(7, 3.6))
for (method, seed), path in paths.items():
    ours = method == "SDFT"
    look = {
        "marker": "o" if ours else "X",
        "mfc": "white" if ours else "black",
        "ls": "-" if ours else "--",
    }
    label = f"{method}, lr {tuned[method]:g}" if seed == 0 else None
    axes.plot(*zip(*path, strict=True), color="black", lw=1.2, ms=8, label=label, **look)
axes.plot(1, 0, "k*", markersize=14, clip_on=False, zorder=4)
axes.set(
    xlim=(0.3, 1.02), ylim=(-0.05, 1.08), xlabel="retention", ylabel="skill on held-out questions"
)
axes.set_title(f"From the star: one mark each 20 steps, {len(SEEDS)} seeds")
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# Read each line from the star. A good method climbs; a line that leans to the left pays for what it learns with what it
# knew. Both chose the middle rate, so that neither was held back by the edge of the choice. (At 3e-3 SFT forgets less, and
# learns less still.)
#
# How large the distance is depends on the rows. On the calls of *toolbox*, 200 steps, medians of five seeds, SDFT came to
# 1.00 and SFT to 0.73, and they kept 1.00 and 0.95 ([docs/paper.md](../docs/paper.md)).
#
# ## Why: whose words are they?

# %%
parts = split(rows, seed=0)
for row in parts.teaching[:4]:
    print("  ", row.demonstration)
row = parts.held_out[0]
ids = prompts.tokenise(row)
asked = {
    "The teacher": (base, ids.teacher),
    "Taught by SDFT": (students["SDFT", 0], ids.student),
    "Taught by SFT": (students["SFT", 0], ids.student),
}
columns, in_all = [], {}
everything = examine(parts.held_out)
for title, (decoder, tokens) in asked.items():
    text = answer(decoder, loaded, [tokens], longest=LONGEST)[0]
    columns.append(answer_column("", text, right=row.answer in text, title=title))
    in_all[title] = everything.sit(decoder, shown=tokens is ids.teacher)
display(Markdown(f"**{row.question}** Demonstration: *{row.demonstration}*"))
display(HTML(f"<style>{CSS}</style><div class='wb-columns'>{''.join(columns)}</div>"))
for title, sitting in in_all.items():
    here = "right" if sitting.hits[0] else "wrong"
    print(f"{title:14} {here} on this one, and on {sum(sitting.hits)} of all {len(sitting.hits)}")

# %% [markdown]
# Do not judge by the one question: the student of SFT may get it right, as it does a few; the last lines say how few. Look
# at the words.
#
# The demonstrations are in strangers' words. SFT must learn to say those, which nobody asked for, and is pulled away from how
# the model speaks. SDFT's target is the teacher, which is the model itself: it takes the content and says it as it always
# does. So there is less to change. (That this is why less is lost is the paper's explanation; the plots show only *that*
# less is lost.)
#
# A fair objection: real demonstrations are rarely as mixed as these. Would SFT do well if all had one wording? Exercise 1
# tries it.
#
# ## Where SFT wins
#
# A program will read the answer and wants the bare call and nothing else: `glim("kitchen", 25)`. The demonstrations
# are bare calls, and the scorer is `exact`.
#
# > **Predict before you run.** The teacher reads a bare call as its example, and answers in its own words. What will
# > the check say? What can SDFT learn from this teacher?

# %%
FORMS = "toolbox.jsonl" if MODEL == POCKET else "internal_tool.jsonl"
bare = split(
    [replace(row, demonstration=row.answer) for row in read(HOME / "sample_data" / FORMS).rows]
)
form = examine(bare.held_out, scorer="exact")
alone, teacher = form.sit(base), form.sit(base, shown=True)
word, advice = verdict(alone.measure, teacher.measure)
print(textwrap.fill(f"verdict: {word}. {advice}", 100), "\n")
print(f"wanted:           {form.rows[0].answer}\nthe teacher says: {teacher.answers[0]}\n")

exact = {"the teacher": teacher.measure}
for method in METHODS:
    exact[f"taught by {method}"] = form.sit(
        teach(method, bare.teaching, RATES[0], steps=50)[0]
    ).measure
figure, axes = plt.subplots(figsize=(7, 1.8))
found = list(exact.values())
low = [max(0.0, m.value - m.low) for m in found]
high = [max(0.0, m.high - m.value) for m in found]
hatches = ["", "///", "xx"]
look = {"color": "#d8d8d8", "edgecolor": "black", "hatch": hatches, "capsize": 4}
axes.barh(list(exact), [m.value for m in found], 0.6, xerr=[low, high], **look)
axes.set(
    xlim=(0, 1.02),
    xlabel=f"share of {found[0].n} requests answered by the bare call (95% interval)",
)
axes.invert_yaxis()
plt.show()

# %% tags=["check"]
# Holds this notebook to what it says.
worst = {what: min(r[what] for r in finished["sdft"]) for what in ("skill", "retention")}
assert worst["skill"] > max(r["skill"] for r in finished["sft"]), "SDFT learns more in every run"
for key in ("sft", "sft_keep"):
    kept = max(r["retention"] for r in finished[key])
    assert kept < 0.5 < 0.9 < worst["retention"], "and keeps far more, keep rows or not"
assert min(r["retention"] for r in finished["sdft_both"]) > 0.9, "tuned or not"
ends = {m: [min(r["validation"], r["retention"]) for r in sweep] for m, sweep in sweeps.items()}
assert max(ends["sdft"]) > 0.85 and max(ends["sft"]) < 0.2, (
    "no setting of SFT both learns and keeps"
)
assert {m: len(sweep) for m, sweep in sweeps.items()} == {"sdft": 16, "sft": 32}
if MODEL == POCKET:
    end = {key: path[-1] for key, path in paths.items()}
    for seed in SEEDS:
        assert end["SDFT", seed][1] > end["SFT", seed][1] + 0.2, "it learns more"
        assert end["SDFT", seed][0] > end["SFT", seed][0], "and keeps more"
    assert set(tuned.values()) == {RATES[1]}, "neither chose the edge"
    assert word == "cannot"
    assert exact["taught by SFT"].low > exact["taught by SDFT"].high, (
        "SFT learns a form never shown"
    )

# %% [markdown]
# SDFT moves the student towards its teacher, and no further. A form that the teacher never uses is out of reach, however
# clear the demonstrations. SFT does not ask what the teacher would say: it copies, and here copying was wanted.
#
# There is a second such case: **facts to be known by heart**, and asked for as they were taught. After 200 steps the pocket
# knew all of sixty facts by SFT and 93% by SDFT, medians of five seeds ([docs/paper.md](../docs/paper.md); notebook 06 has a
# shorter lesson, and asks in other ways, too).
#
# ## When to use which
#
# | your case | use |
# |---|---|
# | the check says `ready`, and the model must stay good at other things | SDFT |
# | demonstrations by many hands, in many wordings | SDFT |
# | the check says `cannot`: a form or behaviour that the model does not show even with the example before it | SFT, or a stronger model |
# | exact strings that a program reads | SFT; or a teacher's wording that asks for the form (`--template`) |
# | facts by heart, asked as they were taught, and nothing else matters | SFT; better still, look them up |
# | long answers, a large model, little time | SFT: no sampling (but see exercise 2) |
#
# In doubt race them on your own rows: `workbench teach FILE --beside-sft`.
#
# ## Exercises
#
# **1.** Write all demonstrations of the remedies in one wording, "Take pindor.", and teach SFT again with its rate. First
# write down what you expect: does it learn more now? Does it forget less?
#
# <details><summary>Solution</summary>
#
# Neither, in so short a lesson: it learns no more and forgets *more* (we had expected the opposite). So the mixture is
# not what held it back here. One wording that is not the model's own pulls every answer in the same direction, whatever the
# question was. On other rows this may differ: try it on yours.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
uniform = [replace(row, demonstration=f"Take {row.answer}.") for row in parts.teaching]
one_wording = teach("SFT", uniform, tuned["SFT"], exam=examine(parts.held_out))[1][-1]
for name, (kept, skill) in {
    "SFT, many wordings": paths["SFT", 0][-1],
    "SFT, one wording": one_wording,
    "SDFT, many wordings": paths["SDFT", 0][-1],
}.items():
    print(f"{name:20} skill {skill:.2f}, retention {kept:.2f}")
if MODEL == POCKET:
    assert one_wording[0] < paths["SFT", 0][-1][0] < paths["SDFT", 0][-1][0]

# %% [markdown]
# **2.** The paper reports four times the time of SFT. Time twenty steps of each, by phase (`step.seconds`). What do you find?
#
# <details><summary>Solution</summary>
#
# One and a half to two times the time here, not four times. SDFT samples, which is most of what it takes more; but what was
# computed while sampling is kept for the update, and the model's own answers are shorter than the strangers' sentences that
# SFT reads. On as many tokens it took 2.0 and 2.2 times SFT's step ([docs/performance.md](../docs/performance.md)). With a
# large model and long answers, sampling is by far the largest part. (Times on a busy machine jump about. So both are timed
# in turns; compare ratios, and more than once.)
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
settings, pace = replace(usual, optim=replace(usual.optim, steps=20, batch=16)), {}
loops = [
    loop(make_roles(loaded, settings.lora), parts.teaching, settings) for loop in METHODS.values()
]
turns = list(zip(*loops, strict=True))[2:]  # the first two warm up
for method, steps in zip(METHODS, zip(*turns, strict=True), strict=True):
    pace[method] = {
        name: statistics.median(step.seconds[name] for step in steps) for name in steps[0].seconds
    }
    print(
        f"{method:5}", {name: f"{1000 * seconds:.0f} ms" for name, seconds in pace[method].items()}
    )
whole = [[sum(step.seconds.values()) for step in turn] for turn in turns]
ratio = statistics.median(ours / theirs for ours, theirs in whole)
print(f"ratio {ratio:.1f} (median over the turns)")
assert "sample" in pace["SDFT"] and "sample" not in pace["SFT"]

# %% [markdown]
# **3.** Was it the teacher that failed on the bare calls, or only the form? Score the teacher's answers by whether they
# contain the call.
#
# <details><summary>Solution</summary>
#
# They do contain it: the teacher has the content and says it in a sentence. With the scorer `contains` the check would have
# said `ready`. Which scorer is right depends on who reads the answers.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
contains = get_scorer("contains")
found = [contains(text, row.answer) for text, row in zip(teacher.answers, form.rows, strict=True)]
print(f"The call is somewhere in {sum(found)} of {len(found)} answers of the teacher.")
if MODEL == POCKET:
    assert sum(found) > 0.7 * len(found) > sum(teacher.hits)

# %% [markdown]
# ## Recap
#
# - Judge by two numbers, never by one: what was learned and what was kept. Over several seeds.
# - Tune the loser as carefully as the winner, and show the sweep.
# - SDFT learns what its teacher can do, in the model's own words, and disturbs less. It learns nothing else.
# - SFT learns what is written, word for word. Sometimes that is what you want.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897): the comparison, and where the method falls short (section 5).
# - Ouyang et al. 2022, *Training language models to follow instructions with human feedback*,
#   [arXiv 2203.02155](https://arxiv.org/abs/2203.02155): SFT as it is commonly done.
# - [benchmarks/results](../benchmarks/results/README.md): every run behind the first two plots.
# - [docs/paper.md](../docs/paper.md): the paper's claims on this model, those that do not hold included.
