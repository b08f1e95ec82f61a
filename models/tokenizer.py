"""Load the tokenizer of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from cache_zoo import UsageError
from cache_zoo.errors import short, shown


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
            problems.append((str(error).strip().splitlines() or [type(error).__name__])[0])
    raise UsageError(f"{folder} has no readable tokenizer: {short(problems[0])}")
