"""Scores of right and wrong answers, of extracted programs, and of saved answers scored again."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from jinja2 import Environment

from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.report.rescore import rescore
from evaluation.run.folder import RunFolder
from evaluation.run.lm import Text
from evaluation.sandbox import Sandbox
from evaluation.storage.files import RESCORED, RESULTS, SAMPLES
from evaluation.tasks import datasets, gsm8k, humaneval, math500
from evaluation.tasks.code_execution import unscored_reason
from evaluation.tasks.extraction import names_used
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.loading import load_task
from evaluation.tasks.scorers import SCORERS
from tests.good_rows import GOOD
from tests.layers import MISSING
from tests.small_runs import edit_results

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHARED = ROOT.parent / "shared" / "data"
FOLDERS = {"gsm8k": "gsm8k", "math-500": "math500", "humaneval": "humaneval", "mbpp": "mbpp"}
CASES = read_rows(HERE / "extraction_cases.jsonl")
PAIRS = read_rows(HERE / "answer_pairs.jsonl")
runs_programs = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")


def published(name: str) -> list[dict[str, Any]]:
    """The published rows of a dataset."""
    file = SHARED / FOLDERS[name] / "test.jsonl"
    if not file.is_file():
        pytest.skip(f"the published file {FOLDERS[name]}/test.jsonl is not here")
    return read_rows(file, SCORERS[name].columns)


def scores(name: str, rows: list[dict[str, Any]], answers: list[str]) -> list[dict[str, Any]]:
    with Sandbox(MISSING) as sandbox:
        return [SCORERS[name].score(row, one, one, sandbox) for row, one in zip(rows, answers, strict=True)]


def total(metric: str, found: list[dict[str, Any]]) -> float:
    return sum(one[metric] for one in found)


# Code


def test_names_that_tests_use() -> None:
    assert names_used("assert f(max([1])) == [g(x) for x in range(3)]") == {"f", "g"}
    assert names_used("assert sum(10, 15) == 6") == {"sum"}
    assert names_used("stack.push(1)\nassert stack.top() == limit") == {"stack", "limit"}
    assert names_used("import math\nroot = Node(1)\nassert math.isclose(f(root), 1)") == {"f", "Node"}


def test_strict_and_extracted_programs_from_lm_evals_filters() -> None:
    doc = {"prompt": CASES[0]["prompt"], "entry_point": "has_even", "test": "", "task_id": "0"}
    raw = "```python\ndef has_even(numbers):\n    return True\n```<|eot_id|>"
    answers: list[list[str]] = [[Text("```python", raw)]]
    assert humaneval.strict(answers, [doc]) == [CASES[0]["prompt"] + "```python"]
    (found,) = humaneval.extracted(answers, [doc])
    assert found.endswith("def has_even(numbers):\n    return True\n")
    # another model class gives plain texts
    (found,) = humaneval.extracted([["    return True\n"]], [doc])
    assert found.endswith("    return True\n")


PARTS = pytest.mark.parametrize("part", [slice(None, None, 16), pytest.param(slice(None), marks=pytest.mark.slow)])
"""A sixteenth of the rows; all of them are slow."""


@runs_programs
@PARTS
def test_canonical_solutions_of_humaneval_pass_and_stubs_do_not(part: slice) -> None:
    rows = published("humaneval")
    assert len(rows) == 164
    rows = rows[part]
    for name in ("humaneval", "humaneval_instruct"):
        found = scores(name, rows, [row["canonical_solution"] for row in rows])
        assert (total("pass@1,create_test", found), total("pass@1,extract_code", found)) == (len(rows), len(rows))
    found = scores("humaneval", rows, ["    pass\n"] * len(rows))
    assert (total("pass@1,create_test", found), total("pass@1,extract_code", found)) == (0, 0)


@pytest.mark.sampled(4)
@runs_programs
@PARTS
def test_reference_solutions_of_mbpp_pass_and_stubs_do_not(part: slice) -> None:
    rows = published("mbpp")
    assert len(rows) == 500
    rows = rows[part]
    found = scores("mbpp", rows, [row["code"] for row in rows])
    for row, one in zip(rows, found, strict=True):
        # Problem 123 takes 2.5 s of a core; a busy machine may not give it that in time.
        allowed = {"passed", "timeout"} if row["task_id"] == 123 else {"passed"}
        assert {one["outcome,none"], one["outcome,extract_code"]} <= allowed, row["task_id"]
    found = scores("mbpp", rows, [stub(row["code"]) for row in rows])
    assert (total("pass_at_1,none", found), total("pass_at_1,extract_code", found)) == (0, 0)


def stub(source: str) -> str:
    """``source`` with ``pass`` in place of every function's body."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


@runs_programs
def test_wrapped_solutions_pass_when_extracted_only() -> None:
    rows = published("humaneval")[::8]
    wrapped = [f"Sure!\n```python\n{row['prompt']}{row['canonical_solution']}```\nDone.<|eot_id|>" for row in rows]
    found = scores("humaneval_instruct", rows, wrapped)
    assert (total("pass@1,create_test", found), total("pass@1,extract_code", found)) == (0, len(rows))
    assert {one["outcome,extract_code"] for one in found} == {"passed"}
    assert all(one["outcome,create_test"].startswith("failed: SyntaxError") for one in found)


# Mathematics


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{pair['reference']} | {pair['answer']}" for pair in PAIRS])
def test_answers_that_are_the_same(pair: dict[str, Any]) -> None:
    assert math500.same(pair["reference"], pair["answer"]) == pair["same"]


def test_there_are_enough_pairs() -> None:
    assert len(PAIRS) >= 40
    assert 20 < sum(pair["same"] for pair in PAIRS) < len(PAIRS) - 20


def test_reference_answers_of_math_500_are_right() -> None:
    rows = published("math-500")
    boxed = scores("math-500", rows, [f"So it is $\\boxed{{{row['answer']}}}$.<|eot_id|>" for row in rows])
    worked = scores("math-500", rows, [row["solution"] for row in rows])
    phrase = "Final Answer: The final answer is ${}$. I hope it is correct."
    stated = scores("math-500", rows, [phrase.format(row["answer"]) for row in rows])
    for found in (boxed, worked, stated):
        assert (total("math_verify,none", found), total("exact_match,none", found)) == (500, 500)


def test_other_answers_of_math_500_are_wrong() -> None:
    rows = published("math-500")
    found = scores("math-500", rows, [f"\\boxed{{{other['answer']}}}" for other in [*rows[1:], rows[0]]])
    same = [place for place, one in enumerate(found) if one["math_verify,none"]]
    assert all(math500.normalized(rows[n]["answer"]) == math500.normalized(rows[(n + 1) % 500]["answer"]) for n in same)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"First \boxed{1}, no: \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"so $x=\boxed{3}$ or $\boxed{5}$", "3, 5"),
        (r"\boxed{\text{a } b}", r"\text{a } b"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"cut off: \boxed{\frac{1}{", None),
        (r"\fbox{7}", "7"),
        ("Final Answer: The final answer is $-\\frac{2}{3}$. I hope it is correct.", r"$-\frac{2}{3}$"),
        ("The final answer is: 12.\nOr so.", "12"),
        ("It is 12.", None),
    ],
)
def test_the_final_answer_of_a_solution(text: str, answer: str | None) -> None:
    assert math500.final_answer(text) == answer


def test_without_a_box_the_last_number_counts_as_mathematics_only() -> None:
    assert math500.process_results({"answer": "12"}, ["3 times 4 is 12."]) == {"math_verify": 1.0, "exact_match": 0.0}
    assert math500.process_results({"answer": "12"}, ["I do not know."]) == {"math_verify": 0.0, "exact_match": 0.0}
    assert math500.process_results({"answer": "12"}, [""]) == {"math_verify": 0.0, "exact_match": 0.0}


@pytest.mark.parametrize("answer", [r"9^{9^{9^{9}}}", "{" * 900 + "1" + "}" * 900, "1+" * 5000 + "1"])
def test_an_endless_comparison_ends(answer: str) -> None:
    start = time.monotonic()
    assert not math500.same("5", answer)
    assert time.monotonic() - start < 3 * math500.CPU_SECONDS


# Prompts and filters are those of lm-eval


def lm_evals(folder: str, name: str) -> dict[str, Any]:
    """A YAML file of lm-eval as plain data, with what it includes; functions by name, so that nothing is imported."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    base = Path(lm_eval.__file__).parent / "tasks" / folder
    found = yaml.load((base / f"{name}.yaml").read_text(encoding="utf-8"), Loader)
    if "include" in found:
        found = lm_evals(folder, Path(found.pop("include")).stem) | found
    return dict(found)


def ours(name: str) -> dict[str, Any]:
    (task,) = load_task(settings(name), seed=1).loaded["tasks"].values()
    return dict(task.config.to_dict(keep_callable=True))


def settings(name: str) -> DatasetSettings:
    published(name.partition("_")[0])
    return DatasetSettings(name, str(SHARED / FOLDERS[name.partition("_")[0]]), None, None, None)


@pytest.mark.parametrize(
    ("name", "folder", "theirs"),
    [
        ("math-500", "minerva_math", "minerva_math500"),
        ("humaneval", "humaneval", "humaneval"),
        ("humaneval_instruct", "humaneval", "humaneval_instruct"),
        ("mbpp", "mbpp", "mbpp"),
        ("mbpp_instruct", "mbpp", "mbpp_instruct"),
    ],
)
def test_prompts_are_those_of_lm_eval(name: str, folder: str, theirs: str) -> None:
    one, other = ours(name), lm_evals(folder, theirs)
    render = Environment(keep_trailing_newline=True).from_string
    rows = [*published(name.partition("_")[0])[:20]]
    if other["doc_to_text"] == "utils.doc_to_text":  # the one that is a function there
        other["doc_to_text"] = "Problem:\n{{problem}}\n\nSolution:"
    for row in rows:
        assert render(one["doc_to_text"]).render(row) == render(other["doc_to_text"]).render(row)
        assert render(one.get("gen_prefix") or "").render(row) == render(other.get("gen_prefix") or "").render(row)
    assert one["num_fewshot"] == other["num_fewshot"]
    for key in ("dataset_path", "test_split"):
        assert one[key] == other[key]
    added = {"\n```"} if name.endswith("_instruct") else set()
    assert set(one["generation_kwargs"]["until"]) == {*other["generation_kwargs"]["until"], *added}


@pytest.mark.parametrize(
    ("folder", "found"),
    [("minerva_math", datasets.minerva_shots()), ("mbpp", datasets.mbpp_shots())],
    ids=["minerva", "mbpp"],
)
def test_examples_are_those_of_lm_eval(folder: str, found: list[dict[str, Any]]) -> None:
    source = (Path(lm_eval.__file__).parent / "tasks" / folder / "utils.py").read_text(encoding="utf-8")
    (function,) = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples"
    ]
    returned = function.body[-1]
    assert isinstance(returned, ast.Return)
    assert returned.value is not None
    theirs = ast.literal_eval(returned.value)
    assert [{key: one[key] for key in other if key in one} for one, other in zip(found, theirs, strict=True)] == [
        {key: value for key, value in other.items() if key != "few_shot"} for other in theirs
    ]


NUMBERS = [
    "It is 5.\n#### 5",
    "#### 1,234",
    "#### $12.50.",
    "#### -7\n#### 8",
    "The answer is 18 dollars.",
    "She pays $1,000.00 in all.",
    "half of 5, then .5",
    "no number",
    "",
    "####",
    "#### ",
    "#### abc 3",
    "1-2",
    "a..,, b",
    "#### 5\u00a0apples",
    "3.14.15",
    "#### 070",
    "$",
    "x = 12%",
    "#### 5.",
    "Question 2: 3",
]
_PIECES = ["#### ", "####", "#", "5", "1,234", ".", ",", "$", "-", " ", "\n", "070", "A", "%", "\u0663", "\u00a0", "\r"]
_STREAM = random.Random(5)
NUMBERS += ["".join(_STREAM.choices(_PIECES, k=_STREAM.randrange(1, 12))) for _ in range(120)]


@pytest.mark.parametrize("name", ["gsm8k", "nano-gsm"])
def test_gsm8k_is_scored_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    targets = ["It is 5.\n#### 5", "#### 1,234", "#### -7", "#### 18", "#### 12.50", "#### 70"]
    rows = [{"question": "How many?", "answer": target, "said": text} for text in NUMBERS for target in targets]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (task,) = load_task(DatasetSettings(name, str(tmp_path), None, 0, None), seed=1).loaded["tasks"].values()
    task.build_all_requests()
    for request in task.instances:
        request.resps.append(rows[request.doc_id]["said"])
    task.apply_filters()
    for request in task.instances:
        row = rows[request.doc_id]
        theirs = {
            f"{metric},{name}": value
            for name, filtered in request.filtered_resps.items()
            for metric, value in task.process_results(row, [filtered]).items()
        }
        assert SCORERS[name].score(row, row["said"], row["said"], None) == theirs, row


def test_the_numbers_of_an_answer() -> None:
    assert (gsm8k.strict("5 #### 1,234. #### 8"), gsm8k.flexible("5 #### 1,234. #### 8")) == ("1,234.", "8")
    assert gsm8k.same("1,234.", "so\n#### 1234")


def test_answers_of_gsm8k_score_against_themselves() -> None:
    rows = published("gsm8k")
    found = scores("gsm8k", rows, [row["answer"] for row in rows])
    assert total("exact_match,strict-match", found) == total("exact_match,flexible-extract", found) == 1319


# Data


@pytest.mark.parametrize("name", list(SCORERS))
def test_malformed_rows_are_named_by_file_and_line(name: str, tmp_path: Path) -> None:
    columns = SCORERS[name].columns
    good = GOOD[name]
    *_, last = columns
    file = tmp_path / "test.jsonl"
    for bad, message in (
        (json.dumps({key: value for key, value in good.items() if key != last}).encode(), f"line 2 has no '{last}'"),
        (json.dumps({**good, last: 5}).encode(), f"line 2: '{last}' must be "),
        (json.dumps({**good, last: [5]}).encode(), f"line 2: '{last}' must be "),
        (b'{"a": ', "line 2 is not valid JSON"),
        (b'{"a": "\xff"}', "line 2 is not UTF-8"),
        (b"[]", "line 2 must hold a JSON object"),
    ):
        file.write_bytes(json.dumps(good).encode() + b"\n" + bad + b"\n")
        with pytest.raises(UsageError) as caught:
            load_task(DatasetSettings(name, str(file), None, 0, None), seed=1)
        assert str(caught.value).startswith(f"{file}, {message}")
    file.write_bytes(b"")
    with pytest.raises(UsageError, match="is empty"):
        load_task(DatasetSettings(name, str(file), None, 0, None), seed=1)


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("humaneval", "entry_point", "f(", "must be the name of a function, not 'f('"),
        (
            "humaneval_instruct",
            "test",
            "def check(:",
            "must be Python source of at most 200,000 characters, not 'def check(:'",
        ),
        (
            "mbpp",
            "test_list",
            ["assert f(:"],
            "must be a list of texts that are Python source of at most 200,000 characters, not ['assert f(:']",
        ),
        ("mbpp_instruct", "test_list", ['assert "\0"'], "must be a list of texts that are Python source"),
        ("mbpp", "test_setup_code", "import", "must be Python source of at most 200,000 characters, not 'import'"),
        ("nano-code", "tests", "assert (", "must be Python source of at most 200,000 characters, not 'assert ('"),
    ],
)
def test_tests_that_nothing_could_pass_are_malformed_rows(
    name: str, column: str, value: Any, message: str, tmp_path: Path
) -> None:
    """Before anything is generated: otherwise the fault would appear while scoring, or as a score of 0."""
    good = GOOD[name]
    file = tmp_path / "test.jsonl"
    file.write_text(f"{json.dumps(good)}\n{json.dumps({**good, column: value})}\n")
    with pytest.raises(UsageError) as caught:
        load_task(DatasetSettings(name, str(file), None, 0, None), seed=1)
    assert str(caught.value).startswith(f"{file}, line 2: '{column}' {message}")


# Saved generations


def saved(
    folder: Path, task: str, docs: list[dict[str, Any]], texts: list[str], changes: dict[str, Any] | None = None
) -> Path:
    """A run folder with these generations and no scores; ``changes`` are made to every sample."""
    run = RunFolder(folder / f"m__none__vanilla__{task}__0", {"dataset": {"name": task}})
    run.start()
    needs = SCORERS[task].needs
    samples = [
        {"task": task, "doc_id": n, "text": text, "raw": text, "metrics": {}, "doc": {key: doc[key] for key in needs}}
        for n, (doc, text) in enumerate(zip(docs, texts, strict=True))
    ]
    summary = {"dataset": task, "metric": None, "score": None, "score_stderr": None, "note": "kept"}
    run.finish(
        {"results": {task: {"score,none": "N/A"}}, "summary": summary}, [{**one, **(changes or {})} for one in samples]
    )
    return run.path


FUNCTIONS = [
    {"prompt": f"def f{n}(x):\n", "entry_point": f"f{n}", "test": f"def check(f):\n    assert f(1) == {n}\n"}
    for n in range(6)
]
ANSWERS = [
    "    return 0\n",
    "    return 2\n",
    "```python\ndef f2(x):\n    return 2\n```",
    "    ret",
    "    raise SystemExit\n",
    "",
]


@runs_programs
@pytest.mark.slow
def test_scoring_again_gives_the_same_numbers_with_any_workers(tmp_path: Path) -> None:
    coded = saved(tmp_path, "humaneval_instruct", FUNCTIONS, ANSWERS)
    pairs = [pair for pair in PAIRS if pair["reference"].strip()]
    boxes = [f"\\boxed{{{pair['answer']}}}" for pair in pairs]
    solved = saved(tmp_path, "math-500", [{"answer": pair["reference"]} for pair in pairs], boxes)
    for folder in (coded, solved):
        found = [rescore(folder, workers, allow_code_execution=True, sandbox_disable=MISSING) for workers in (1, 1, 2)]
        assert found[0] == found[1] == found[2] == json.loads((folder / RESCORED).read_text())
    results = rescore(coded, allow_code_execution=True, sandbox_disable=MISSING)["results"]["humaneval_instruct"]
    assert (results["pass@1,create_test"], results["pass@1,extract_code"]) == (1 / 6, 2 / 6)
    assert results["outcome,create_test"] == {"failed": 4, "passed": 1, "exited": 1}
    results = rescore(solved)["results"]["math-500"]
    assert results["math_verify,none"] == sum(pair["same"] for pair in pairs) / len(pairs)
    assert json.loads((solved / RESULTS).read_text())["summary"]["score"] is None, "the run's own files stay"


@runs_programs
def test_an_update_writes_the_scores_into_the_run(tmp_path: Path) -> None:
    folder = saved(tmp_path, "humaneval_instruct", FUNCTIONS[:3], ANSWERS[:3])
    other = "the weights are not those of the name"
    edit_results(
        folder, lambda found: found["summary"].update(note=f"{unscored_reason('humaneval_instruct')}; {other}")
    )
    rescore(folder, allow_code_execution=True, update=True, sandbox_disable=MISSING)
    results = json.loads((folder / RESULTS).read_text())
    assert results["results"]["humaneval_instruct"]["pass@1,extract_code"] == 2 / 3
    assert "score,none" not in results["results"]["humaneval_instruct"]
    assert (results["summary"]["metric"], results["summary"]["score"]) == ("pass@1,extract_code", 2 / 3)
    assert results["summary"]["note"] == other
    samples = read_rows(folder / SAMPLES)
    assert [sample["metrics"]["pass@1,create_test"] for sample in samples] == [1, 0, 0]
    assert set(
        rescore(folder, allow_code_execution=True, sandbox_disable=MISSING)["changed"]["humaneval_instruct"].values()
    ) == {0}


def test_what_cannot_be_scored_again_is_one_error(tmp_path: Path) -> None:
    def refused(message: str, folder: Path, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            rescore(folder, **options)

    docs = [{"answer": "1"}]
    refused("has no results.json", tmp_path)
    refused("workers must be at least 1", tmp_path, workers=0)
    refused("give allow_code_execution=true", saved(tmp_path, "humaneval", FUNCTIONS[:1], [""]))
    refused("task 'hellaswag' has no scorer here", saved(tmp_path, "gsm8k", docs, ["1"], {"task": "hellaswag"}))
    refused(r"samples\.jsonl, line 1 lacks doc\.answer", saved(tmp_path, "gsm8k", docs, ["1"], {"doc": {}}))
    refused(r"samples\.jsonl, line 1: 'text' must be text", saved(tmp_path, "gsm8k", docs, ["1"], {"text": None}))
    refused(r"samples\.jsonl, line 1: 'doc' must be an object", saved(tmp_path, "gsm8k", docs, ["1"], {"doc": 5}))
    broken = {"doc": {"answer": 5}}
    refused(
        r"samples\.jsonl, line 1, doc: 'answer' must be text that is not blank, not 5",
        saved(tmp_path, "gsm8k", docs, ["1"], broken),
    )
    damaged = saved(tmp_path, "gsm8k", docs, ["1"])
    for content, message in (('{"results": ', "is not valid JSON"), ("{}", "has no 'results'")):
        (damaged / RESULTS).write_text(content)
        refused(rf"results\.json {message}", damaged)


def test_scoring_again_loads_neither_torch_nor_lm_eval(tmp_path: Path) -> None:
    folder = saved(tmp_path, "math-500", [{"answer": "1"}, {"answer": "2"}], ["\\boxed{1}", "\\boxed{1}"])
    program = (
        "import sys\nfrom evaluation.report.rescore import main\nstatus = main()\n"
        "loaded = {'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not loaded, loaded\nsys.exit(status)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].split() == ["math-500", "math_verify,none", "N/A", "0.5000", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "evaluation", "rescore", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stdout.splitlines()[1:]) == (2, [])
    assert done.stderr.startswith("error: ")
