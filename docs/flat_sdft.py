"""SDFT in one page of plain PyTorch, to be read from top to bottom. A test asserts that it takes the real loop's steps.

    python docs/flat_sdft.py sample_data/zorbic.jsonl

Shenfeld, Damani, Hübotter, Agrawal 2026 (arXiv 2601.19897), Algorithm 1, with LoRA and a frozen teacher. No cache, no
packing, no keep rows: slow and clear.
"""

import math
import sys

import torch
from peft import LoraConfig, get_peft_model

from workbench import PAPER_TEMPLATE, POCKET, load, read

BATCH, LONGEST, RATE, WARMUP, SEED = 32, 32, 5e-4, 10, 0


def chat(tokenizer, text):
    """Token ids of a user turn, ready for an answer."""
    turn = [{"role": "user", "content": text}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def logits_of(model, prompt, answer):
    """Logits [T, V] of each token of `answer` after `prompt`."""
    ids = torch.tensor([prompt + answer], device=model.device)
    return model(input_ids=ids).logits[0, len(prompt) - 1 : -1]


def sample(model, prompt, end, uniform):
    """One answer, token by token: where does the running sum of probabilities pass a uniform number?"""
    answer = []
    for u in uniform:
        ids = torch.tensor([prompt + answer], device=model.device)
        p = model(input_ids=ids).logits[0, -1].softmax(-1).double().cumsum(-1)
        token = int(torch.searchsorted(p, u.double() * p[-1], right=True))
        answer.append(min(token, len(p) - 1))
        if answer[-1] == end:
            break
    return answer


def batch_of(count, step):
    """Which rows step 0, 1, ... sees: passes over the data, shuffled anew for each."""
    rows = []
    for position in range(step * BATCH, (step + 1) * BATCH):
        epoch, place = divmod(position, count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED * 1_000_003 + epoch))
        rows.append(int(order[place]))
    return rows


def flat_sdft(model_folder, demonstrations, steps):
    """Teach; yields the loss of each step and, at last, the model."""
    loaded = load(model_folder)
    tokenizer, end = loaded.tokenizer, loaded.tokenizer.eos_token_id

    # One model, three roles: the base, the teacher (the base with the demonstration), the student (with LoRA).
    base = loaded.model
    torch.manual_seed(SEED)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    student = get_peft_model(load(model_folder).model, lora).eval()
    weights = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)

    for step in range(steps):
        losses = []
        seed = (SEED * 2_654_435_761 + step * 40_503 + 12_345) % 2**63
        uniform = torch.rand(BATCH, LONGEST, generator=torch.Generator().manual_seed(seed))
        for row, u in zip(batch_of(len(demonstrations), step), uniform, strict=True):
            x, c = demonstrations[row].prompt, demonstrations[row].demonstration

            # The student answers the question on its own: on-policy.
            with torch.no_grad():
                y = sample(student, chat(tokenizer, x), end, u)

            # The teacher reads question and demonstration, and scores the student's answer token by token.
            with torch.no_grad():
                shown = PAPER_TEMPLATE.replace("{prompt}", x).replace("{demonstration}", c)
                teacher = logits_of(base, chat(tokenizer, shown), y).log_softmax(-1)
            own = logits_of(student, chat(tokenizer, x), y).log_softmax(-1)

            # Forward KL(teacher || student) over the whole vocabulary, mean over the answer's tokens.
            losses.append((teacher.exp() * (teacher - own)).sum(-1).mean())

        # Mean over answers; AdamW on the adapter; the learning rate warms up and follows a cosine to zero.
        loss = torch.stack(losses).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()
    yield student


if __name__ == "__main__":
    for found in flat_sdft(POCKET, read(sys.argv[1]).rows, steps=5):
        print(found if isinstance(found, float) else "taught")
