# %% [markdown]
# # 02 Demonstrations
#
# **What makes a good demonstration?** The teacher is only as good as what it is shown. This notebook looks at what the
# model really reads, checks a file before any teaching, and then breaks it on purpose in several ways: some are noticed by
# the check, and some are not.
#
# It takes up to two minutes on a laptop. Notebook 01 introduces base, teacher and student.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

from collections import Counter
from dataclasses import replace
from html import escape

import matplotlib.pyplot as plt
from IPython.display import HTML

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Demonstration,
    Exam,
    InputError,
    Prompts,
    Settings,
    answer,
    get_scorer,
    load,
    make_roles,
    read,
    sdft,
    share,
    split,
    verdict,
)

plt.style.use("class.mplstyle")
settings = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
longest = settings.rollout.max_new_tokens
loaded = load(MODEL)
tokenizer, prompts = loaded.tokenizer, Prompts(loaded.tokenizer)
roles = make_roles(loaded, settings.lora)
parts = split(read("../sample_data/zorbic.jsonl").rows)


def check(rows):
    """Right answers of the base without and with the demonstration, and what follows from them."""
    exam = Exam(loaded, prompts, rows, longest=longest)
    without = exam.sit(roles.base_decoder)
    shown = exam.sit(roles.base_decoder, shown=True)
    return without, shown, verdict(without.measure, shown.measure)


without, shown, (word, reason) = check(parts.held_out)
HTML(f"<b>{word}</b>: {escape(reason)}")

# %% [markdown]
# That is the check. It takes a second, and needs no teaching: the base answers the held-out questions without and with
# their demonstrations. If showing helps, there is something that the student can learn. Here are some of the rows, and
# what the teacher made of them.


# %%
def table(head, rows):
    """A table of texts; each is escaped, as anything is that comes from a file or a model."""

    def line(tag, texts):
        cells = "".join(f'<{tag} style="text-align:left">{escape(text)}</{tag}>' for text in texts)
        return f"<tr>{cells}</tr>"

    return HTML(f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>")


some = list(zip(parts.held_out, shown.answers, strict=True))[:6]
table(
    ("question", "demonstration", "the teacher's answer"),
    [(row.question, row.demonstration, said) for row, said in some],
)

# %% [markdown]
# The demonstrations were said by many people, each in their own way. The teacher's answers are all in *one* wording,
# its own. So a demonstration need not sound as you want the student to sound. Its **content** is what is taught.
#
# ## What is read, token by token
#
# A model reads neither words nor letters but tokens. Below, each box is one token. The dashed ones belong to the
# conversation (who speaks, where a turn ends); the grey ones are the frame that the method puts around a demonstration;
# the bold ones are the demonstration itself.
#
# > **Predict before you run.** Both prompts end with the same few tokens. Which, and why must they?


# %%
STYLE = {
    "turn": "border:1px dashed #57606a;color:#57606a",
    "question": "border:1px solid #8c959f",
    "frame": "border:1px solid #d0d5dc;background:#e7eaee",
    "demonstration": "border:2px solid #1a1a1a;font-weight:700",
}


def boxes(row, role):
    """HTML of a prompt's tokens; every text is escaped."""
    messages = prompts.student_messages(row) if role == "student" else prompts.teacher_messages(row)
    text = prompts.render(messages)
    places = {"question": row.question, "demonstration": row.demonstration}
    spans = {kind: (text.find(part), text.find(part) + len(part)) for kind, part in places.items()}
    said = messages[-1]["content"]
    begin, end_of_turn = text.find(said), text.find(said) + len(said)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    made = []
    for start, end in found["offset_mapping"]:
        kind = "frame" if begin <= start < end_of_turn else "turn"
        for name, (first, last) in spans.items():
            if first >= 0 and start < last and end > first:
                kind = name
        piece = escape(text[start:end]).replace("\n", "&#9166;").replace(" ", "&middot;")
        made.append(f'<span class="token" style="{STYLE[kind]}">{piece}</span>')
    count = len(found["input_ids"])
    head = f"<p><b>The {role} reads {count} tokens:</b></p>"
    return f"{head}<div>{''.join(made)}</div>"


row = parts.held_out[1]
css = ".token{border-radius:3px;padding:0 3px;margin:1px;display:inline-block;line-height:1.5}"
HTML(f"<style>{css}</style>" + boxes(row, "student") + boxes(row, "teacher"))

# %% [markdown]
# Both prompts end with the beginning of the assistant's turn. So the answer begins at the same place for both, and each
# token of the student's answer can be compared with what the teacher would have said there.
#
# The frame's last sentence asks for a response *of your own*. Without it a model might just repeat the demonstration.
#
# ## Break it: what the check notices
#
# We rewrite the held-out demonstrations in several ways and run the check on each.
#
# > **Predict before you run.** Put these in order, from the best teacher to the worst: the bare answer; the answer after
# > a long chat; the demonstrations of three questions, the right one in the middle; the demonstration of another
# > question; a friendly sentence without an answer.

# %%
rows = parts.held_out
others = rows[7:] + rows[:7]
CHAT = "I like this word very much. My teacher told it to me on the market one day. "


def shown_as(texts):
    return [replace(row, demonstration=text) for row, text in zip(rows, texts, strict=True)]


broken = {
    "as in the file": rows,
    "the bare answer": shown_as([row.answer for row in rows]),
    "after a chat": shown_as([CHAT * 3 + row.demonstration for row in rows]),
    "after a long chat": shown_as([CHAT * 10 + row.demonstration for row in rows]),
    "one of three": shown_as(
        [
            f"{one.demonstration} {row.demonstration} {two.demonstration}"
            for one, row, two in zip(others, rows, rows[3:] + rows[:3], strict=True)
        ]
    ),
    "of another question": shown_as([other.demonstration for other in others]),
    "without an answer": shown_as(["It is a nice day today, thank you for asking."] * len(rows)),
}
checked = {name: check(some) for name, some in broken.items()}

figure, axes = plt.subplots(figsize=(7, 3.4))
for place, (_, sitting, (word, _)) in enumerate(reversed(checked.values())):
    found = sitting.measure
    # Rounding may put an end of the interval a hair inside.
    interval = [
        [max(0, 100 * (found.value - found.low))],
        [max(0, 100 * (found.high - found.value))],
    ]
    axes.barh(place, 100 * found.value, color="#b9cdea", edgecolor="black", linewidth=0.8)
    axes.errorbar(100 * found.value, place, xerr=interval, color="black", capsize=3)
    axes.text(104, place, word, va="center")
axes.set_yticks(range(len(checked)), list(reversed(checked)))
axes.set(xlabel="teacher right, % (with 95% interval); on the right the verdict", xlim=(0, 118))
axes.set_xticks(range(0, 101, 20))
axes.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# The wording hardly matters, and some chat does no harm; a lot of it costs some of the answers, though the verdict stays
# the same. The answer must be there, it must be the answer to *this* question, and it must be plain which of several
# things it is. All of that costs a second to find out.
#
# What was said where the right answer was one of three?

# %%
misread = zip(broken["one of three"], checked["one of three"][1].answers, strict=True)
for row, said in list(misread)[:3]:
    print(f"{row.question}   right: {row.answer}\n  shown: {row.demonstration}\n  said:  {said}\n")

# %% [markdown]
# ### Too long
#
# What about a demonstration that does not fit at all? It could be cut. But a teacher whose prompt was cut has lost the
# question or the answer, and would teach nonsense without anybody noticing. So it is refused, with the rows and the
# numbers.

# %%
lengthy = shown_as([CHAT * (4 * loaded.longest // 100) + row.demonstration for row in rows])
try:
    prompts.tokenise_all(lengthy, loaded.longest, longest)
    refused = ""
except InputError as error:
    refused = str(error)
print(refused)

# %% [markdown]
# ## Break it: what the check does not notice
#
# The check compares the teacher's answers with the file's. If the *file* is wrong, both are wrong together.
#
# We take the rows about a few words only, so that a lesson is short, and make three files of them:
#
# - **good**: as they are;
# - **wrong**: every noun replaced by another one, always the same: a false dictionary, answers included;
# - **contradictory**: every question twice, once right and once from the false dictionary.
#
# > **Predict before you run.** What will the check say about each of the three? And what will a student say that was
# > taught with the contradictory one?


# %%
def commonest(place):
    return {word for word, _ in Counter(row.answer.split()[place] for row in every).most_common(8)}


every = [*parts.teaching, *parts.held_out]
few_nouns, few_adjectives = commonest(0), commonest(1)
few = split(
    [r for r in every if r.answer.split()[0] in few_nouns and r.answer.split()[1] in few_adjectives]
)
ring = sorted(few_nouns)
false_noun = dict(zip(ring, ring[1:] + ring[:1], strict=True))


def lie(row):
    """The same row from the false dictionary."""
    noun = row.answer.split()[0]
    demonstration, right = (
        text.replace(noun, false_noun[noun]) for text in (row.demonstration, row.answer)
    )
    return replace(row, demonstration=demonstration, answer=right)


files = {
    "good": (few.teaching, few.held_out),
    "wrong": ([lie(row) for row in few.teaching], [lie(row) for row in few.held_out]),
    "contradictory": (
        [*few.teaching, *(lie(row) for row in few.teaching)],
        [*few.held_out, *(lie(row) for row in few.held_out)],
    ),
}
verdicts = {}
for name, (_, held_out) in files.items():
    *_, (verdicts[name], reason) = check(held_out)
    print(f"{name:14s}{verdicts[name]}: {reason}")

# %% [markdown]
# Nothing is noticed: each row by itself is one that a teacher can follow. Now we teach a student with each file.

# %%
short = replace(
    settings,
    optim=replace(settings.optim, steps=100, batch=16, lr=2e-3 if MODEL == POCKET else 1e-4),
)
contains = get_scorer("contains")
outcome, course, said_by = {}, {}, {}
for name, (teaching, _) in files.items():
    taught = make_roles(loaded, settings.lora)
    course[name] = list(sdft(taught, teaching, short))
    sitting = Exam(loaded, prompts, few.held_out, longest=longest).sit(taught.student_decoder)
    truth = share(sitting.hits).value
    lies = share(
        [
            contains(said, lie(row).answer)
            for row, said in zip(few.held_out, sitting.answers, strict=True)
        ]
    ).value
    said_by[name] = sitting.answers
    outcome[name] = {
        "right": truth,
        "from the false dictionary": lies,
        "something else": 1 - truth - lies,
    }

figure, (left, right) = plt.subplots(1, 2, width_ratios=(3, 2), figsize=(7, 3.4))
start = [0.0] * len(outcome)
for part, colour, hatch in zip(
    ("right", "from the false dictionary", "something else"),
    ("#1d5fbf", "white", "#d8d8d8"),
    ("", "///", ""),
    strict=True,
):
    widths = [100 * outcome[name][part] for name in outcome]
    left.barh(
        list(outcome),
        widths,
        left=start,
        color=colour,
        hatch=hatch,
        edgecolor="black",
        linewidth=0.8,
        label=part,
    )
    start = [a + b for a, b in zip(start, widths, strict=True)]
left.invert_yaxis()
left.set(xlabel="held-out answers of the student, %", xlim=(0, 100))
left.grid(axis="y", visible=False)
left.legend(
    loc="upper center",
    bbox_to_anchor=(0.4, 1.3),
    ncols=3,
    fontsize=8,
    columnspacing=1,
    handlelength=1.5,
)
for name, taken in course.items():
    losses = [step.loss for step in taken]
    tens = range(10, len(losses) + 1, 10)
    right.plot(tens, [sum(losses[n - 10 : n]) / 10 for n in tens], label=name)
right.set(xlabel="step (means over ten)", ylabel="loss, nats", xlim=(0, None), ylim=(0, None))
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# The student of the wrong file has learned the false dictionary, as well as the other has learned the true one. Nothing
# in the method knows what is true. **Somebody has to read the demonstrations.**
#
# The student of the contradictory file was told two things and cannot do both. Its loss stays high, because whatever it
# says, one of its two teachers disagrees. A loss that comes to rest far above zero is a reason to look for
# contradictions; the first exercise finds them in a file. And what does it say?

# %%
for row, said in list(zip(few.held_out, said_by["contradictory"], strict=True))[:5]:
    print(f"{row.question}\n  taught: {row.answer}, and {lie(row).answer}\n  says:   {said}\n")

# %% [markdown]
# Between two words it comes out with neither: it begins one and ends the other. An answer that looks like a slip of the
# tongue may be the trace of two rows that disagree.

# %% tags=["check"]
# Holds this notebook to what it says.
final = {name: sum(step.loss for step in taken[-10:]) / 10 for name, taken in course.items()}
assert "too long" in refused and "never cut" in refused
assert final["contradictory"] > final["good"] and final["contradictory"] > final["wrong"]
if MODEL == POCKET:
    right_with = {name: sitting.measure.value for name, (_, sitting, _) in checked.items()}
    assert right_with["as in the file"] > 0.9 and right_with["the bare answer"] > 0.9
    assert right_with["after a chat"] > 0.9 and right_with["one of three"] < 0.5
    assert right_with["after a long chat"] < right_with["after a chat"], "a lot of chat costs some"
    assert right_with["of another question"] < 0.1 and right_with["without an answer"] < 0.1
    words = {name: word for name, (_, _, (word, _)) in checked.items()}
    assert (words["of another question"], words["after a long chat"]) == ("cannot", "ready")
    assert set(verdicts.values()) == {"ready"}, verdicts
    assert outcome["good"]["right"] > 0.6, outcome
    assert (
        outcome["wrong"]["from the false dictionary"] > 0.6 and outcome["wrong"]["right"] < 0.1
    ), outcome
    assert outcome["contradictory"]["right"] < outcome["good"]["right"] - 0.1, outcome

# %% [markdown]
# ## A list for your own file
#
# - Each demonstration answers **its own** question, and the answer stands in it.
# - The wording is free; the content is taught. Read it: it will be believed.
# - The same question has the same answer everywhere.
# - As short as it can be without losing how one gets there. A demonstration of a task that needs thinking shows the
#   thinking.
# - An `answer` beside it, so that there is something to score: a few characters that any right answer must contain.
# - Some thirty rows are a start, with other questions kept back.
#
# ## Exercises
#
# **1.** Write a function that finds the contradictions in a file: questions that stand there more than once with
# different answers.
#
# <details><summary>Solution</summary>
#
# Collect the answers to each question in a set. Whoever has more than one contradicts itself. (For answers in free text
# this is harder: then look at the rows with the highest divergence at the end of a lesson.)
#
# </details>


# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
def contradictions(rows):
    answers = {}
    for row in rows:
        answers.setdefault(row.question, set()).add(row.answer)
    return {question: said for question, said in answers.items() if len(said) > 1}


for name, (teaching, _) in files.items():
    print(
        f"{name:14s}{len(contradictions(teaching))} of {len({row.question for row in teaching})} questions"
    )
assert not contradictions(files["good"][0]) and not contradictions(files["wrong"][0])
assert len(contradictions(files["contradictory"][0])) == len({row.question for row in few.teaching})

# %% [markdown]
# **2.** Demonstrate a phrase of a language of your own, in your own words, and ask the teacher. Does it take your words,
# and does it keep your wording?
#
# <details><summary>Solution</summary>
#
# It takes the words and says them in its own way. The bundled model has read only a small world; keep to questions
# of the kind that are in it ("How do you say red river in Lumin?") and to short, made-up words.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
mine = Demonstration(
    prompt="How do you say red river in Lumin?",
    demonstration="Well, my grandmother would say tamo beluri.",
)
said = answer(roles.base_decoder, loaded, [prompts.tokenise(mine).teacher], longest=longest)[0]
print(said)
if MODEL == POCKET:
    assert "grandmother" not in said and "beluri" in said

# %% [markdown]
# **3.** The frame around the demonstration is a setting. Write another one and run the check with it. Must it be the
# paper's?
#
# <details><summary>Solution</summary>
#
# No: `Prompts(tokenizer, template)`, with `{prompt}` and `{demonstration}` in it. The plain one below does as well
# here, although the bundled model was made with the paper's wording. What your model needs, the check tells in a second.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
plain = Prompts(tokenizer, "{prompt}\n\nExample: {demonstration}")
in_plain = Exam(loaded, plain, rows, longest=longest).sit(roles.base_decoder, shown=True).measure
print(f"the paper's wording {shown.measure.value:.0%}, the plain one {in_plain.value:.0%}")
if MODEL == POCKET:
    assert in_plain.value > 0.9

# %% [markdown]
# ## Recap
#
# - The student reads the question; the teacher reads it in a frame, together with the demonstration.
# - Content counts, wording does not.
# - The check finds demonstrations that a teacher cannot follow. It cannot find those that are false.
# - Contradictions show as a loss that does not fall.
# - Too long is refused, never cut.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897), section 3: the frame; section 4: weak teachers.
# - Min et al. 2022, *Rethinking the Role of Demonstrations: What Makes In-Context Learning Work?*,
#   [arXiv 2202.12837](https://arxiv.org/abs/2202.12837).
# - [docs/method.md](../docs/method.md): the teacher check and its three verdicts.
