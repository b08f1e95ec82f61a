"""Tasks of lm-eval: how a name is found, and that every kind of task that generates has a score."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from cache_zoo import UsageError
from evaluation.config import task_names as names
from evaluation.config.command_line import cells
from evaluation.config.settings import DatasetSettings
from evaluation.run import lm_eval_plugin as plugin
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.lm import Text
from evaluation.tasks.loading import load_task
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    {"input": "a is", "target": "True", "number": 1, "list": ["True", "Yes"], "index": 0, "other": {"a": 1}},
    {"input": "b is", "target": "False", "number": 2, "list": ["False", "No"], "index": 1, "other": {"a": "b"}},
    {"input": "c is", "target": "no (b)", "number": 3, "list": ["x", "no (b)"], "index": 1, "other": {"a": []}},
]
ANSWERS = ["True", "True", "no (b)"]
COMMON = {
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{input}}",
    "doc_to_target": "{{target}}",
    "generation_kwargs": {"until": ["\n"]},
}
FUNCTIONS = """
def process(doc, results):
    return {"exact_match": float(results[0] == doc["target"])}

def first_words(resps, docs):
    return [[answer.split()[0] for answer in answers] for answers in resps]

def share(items):
    return sum(items) / len(items)

def target(doc):
    return doc["target"]
"""


def metric(name: str = "exact_match", aggregation: str = "mean", **more: Any) -> dict[str, Any]:
    return {"metric_list": [{"metric": name, "aggregation": aggregation, "higher_is_better": True, **more}]}


def filtered(*functions: dict[str, Any]) -> dict[str, Any]:
    return {"filter_list": [{"name": "found", "filter": list(functions)}], **metric()}


FIRST = {"function": "take_first"}
KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "plain": (metric(), 2 / 3),
    "no metrics": ({}, 2 / 3),
    "a column": ({"doc_to_target": "target", **metric()}, 2 / 3),
    "a number": ({"doc_to_target": "number", **metric()}, 0),
    "a list": ({"doc_to_target": "list", **metric()}, 2 / 3),
    "a list in a template": ({"doc_to_target": "{{list}}", **metric()}, 2 / 3),
    "an object": ({"doc_to_target": "other", **metric()}, 0),
    "a function": ({"doc_to_target": "!function functions.target", **metric()}, 2 / 3),
    "an index": ({"doc_to_choice": "list", "doc_to_target": "index", **metric()}, 2 / 3),
    "an index in a template": ({"doc_to_choice": "{{list}}", "doc_to_target": "{{index}}", **metric()}, 2 / 3),
    "case": (metric(ignore_case=True, ignore_punctuation=True), 2 / 3),
    "regexes": (metric(regexes_to_ignore=[" .*"]), 2 / 3),
    "bleu": (metric("bleu", "bleu"), 95.544),
    "chrf": (metric("chrf", "chrf"), 64.318),
    "bypass": (metric("bypass", "bypass"), 999),
    "aggregation": (metric(aggregation="!function functions.share"), 2 / 3),
    "process_results": ({"process_results": "!function functions.process", **metric()}, 2 / 3),
    "repeats": ({"repeats": 3, **metric()}, 2 / 3),
    "vote": ({"repeats": 3, **filtered({"function": "majority_vote"}, FIRST)}, 2 / 3),
    "first of two": ({"repeats": 3, **filtered({"function": "take_first_k", "k": 2}, FIRST, FIRST)}, 0),
    "regex": (filtered({"function": "regex", "regex_pattern": "(True|no.*)"}, FIRST), 2 / 3),
    "regex without take_first": (filtered({"function": "regex", "regex_pattern": "(True|no.*)"}), 2 / 3),
    "spaces": (filtered({"function": "remove_whitespace"}, FIRST), 2 / 3),
    "lowercase": (filtered({"function": "lowercase"}, FIRST), 1 / 3),
    "custom": (filtered({"function": "custom", "filter_fn": "!function functions.first_words"}, FIRST), 1 / 3),
}


class Answers(LM):  # type: ignore[misc] # lm-eval has no annotations
    """Always gives the same answers, in the form of our model class."""

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[Text]:
        return [Text(ANSWERS[request.doc_id], "<raw>") for request in requests]

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> Any:
        raise NotImplementedError


def task_file(folder: Path, name: str, config: dict[str, Any]) -> Path:
    """A folder with a task and its functions, its data beside it; returns the data."""
    (folder / "tasks").mkdir()
    (folder / "tasks" / "functions.py").write_text(FUNCTIONS)
    lines = yaml.safe_dump({"task": name, **COMMON, **config}, width=1000).splitlines()
    text = "\n".join(line.replace("'", "") if "!function" in line else line for line in lines)
    (folder / "tasks" / "task.yaml").write_text(text)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder / "test.jsonl"


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_task_that_generates_has_a_score(kind: str, tmp_path: Path) -> None:
    config, expected = KINDS[kind]
    data = task_file(tmp_path, "mine", config)
    task = load_task(DatasetSettings("mine", str(data), None, None, None), 1, include_path=str(tmp_path / "tasks"))
    found = lm_eval.evaluate(lm=Answers(), task_dict=task.loaded, bootstrap_iters=0)["results"]["mine"]
    scores = [value for key, value in found.items() if "," in key and "_stderr" not in key]
    assert scores == [pytest.approx(expected, abs=0.001)]


def test_an_answer_is_a_text_in_every_way() -> None:
    answer = Text("12", "12<|endoftext|>")
    assert (answer, answer.raw) == ("12", "12<|endoftext|>")
    for same in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert (type(same), same, same.raw) == (Text, "12", answer.raw)
    assert [Text(5), Text(), Text(None), Text(["a"])] == ["5", "", "None", "['a']"]
    assert Text(5).raw == "5"


@pytest.mark.parametrize("name", ["mine", "bbh_fewshot_boolean_expressions"])
def test_a_task_without_a_filter_is_run_and_scored(name: str, tmp_path: Path) -> None:
    data = task_file(tmp_path, "mine", {"generation_kwargs": {"until": "\n"}, **metric()})
    given = ["model=nano-llada", f"dataset.name={name}", f"dataset.path={data}", "dataset.n_shot=0"]
    given += ["generation.gen_length=8", "generation.block_length=8", f"include_path={tmp_path / 'tasks'}"]
    (settings,) = cells([*given, f"output_dir={tmp_path / 'results'}"])
    summary = evaluate_cell(settings)
    assert summary is not None
    assert (summary.status, summary.metric, summary.n) == ("done", "exact_match,none", 3)
    assert summary.score is not None


def test_a_task_without_a_filter_is_scored_by_lm_evals_own_program(tmp_path: Path) -> None:
    data = {"data_files": {"test": str(tmp_path / "test.jsonl")}, "cache_dir": str(tmp_path / "cache")}
    task_file(tmp_path, "mine", {"dataset_kwargs": data, **metric()})
    assert callable(plugin.CacheZooModel)
    found = lm_eval.simple_evaluate(
        model="cache_zoo",
        model_args="pretrained=nano-llada,gen_length=8,block_length=8",
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        device="cpu",
    )
    assert found["results"]["mine"]["exact_match,none"] is not None


def test_tasks_with_pictures_are_refused(tmp_path: Path) -> None:
    data = task_file(tmp_path, "mine", {"doc_to_image": ["input"], **metric()})
    with pytest.raises(UsageError, match="task 'mine' has images or audio"):
        load_task(DatasetSettings("mine", str(data), None, None, None), 1, include_path=str(tmp_path / "tasks"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (metric("exact_mach"), "can't be scored: lm-eval does not know the metric 'exact_mach'"),
        (metric(aggregation="meen"), "can't be scored: lm-eval does not know the aggregation of 'exact_match'"),
        ({"repeats": 0, **metric()}, "has repeats: 0, so nothing is generated"),
        ({"filter_list": [], **metric()}, "has an empty filter_list, so no answer is scored"),
    ],
    ids=["metric", "aggregation", "repeats", "filters"],
)
def test_tasks_that_could_not_be_scored_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = task_file(tmp_path, "mine", config)
    with pytest.raises(UsageError, match=message):
        load_task(DatasetSettings("mine", str(data), None, None, None), 1, include_path=str(tmp_path / "tasks"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "near"),
    [("gsm9k", "gsm8k"), ("hellaswg", "hellaswag"), ("bbh_fewshot_boolean_expresions", "bbh_fewshot")],
)
def test_an_unknown_task_is_refused_without_lm_eval(name: str, near: str) -> None:
    """It indexes thousands of files first."""
    program = (
        "import sys\nfrom evaluation.config.command_line import cells\n"
        "try:\n    cells(['dataset.name=' + sys.argv[1]])\n"
        "except ValueError as error:\n    print(error, 'lm_eval' in sys.modules)\n"
    )
    done = processes.run_cold(["-c", program, name])
    assert done.stdout.startswith(f"unknown dataset.name '{name}': did you mean '{near}"), done.stderr
    assert done.stdout.rstrip().endswith(" False")


def test_a_name_is_looked_for_among_further_task_files(tmp_path: Path) -> None:
    task_file(tmp_path, "mine", metric())
    names.check_name("mine", str(tmp_path / "tasks"))
    with pytest.raises(UsageError, match=r"unknown dataset\.name 'mine'"):
        names.check_name("mine")
    with pytest.raises(UsageError, match=r"unknown dataset\.name 'mined': did you mean 'mine'\?"):
        names.check_name("mined", str(tmp_path / "tasks"))


def test_a_folder_that_is_none_of_tasks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe never ends, and a whole disk takes minutes; also for tasks of this package."""

    def refused(message: str) -> None:
        with pytest.raises(UsageError, match=message):
            names.check_name("mine", str(tmp_path))
        with pytest.raises(UsageError, match=message):
            load_task(DatasetSettings("nano-gsm", None, None, None, None), 1, include_path=str(tmp_path))

    os.mkfifo(tmp_path / "pipe.yaml")
    refused("pipe.yaml is not a regular file")
    (tmp_path / "pipe.yaml").rename(tmp_path / "pipe.txt")
    monkeypatch.setattr(names, "_MAX_FILES", 20_000)
    for number in range(20_000):
        (tmp_path / f"{number}.txt").symlink_to("nowhere")
    refused("holds more than 20,000 files")


@pytest.mark.slow
def test_the_names_are_those_of_lm_eval() -> None:
    """A surplus name costs only a look-up in lm-eval; a missing one would be a task that cannot run."""
    index = TaskManager().task_index
    assert [name for name in index if name not in names._index(names.lm_evals())] == []
    assert len(names._index(names.lm_evals())) - len(index) < 50
    folders = {name: entry.yaml_path.parent for name, entry in index.items() if entry.kind.name in ("TASK", "PY_TASK")}
    assert {name: names.folder_of(name) for name in index} == {name: folders.get(name) for name in index}
