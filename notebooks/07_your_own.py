# %% [markdown]
# # 07 Your own
#
# **You have a file of examples. What do you have to do, what will it cost, and what must you not expect?**
#
# This notebook goes the whole way once, from a file to an adapter that another program loads. It runs on the bundled
# model in less than two minutes; the plan in the middle is for a 4B model on a GPU.

# %%
MODEL = "pocket"  # or "Qwen/Qwen3-4B-Instruct-2507", on a GPU

import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Evaluated,
    Exam,
    InputError,
    Prompts,
    Request,
    Session,
    Settings,
    Step,
    answer,
    begin,
    export_run,
    load,
    make_roles,
    parse,
    read,
    read_bundled,
    split,
    student_at,
    verdict,
)
from workbench.views import CSS, skill_and_retention, skill_chart, three_columns, token_map

plt.style.use("class.mplstyle")
WORK = Path(tempfile.mkdtemp())
WORDS = {"red": "mipa", "blue": "dulo", "green": "senka", "big": "grodu"}
WORDS |= {"small": "tili", "old": "wemo", "hot": "fazu", "cold": "briso"}
THINGS = {"ball": "tokar", "house": "hamil", "tree": "lunto", "fish": "pelu"}
THINGS |= {"bird": "zivar", "boat": "kosta", "door": "rimeno", "king": "badul"}

source = Path("../sample_data/internal_tool.jsonl")
if MODEL == POCKET:
    source = WORK / "kavo.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["question", "solution", "answer"])
        for word, kavo in WORDS.items():
            for thing, name in THINGS.items():
                said = f"{name} {kavo}"
                table.writerow(
                    [f"How do you say {word} {thing} in Kavo?", f"We say {said} here.", said]
                )

reading = read(source)
print(f"{len(reading.rows)} rows from {source.name}, columns {reading.columns}\n")
for row in reading.rows[:3]:
    print(f"{row.prompt}  ->  {row.demonstration}")

# %% [markdown]
# ## The file
#
# A table with a question and a good answer in each row is enough: CSV, TSV, XLSX, JSON, JSON lines or Parquet. Here it
# is Kavo, a language made up above. **Change its words and run again**; nobody will have taught yours before.
#
# - `columns` says which of your columns was taken for what. A wrong guess is seen at once.
# - The third column, `answer`, is what must be found in a right completion. Without it a run works, but nothing can
#   be scored.
#
# A file with a broken row is refused whole, and the row is named. This one has lost an answer:

# %%
try:
    parse(
        "question,solution\nHow do you say red ball in Kavo?,We say tokar mipa here.\nHow do you say old king?,"
    )
except InputError as error:
    print(error.problem)
    print(error.advice)

# %% [markdown]
# ## Check: can the teacher do it?
#
# The teacher is the model with your demonstration in front of it. What it cannot do when shown how, it cannot teach.
#
# > **Predict before you run.** The model has never heard of Kavo. What share of the questions does it answer
# > right without the demonstration? And with it?

# %%
loaded = load(MODEL)
settings = Settings.from_dict(POCKET_DEFAULTS if MODEL == POCKET else {})
if MODEL == POCKET:  # a short lesson, and so a higher learning rate than usual
    settings = replace(settings, optim=replace(settings.optim, steps=200, batch=16, lr=2e-3))
longest = settings.rollout.max_new_tokens
prompts = Prompts(loaded.tokenizer)
parts = split(reading.rows, held_out=0.25)
exam = Exam(loaded, prompts, parts.held_out, longest=longest)
base = make_roles(loaded, settings.lora).base_decoder
alone, shown = exam.sit(base), exam.sit(base, shown=True)
word, advice = verdict(alone.measure, shown.measure)
print(f"{len(parts.teaching)} rows teach, {len(parts.held_out)} are kept back for the test.")
Markdown(f"Verdict: **{word}**. {advice}")

# %% [markdown]
# The verdict is `ready`, `weak` or `cannot`. It takes seconds, and it is the cheapest way not to waste a day: on a
# GPU, too, run it first (`workbench check FILE --model NAME`).
#
# ## Plan: does it fit?
#
# `workbench plan` works out from a model's shape what teaching takes. Nothing is downloaded and no GPU is needed to
# ask. `HF_HUB_OFFLINE=1` says not to look for a network; the shape of this model comes with the workbench.

# %%
BIG = "Qwen/Qwen3-4B-Instruct-2507"


def plan(card, *more):
    """What `workbench plan` says of teaching BIG in 4-bit, with long answers, on a card of so many GB."""
    command = [sys.executable, "-m", "workbench", "plan", BIG, "--gpu-memory", str(card)]
    command += ["--max-new-tokens", "1024", *more, "--json"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return json.loads(
        subprocess.run(command, capture_output=True, text=True, env=environment).stdout
    )


cards = {card: plan(card) for card in (8, 12, 16, 24)}
for card, found in cards.items():
    again = "computed again" if found["checkpointing"] else "kept"
    print(
        f"{card:>3} GB card: {found['at_once']:>2} of 32 answers sampled at a time, "
        f"{found['micro_batch']:>2} learned from at a time, activations {again}"
    )

# %%
looks = [("", "#1d5fbf"), ("", "#d8d8d8"), ("xx", "white"), ("///", "white"), ("..", "white")]


def memory(found):
    """The parts at the highest moment, in GB: the cache is free again before activations and loss are needed."""
    part = {name: size / 1e9 for name, size in found["parts"].items()}
    adapter = next(size for name, size in part.items() if name.startswith("Adapter"))
    step = max(part["Cache of keys and values"], part["Activations"] + part["Loss"])
    return {
        "weights": part["Weights"],
        "program": part["Program"],
        "adapter": adapter,
        "answers of a step": step,
        "prompts kept": part.get("Teacher's prompts", 0.0),
    }


figure, axes = plt.subplots()
left = [0.0] * len(cards)
for part, (hatch, colour) in zip(memory(cards[8]), looks, strict=True):
    sizes = [memory(found)[part] for found in cards.values()]
    look = {"hatch": hatch, "color": colour, "edgecolor": "black", "linewidth": 0.6}
    axes.barh(range(len(cards)), sizes, 0.55, left, label=part, **look)
    left = [a + b for a, b in zip(left, sizes, strict=True)]
axes.plot(list(cards), range(len(cards)), "kD", label="the whole card")
axes.set_yticks(range(len(cards)), [f"{card} GB" for card in cards])
axes.set(xlim=(0, 25), xlabel="GB, by arithmetic", ylabel="card")
axes.set_title(f"Teaching {BIG} in 4-bit, answers of up to 1,024 tokens")
axes.legend(loc="upper right")
axes.invert_yaxis()
plt.show()

# %% [markdown]
# The weights are the smaller part. What grows with a card is how many answers are learned from at a time: a larger card
# makes a step faster, not better. Shorter answers need much less; 1,024 tokens are what the paper allowed for knowledge.
# These are predictions; they have not been held against a real card yet.
#
# ## Teach
#
# A run is a folder. Everything that you see of it is read from there, and it can be stopped and resumed. Here the
# settings are for a minute; for a 4B model take the defaults, and few steps: 50 to 100 are often best.

# %%
request = Request(
    name="mine",
    method="sdft",
    settings=settings,
    teaching=parts.teaching,
    held_out=parts.held_out,
    probes=read_bundled(loaded)[::3],  # every third: enough to see forgetting, and quick
    evaluate_every=40,
    save_every=40,
)
run = begin(request, loaded, WORK / "runs")
events = list(Session(run, loaded).teach())
HTML(f"<style>{CSS}</style>" + skill_chart(events) + skill_and_retention(events))

# %% [markdown]
# Two lines, never one: what was learned, and what of the rest is still there. On your own model give probes of your own,
# questions that it must go on answering: `workbench teach FILE --probes PROBES`.
#
# Nearly the same run on the command line (there forgetting is measured on all probes, here on every third), and one with
# a 4B model on a file of yours:

# %%
optim = settings.optim
line = f"workbench teach {source} --steps {optim.steps} --batch {optim.batch} --lr {optim.lr:g}"
line += "" if MODEL == POCKET else f" --model {MODEL}"
print(f"{line} \\\n    --held-out 0.25 --evaluate-every 40 --save-every 40\n")
print("workbench teach my.jsonl --model Qwen/Qwen3-4B-Instruct-2507 --precision 4-bit")

# %% [markdown]
# ## Compare

# %%
taught = student_at(run, loaded=loaded)
row = parts.held_out[0]
read_by = prompts.tokenise(row)
asked = {
    "base": (taught.base_decoder, read_by.student),
    "teacher": (taught.base_decoder, read_by.teacher),
    "student": (taught.student_decoder, read_by.student),
}
answers = {
    role: answer(decoder, loaded, [ids], longest=longest)[0]
    for role, (decoder, ids) in asked.items()
}
display(Markdown(f"**{row.question}** Right: *{row.answer}*"))
HTML(three_columns(answers, right={role: row.answer in text for role, text in answers.items()}))

# %% [markdown]
# Where did the student still hesitate? Its last practice answer, coloured by how far the teacher disagreed:

# %%
steps = [event for event in events if isinstance(event, Step)]
HTML(token_map(steps[-1].samples[0]))

# %% [markdown]
# ## Take it away
#
# `export_run` (or `workbench export RUN FOLDER`) writes an adapter in PEFT's format, a merged model, or a script that
# repeats the run with TRL. The next cell starts **another Python**, which knows `transformers` and `peft` and has
# never heard of this workbench.

# %%
folder = export_run(run, "adapter", WORK / "my-adapter")
ELSEWHERE = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
chat = [{"role": "user", "content": question}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
said = model.generate(**ids, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(said[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
assert not any(name.startswith("workbench") for name in sys.modules)
"""
where = loaded.model.name_or_path  # a hub id, or the folder that the bundled model lies in
command = [sys.executable, "-c", ELSEWHERE, where, str(folder), row.question]
elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size / 1000:8.0f} kB  {file.name}")
print(f"\nthere: {elsewhere}\nhere:  {answers['student']}")

# %% tags=["check"]
# Holds this notebook to what it says.
checked = [event for event in events if isinstance(event, Evaluated)]
assert elsewhere == answers["student"], "the adapter says the same in another program"
assert all(found["fits"] and found["predicted"] < 0.95e9 * card for card, found in cards.items())
assert all(
    abs(sum(memory(found).values()) - found["predicted"] / 1e9) < 0.01 for found in cards.values()
)
assert cards[24]["micro_batch"] > cards[8]["micro_batch"]
if MODEL == POCKET:
    assert (alone.measure.value, word) == (0.0, "ready")
    assert shown.measure.value > 0.9
    # Sixteen questions, and another processor rounds otherwise: what came to .81 here came to .75 there.
    assert checked[-1].skill.value > 0.6 and checked[-1].retention.value > 0.75

# %% [markdown]
# ## What it costs
#
# Each step samples an answer to each question of the batch, has the teacher read it, and learns from it. SFT only does
# the last part. Where this run's time went:

# %%
phases = {name: sum(step.seconds[name] for step in steps) for name in steps[0].seconds}
whole = sum(phases.values())
figure, axes = plt.subplots(figsize=(7, 1.5))
start = 0.0
for (name, seconds), (hatch, colour) in zip(phases.items(), looks[:4], strict=True):
    look = {"hatch": hatch, "color": colour, "edgecolor": "black", "linewidth": 0.6}
    axes.barh([0], [seconds / whole], 0.5, start, label=name, **look)
    start += seconds / whole
axes.set(xlabel="share of a step's time", xlim=(0, 1), yticks=[], ylim=(-0.4, 0.9))
axes.legend(ncols=4, loc="upper center")
plt.show()

# %% [markdown]
# | | reported cost | where |
# |---|---|---|
# | SDFT against SFT, full fine-tuning of 7B | 2.5 times the operations, 4 times the time | the paper |
# | LoRA of rank 16 on 7B, batch 32, an H100 | 22 s a step; SFT 7 s; 1.5 GPU-hours for 4,000 examples | [kyrylogy](https://github.com/kyrylogy/sdft-replication) |
#
# We have not timed a 4B model on a GPU ourselves; [docs/gpu.md](../docs/gpu.md) says what has been measured and has the
# command that measures it on your card. Writing thirty good demonstrations will cost you more than the GPU does.
#
# ## What the method does not promise
#
# Others have repeated the paper. The direction held, the sizes often did not, and some of it did not hold at all:
#
# | do not count on | because |
# |---|---|
# | no forgetting at all | instruction following (IFEval) fell in all three replications that measured it, by 7 to 30 points; the paper says 2 to 8 |
# | the paper's margins | science: 48 for SDFT, 51 for SFT in one replication (70 and 66 in the paper); about equal in another |
# | protection over many lessons | with LoRA the advantage was there after the first task and gone after the second |
# | small models | the paper's 3B model did worse than SFT by 3 points: it learns too little from an example |
# | thinking models | losses of 17% and, elsewhere, 40% were reported; use an instruct model without thinking |
# | new behaviour | what the model never does, even when shown, does not come: the check says `cannot` |
# | long training | eight epochs cost 7 points of other abilities in one replication; save often and compare checkpoints |
# | facts that change | look them up instead (retrieval); teaching slices of changing facts lost half of the score elsewhere |
#
# So: check first, hold probes of your own against it, and compare with SFT on your own rows (`--beside-sft`).

# %% [markdown]
# ## Exercises
#
# **1.** The file `internal_tool.jsonl` was written for a 4B model. Put it to the check with the model of this notebook.
# What would you do next?
#
# <details><summary>Solution</summary>
#
# The bundled model cannot do it when shown how, so the verdict is `cannot`. Its advice is a stronger model, not more
# steps.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
tool = read("../sample_data/internal_tool.jsonl").rows
other = Exam(loaded, prompts, tool[:12], longest=longest)
judged, why = verdict(other.sit(base).measure, other.sit(base, shown=True).measure)
print(judged, "-", why)
if MODEL == POCKET:
    assert judged == "cannot"

# %% [markdown]
# **2.** What is the smallest card, in whole GB, on which the plan still fits? Does a lower `--rank` help?
#
# <details><summary>Solution</summary>
#
# Ask `plan` for ever smaller cards until it refuses; the refusal has an `error` and the arithmetic. A lower rank helps a
# little: the adapter with its gradients and averages takes half a GB. The plan then spends what is saved on more
# answers at a time.
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
smallest = next(card for card in range(2, 9) if plan(card).get("fits"))
refused = plan(smallest - 1)
print(f"{smallest} GB fits.\n{smallest - 1} GB: {refused['error']}")
ranks = {rank: memory(plan(8, "--rank", str(rank)))["adapter"] for rank in (4, 16, 64)}
print("\nAdapter by rank:", {rank: f"{size:.2f} GB" for rank, size in ranks.items()})
assert "advice" in refused and ranks[4] < ranks[16] / 3 < ranks[64] / 9

# %% [markdown]
# **3.** How large is the adapter beside the model, in weights? Why is that good news for a team with ten tasks?
#
# <details><summary>Solution</summary>
#
# A small share, so one base can stay in memory and ten adapters be kept beside it. (With the 4B model's default, rank 16
# on all linear layers, it is 33 million of 4 billion weights, under one percent.)
#
# </details>

# %% tags=["solution"] jupyter={"outputs_hidden": true, "source_hidden": true}
adapter = sum(p.numel() for p in taught.adapter.values())
model = sum(p.numel() for p in loaded.model.parameters())
print(f"{adapter:,} of {model:,} weights: {adapter / model:.1%}")
assert 0 < adapter < 0.25 * model

# %% [markdown]
# ## Recap
#
# - A file with questions and good answers is enough; an answer column lets it be scored.
# - Before any GPU: `workbench check` (can the teacher do it?) and `workbench plan` (does it fit?).
# - Judge by two numbers, skill and retention, and against SFT on the same rows.
# - The result is an ordinary PEFT adapter.
# - Less forgetting is what others found too; no forgetting is not.
#
# ## Sources
#
# - Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*,
#   [arXiv 2601.19897](https://arxiv.org/abs/2601.19897): method, cost, the 3B model.
# - Replications: [issue 9](https://github.com/idanshen/Self-Distillation/issues/9) of the authors' repository;
#   [kyrylogy/sdft-replication](https://github.com/kyrylogy/sdft-replication) (LoRA, three seeds); a report by
#   ayushnangia (science 48 and 51, eight epochs). Thinking models: arXiv 2607.05184, 2603.24472. Changing facts: arXiv 2607.07847.
# - Hu et al. 2021, *LoRA*, [arXiv 2106.09685](https://arxiv.org/abs/2106.09685); Dettmers et al. 2023, *QLoRA*,
#   [arXiv 2305.14314](https://arxiv.org/abs/2305.14314): adapters, and models in 4-bit.
# - [docs/models.md](../docs/models.md), [docs/memory.md](../docs/memory.md), [docs/settings.md](../docs/settings.md).
