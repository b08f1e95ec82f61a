"""How ``dataset.name`` becomes lm-eval tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from cache_zoo import UsageError
from cache_zoo.errors import require, suggest
from evaluation.data import read_splits
from evaluation.sandbox import check_sandbox
from evaluation.settings import DatasetSettings
from evaluation.tasks import execution
from models.nano.data import ITEMS

_OWN = Path(__file__).parent
_LM_EVAL = Path(lm_eval.__file__).parent / "tasks"


@dataclass(frozen=True)
class _Known:
    """A task that we know more of than lm-eval does.

    Attributes:
        folder: where its YAML is.
        columns: what its rows must have.
        score: metric and filter of the headline score; None: not scored yet.
        data: folder of its rows where they come with the package.
        execute: scorer that runs generated code; the YAML has one that does not.
    """

    folder: Path
    columns: tuple[str, ...]
    score: str | None
    data: Path | None = None
    execute: Callable[..., dict[str, Any]] | None = None


_KNOWN = {
    "gsm8k": _Known(_LM_EVAL / "gsm8k", ("question", "answer"), "exact_match,flexible-extract"),
    "nano-gsm": _Known(_OWN, ("question", "answer"), "exact_match,strict-match", ITEMS / "gsm"),
    "nano-code": _Known(
        _OWN, ("prompt", "body", "entry_point", "tests"), "pass@1,none", ITEMS / "code", execution.process_results
    ),
    "math-500": _Known(_OWN, ("problem", "answer"), None),
    "humaneval": _Known(_OWN, ("task_id", "prompt", "entry_point", "test"), None),
}


@dataclass(frozen=True)
class LoadedTask:
    """A dataset ready to be evaluated.

    Attributes:
        name: as in ``dataset.name``.
        loaded: what `lm_eval.evaluate` takes: tasks and groups by name.
        score: metric and filter of the headline score; None: lm-eval's first, if any.
        unscored: why there are no scores, as a sentence; None where there are.
        sha256: of the rows that can be asked, by task.
    """

    name: str
    loaded: dict[str, Any]
    score: str | None
    unscored: str | None
    sha256: dict[str, str]


def load_task(
    settings: DatasetSettings, seed: int, execute: bool = False, include_path: str | None = None
) -> LoadedTask:
    """Load the data, and set the number of few-shot examples and the seed that picks them.

    Args:
        settings: of the dataset.
        seed: of the choice of examples.
        execute: generated code may be run, where that is how a task is scored.
        include_path: folder of further task files; a name there goes before lm-eval's own.

    Raises:
        UsageError: unknown name, data that can't be had or used, too few examples, a task that needs more than
            generation, or code to run on a machine that can't.
    """
    known = _KNOWN.get(settings.name)
    unscored = _unscored(settings.name, known, execute)
    if known and known.execute and not unscored:
        check_sandbox()
    manager = TaskManager(include_path=str(known.folder), include_defaults=False) if known else _all_tasks(include_path)
    if settings.name not in manager.task_index:
        raise UsageError(
            f"unknown dataset.name '{settings.name}': {_near(settings.name, [*_KNOWN, *manager.all_tasks])}"
        )
    try:
        loaded = manager.load(_spec(settings, manager, known, execute))
    except UsageError:
        raise
    except Exception as error:  # datasets and the hub client raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "give dataset.path=<folder with its .jsonl files>" if settings.path is None else "see dataset.path"
        raise UsageError(f"dataset '{settings.name}' can't be loaded ({reason}); {where}") from error
    tasks = loaded["tasks"]
    for name, task in tasks.items():
        _check_kind(name, task)
        _set_shots(name, task, settings.n_shot, seed)
    groups = {name: group for name, group in loaded.get("groups", {}).items() if name != _WRAPPER}
    return LoadedTask(
        name=settings.name,
        loaded={"tasks": tasks, "groups": groups},
        score=known.score if known and not unscored else None,
        unscored=unscored,
        sha256={name: _digest(task) for name, task in tasks.items()},
    )


def _unscored(name: str, known: _Known | None, execute: bool) -> str | None:
    """Why a task has no scores, or None."""
    if known is None:
        return None
    if known.score is None:
        return f"{name} is generated and kept; its scorer comes with a later version"
    if known.execute and not execute:
        return f"{name} is generated and kept; its score takes running generated code: give allow_code_execution=true"
    return None


_WRAPPER = "cache_zoo_local_data"
_SPLIT_KEYS = ("training_split", "validation_split", "fewshot_split", "test_split")


def _spec(settings: DatasetSettings, manager: Any, known: _Known | None, execute: bool) -> str | dict[str, Any]:
    """A name, or a group of one task, which is how lm-eval takes changes to a task."""
    changes = _local_data(settings, manager, known)
    if known and known.execute and execute:
        changes["process_results"] = known.execute
    return {"group": _WRAPPER, "task": [{"task": settings.name, **changes}]} if changes else settings.name


def _local_data(settings: DatasetSettings, manager: Any, known: _Known | None) -> dict[str, Any]:
    """What makes a task read files in place of the hub; nothing where there are none to read."""
    path = settings.path or (str(known.data) if known and known.data else None)
    if path is None:
        return {}
    if settings.name in manager.all_groups or settings.name in manager.all_tags:
        raise UsageError(f"dataset.path goes with a single task; '{settings.name}' is a group of several")
    config = manager.task_index[settings.name].cfg or {}
    asked = config.get("test_split") or config.get("validation_split") or "test"
    splits = read_splits(
        path,
        asked,
        {split for key in _SPLIT_KEYS if (split := config.get(key))} - {asked},
        known.columns if known else (),
    )
    # A task that names a split without data would fail even where it is not needed.
    absent = {key: None for key in _SPLIT_KEYS if config.get(key) not in splits}

    def local_data(**_: Any) -> DatasetDict:
        return DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})

    return {"custom_dataset": local_data, **absent}


def _all_tasks(include_path: str | None) -> TaskManager:
    return TaskManager(include_path=str(Path(include_path).expanduser()) if include_path else None)


def _check_kind(name: str, task: Any) -> None:
    kind = task.OUTPUT_TYPE
    require(
        kind in ("generate_until", "multiple_choice", "loglikelihood"),
        f"task '{name}' asks for {kind}, the likelihood of whole texts, for which there is no estimator; tasks that "
        "generate text or score given answers are supported",
    )
    require(
        not getattr(task, "UNSAFE_CODE", False),
        f"task '{name}' runs generated code, which is not supported yet",
    )


def _set_shots(name: str, task: Any, n_shot: int | None, seed: int) -> None:
    """As lm-eval does, but what is asked for is used or refused, never passed over."""
    if n_shot is not None:
        task.set_config(key="num_fewshot", value=n_shot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)
    number = task.get_config("num_fewshot")
    if number and isinstance(task, ConfigurableTask):
        examples = len(task.sampler.df) if _has_examples(task) else 0
        require(
            number <= examples,
            f"task '{name}' puts {number} examples in the prompt, but there are {examples}; "
            f"give more data (train.jsonl) or dataset.n_shot={examples}",
        )


def _has_examples(task: Any) -> bool:
    """Whether few-shot examples have a source; lm-eval would take the questions, the one that is asked included."""
    shots = task.config.fewshot_config
    if shots is not None and (shots.split is not None or shots.samples is not None):
        return True
    return bool(task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs()))


def _digest(task: Any) -> str:
    lines = (json.dumps(doc, sort_keys=True, default=str) for doc in task.eval_docs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _near(name: str, names: list[str]) -> str:
    """The nearest name; lm-eval has thousands, so all of them are too many to list."""
    near = suggest(name, names)
    meant = near.split("?")[0] + "? " if near.startswith("did you mean") else ""
    return f"{meant}Known here: {', '.join(_KNOWN)}; beside them any task of lm-eval"
