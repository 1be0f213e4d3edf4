# %% [markdown]
# # 03 One step by hand
#
# **What happens between a question and a slightly better model?** Sample, score, divergence, gradient, update. This
# notebook takes one step of self-distillation in plain PyTorch and looks at every tensor on the way. Then it lets the
# library take the same step, and compares all the digits.
#
# It takes about a minute on a laptop. You need Python, an idea of what a softmax is, and to have seen `loss.backward()`
# once. Notebook 01 introduces the three roles.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

from dataclasses import replace
from html import escape

import matplotlib.pyplot as plt
import torch
from IPython.display import HTML

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Prompts,
    Settings,
    load,
    make_roles,
    read,
    sdft,
    token_divergence,
)

plt.style.use("class.mplstyle")
settings = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
B, LONGEST, RATE, SKIP = 4, 32, settings.optim.lr, settings.divergence.skip_tokens

loaded = load(MODEL)
tokenizer, device = loaded.tokenizer, loaded.device
prompts = Prompts(tokenizer)
rows = read("../sample_data/zorbic.jsonl").rows[:B]
roles = make_roles(loaded, settings.lora)
base, student = loaded.model, roles.student  # both are ordinary PyTorch modules


def table(head, rows):
    """A table of texts; each is escaped, as anything is that comes from a file or a model."""

    def line(tag, texts):
        cells = "".join(f'<{tag} style="text-align:left">{escape(text)}</{tag}>' for text in texts)
        return f"<tr>{cells}</tr>"

    return HTML(f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>")


head = ("question, which all three read", "demonstration, which only the teacher reads")
table(head, [(row.question, row.demonstration) for row in rows])

# %% [markdown]
# Four questions about Zorbic, a language that the model has never met, and how somebody answered them. We follow the
# first one through all five parts of a step.
#
# ## 1. Sample
#
# The student answers the question itself, one token at a time, without seeing the demonstration. What it says is a
# random draw from its own distribution. That is what *on-policy* means: it learns on its own answers.


# %%
def look(**tensors):
    """Each tensor's name, shape and first numbers."""
    for name, tensor in tensors.items():
        numbers = ", ".join(f"{float(x):.3g}" for x in tensor.detach().flatten()[:4])
        kind = str(tensor.dtype).removeprefix("torch.")
        print(
            f"{name:17s}{list(tensor.shape)!s:14s}{kind:9s}{numbers}{', ...' if tensor.numel() > 4 else ''}"
        )


# Token ids. `.student` is the question; `.teacher` has the demonstration in it, too.
read_by = prompts.tokenise(rows[0])
with torch.no_grad():
    question = torch.tensor([read_by.student], device=device)
    logits = student(input_ids=question).logits
    p = logits[0, -1].double().softmax(-1)
    cumulative = p.cumsum(-1)
look(question=question, logits=logits, p=p, cumulative=cumulative)

# %% [markdown]
# `question` is one row of P token ids. The model gives V logits at each of its places; `logits[0, -1]` are those after
# the last one, and a softmax makes probabilities of them: `p`, one for each token of the vocabulary.
#
# To draw from `p`, take a uniform random number *u* between 0 and 1 and see where the running sum of `p` passes it. A
# token with probability 0.3 owns three tenths of the way from 0 to 1, so it is hit three times in ten.


# %%
@torch.no_grad()
def draw_answer(model, prompt, uniform):
    """One answer, token by token, until the model says that its turn is over."""
    answer = []
    for u in uniform:
        ids = torch.tensor([[*prompt, *answer]], device=device)
        total = model(input_ids=ids).logits[0, -1].double().softmax(-1).cumsum(-1).cpu()
        answer.append(int(torch.searchsorted(total, u.double() * total[-1], right=True)))
        if answer[-1] in loaded.end:
            break
    return answer


uniform = torch.rand(LONGEST, generator=torch.Generator().manual_seed(1))
answer = draw_answer(student, read_by.student, uniform)
print("the student says:", tokenizer.decode(answer))
print("the right answer:", rows[0].answer)

# %% [markdown]
# Wrong, as it must be: nobody has taught it yet. It is the model's usual wording, with invented words in it.
#
# ## 2. Score
#
# Teacher and student now read **the same answer**, the student's, and say at each token what they would have said
# there. The student has read the question before it, the teacher the question and the demonstration.
#
# > **Predict before you run.** At which tokens will the two agree, although the answer is wrong?


# %%
def score(model, prompt, answer):
    """Logits [T, V] at each token of `answer`, read after `prompt`."""
    ids = torch.tensor([[*prompt, *answer]], device=device)
    # The logits at a place are about the token after it: hence one place earlier.
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    # In 16 bits small probabilities would be lost.
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


with torch.no_grad():
    teacher_logits = score(base, read_by.teacher, answer)
own_logits = score(student, read_by.student, answer)
look(teacher_logits=teacher_logits, own_logits=own_logits)


def said(ids):
    return [tokenizer.decode([i]) for i in ids]


lines = zip(said(answer), own_logits.softmax(-1), teacher_logits.softmax(-1), answer, strict=True)
print("\ntoken          student's p   teacher's p   the teacher's first choice")
for text, own, other, token in lines:
    best = tokenizer.decode([int(other.argmax())])
    print(f"{text!r:15s}{own[token]:10.3f}{other[token]:14.3f}      {best!r} ({other.max():.2f})")

# %% [markdown]
# They agree on the house wording and on the words of the question. Where the Zorbic begins, the teacher gives the
# student's token next to no probability, and knows a better one. After a wrong beginning of a word it still has an
# opinion on how to go on. No demonstration holds that advice: it is an answer to the student's own mistake.
#
# ## 3. Divergence
#
# How far apart are two distributions? At each token we take the forward Kullback-Leibler divergence over the whole
# vocabulary, $\mathrm{KL}(p_T \,\|\, p_S) = \sum_v p_T(v)\,\log \frac{p_T(v)}{p_S(v)}$, in nats.

# %%
log_t = teacher_logits.log_softmax(-1)
log_s = own_logits.log_softmax(-1)
per_token = (log_t.exp() * (log_t - log_s)).sum(-1)
loss = per_token[SKIP:].mean()
look(log_t=log_t, per_token=per_token, loss=loss)

figure, axes = plt.subplots()
axes.bar(
    range(len(answer)), per_token.detach().cpu(), color="#1d5fbf", edgecolor="black", linewidth=0.8
)
mean = loss.item()
axes.axhline(
    mean, color="black", linestyle="--", linewidth=1, label=f"their mean, the loss: {mean:.2f}"
)
axes.set(xlabel="token of the student's answer", ylabel="KL(teacher || student), nats")
names = [text.strip() or "(space)" for text in said(answer)]
axes.set_xticks(range(len(answer)), names, rotation=40, ha="right")
axes.legend()
plt.show()

# %% [markdown]
# The loss of one answer is the mean over its tokens; the loss of a batch is the mean over its answers. Note how much
# of it sits at a few tokens: those are the ones that will change the model.
#
# (A large model often opens with a phrase that points at its demonstration, so for such models the first three tokens
# are left out: `SKIP`. The bundled model has no such habit.)
#
# ### Forward or reverse?
#
# KL is not symmetric. Suppose the teacher finds two answers good, and the student can say only one kind of thing: it
# is a single bump. We let the bump find its best place under each of the two divergences.
#
# > **Predict before you run.** One divergence makes the bump cover both peaks, the other makes it choose one. Which is
# > which? (In which of the two is it dear to give no probability to something that the teacher would say?)

# %%
x = torch.linspace(-6, 6, 121)


def bump(centre, width):
    """Probabilities [121] of a bell curve on the points x."""
    return (-0.5 * ((x - centre) / width) ** 2).softmax(-1)


two_peaks = 0.6 * bump(torch.tensor(-2.5), 0.8) + 0.4 * bump(torch.tensor(2.5), 0.8)


def fit(kind):
    """The bump that is nearest to the two peaks, found by gradient descent."""
    centre, log_width = (
        torch.tensor(-1.0, requires_grad=True),
        torch.tensor(0.0, requires_grad=True),
    )
    optimizer = torch.optim.Adam([centre, log_width], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        one = bump(centre, log_width.exp())
        token_divergence(one.log(), two_peaks.log(), kind=kind).backward()
        optimizer.step()
    return one.detach()


fitted = {kind: fit(kind) for kind in ("forward", "reverse")}
figure, panels = plt.subplots(1, 2, sharey=True)
formulas = {
    "forward": "forward: KL(teacher || student)",
    "reverse": "reverse: KL(student || teacher)",
}
for axes, (kind, one) in zip(panels, fitted.items(), strict=True):
    axes.fill_between(
        x, two_peaks, color="#d8d8d8", edgecolor="black", linewidth=0.8, label="teacher"
    )
    axes.plot(x, one, color="#1d5fbf", label="student")
    axes.set(title=formulas[kind], xlabel="what can be said", ylim=(0, 0.056))
    axes.legend(loc="upper right")
panels[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# **Forward** KL weighs by the teacher: whatever the teacher would say, the student must be able to say, so the bump
# covers both peaks and the empty middle too. **Reverse** KL weighs by the student: whatever the student says, the
# teacher must find likely, so the bump picks one peak and forgets the other.
#
# The paper derives its method for the reverse KL. Its authors have said that all of its results were produced with the
# forward KL, so that is the default here.
#
# ## 4. Gradient
#
# The gradient flows through the student's scores only. The teacher is frozen, and the sampling is not differentiated:
# the answer is taken as given.
#
# > **Predict before you run.** The adapter of each layer is a pair of small matrices, A and B, whose product is added
# > to the layer's weights. Before the first step half of all the gradients are exactly zero. Which, and why?

# %%
own_logits.retain_grad()
loss.backward()
look(own_logits_grad=own_logits.grad)
by_formula = (own_logits.detach().softmax(-1) - teacher_logits.softmax(-1)) / (len(answer) - SKIP)
by_formula[:SKIP] = 0
off = (own_logits.grad - by_formula).abs().max().item()
print(f"it is p_student - p_teacher, over T: off by {off:.1g}\n")

weights = list(roles.adapter.items())
for name, weight in weights[:4]:
    short = name.removeprefix("base_model.model.model.").removesuffix(".default.weight")
    print(
        f"{short:32s}{list(weight.shape)!s:12s} largest gradient {float(weight.grad.abs().max()):.2g}"
    )
count = sum(weight.numel() for _, weight in weights)
frozen = sum(p.numel() for p in base.parameters())
print(f"... {len(weights)} matrices, {count:,} numbers, beside {frozen:,} frozen ones")

# %% [markdown]
# At the logits the gradient is as simple as it can be: **what the student says, less what the teacher says.** Descent
# takes away where the student says too much, and adds where it says too little.
#
# B starts at zero, so that an untaught adapter changes nothing. A's gradient has B as a factor, so it is zero as well.
# From the second step on, both learn.
#
# ## 5. Update
#
# AdamW moves each number of the adapter against its gradient. Then we ask both to score the *same* answer again.

# %%
optimizer = torch.optim.AdamW([weight for _, weight in weights], lr=RATE, weight_decay=0.0)
torch.nn.utils.clip_grad_norm_([weight for _, weight in weights], 1.0)
optimizer.step()
with torch.no_grad():
    log_after = score(student, read_by.student, answer).log_softmax(-1)
    after = (log_t.exp() * (log_t - log_after)).sum(-1)[SKIP:].mean()
print(f"divergence on this answer: {mean:.3f} nats before the step, {after.item():.3f} after it")

# %% [markdown]
# One step, a little nearer. A lesson is some hundred such steps, each with new answers of the student, sampled by what
# it has become by then.
#
# ## The same in twenty lines
#
# Here is the whole step for a batch, as one function. Only `draw_answer` and `score` stand outside, and you have read
# both.


# %%
def step_by_hand(base, student, weights, rows, uniform, kind="forward"):
    """Sample, score, divergence, gradient, update. Returns the loss and the gradient's norm."""
    losses = []
    for row, u in zip(rows, uniform, strict=True):
        read_by = prompts.tokenise(row)
        answer = draw_answer(student, read_by.student, u)
        with torch.no_grad():
            log_t = score(base, read_by.teacher, answer).log_softmax(-1)
        log_s = score(student, read_by.student, answer).log_softmax(-1)
        if kind == "forward":
            per_token = (log_t.exp() * (log_t - log_s)).sum(-1)
        else:
            per_token = (log_s.exp() * (log_s - log_t)).sum(-1)
        losses.append(per_token[SKIP:].mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
    torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0).step()
    return loss.item(), norm.item()


# %% [markdown]
# ## The library's step, digit by digit
#
# The library does this for whole batches, with padding, caches and packed weights. Is it the same step? We compare in
# double precision. In single precision two programs that add in another order agree to about seven digits, and that
# would hide a small mistake; in double precision they agree to about fifteen.
#
# Both must read the same rows and draw with the same random numbers. The library shuffles the rows by a generator
# seeded with the pass over the data, and draws step 0 with seed 12345 (see
# [flat_sdft.py](../docs/flat_sdft.py), which is the whole run in one page).


# %%
def fresh():
    """The three roles anew, untaught; the bundled model in double precision."""
    if MODEL != POCKET:
        return make_roles(loaded, settings.lora)
    exact = load(MODEL)
    exact.model.double()
    # The norms of transformers compute in single precision whatever the weights are.
    for parent in list(exact.model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm).__name__.endswith("RMSNorm"):
                same = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
                same.weight = norm.weight
                setattr(parent, name, same)
    return make_roles(exact, settings.lora)


one_step = replace(
    settings,
    optim=replace(settings.optim, steps=1, batch=B, schedule="constant", warmup=0),
    rollout=replace(settings.rollout, max_new_tokens=LONGEST),
)
order = torch.randperm(B, generator=torch.Generator().manual_seed(0)).tolist()
uniform = torch.rand(B, LONGEST, generator=torch.Generator().manual_seed(12345))


def both(kind="forward"):
    """One step by hand and one by the library, each from the same start."""
    ours, theirs = fresh(), fresh()
    weights = list(ours.adapter.values())
    shuffled = [rows[i] for i in order]
    found = step_by_hand(ours.loaded.model, ours.student, weights, shuffled, uniform, kind)
    chosen = replace(one_step, divergence=replace(one_step.divergence, divergence=kind))
    (step,) = sdft(theirs, rows, chosen)
    pairs = zip(weights, theirs.adapter.values(), strict=True)
    apart = max((a - b).abs().max().item() for a, b in pairs)
    return found, step, apart


(loss, norm), step, apart = both()
print("                     by hand         by the library")
print(f"loss                 {loss:.10f}    {step.loss:.10f}")
print(f"gradient's norm      {norm:.10f}    {step.gradient_norm:.10f}")
print(f"all {count:,} weights after the step: at most {apart:.0e} apart")

# %% [markdown]
# Equal to all digits that are printed, and further. So there is nothing else in a step: what the library adds is speed, and care. (A large model
# is run in 16 bits. Expect two or three equal digits there, and now and then another token to be drawn.)

# %% tags=["check"]
# Holds this notebook to what it says.
assert after.item() < mean, "the step brought the student nearer on this answer"
assert off < 1e-6
largest = {name: float(weight.grad.abs().max()) for name, weight in weights}
assert all((size == 0) == (".lora_A." in name) for name, size in largest.items()), "A waits for B"
centre = {kind: float((one * x).sum()) for kind, one in fitted.items()}
assert abs(centre["forward"] - (-0.5)) < 0.1, "forward KL sits on the teacher's mean"
assert abs(centre["reverse"] - (-2.5)) < 0.1, "reverse KL sits on the higher peak"
if MODEL == POCKET:
    assert rows[0].answer not in tokenizer.decode(answer)
    assert abs(loss - step.loss) < 1e-12
    assert abs(norm - step.gradient_norm) < 1e-12
    assert apart < 1e-10
else:
    assert abs(loss - step.loss) < 0.2 * step.loss

# %% [markdown]
# ## Exercises
#
# **1.** Take the same step with the reverse KL, by hand and by the library. Which of the two losses is larger here?
#
# <details><summary>Solution</summary>
#
# `both("reverse")`. They agree again in every digit. The reverse KL is the larger one here: the student says words to
# which the teacher gives next to no probability, and that is what reverse KL is hard on.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
(reverse, _), by_library, apart_reverse = both("reverse")
print(f"reverse {reverse:.10f}, by the library {by_library.loss:.10f}; forward {loss:.10f}")
if MODEL == POCKET:
    assert abs(reverse - by_library.loss) < 1e-12 and apart_reverse < 1e-10
    assert reverse > loss + 0.1

# %% [markdown]
# **2.** We took the mean over each answer's tokens, and then over answers. What if one took the mean over all tokens of
# the batch at once? Whose word would count for more?
#
# <details><summary>Solution</summary>
#
# A long answer's: it has more tokens, so it gets more of the mean. With the mean of means each answer counts the same,
# however long it is. The two losses differ; implementations differ in this, too, and it is easily overlooked.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
untaught, per_answer = fresh(), []
with torch.no_grad():
    for i, u in zip(order, uniform, strict=True):
        read_by = prompts.tokenise(rows[i])
        drawn = draw_answer(untaught.student, read_by.student, u)
        own = score(untaught.student, read_by.student, drawn)
        other = score(untaught.loaded.model, read_by.teacher, drawn)
        per_answer.append(token_divergence(own[None], other[None])[0, SKIP:])
of_means = float(torch.stack([d.mean() for d in per_answer]).mean())
of_tokens = float(torch.cat(per_answer).mean())
print("tokens of the answers:", [len(d) for d in per_answer])
print(f"mean of means {of_means:.4f}, mean over all tokens {of_tokens:.4f}")
if MODEL == POCKET:
    assert abs(of_means - loss) < 1e-12 and abs(of_means - of_tokens) > 1e-3

# %% [markdown]
# **3.** Give the student of the two-peaked example two bumps of its own, with a weight for each. What do forward and
# reverse KL find now?
#
# <details><summary>Solution</summary>
#
# The same. Where the student can say all that the teacher can, both divergences are zero at the same place. The
# direction matters where the student *cannot* follow: too small a model, too small an adapter, too few steps.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}


def fit_two(kind):
    centres = torch.tensor([-1.0, 1.0], requires_grad=True)
    log_widths, share = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([centres, log_widths, share], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        parts = [
            w * bump(c, s.exp())
            for w, c, s in zip(share.softmax(-1), centres, log_widths, strict=True)
        ]
        distance = token_divergence(sum(parts).log(), two_peaks.log(), kind=kind)
        distance.backward()
        optimizer.step()
    return distance.item()


left = {kind: fit_two(kind) for kind in ("forward", "reverse")}
print({kind: f"{nats:.4f} nats left" for kind, nats in left.items()})
assert max(left.values()) < 0.01

# %% [markdown]
# ## Recap
#
# - **Sample**: the student answers, and learns on its own answer.
# - **Score**: both read that answer; only the teacher has seen the demonstration.
# - **Divergence**: at each token, over the whole vocabulary; mean over tokens, then over answers.
# - **Gradient**: at the logits, what the student says less what the teacher says.
# - **Update**: AdamW on the adapter; the base and so the teacher stay as they are.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897), Algorithm 1.
# - Agarwal et al. 2024, *On-Policy Distillation of Language Models* (GKD),
#   [arXiv 2306.13649](https://arxiv.org/abs/2306.13649): divergences on the student's own samples.
# - Hu et al. 2022, *LoRA*, [arXiv 2106.09685](https://arxiv.org/abs/2106.09685): why B starts at zero.
# - [docs/method.md](../docs/method.md): which divergence, and why; [docs/flat_sdft.py](../docs/flat_sdft.py).
