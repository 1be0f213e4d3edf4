"""The pocket model's tokenizer: byte-level BPE over the world's wording.

Invented words must come apart into pieces that are met often, or the model could not copy a word that it never
saw. So the merges are learned from the wording of the world and from single syllables, never from whole
invented words.
"""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from workbench.pocket.world import languages
from workbench.pocket.world.documents import FAMILIES, conversation
from workbench.pocket.world.wording import foreign, shown
from workbench.pocket.world.words import ADJECTIVES, NOUNS, SYLLABLES

SPECIAL = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>"]
VOCABULARY = 1000
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def corpus(count: int, seed: int) -> list[str]:
    """Conversations in which every word of a language is a single syllable."""
    r = random.Random(seed)
    texts = []
    for _ in range(count):
        family = r.choice(list(FAMILIES))
        if family == "languages":
            words = {w: r.choice(SYLLABLES) for w in ADJECTIVES + NOUNS}
            known = r.choice(languages.KNOWN)
            made = languages.Language(known.name, words, known.noun_first)
            item = languages.ask(made, r.choice(ADJECTIVES), r.choice(NOUNS), r)
        else:
            item = FAMILIES[family].known(r)
        texts.append(conversation(shown(item, foreign(item, r), r), item.house))
        texts.append(r.choice(SYLLABLES) + " " + r.choice(SYLLABLES) + " " + r.choice(SYLLABLES).capitalize())
    return texts


def build(seed: int = 0) -> Any:
    """Train the tokenizer and wrap it for transformers."""
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(corpus(20_000, seed), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        padding_side="left",
        model_max_length=1024,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped
