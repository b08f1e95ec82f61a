"""The tokenizer of the embedded models: byte-level BPE with single digits."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.nano.code import function
from models.nano.gsm import problem
from models.tokenizer import fast_tokenizer

SPECIAL_TOKENS = (MASK_TOKEN, EOS_TOKEN, EOT_TOKEN) = ("<|mask|>", "<|endoftext|>", "<|eot_id|>")
VOCAB_SIZE = 768
CONTEXT_LENGTH = 4096
_CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}Question: {{ message['content'] }}\nAnswer:"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}{% endfor %}"
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on generated problems and functions, always the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]+|\s+(?! )| +"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return fast_tokenizer(tokenizer, SPECIAL_TOKENS, _CHAT_TEMPLATE, CONTEXT_LENGTH)


def _texts() -> Iterator[str]:
    random = Random(0)
    for _ in range(4000):
        yield problem(random).shot()
        made = function(random)
        yield made.prompt + made.body
