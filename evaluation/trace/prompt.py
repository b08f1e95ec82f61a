"""The prompt of one row of a dataset, built once more as the run built it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cache_zoo.errors import require, suggest
from evaluation.config.settings import Settings
from evaluation.run.lm import CacheZooLM
from evaluation.tasks.loading import load_task

GENERATES = "generate_until"


@dataclass(frozen=True)
class Asked:
    """A question as a model is asked it.

    Attributes:
        task, row: where it is from.
        prompt: all of the text.
        ids: its tokens.
        until: texts that end an answer.
        question: its own part of the prompt, without examples.
        target: the answer that is expected.
    """

    task: str
    row: int
    prompt: str
    ids: list[int]
    until: list[str]
    question: str
    target: str


def ask(settings: Settings, lm: CacheZooLM, row: int, task: str | None = None) -> Asked:
    """The question in ``row`` of the dataset of ``settings``.

    Args:
        settings: of the run.
        lm: applies the chat template and encodes.
        row: of the dataset.
        task: which one, where the dataset is a group of several.

    Raises:
        UsageError: no such task or row, or a task that generates nothing.
    """
    tasks = load_task(settings.dataset, settings.seed, include_path=settings.include_path).loaded["tasks"]
    require(
        task is not None or len(tasks) == 1, f"'{settings.dataset.name}' is a group; name one of {', '.join(tasks)}"
    )
    name = task if task is not None else next(iter(tasks))
    require(name in tasks, f"'{settings.dataset.name}' has no task '{name}': {suggest(name, tasks)}")
    chosen = tasks[name]
    require(
        chosen.OUTPUT_TYPE == GENERATES,
        f"task '{name}' scores given answers and generates nothing; a trace takes a task that generates text",
    )
    rows = len(chosen.eval_docs)
    require(0 <= row < rows, f"'{name}' has no row {row}; its rows are 0 to {rows - 1}")
    chosen.build_all_requests(
        limit=row + 1,  # all before it, too: examples drawn at random are drawn row after row from one stream
        system_instruction=settings.system_instruction,
        apply_chat_template=settings.model.apply_chat_template,
        fewshot_as_multiturn=settings.model.apply_chat_template,
        chat_template=lm.apply_chat_template if settings.model.apply_chat_template else None,
        tokenizer_name=lm.tokenizer_name if settings.model.apply_chat_template else "",
    )
    request = next(one for one in chosen.instances if one.doc_id == row and one.idx == 0)
    prompt, arguments = request.args
    until = arguments.get("until") or []
    return Asked(
        task=name,
        row=row,
        prompt=prompt,
        ids=lm.tok_encode(prompt),
        until=[until] if isinstance(until, str) else list(until),
        question=_text(chosen.doc_to_text(request.doc)),
        target=_text(chosen.doc_to_target(request.doc)),
    )


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
