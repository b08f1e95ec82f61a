"""How ``dataset.name`` becomes lm-eval tasks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config.settings import DatasetSettings
from evaluation.config.task_names import OWN, check_name, files_in, folder_of, unknown
from evaluation.sandbox import Sandbox
from evaluation.tasks.arrow import as_dataset
from evaluation.tasks.jsonl import check_row, read_splits
from evaluation.tasks.scorers import SCORERS, Scorer
from evaluation.tasks.unscored import reason


@dataclass(frozen=True)
class LoadedTask:
    """A dataset ready to be evaluated.

    Attributes:
        name: as in ``dataset.name``.
        loaded: what `lm_eval.evaluate` takes: tasks and groups by name.
        score: metric and filter of the headline score; None: lm-eval's first, if any.
        unscored: why there are no scores, as a sentence; None where there are.
        needs: columns that scoring reads, where the scorer is our own.
        sha256: of the rows that can be asked, by task.
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
    """Load the data, and set the number of few-shot examples and the seed that picks them.

    Args:
        settings: of the dataset.
        seed: of the choice of examples.
        sandbox: where generated code may be run, if that is how a task is scored; None: nowhere.
        include_path: folder of further task files; a name there goes before lm-eval's own.

    Raises:
        UsageError: unknown name, data that can't be had or used, too few examples, a task that needs more than
            generation, or code to run on a machine that can't.
    """
    check_name(settings.name, include_path)
    known = SCORERS.get(settings.name)
    unscored = None
    if known and known.execute:
        if sandbox:
            sandbox.check()
        else:
            unscored = reason(settings.name)
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
        if known and settings.path is None:  # of files, lines are checked while they are read
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
    """The first line of what went wrong; lm-eval says of a missing column nothing but its name."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"there is no {said}" if isinstance(error, KeyError) else said


def _advice(settings: DatasetSettings, error: Exception) -> str:
    if isinstance(error, ImportError | TypeError):  # the task itself, not its data
        return ""
    if settings.path is None:
        return "; without the hub give dataset.path=<folder with its .jsonl files>"
    return f"; see the rows in dataset.path {settings.path}"


def _check_included(folder: Path, name: str) -> None:
    """Refuse what would be passed over: files that can't be read, and a task with the name of one of ours.

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
            name not in SCORERS or config.get("task") != name or file.parent in (OWN, folder_of(name)),
            f"include_path: {file} has a task '{name}', which is one of ours: give it a name of its own",
        )


_WRAPPER = "cache_zoo_local_data"
_SPLIT_KEYS = ("training_split", "validation_split", "fewshot_split", "test_split")


def _spec(
    settings: DatasetSettings, manager: Any, known: Scorer | None, sandbox: Sandbox | None
) -> str | dict[str, Any]:
    """A name, or a group of one task, which is how lm-eval takes changes to a task."""
    changes = _local_data(settings, manager, known)
    if known and (execute := known.execute) and sandbox:
        changes["process_results"] = lambda doc, results: execute(sandbox, doc, results)
    return {"group": _WRAPPER, "task": [{"task": settings.name, **changes}]} if changes else settings.name


def _local_data(settings: DatasetSettings, manager: Any, known: Scorer | None) -> dict[str, Any]:
    """What makes a task read files in place of the hub; nothing where there are none to read."""
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
    # A task that names a split without data would fail even where it is not needed.
    absent = {key: None for key in _SPLIT_KEYS if config.get(key) not in splits}

    def local_data(**_: Any) -> DatasetDict:
        return DatasetDict({split: as_dataset(rows) for split, rows in splits.items()})

    return {"custom_dataset": local_data, **absent}


def _manager(name: str, included: Path | None) -> TaskManager:
    """What knows a task; of lm-eval's thousands no more than its folder, unless it is a group or a tag."""
    if name in SCORERS:
        folder = OWN if (OWN / f"{name}.yaml").is_file() else folder_of(name)
        return TaskManager(include_path=str(folder), include_defaults=False)
    for folder in (included, folder_of(name)):
        if folder is not None:
            manager = TaskManager(include_path=str(folder), include_defaults=False)
            if name in manager.all_subtasks:
                return manager
            if name in manager.task_index:
                break
    return TaskManager(include_path=str(included) if included else None)


def _check_kind(name: str, task: Any) -> None:
    kind = task.OUTPUT_TYPE
    require(
        kind in ("generate_until", "multiple_choice", "loglikelihood"),
        f"task '{name}' asks for {kind}, the likelihood of whole texts, for which there is no estimator; tasks that "
        "generate text or score given answers are supported",
    )
    require(
        not getattr(task, "MULTIMODAL", False),
        f"task '{name}' shows pictures or plays sound, which models of text can't take; give a task of texts",
    )
    require(
        not getattr(task, "UNSAFE_CODE", False),
        f"task '{name}' runs generated code in lm-eval's own way, without a sandbox; "
        f"the tasks that run it here are {', '.join(one for one, scorer in SCORERS.items() if scorer.execute)}",
    )


def _check_scoring(name: str, task: Any) -> None:
    """Refuse a task that generates, and of which lm-eval would say after all work that it can't be scored."""
    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE != "generate_until":
        return
    require(task.config.repeats >= 1, f"task '{name}' has repeats: {task.config.repeats}, so that nothing is answered")
    require(bool(task._filters), f"task '{name}' has an empty filter_list, so that no answer is scored: leave it out")
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
