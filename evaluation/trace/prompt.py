"""Build the prompt of one row of a dataset again, as the run built it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cache_zoo.errors import require, suggest
from evaluation.config.settings import Settings
from evaluation.run.lm import CacheZooLM
from evaluation.tasks.loading import load_task


@dataclass(frozen=True)
class Prompt:
    """A question as the model reads it: the whole prompt as text and tokens, and the texts that end an answer.

    ``question`` is the prompt without examples, ``target`` the expected answer.
    """

    task: str
    row: int
    text: str
    ids: list[int]
    until: list[str]
    question: str
    target: str


def build_prompt(settings: Settings, lm: CacheZooLM, row: int, task: str | None = None) -> Prompt:
    """The prompt of ``row`` of the dataset; a group of tasks needs ``task``.

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
        chosen.OUTPUT_TYPE == "generate_until",
        f"task '{name}' scores given answers and generates nothing; a trace takes a task that generates text",
    )
    rows = len(chosen.eval_docs)
    require(0 <= row < rows, f"'{name}' has no row {row}; its rows are 0 to {rows - 1}")
    chosen.build_all_requests(
        limit=row + 1,  # random examples are drawn row by row from one stream
        system_instruction=settings.system_instruction,
        apply_chat_template=settings.model.apply_chat_template,
        fewshot_as_multiturn=settings.model.apply_chat_template,
        chat_template=lm.apply_chat_template if settings.model.apply_chat_template else None,
        tokenizer_name=lm.tokenizer_name if settings.model.apply_chat_template else "",
    )
    request = next(one for one in chosen.instances if one.doc_id == row and one.idx == 0)
    text, arguments = request.args
    until = arguments.get("until") or []
    return Prompt(
        task=name,
        row=row,
        text=text,
        ids=lm.tok_encode(text),
        until=[until] if isinstance(until, str) else list(until),
        question=_joined(chosen.doc_to_text(request.doc)),
        target=_joined(chosen.doc_to_target(request.doc)),
    )


def _joined(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
