"""Counts of a summary: questions, answers to each, empty answers; only numbers are scores."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from evaluation.config.command_line import cells
from evaluation.run.efficiency import Batch, GeneratedAnswer, efficiency
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.lm import EQUAL_ANSWERS
from evaluation.run.results import clean_scores, headline_metric, headline_score, make_samples
from evaluation.storage.schema import Summary
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.loading import LoadedTask
from generation import Counts

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
QUICK = ["model=nano-llada", "generation.gen_length=8", "generation.block_length=8"]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
repeats: 3
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
"""
GENERATED = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\n\\n"]
filter_list:
  - name: first
    filter:
      - function: regex
        regex_pattern: "([0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
"""
CHOSEN = """
output_type: multiple_choice
doc_to_choice: ["no", "yes"]
doc_to_target: 1
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks that ask for three answers to each of two questions."""
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "two.jsonl"
    data.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": "4"}\n')
    for name, rest in {"thrice": GENERATED, "chosen": CHOSEN}.items():
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + rest)
    return folder


def run(tasks: Path, out: Path, *overrides: str) -> tuple[Summary, list[dict[str, Any]], dict[str, Any]]:
    given = [*QUICK, f"include_path={tasks}", f"output_dir={out}", *overrides]
    (settings,) = cells(given)
    summary = evaluate_cell(settings)
    assert summary is not None
    folder = Path(summary.folder or "")
    return summary, read_rows(folder / "samples.jsonl"), json.loads((folder / "results.json").read_text())


def test_equal_answers_are_generated_once_and_noted(
    tasks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "evaluation.run.lm"):
        summary, samples, results = run(tasks, tmp_path, "dataset.name=thrice")
    assert [record.message for record in caplog.records if record.name == "evaluation.run.lm"] == [EQUAL_ANSWERS]
    assert (summary.n, summary.repeats, summary.items_total, summary.partial) == (2, 3, 2, False)
    assert summary.note == EQUAL_ANSWERS
    assert [(one["doc_id"], one["repeat"]) for one in samples] == [(0, 0), (1, 0)]
    assert results["efficiency"]["samples"] == 2
    assert results["efficiency"]["nfe"] == 8


@pytest.mark.parametrize("drawn", ["generation.temperature=1.0", "suffix=dropout"])
def test_drawn_answers_are_all_generated_and_count_as_one_question(tasks: Path, tmp_path: Path, drawn: str) -> None:
    summary, samples, results = run(tasks, tmp_path, "dataset.name=thrice", drawn)
    assert (summary.n, summary.repeats, summary.items_total, summary.partial) == (2, 3, 2, False)
    assert summary.note is None
    assert "note" not in summary.as_dict()
    assert [(one["doc_id"], one["repeat"]) for one in samples] == [(row, n) for row in (0, 1) for n in (0, 1, 2)]
    assert len({one["seed"] for one in samples}) == 6
    assert results["efficiency"]["samples"] == 6


def test_given_answers_are_scored_per_repeat(tasks: Path, tmp_path: Path) -> None:
    summary, samples, _ = run(tasks, tmp_path, "dataset.name=chosen", "likelihood.mc_num=1")
    assert (summary.n, summary.repeats, summary.empty_answers) == (2, 3, None)
    assert [(one["doc_id"], one["repeat"], len(one["choices"])) for one in samples] == [
        *((row, number, 2) for row in (0, 1) for number in (0, 1, 2))
    ]


def sample(text: str) -> GeneratedAnswer:
    return GeneratedAnswer("t", 0, 0, "p", 1, text, text, [1], 8, 4, 1.0, 7, 0)


def test_empty_answers_are_counted() -> None:
    found = efficiency([sample(text) for text in ("", " \n", "2", ".")], [], 1)
    assert found.empty_answers == 2
    assert efficiency([], [], 1).empty_answers is None


def test_what_is_no_number_is_no_score() -> None:
    task = LoadedTask("t", {}, None, None, (), {})
    found: dict[str, Any] = {
        "results": {"t": {"alias": "t", "outcome,none": {"a": 1}, "f1,none": float("nan"), "f1_stderr,none": "N/A"}},
        "configs": {"t": {}},
    }
    metrics = clean_scores(found, task, None)["results"]["t"]
    assert metrics["f1,none"] is None
    assert headline_metric(metrics, task) == "f1,none"
    assert headline_score(metrics, "f1,none") == (None, None)
    assert headline_score({"f1,none": 0.5, "f1_stderr,none": None}, "f1,none") == (0.5, None)
    assert headline_metric({"alias": "t", "bypass,none": 0.5}, task) == "bypass,none"
    assert headline_metric({}, task) is None
    assert headline_score({}, None) == (None, None)


def test_metrics_of_a_question_that_are_no_numbers_are_null() -> None:
    record = {"doc_id": 0, "target": "", "doc_hash": "", "metrics": ["f1"], "f1": float("inf"), "filter": "none"}
    task = LoadedTask("t", {}, None, None, (), {})
    batches = [Batch(1, 1.0, Counts(rows=1, rows_full=1))]
    (found,) = make_samples([sample("2")], batches, {"t": [{**record, "filtered_resps": []}]}, task)
    assert found["metrics"] == {"f1,none": None}
