"""Load lm-eval's tasks by ``dataset.name``."""

from __future__ import annotations

import hashlib
import json
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from cache_zoo import UsageError
from cache_zoo.errors import first_line, require
from evaluation.config.settings import DatasetSettings
from evaluation.config.task_names import OWN_FOLDER, check_name, files_in, folder_of, unknown
from evaluation.sandbox import Sandbox
from evaluation.tasks.code_execution import check_sandbox, unscored_reason
from evaluation.tasks.datasets import as_dataset
from evaluation.tasks.jsonl import check_row, read_splits
from evaluation.tasks.scorers import SCORERS, Scorer


@dataclass(frozen=True)
class LoadedTask:
    """A dataset ready to be evaluated.

    Attributes:
        name: as in ``dataset.name``.
        loaded: argument of `lm_eval.evaluate`: tasks and groups by name.
        score: metric and filter of the headline score; None: lm-eval's first, if any.
        unscored: why there are no scores; None if there are.
        needs: columns that scoring reads, if this package scores the task.
        sha256: of all questions, by task.
    """

    name: str
    loaded: dict[str, Any]
    score: str | None
    unscored: str | None
    needs: tuple[str, ...]
    sha256: dict[str, str]


def load_task(
    settings: DatasetSettings, seed: int, sandbox: Sandbox | None = None, include_path: str | None = None
) -> LoadedTask:
    """Load a task and its data, and set the number of few-shot examples.

    Args:
        settings: of the dataset.
        seed: for the choice of examples.
        sandbox: for tasks whose score runs generated code; None: such tasks are not scored.
        include_path: folder of further task files; its names take precedence over lm-eval's.

    Raises:
        UsageError: unknown name, missing or unusable data, too few examples, an unsupported kind of task, or a sandbox
            that does not work here.
    """
    check_name(settings.name, include_path)
    known = SCORERS.get(settings.name)
    unscored = None
    if known and known.runs_code:
        if sandbox:
            check_sandbox(sandbox)
        else:
            unscored = unscored_reason(settings.name)
    included = None if include_path is None else Path(include_path).expanduser()
    if included is not None:
        _check_included(included, settings.name)
    manager = _manager(settings.name, included)
    if settings.name not in manager.task_index:
        raise unknown(settings.name, include_path)
    try:
        loaded = manager.load(_spec(settings, manager, known, sandbox))
    except UsageError:
        raise
    except Exception as error:  # datasets and the hub client raise many kinds
        raise UsageError(
            f"dataset '{settings.name}' can't be loaded ({_reason(error)}){_advice(settings, error)}"
        ) from error
    tasks = loaded["tasks"]
    for name, task in tasks.items():
        if known and settings.path is None:  # rows of files are checked while they are read
            for number, row in enumerate(task.eval_docs):
                check_row(f"dataset '{name}', row {number}", row, known.columns, known.problem)
        _check_kind(name, task)
        _check_scoring(name, task)
        _set_shots(name, task, settings.n_shot, seed)
    groups = {name: group for name, group in loaded.get("groups", {}).items() if name != _WRAPPER}
    return LoadedTask(
        name=settings.name,
        loaded={"tasks": tasks, "groups": groups},
        score=known.headline if known and not unscored else None,
        unscored=unscored,
        needs=known.needs if known else (),
        sha256={name: _digest(task) for name, task in tasks.items()},
    )


def _reason(error: Exception) -> str:
    """The first line of an error; of a missing column lm-eval gives the name alone."""
    return f"there is no {first_line(error)}" if isinstance(error, KeyError) else first_line(error)


def _advice(settings: DatasetSettings, error: Exception) -> str:
    if isinstance(error, ImportError | TypeError):  # the task itself, not its data
        return ""
    if settings.path is None:
        return "; without the hub give dataset.path=<folder with its .jsonl files>"
    return f"; see the rows in dataset.path {settings.path}"


def _check_included(folder: Path, name: str) -> None:
    """Refuse what lm-eval would skip: unreadable files, and a task with the name of one of this package.

    Raises:
        UsageError: there is such a file.
    """
    for file in files_in(folder):
        if file.suffix != ".yaml":
            continue
        try:
            config = load_yaml(file, resolve_func=False)
        except Exception as error:  # of the parser, of an included file, of what is no mapping
            raise UsageError(f"include_path: {file} is not a task file: {' '.join(str(error).split())}") from error
        require(
            name not in SCORERS or config.get("task") != name or file.parent in (OWN_FOLDER, folder_of(name)),
            f"include_path: {file} has a task '{name}', a name that cache-zoo uses: give it another one",
        )


_WRAPPER = "cache_zoo_local_data"
_SPLIT_KEYS = ("training_split", "validation_split", "fewshot_split", "test_split")


def _spec(
    settings: DatasetSettings, manager: Any, known: Scorer | None, sandbox: Sandbox | None
) -> str | dict[str, Any]:
    """The name, or a group of one changed task: lm-eval takes changes in no other way."""
    changes = _local_data(settings, manager, known)
    if known and (execute := known.execute) and sandbox:
        changes["process_results"] = lambda doc, results: execute(sandbox, doc, results)
    return {"group": _WRAPPER, "task": [{"task": settings.name, **changes}]} if changes else settings.name


def _local_data(settings: DatasetSettings, manager: Any, known: Scorer | None) -> dict[str, Any]:
    """Changes that make a task read the files in ``dataset.path``, if that is set."""
    if settings.path is None:
        return {}
    if settings.name in manager.all_groups or settings.name in manager.all_tags:
        raise UsageError(f"dataset.path goes with a single task; '{settings.name}' is a group of several")
    config = manager.task_index[settings.name].cfg or {}
    asked = config.get("test_split") or config.get("validation_split") or "test"
    splits = read_splits(
        settings.path,
        asked,
        {split for key in _SPLIT_KEYS if (split := config.get(key))} - {asked},
        known.columns if known else {},
        known.problem if known else None,
    )
    # lm-eval fails on a split without data even if it is not needed
    absent = {key: None for key in _SPLIT_KEYS if config.get(key) not in splits}

    def local_data(**_: Any) -> DatasetDict:
        return DatasetDict({split: as_dataset(rows) for split, rows in splits.items()})

    return {"custom_dataset": local_data, **absent}


def _manager(name: str, included: Path | None) -> TaskManager:
    """lm-eval's index, limited to the folder of the task or group if possible."""
    if name in SCORERS:
        folder = OWN_FOLDER if (OWN_FOLDER / f"{name}.yaml").is_file() else folder_of(name)
        return TaskManager(include_path=str(folder), include_defaults=False)
    for folder in (included, folder_of(name)):
        if folder is not None:
            manager = TaskManager(include_path=str(folder), include_defaults=False)
            if name in manager.all_subtasks or _is_complete_group(name, manager):
                return manager
            if name in manager.task_index:
                break
    if included:
        return TaskManager(include_path=str(included))
    manager = copy(_lm_eval_manager())
    manager._index = dict(manager._index)  # loading a group adds names to it
    return manager


@cache
def _lm_eval_manager() -> TaskManager:
    """The index of all tasks of lm-eval, built once per process: it takes seconds to parse 14,000 files."""
    return TaskManager()


def _is_complete_group(name: str, manager: TaskManager) -> bool:
    """Whether the index has a group and each of its tasks."""
    members = (manager.task_index[name].cfg or {}).get("task") if name in manager.all_groups else None
    tasks = manager.all_subtasks
    return isinstance(members, list) and all(isinstance(member, str) and member in tasks for member in members)


def _check_kind(name: str, task: Any) -> None:
    kind = task.OUTPUT_TYPE
    require(
        kind in ("generate_until", "multiple_choice", "loglikelihood"),
        f"task '{name}' asks for {kind}, the likelihood of whole texts, for which there is no estimator; tasks that "
        "generate text or score given answers are supported",
    )
    require(
        not getattr(task, "MULTIMODAL", False),
        f"task '{name}' has images or audio, which text models can't read; give a text task",
    )
    require(
        not getattr(task, "UNSAFE_CODE", False),
        f"task '{name}' runs generated code without a sandbox; tasks that run it in the sandbox: "
        f"{', '.join(own for own, scorer in SCORERS.items() if scorer.runs_code)}",
    )


def _check_scoring(name: str, task: Any) -> None:
    """Refuse a generation task that lm-eval could not score after all the work is done."""
    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE != "generate_until":
        return
    require(task.config.repeats >= 1, f"task '{name}' has repeats: {task.config.repeats}, so nothing is generated")
    require(bool(task._filters), f"task '{name}' has an empty filter_list, so no answer is scored: remove it")
    functions = {} if task.config.process_results else task._metric_fn_list
    unknown_ones = [
        f"{what} of '{metric}'" if what else f"metric '{metric}'"
        for what, found in (("", functions), ("aggregation", task.aggregation()))
        for metric, function in found.items()
        if not callable(function)
    ]
    require(
        not unknown_ones,
        f"task '{name}' can't be scored: lm-eval does not know the {', the '.join(unknown_ones)}; "
        "give one of its metrics and aggregations in metric_list",
    )


def _set_shots(name: str, task: Any, n_shot: int | None, seed: int) -> None:
    """As lm-eval does, but refuse a number that it would silently reduce."""
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
            f"task '{name}' needs {number} few-shot examples, {examples} are available; "
            f"give more data (train.jsonl) or dataset.n_shot={examples}",
        )


def _has_examples(task: Any) -> bool:
    """Whether few-shot examples have a source of their own; else lm-eval draws them from the questions themselves."""
    shots = task.config.fewshot_config
    if shots is not None and (shots.split is not None or shots.samples is not None):
        return True
    return bool(task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs()))


def _digest(task: Any) -> str:
    lines = (json.dumps(doc, sort_keys=True, default=str) for doc in task.eval_docs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
