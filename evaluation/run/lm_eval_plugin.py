"""cache-zoo as a model of lm-eval's own program and functions: ``cache-zoo lm-eval --model cache_zoo ...``.

lm-eval knows only registered models; importing this file registers ``cache_zoo``. As a program it then runs lm-eval's
own. The keys of ``--model_args`` are those of eval.py without their group.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from lm_eval.api.registry import register_model

from cache_zoo import UsageError
from cache_zoo.errors import refusing, suggest
from evaluation.config.command_line import cells
from evaluation.config.recipes import as_override
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import find_checkpoint
from evaluation.run.lm import CacheZooLM
from generation import GenerationOptions, LikelihoodOptions
from models import load_model
from models.tokenizer import load_tokenizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_METHODS = ("cache", "suffix", "generation")
_MODEL_KEYS = ("dtype", "device", "add_bos", "end_tokens", "stop_words")
_DEFAULT_DEVICE = "cuda:0"  # lm-eval passes it if no device was given
_LM_EVAL_OPTIONS = {
    "apply_chat_template": "--apply_chat_template",
    "system_prompt": "--system_instruction",
    "tasks": "--tasks",
    "num_fewshot": "--num_fewshot",
    "limit": "--limit",
}


def read_arguments(arguments: dict[str, Any]) -> Settings:
    """Settings from ``--model_args``, ``--batch_size`` and ``--device``.

    Args:
        arguments: ``pretrained`` (a folder, a hub id or a name in ``configs/model``); ``model``, the name
            in ``configs/model`` whose conventions the folder follows; ``cache``, ``suffix`` and ``generation``, and
            parameters of the cache, the suffix rule and the strategy as ``cache_KEY`` or ``cache.KEY``; ``store``;
            options of `GenerationOptions` and `LikelihoodOptions`; ``dtype``, ``device``, ``add_bos``, ``end_tokens``,
            ``stop_words``, ``batch_size``, ``seed``.

    Raises:
        UsageError: unknown or unusable arguments.
    """
    given = dict(arguments)
    given.pop("max_batch_size", None)  # lm-eval always passes it
    if given.get("device") == _DEFAULT_DEVICE:
        given["device"] = "auto"
    overrides = []
    pretrained = given.pop("pretrained", None)
    if pretrained is None and "model" not in given:
        raise UsageError("--model_args has no 'pretrained': give a folder, a hub id or a name in configs/model")
    named = [path.stem for path in (CONFIGS / "model").glob("*.yaml")]
    if pretrained in named:
        given.setdefault("model", pretrained)
    elif pretrained is not None:
        overrides.append(as_override("model.path", str(pretrained)))
    for group in ("model", *_METHODS):
        if group in given:
            overrides.append(f"{group}={given.pop(group)}")
    full_keys = {key: key for key in ("batch_size", "seed", "store")}
    full_keys |= {key: f"model.{key}" for key in _MODEL_KEYS}
    options = [field.name for field in fields(GenerationOptions) if field.name != "parameters"]
    full_keys |= {key: f"generation.{key}" for key in options}
    full_keys |= {field.name: f"likelihood.{field.name}" for field in fields(LikelihoodOptions)}
    for key, value in given.items():
        if key in _LM_EVAL_OPTIONS:
            raise UsageError(f"'{key}' is not a key of --model_args; give {_LM_EVAL_OPTIONS[key]} to lm-eval itself")
        if key in full_keys:
            full_key = full_keys[key]
        elif found := re.fullmatch(rf"({'|'.join(_METHODS)})[_.](.+)", key):
            added = "++" * (found[1] == "generation")  # those of a strategy without a file in configs/generation
            full_key = f"{added}{found[1]}.{found[2]}"
        else:
            known = [*full_keys, "pretrained", "model", *_METHODS]
            raise UsageError(f"unknown key '{key}' in --model_args: {suggest(key, known)}")
        overrides.append(as_override(full_key, _value(full_key, value)))
    (settings,) = cells(overrides)
    return settings


def _value(key: str, value: Any) -> Any:
    """``value`` as the configuration needs it; lm-eval parses booleans and numbers, but neither null nor lists."""
    if value in ("None", "null"):
        return None
    if key in ("model.end_tokens", "model.stop_words") and isinstance(value, str):
        return [value]
    if key == "batch_size" and isinstance(value, str) and value.isdigit():
        return int(value)
    return value


@register_model("cache_zoo")
class CacheZooModel(CacheZooLM):
    """A model, a cache and decoding options from ``--model_args`` (see `read_arguments`).

    lm-eval's program decides about tasks, examples, chat template and output files. One process only.
    """

    def __init__(self, **arguments: Any) -> None:
        settings = read_arguments(arguments)
        checkpoint = find_checkpoint(settings.model)
        folder = checkpoint.folder
        super().__init__(
            settings,
            checkpoint.config,
            load_tokenizer(folder),
            lambda: load_model(folder, settings.model.dtype, settings.model.device),
        )


@refusing
def main() -> int:
    """Run lm-eval's program with the model ``cache_zoo``."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
