# %% [markdown]
# # 01 Three roles, one model
#
# **Can a model be its own teacher?** It cannot know more than it knows. But it may be able to do more when somebody
# shows it how. This notebook looks at that difference, which is all that self-distillation has to work with.
#
# It takes up to a minute on a laptop. You need Python and an idea of what a softmax is.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

from dataclasses import replace
from html import escape

import matplotlib.pyplot as plt
import torch
from IPython.display import HTML, Markdown, display

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Demonstration,
    Prompts,
    Settings,
    answer,
    load,
    make_roles,
    read,
    sdft,
    split,
)
from workbench.views import CSS, three_columns

plt.style.use("class.mplstyle")
torch.manual_seed(0)
settings = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
loaded = load(MODEL)
roles = make_roles(loaded, settings.lora)
prompts = Prompts(loaded.tokenizer)
parts = split(read("../sample_data/zorbic.jsonl").rows)
row = parts.held_out[0]


def ask(decoder, prompt):
    return answer(decoder, loaded, [prompt], longest=settings.rollout.max_new_tokens)[0]


def ask_all(row):
    """What base, teacher and student say to one question. The teacher is the base, reading more."""
    read = prompts.tokenise(row)
    return {
        "base": ask(roles.base_decoder, read.student),
        "teacher": ask(roles.base_decoder, read.teacher),
        "student": ask(roles.student_decoder, read.student),
    }


before = ask_all(row)
display(HTML(f"<b>{escape(row.question)}</b> Right: <i>{escape(row.answer)}</i>"))
HTML(f"<style>{CSS}</style>" + three_columns(before))

# %% [markdown]
# Zorbic is a made-up language, so the base can only guess. The teacher is **the same network with the same weights**.
# It answers well because it was shown an example. The student is that network once more, with a small adapter that has
# not been taught anything yet, so it says what the base says.
#
# | role | weights | what it reads |
# |---|---|---|
# | base | the model's own | the question |
# | teacher | the model's own | the question **and the demonstration** |
# | student | the model's own, and an adapter | the question |
#
# ## What each of them reads

# %%
display(Markdown("**Base and student read:**"))
print(prompts.render(prompts.student_messages(row)))
display(Markdown("**The teacher reads:**"))
print(prompts.render(prompts.teacher_messages(row)))

# %% [markdown]
# The demonstration is in a stranger's words. The teacher's answer above is not a copy of it: the content is the
# demonstration's, the wording is the model's own. Taking something from the prompt without any change of weights is
# called **in-context learning**. The last sentence of the teacher's prompt is the paper's, word for word; the pocket
# model does not think aloud, and passes over it.
#
# ## Before the word is chosen: probabilities
#
# A language model gives a probability to every token that could come next. We let base and teacher read the same
# beginning of an answer, and stop where they disagree most.
#
# How far two distributions are apart is measured by the **KL divergence**: by how much the logarithm of the teacher's
# probability is larger than the base's, averaged over what the teacher would say. It is 0 where both are equal. Its
# unit is the nat: one nat is a factor of 2.7 between the probabilities. Notebook 03 looks at it closely.

# %%
read_by = prompts.tokenise(row)
said = loaded.tokenizer(before["teacher"], add_special_tokens=False)["input_ids"]


@torch.no_grad()
def next_token(model, prompt, beginning):
    """Probabilities [V] of the next token."""
    ids = torch.tensor([[*prompt, *beginning]], device=loaded.device)
    return model(input_ids=ids).logits[0, -1].float().softmax(-1).cpu()


def disagreement(place):
    """KL(teacher, base) of the token at this place, in nats."""
    base = next_token(loaded.model, read_by.student, said[:place])
    teacher = next_token(loaded.model, read_by.teacher, said[:place])
    return float((teacher * (teacher.clamp_min(1e-30).log() - base.clamp_min(1e-30).log())).sum())


place = max(range(len(said)), key=disagreement)
beginning = said[:place]
print(
    f"The answer so far: {loaded.tokenizer.decode(beginning)!r}. There the two are {disagreement(place):.1f}"
)
print(f"nats apart, more than at any other of the answer's {len(said)} tokens.")

# %% [markdown]
# > **Predict before you run.** The base has never heard of Zorbic. Will it be sure of one wrong word, or will its
# > probability be spread over many? And the teacher's?


# %%
def bars(distributions):
    """The likeliest tokens of all roles, side by side."""
    tokens = list(dict.fromkeys(int(i) for p in distributions.values() for i in p.topk(4).indices))
    names = [loaded.tokenizer.decode([i]).strip() or "(space)" for i in tokens]
    figure, axes = plt.subplots()
    width = 0.8 / len(distributions)
    for number, (role, p) in enumerate(distributions.items()):
        places = [i + (number - (len(distributions) - 1) / 2) * width for i in range(len(tokens))]
        hatch, colour = [("", "#1d5fbf"), ("///", "white"), ("xx", "#d8d8d8")][number]
        look = {"hatch": hatch, "color": colour, "edgecolor": "black", "linewidth": 0.8}
        axes.bar(places, p[tokens], width, label=role, **look)
    axes.set(xlabel="next token", ylabel="probability", ylim=(0, 1.05))
    axes.set_xticks(range(len(tokens)), names)
    axes.legend()
    plt.show()


base = next_token(loaded.model, read_by.student, beginning)
teacher = next_token(loaded.model, read_by.teacher, beginning)
bars({"base": base, "teacher": teacher})

# %% [markdown]
# The base spreads its probability over many beginnings of words. The teacher puts nearly all of it on one. The distance
# between these two distributions is what the student will be taught to close, at each token of its own answers.
#
# ## A short lesson
#
# Now the student learns, for some steps, from demonstrations of *other* phrases than the one above. What happens
# inside a step is the subject of notebook 03.

# %%
lesson = replace(settings, optim=replace(settings.optim, steps=150))
steps = list(sdft(roles, parts.teaching, lesson))
student = next_token(roles.student, read_by.student, beginning)
display(
    Markdown(
        f"Loss, the same distance between teacher and student over the tokens of the student's own answers: "
        f"{steps[0].loss:.2f} nats in the first step, {steps[-1].loss:.2f} in the last."
    )
)
bars({"base": base, "teacher": teacher, "student": student})

# %% [markdown]
# The student reads the question alone, as the base does, and has moved towards the teacher. So the demonstration's
# content is now in the adapter's weights. The base has not changed: its bars are computed from the same frozen weights.

# %% tags=["check"]
# Holds this notebook to what it says.
assert before["base"] == before["student"], "an untaught adapter changes nothing"
assert torch.equal(base, next_token(loaded.model, read_by.student, beginning)), (
    "teaching left the base alone"
)
assert steps[-1].loss < steps[0].loss
best = int(teacher.argmax())
if MODEL == POCKET:
    assert row.answer in before["teacher"] and row.answer not in before["base"]
    assert teacher[best] > 0.9 and base[best] < 0.3
    assert student[best] > base[best] + 0.2

# %% [markdown]
# ## Exercises
#
# **1.** Show the teacher a wrong translation, *banu miroku*. Does it object?
#
# <details><summary>Solution</summary>
#
# It does not. Where a model knows nothing itself it takes the content from its prompt, right or wrong. A teacher is as
# good as its demonstrations. The folded cell below asks.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
wrong = Demonstration(prompt=row.prompt, demonstration="They say banu miroku there.")
misled = ask(roles.base_decoder, prompts.tokenise(wrong).teacher)
print(misled)
if MODEL == POCKET:
    assert "banu miroku" in misled

# %% [markdown]
# **2.** How unsure are the roles? Compute the entropy, $-\sum_v p_v \log p_v$, of the three distributions above.
#
# <details><summary>Solution</summary>
#
# The base is the least sure, the teacher the most. The student lies between: a small entropy says that a model is sure,
# not that it is right.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
entropy = {
    role: float(torch.special.entr(p).sum())
    for role, p in {"base": base, "teacher": teacher, "student": student}.items()
}
print({role: round(nats, 2) for role, nats in entropy.items()})
if MODEL == POCKET:
    assert entropy["teacher"] < entropy["student"] < entropy["base"]

# %% [markdown]
# ## Recap
#
# - One network, three roles: they differ in what they read, and the student in an adapter.
# - The teacher's advantage is in-context learning: the demonstration in its prompt.
# - What is taught is the difference between two distributions over the next token.
# - The teacher believes its demonstration. Wrong demonstrations make a wrong teacher.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897), section 3: the model with a demonstration as its own teacher.
# - Brown et al. 2020, *Language Models are Few-Shot Learners*, [arXiv 2005.14165](https://arxiv.org/abs/2005.14165):
#   in-context learning.
# - [docs/method.md](../docs/method.md): what is computed here, and where it differs from the paper.
