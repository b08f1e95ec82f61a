"""Read the saved answers that are to be scored again, and check that their references are genuine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from cache_zoo.errors import require
from evaluation.storage.files import RESULTS
from evaluation.storage.readers import read_json, read_json_lines
from evaluation.storage.saved_run import QuestionId, SavedRun
from evaluation.storage.schema import Count, Name, Object, Provenance, Record, Text
from evaluation.storage.validation import parse
from evaluation.tasks.jsonl import check_row
from evaluation.tasks.published_data import PublishedRows, published_rows
from evaluation.tasks.scorers import SCORERS

PUBLISHED, OWN = "published", "own"
"""Source of a task's references: the published data, or the run itself."""
_COLUMNS = {"task": str, "text": str, "raw": str}


class SavedScores(Record):
    """``results.json``, as far as rescoring reads it."""

    results: dict[Name, Object]
    summary: Object = Field(default_factory=dict)
    provenance: Provenance = Provenance()


class SavedText(Record):
    """A line of ``samples.jsonl``, as far as rescoring reads it."""

    task: Name
    doc_id: Count
    repeat: Count = 0
    text: Text
    raw: Text
    doc: Object
    metrics: Object = Field(default_factory=dict)


@dataclass
class SavedTexts:
    """The answers of a run: the whole and the checked part of ``results.json`` and of each line of ``samples.jsonl``.

    ``references`` has the source of each task's references, `PUBLISHED` or `OWN`.
    """

    content: Object
    scores: SavedScores
    rows: list[Object] = field(default_factory=list)
    answers: list[SavedText] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)


def read_saved_texts(folder: Path, allow_code_execution: bool) -> SavedTexts:
    """The answers in a run folder.

    Raises:
        UsageError: a damaged file, a task that can't be scored here, or a reference that is not the published one
            although the run claims the published data.
    """
    content = read_json(folder / RESULTS)
    saved = SavedTexts(content, parse(SavedScores, content, str(folder / RESULTS)))
    published: dict[str, PublishedRows | None] = {}
    seen: set[QuestionId] = set()
    for where, row in read_json_lines(SavedRun(folder).samples_path):
        check_row(where, row, _COLUMNS)
        task, doc = row["task"], row.get("doc", {})
        if task not in published:
            _require_scorable(task, allow_code_execution)
            known, digest = published_rows(task), saved.scores.provenance.dataset_sha256.get(task)
            published[task] = known if known and digest == known.sha256 else None
            saved.references[task] = PUBLISHED if published[task] else OWN
        scorer, known = SCORERS[task], published[task]
        require(isinstance(doc, dict), f"{where}: 'doc' must be an object, not {doc!r}")
        lacking = [key for key in scorer.needs if key not in doc]
        require(not lacking, f"{where} lacks doc.{', doc.'.join(lacking)}; run it again")
        check_row(f"{where}, doc", doc, {key: scorer.columns[key] for key in scorer.needs}, scorer.problem)
        answer = parse(SavedText, row, where)
        question = (task, answer.doc_id, answer.repeat)
        require(question not in seen, f"{where}: row {answer.doc_id} of {task} appears twice")
        require(
            known is None or known.has(task, answer.doc_id, doc),
            f"{where}: the reference is not the published one of {task}, row {answer.doc_id}, but the run claims the "
            "published data",
        )
        seen.add(question)
        saved.rows.append(row)
        saved.answers.append(answer)
    return saved


def _require_scorable(task: str, allow_code_execution: bool) -> None:
    require(task in SCORERS, f"task '{task}' has no scorer here; those that have: {', '.join(SCORERS)}")
    require(
        allow_code_execution or SCORERS[task].execute is None,
        f"scoring {task} runs generated code: give allow_code_execution=true; "
        'read "Generated code" in docs/tasks.md first',
    )
