"""A group of tasks is one run, which is read and checked like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from evaluation.config.command_line import cells
from evaluation.report.check import check_run
from evaluation.report.rows import read_rows
from evaluation.run.evaluate import evaluate_cell
from evaluation.storage.find_runs import find_runs
from evaluation.tasks import loading
from tests.small_runs import _committed, edit_results

TASK = """
task: {name}
output_type: multiple_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{c}}}}"
doc_to_target: l
metric_list:
  - metric: acc
"""
GROUP = """
group: sums
task: [sums_a, sums_b]
aggregate_metric_list:
  - metric: acc
"""


def without_defaults(include_path: str, include_defaults: bool = True) -> TaskManager:
    assert not include_defaults
    return TaskManager(include_path=include_path, include_defaults=False)


def test_a_group_of_tasks_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "TaskManager", without_defaults)  # the index of lm-eval takes seconds
    rows = tmp_path / "rows.jsonl"
    questions = [{"q": f"{number} + 1 =", "c": [str(number + 1), "9"], "l": 0} for number in range(3)]
    rows.write_text("".join(json.dumps(question) + "\n" for question in questions))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name in ("sums_a", "sums_b"):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, rows=rows))
    (tasks / "sums.yaml").write_text(GROUP)
    given = ["model=nano-llada", "dataset.name=sums", f"include_path={tasks}", f"output_dir={tmp_path / 'results'}"]
    (settings,) = cells(given)
    summary = evaluate_cell(settings)
    assert summary is not None
    assert (summary.n, summary.items_total) == (6, 6)
    ((_, run),) = find_runs([tmp_path / "results"], tmp_path).items()
    edit_results(run.folder, _committed)
    assert check_run(run.folder) == []
    (row,) = read_rows({"run": run}).to_dict("records")
    assert row["n"] == 6
    assert row["status"] == "done"
