"""cache-zoo as a model of lm-eval's own program and functions: ``cache-zoo lm-eval --model cache_zoo ...``.

lm-eval looks for models only among its own; importing this file adds ``cache_zoo`` to them. As a program it does that
and hands the command line on to lm-eval. The keys of ``--model_args`` are those of eval.py without their group.
"""

from __future__ import annotations

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
_MODEL = ("dtype", "device", "add_bos", "end_tokens", "stop_words")
_NOT_GIVEN = "cuda:0"  # what lm-eval's program passes on as the device where nobody gave one
_OF_LM_EVAL = {
    "apply_chat_template": "--apply_chat_template",
    "system_prompt": "--system_instruction",
    "tasks": "--tasks",
    "num_fewshot": "--num_fewshot",
    "limit": "--limit",
}


def read_arguments(arguments: dict[str, Any]) -> Settings:
    """Settings from what ``--model_args``, ``--batch_size`` and ``--device`` say.

    Args:
        arguments: ``pretrained`` (a folder, a hub id or a name of ``configs/model``); ``model``, a name of
            ``configs/model`` whose conventions a folder follows; ``cache`` and its parameters as ``cache_KEY`` or
            ``cache.KEY``; options of `GenerationOptions` and `LikelihoodOptions`; ``dtype``, ``device``, ``add_bos``,
            ``end_tokens``, ``stop_words``, ``batch_size``, ``seed``.

    Raises:
        UsageError: unknown or unusable arguments.
    """
    given = dict(arguments)
    given.pop("max_batch_size", None)  # lm-eval always passes it on
    if given.get("device") == _NOT_GIVEN:
        given["device"] = "auto"
    overrides = []
    pretrained = given.pop("pretrained", None)
    if pretrained is None and "model" not in given:
        raise UsageError("--model_args has no 'pretrained': give a folder, a hub id or a name of configs/model")
    named = [path.stem for path in (CONFIGS / "model").glob("*.yaml")]
    if pretrained in named:
        given.setdefault("model", pretrained)
    elif pretrained is not None:
        overrides.append(as_override("model.path", str(pretrained)))
    for group in ("model", "cache"):
        if group in given:
            overrides.append(f"{group}={given.pop(group)}")
    homes = {"batch_size": "batch_size", "seed": "seed"}
    homes |= {key: f"model.{key}" for key in _MODEL}
    homes |= {field.name: f"generation.{field.name}" for field in fields(GenerationOptions)}
    homes |= {field.name: f"likelihood.{field.name}" for field in fields(LikelihoodOptions)}
    for key, value in given.items():
        if key in _OF_LM_EVAL:
            raise UsageError(f"'{key}' is no part of --model_args; give {_OF_LM_EVAL[key]} to lm-eval itself")
        if key.startswith(("cache_", "cache.")):
            home = f"cache.{key[len('cache_') :]}"
        elif key in homes:
            home = homes[key]
        else:
            known = [*homes, "pretrained", "model", "cache"]
            raise UsageError(f"unknown key '{key}' in --model_args: {suggest(key, known)}")
        overrides.append(as_override(home, _value(home, value)))
    (settings,) = cells(CONFIGS, "eval", overrides, sweep=False)
    return settings


def _value(home: str, value: Any) -> Any:
    """``value`` as the configuration has it; lm-eval reads true and numbers, but neither null nor lists."""
    if value in ("None", "null"):
        return None
    if home in ("model.end_tokens", "model.stop_words") and isinstance(value, str):
        return [value]
    if home == "batch_size" and isinstance(value, str) and value.isdigit():
        return int(value)
    return value


@register_model("cache_zoo")
class CacheZooModel(CacheZooLM):
    """A model, a cache and decoding options from ``--model_args`` (see `read_arguments`).

    Deviates from eval.py in what lm-eval's program decides: tasks, examples, chat template and what is written. One
    process only.
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
    """lm-eval's program, with one more model."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
