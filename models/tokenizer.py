"""Load the tokenizer of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from cache_zoo import UsageError
from cache_zoo.errors import first_line, short, shown


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint. Code in the checkpoint is never executed.

    Dream's files name a tokenizer class of their own, which is Qwen2's under another name.

    Raises:
        UsageError: there is no readable tokenizer.
    """
    loaders = []
    if (folder / "tokenizer.json").is_file():
        loaders.append(PreTrainedTokenizerFast)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        loaders.append(Qwen2Tokenizer)
    problems = []
    for loader in [*loaders, AutoTokenizer]:
        try:
            tokenizer = loader.from_pretrained(str(folder), trust_remote_code=False)
            longest = tokenizer.model_max_length
            if isinstance(longest, bool) or not isinstance(longest, int | float):
                raise UsageError(
                    f"{folder}: 'model_max_length' of its tokenizer must be a number, not {shown(longest)}"
                )
            tokenizer.decode(tokenizer("a")["input_ids"])  # finds damage that loading does not
            return tokenizer
        except (UsageError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the Rust library is no Exception
            problems.append(first_line(error))
    raise UsageError(f"{folder} has no readable tokenizer: {short(problems[0])}")


def fast_tokenizer(
    tokenizer: Tokenizer, special_tokens: Sequence[str], chat_template: str, context_length: int
) -> PreTrainedTokenizerFast:
    """``tokenizer`` for transformers; ``special_tokens`` are [MASK], end of sequence (also padding) and others."""
    mask, eos, *others = special_tokens
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token=mask,
        eos_token=eos,
        pad_token=eos,
        additional_special_tokens=others,
        clean_up_tokenization_spaces=False,
        model_max_length=context_length,
    )
    fast.chat_template = chat_template
    return fast
