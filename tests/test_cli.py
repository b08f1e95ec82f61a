"""Whole runs of eval.py on tiny checkpoints: command lines, errors, processes, run folders."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval
import pytest
from lm_eval.utils import simple_parse_args_string
from omegaconf import OmegaConf

from cache_zoo import UsageError, list_caches
from evaluation import eval_command as cli
from evaluation.report.rescore import rescore
from evaluation.run import lm_eval_plugin as plugin
from models.tiny import byte_tokenizer
from tests import processes
from tests.layers import MISSING

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["generation.gen_length=8", "generation.block_length=4", "dataset.n_shot=1"]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three questions of each kind, in the published columns."""
    root = tmp_path_factory.mktemp("data")
    numbers = range(3)
    rows: dict[str, list[dict[str, Any]]] = {
        "gsm8k/test": [{"question": f"What is {n} + 1?", "answer": f"It is more.\n#### {n + 1}"} for n in numbers],
        "gsm8k/train": [{"question": f"What is {n} + 9?", "answer": f"Add.\n#### {n + 9}"} for n in range(6)],
        "mbpp/test": [
            {
                "task_id": n,
                "text": f"Write a function g{n}.",
                "code": f"def g{n}():\r\n    return 1",
                "test_setup_code": "",
                "test_list": [f"assert g{n}() == 1"] * 3,
                "challenge_test_list": [],
            }
            for n in numbers
        ],
        "math500/test": [{"problem": f"Find ${n}+1$.", "solution": "Add.", "answer": f"{n + 1}"} for n in numbers],
        "humaneval/test": [
            {
                "task_id": f"HumanEval/{n}",
                "prompt": f"def f{n}():\n",
                "entry_point": f"f{n}",
                "canonical_solution": "    return 1\n",
                "test": "def check(f):\n    assert f() == 1\n",
            }
            for n in numbers
        ],
    }
    for name, records in rows.items():
        file = root / f"{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    folders = {"gsm8k": "gsm8k", "math-500": "math500", "humaneval": "humaneval", "mbpp": "mbpp"}
    return {name: root / folder for name, folder in folders.items()}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run eval.py's main in this process, from an empty directory; a sweep in one that forks its workers."""

    def call(*arguments: object) -> Result:
        if "-m" in arguments:
            return launched([str(ROOT / "eval.py"), *map(str, arguments)], tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
        capsys.readouterr()
        code = cli.main()
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def short(tiny_folders: dict[str, Path], data: dict[str, Path]) -> list[str]:
    """Arguments of a quick run."""
    return [f"model.path={tiny_folders['llada']}", f"dataset.path={data['gsm8k']}", *SHORT]


def samples_of(result: Result) -> list[dict[str, Any]]:
    file = Path(result.lines[-1]["folder"]) / "samples.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def what(samples: list[dict[str, Any]], batches: bool = False) -> list[dict[str, Any]]:
    """Samples without their times and, unless ``batches``, without what depends on the batch they were in."""
    varying = ("seconds",) if batches else ("seconds", "batch", "work")
    for sample in samples:
        sample["work"].pop("processor_seconds", None)
    return [{key: value for key, value in sample.items() if key not in varying} for sample in samples]


def in_two_processes(arguments: list[str], cwd: Path) -> Result:
    """eval.py in two processes, as accelerate or torchrun starts them; the output of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(rank: str) -> processes.Process:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        env = processes.environment(**variables, MASTER_PORT=port)
        return processes.Process([str(ROOT / "eval.py"), *arguments], cwd=cwd, env=env)

    with start("0") as first, start("1") as second:
        codes = first.wait(), second.wait()
    return Result(max(codes), first.out + second.out, first.err + second.err)


def launched(command: list[str], cwd: Path) -> Result:
    done = processes.run(command, cwd=cwd)
    return Result(done.returncode, done.stdout, done.stderr)


COMMAND_LINES = {
    "gsm8k": "dataset.name=gsm8k batch_size=1 seed=1234 cache=prefix generation=vanilla generation.block_length=32 "
    "model=llada-base",
    "math-500": "dataset.name=math-500 cache=dllm cache.rou=0.25 cache.kp=50 cache.kr=1 model=dream-inst",
    "humaneval": "dataset.name=humaneval cache=d2cache cache.rollout_p=0.1 cache.current_k=32 cache.sigma=10 "
    "cache.inflate_w=4 generation.sigma=0 attn_implementation=eager model=llada-inst",
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("family", ["llada", pytest.param("dream", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(COMMAND_LINES))
def test_documented_command_lines(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path], family: str, name: str
) -> None:
    arguments = [
        f"model.path={tiny_folders[family]}",
        f"model.family={family}",
        f"dataset.path={data[name]}",
        "dataset.size=1",
    ]
    result = run(*COMMAND_LINES[name].split(), *arguments)
    assert result.code == 0, result.err
    (summary,) = result.lines
    assert (summary["status"], summary["dataset"], summary["n"]) == ("done", name, 1)
    if name == "humaneval":
        assert summary["score"] is None
        assert "allow_code_execution" in summary["note"]
        results = json.loads((Path(summary["folder"]) / "results.json").read_text())
        assert results["results"][name]["score,none"] == "N/A"
    else:
        assert summary["score"] in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llada", pytest.param("dream", marks=pytest.mark.slow)])
def test_a_sweep_over_the_caches(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path], family: str, tmp_path: Path
) -> None:
    arguments = [
        f"model.path={tiny_folders[family]}",
        f"model.family={family}",
        f"dataset.path={data['gsm8k']}",
        "dataset.size=1",
        *SHORT,
    ]
    result = run("-m", "cache=none,prefix,dual,dllm,d2cache", "model=dream-inst", "dataset.name=gsm8k", *arguments)
    assert result.code == 0, result.err
    assert [line["cache"] for line in result.lines] == ["none", "prefix", "dual", "dllm", "d2cache"]
    assert {line["status"] for line in result.lines} == {"done"}
    ratios = [line["compute_ratio"] for line in result.lines]
    assert ratios[0] == 1
    assert all(ratio < 1 for ratio in ratios[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_two_spellings_of_one_cache_decode_the_same(run: Run, short: list[str]) -> None:
    one = samples_of(run("cache=dual", *short))
    other = samples_of(run("cache=prefix", "cache.use_dual=true", *short))
    assert what(one) == what(other)


def test_what_a_run_leaves_behind(run: Run, short: list[str], tmp_path: Path) -> None:
    result = run("cache=dllm", "dataset.size=2", *short)
    assert result.code == 0, result.err
    (summary,) = result.lines
    folder = tmp_path / summary["folder"]
    assert folder.parent == tmp_path / "results"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "results.json",
        "samples.jsonl",
        "status.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    results = json.loads((folder / "results.json").read_text())
    assert {"results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"} <= set(results)
    assert results["n-samples"]["gsm8k"] == {"original": 3, "effective": 2}
    assert (summary["n"], summary["partial"], summary["items_total"]) == (2, True, 3)
    assert results["summary"] == summary
    assert results["n-shot"]["gsm8k"] == 1
    assert results["efficiency"]["nfe"] == 8
    assert 0 < results["efficiency"]["compute_ratio"] < 1
    assert results["efficiency"]["peak_memory_bytes"] is None
    assert results["provenance"]["dtype"] == "float32"
    assert results["config"]["model"]["dtype"] == "float32"
    assert len(results["provenance"]["dataset_sha256"]["gsm8k"]) == 64
    template = byte_tokenizer().get_chat_template()
    assert results["provenance"]["chat_template_sha256"] == sha256(template.encode()).hexdigest()
    samples = samples_of(result)
    assert [sample["doc_id"] for sample in samples] == [0, 1]
    assert samples[0]["target"] == "It is more.\n#### 1"
    assert set(samples[0]["metrics"]) == {"exact_match,strict-match", "exact_match,flexible-extract"}
    assert samples[0]["doc"] == {"answer": "It is more.\n#### 1"}
    assert {"raw", "text", "tokens_out", "forwards", "seconds", "seed", "prompt_sha256"} <= set(samples[0])


def test_random_answers_do_not_depend_on_the_batch(run: Run, short: list[str]) -> None:
    one = samples_of(run("generation.temperature=1.0", "batch_size=1", *short))
    three = samples_of(run("generation.temperature=1.0", "batch_size=3", *short))
    other = samples_of(run("generation.temperature=1.0", "seed=1", *short))
    assert what(one) == what(three)
    assert [sample["raw"] for sample in one] != [sample["raw"] for sample in other]


def test_the_chat_template_and_the_system_prompt_reach_the_prompt(run: Run, short: list[str]) -> None:
    lengths = [
        samples_of(run(*arguments, "dataset.size=1", *short))[0]["prompt_tokens"]
        for arguments in (
            ["model=llada-base"],
            ["model=llada-inst"],
            ["model=llada-inst", "dataset.system_prompt='Be brief.'"],
            ["model=llada-inst", "model.system_prompt='Be brief.'"],
        )
    ]
    assert lengths[0] < lengths[1] < lengths[2] == lengths[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache=prefix", "generation.block_length=8"], "PrefixCache needs blocks"),
        (["cache=d3cache"], "did you mean 'd2cache'?"),
        (["suffix=windw"], "did you mean 'window'?"),
        (["suffix=window", "suffix.windw=3"], "did you mean 'suffix.window'?"),
        (["suffix=window", "suffix.window=-1"], "'window' must be at least 0"),
        (["suffix.window=3"], "it belongs to suffix=window and suffix=dropout"),
        (["store=int9"], "unknown store 'int9': did you mean 'int8'?"),
        (["store=int8"], "store=int8 is a format of stored keys and values, and NoCache stores none"),
        (["generation.max_block=3"], "it belongs to generation=cadllm"),
        (["generation=window", "generation.widnow=3"], "did you mean 'generation.window'?"),
        (["generation=window", "generation.window=0"], "'window' must be at least 1"),
        (["generation.strategy=window", "+generation.widnow=3"], "did you mean 'window'?"),
        (["generation.strategy=vanila"], "did you mean 'vanilla'?"),
        (["generation.treshold=0.9"], "did you mean 'generation.threshold'?"),
        (["generation.block_length=3"], "block_length 3 does not divide gen_length 8"),
        (["dataset.path=/no/such/place"], "dataset.path /no/such/place does not exist"),
        (["dataset.name=gsm8"], "did you mean 'gsm8k'?"),
        (["dataset.name=math-500"], "has no 'problem'; its columns are question, answer"),
        (["dataset.n_shot=7"], "needs 7 few-shot examples, 6 are available"),
        (["model.path=/no/such/place"], "no model '/no/such/place'"),
        (["generation.gen_length=8192"], "more than the model's context of 8192"),
        (["model.device=gpu"], "unknown device 'gpu'"),
    ],
)
def test_what_cannot_be_used_is_one_error_and_leaves_nothing(
    run: Run, short: list[str], arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = run(*short, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "no config", "no tokenizer", "no template"])
def test_a_damaged_checkpoint_is_one_error(
    run: Run, tiny_folders: dict[str, Path], short: list[str], damage: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tiny_folders["llada"].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if damage == "truncated":
        (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:5000])
    for victim in {
        "missing": ["model.safetensors"],
        "no config": ["config.json"],
        "no tokenizer": ["tokenizer.json", "tokenizer_config.json"],
        "no template": ["chat_template.jinja"],
    }.get(damage, []):
        (copy / victim).unlink()
    result = run(*short, f"model.path={copy}")
    assert (result.code, result.out) == (2, "")
    assert f"error: {copy}" in result.err or f"the tokenizer in {copy}" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_malformed_data_is_one_error(run: Run, short: list[str], tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": "q", "answer": "#### 1"}\n{"question"')
    result = run(*short, f"dataset.path={file}")
    assert result.code == 2
    assert f"error: {file}, line 2 is not valid JSON" in result.err


def test_few_shot_examples_never_come_from_the_questions(
    run: Run, short: list[str], data: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_bytes((data["gsm8k"] / "test.jsonl").read_bytes())
    result = run(*short, f"dataset.path={file}")
    assert result.code == 2
    assert "0 are available" in result.err
    assert run(*short, f"dataset.path={file}", "dataset.n_shot=0", "dataset.size=1").code == 0


def test_a_sweep_continues_past_an_unusable_cell(run: Run, short: list[str]) -> None:
    result = run("-m", "cache=prefix,none", "dataset.size=1", *short, "generation.block_length=8")
    assert result.code == 0, result.err
    assert [line["status"] for line in result.lines] == ["skipped", "done"]
    assert "needs blocks" in result.lines[0]["reason"]


def test_a_mistake_in_a_sweep_is_found_before_its_first_cell(run: Run, short: list[str], tmp_path: Path) -> None:
    result = run("-m", "cache=none,dllm", "cache.kp=3", *short)
    assert (result.code, result.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_breaks_says_so(run: Run, short: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from cache_zoo import Cache\n\n\nclass Broken(Cache):\n    def rows(self, step):\n        raise KeyError\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        result = run("+cache._target_=broken.Broken", *short)
    finally:
        sys.path.remove(str(tmp_path))
    assert result.code == 1
    assert result.lines[-1]["status"] == "failed"
    (status,) = (tmp_path / "results").glob("*Broken*/status.json")
    assert json.loads(status.read_text())["status"] == "failed"


ACCELERATE = ["-m", "accelerate.commands.launch", "--num_processes"]


@pytest.mark.parametrize("accelerate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_several_processes_answer_what_one_does(run: Run, short: list[str], tmp_path: Path, accelerate: bool) -> None:
    arguments = ["generation.temperature=1.0", "batch_size=2", "cache=dual", *short]
    one = run(*arguments)
    arguments.append("output_dir=two")
    if accelerate:  # which takes --multi_gpu to start two processes where there is no GPU
        launch = [*ACCELERATE, "2", "--multi_gpu", "--main_process_port", "0"]
        two = launched([*launch, str(ROOT / "eval.py"), *arguments], tmp_path)
    else:
        two = in_two_processes(arguments, tmp_path)
    assert two.code == 0, two.err
    assert len(two.lines) == 1
    folder = tmp_path / two.lines[-1]["folder"]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert what(samples, batches=True) == what(samples_of(one), batches=True)
    results = json.loads((folder / "results.json").read_text())
    assert results["efficiency"]["processes"] == 2
    assert two.lines[-1]["score"] == one.lines[-1]["score"]


@pytest.mark.slow
def test_the_documented_launch(tiny_folders: dict[str, Path], data: dict[str, Path], tmp_path: Path) -> None:
    launch = [*ACCELERATE, "4", str(ROOT / "eval.py")]
    paths = [f"model.path={tiny_folders['llada']}", f"dataset.path={data['gsm8k']}", "dataset.size=2"]
    result = launched([*launch, *COMMAND_LINES["gsm8k"].split(), *paths], tmp_path)
    assert result.code == 0, result.err
    assert result.lines[-1]["n"] == 2


def test_a_sweep_under_a_launcher_is_refused(run: Run, short: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run("-m", "cache=none,dual", *short)
    assert result.code == 2
    assert "would run the whole sweep in every process" in result.err


def test_the_program_itself_exits_with_two(tmp_path: Path) -> None:
    result = launched([str(ROOT / "eval.py"), "cache=dulal"], tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: unknown choice 'cache=dulal': did you mean 'dual'? Valid choices: {', '.join(sorted(list_caches()))}\n"
    )


def test_help_names_choices_and_keys(tmp_path: Path) -> None:
    result = launched([str(ROOT / "eval.py"), "--help"], tmp_path)
    assert result.code == 0
    for text in (
        f"cache: {', '.join(sorted(list_caches()))}",
        "model: diffucoder-base",
        "gen_length: 128",
        "Exit status",
        "recipe: adablock, d2cache, daedal",
        "mc_num: 128",
    ):
        assert text in result.out


def test_results_hold_no_path_of_the_checkout(run: Run, tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["dataset=nano-gsm", "dataset.size=1", "dataset.n_shot=0", *SHORT[:2]]
    result = run(f"model.path={tiny_folders['llada']}", *arguments)
    results = (tmp_path / result.lines[-1]["folder"] / "results.json").read_text()
    assert '"config_source": "evaluation/tasks/nano-gsm.yaml"' in results
    assert str(ROOT) not in results


def test_the_embedded_task_needs_no_data(run: Run, tiny_folders: dict[str, Path]) -> None:
    result = run(f"model.path={tiny_folders['llada']}", "dataset=nano-gsm", "dataset.size=2", *SHORT)
    assert result.code == 0, result.err
    assert result.lines[-1]["dataset"] == "nano-gsm"
    assert result.lines[-1]["metric"] == "exact_match,strict-match"
    assert result.lines[-1]["n"] == 2


def test_generated_code_is_run_only_where_that_is_allowed(run: Run, tiny_folders: dict[str, Path]) -> None:
    arguments = ["model=llada-base", f"model.path={tiny_folders['llada']}", "dataset=nano-code", "dataset.size=2"]
    short = ["generation.gen_length=8", "generation.block_length=4", f"sandbox_disable=[{','.join(MISSING)}]"]
    kept, scored = run(*arguments, *short), run(*arguments, *short, "allow_code_execution=true")
    for result in (kept, scored):
        assert result.code == 0, result.err
        assert result.lines[-1]["n"] == 2
    assert (kept.lines[-1]["metric"], kept.lines[-1]["score"]) == (None, None)
    assert "allow_code_execution=true" in kept.lines[-1]["note"]
    assert [sample["metrics"] for sample in samples_of(kept)] == [{}, {}]
    summary = scored.lines[-1]
    assert (summary["metric"], summary["score"]) == ("pass@1,none", 0.0)
    assert "note" not in summary
    for one, other in zip(samples_of(kept), samples_of(scored), strict=True):
        assert one["raw"] == other["raw"]
        assert other["metrics"]["pass@1,none"] == 0.0
        assert other["metrics"]["outcome,none"].startswith("failed: ")
    results = json.loads((Path(summary["folder"]) / "results.json").read_text())
    assert results["results"]["nano-code"]["outcome,none"] == {"failed": 2}
    assert run(*arguments, "allow_code_execution=1").code == 2
    refused = run(*arguments, "allow_code_execution=true", "sandbox_disable=[landlok]")
    assert refused.code == 2
    assert "unknown layer 'landlok' in sandbox_disable: did you mean 'landlock'?" in refused.err


CODE_METRICS = {
    "humaneval": ("pass@1", "create_test", "create_test"),
    "humaneval_instruct": ("pass@1", "create_test", "extract_code"),
    "mbpp": ("pass_at_1", "none", "none"),
    "mbpp_instruct": ("pass_at_1", "none", "extract_code"),
}


@pytest.mark.parametrize(
    "task", ["humaneval", *(pytest.param(name, marks=pytest.mark.slow) for name in CODE_METRICS if name != "humaneval")]
)
def test_code_is_kept_and_scored_now_or_later(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", no_network)
    arguments = [f"model.path={tiny_folders['llada']}", f"dataset={task}", f"dataset.path={data[task.split('_')[0]]}"]
    arguments += ["generation.gen_length=8", "generation.block_length=4"]
    arguments += [f"sandbox_disable=[{','.join(MISSING)}]"]
    arguments += ["model=llada-inst" if task.endswith("_instruct") else "model=llada-base"]
    kept, scored = run(*arguments), run(*arguments, "allow_code_execution=true")
    assert (kept.code, scored.code) == (0, 0), kept.err + scored.err
    metric, strict, headline = CODE_METRICS[task]
    summary = kept.lines[-1]
    assert (summary["metric"], summary["score"], summary["partial"]) == (None, None, False)
    results = json.loads((Path(summary["folder"]) / "results.json").read_text())
    assert results["results"][task]["score,none"] == "N/A"
    assert results["n-samples"][task] == {"original": 3, "effective": 3}
    for sample in samples_of(kept):
        assert (sample["metrics"], set(sample["filtered"])) == ({}, {strict, "extract_code"})
    summary = scored.lines[-1]
    assert (summary["metric"], summary["score"]) == (f"{metric},{headline}", 0.0)
    results = json.loads((Path(summary["folder"]) / "results.json").read_text())
    assert {f"{metric},{strict}", f"{metric},extract_code", f"outcome,{strict}"} <= set(results["results"][task])
    again = rescore(Path(kept.lines[-1]["folder"]), allow_code_execution=True, sandbox_disable=MISSING)["results"][task]
    assert again == {key: results["results"][task][key] for key in again}
    again = rescore(Path(summary["folder"]), allow_code_execution=True, sandbox_disable=MISSING)
    assert set(again["changed"][task].values()) == {0}
    assert again["results"] == again["saved"]


def no_network(*_: object) -> None:
    raise AssertionError("nothing may be fetched where dataset.path is given")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("task", ["gsm8k", "math-500", "math-500_instruct", "nano-gsm"])
def test_saved_generations_score_as_they_did(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", no_network)
    arguments = [f"model.path={tiny_folders['llada']}", f"dataset={task}", "dataset.size=3", *SHORT[:2]]
    if task in ("gsm8k", "math-500", "math-500_instruct"):
        arguments += [f"dataset.path={data[task.split('_')[0]]}"]
    result = run(*arguments)
    assert result.code == 0, result.err
    again = rescore(Path(result.lines[-1]["folder"]))
    assert again["results"] == again["saved"]
    assert result.lines[-1]["metric"] in again["results"][task]


def test_the_prompt_of_a_code_task_ends_in_the_middle_of_the_answer(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path]
) -> None:
    arguments = [
        f"model.path={tiny_folders['llada']}",
        f"dataset.path={data['humaneval']}",
        "dataset.size=1",
        *SHORT[:2],
    ]
    (sample,) = samples_of(run(*arguments, "dataset=humaneval_instruct", "model=llada-base"))
    prompt = (
        "Write a solution to the following problem and make sure that it passes the tests:\n"
        "```python\ndef f0():\n\n```\nHere is the completed function:\n```python\ndef f0():\n\n"
    )
    assert sample["prompt_sha256"] == sha256(prompt.encode()).hexdigest()


def test_code_prompts_are_as_in_training(run: Run, tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"def f{n}(x):\n",
            "body": f"    return {n}\n",
            "entry_point": f"f{n}",
            "tests": f"assert f{n}(1) == {n}",
        }
        for n in (1, 2)
    ]
    for split, row in zip(("train", "test"), rows, strict=True):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row))
    arguments = ["model=llada-base", f"model.path={tiny_folders['llada']}", "dataset=nano-code", *SHORT]
    (sample,) = samples_of(run(*arguments, f"dataset.path={tmp_path}"))
    prompt = "def f1(x):\n    return 1\n\ndef f2(x):\n"
    assert sample["prompt_sha256"] == sha256(prompt.encode()).hexdigest()
    assert sample["target"] == "    return 2"


@pytest.fixture(scope="session")
def quiz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a multiple-choice task and one that scores a single answer, their data beside them."""
    folder = tmp_path_factory.mktemp("quiz")
    rows = [
        {"question": f"Is {n} more than 1?", "choices": ["no", "yes, it is"], "label": int(n > 1)} for n in range(4)
    ]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = (
        "task: {name}\noutput_type: {kind}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        "  cache_dir: {folder}\ntest_split: test\nnum_fewshot: 0\ndoc_to_text: '{{{{question}}}}'\n{more}"
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
        "metadata:\n  version: 1.0\n"
    )
    kinds = {
        "multiple_choice": "doc_to_choice: '{{choices}}'\ndoc_to_target: label\n",
        "loglikelihood": "doc_to_target: ' {{choices[label]}}'\n",
        "loglikelihood_rolling": "doc_to_target: '{{question}}'\n",
    }
    for kind, more in kinds.items():
        text = task.format(name=f"quiz-{kind}", kind=kind, data=folder / "quiz.jsonl", folder=folder, more=more)
        (folder / f"{kind}.yaml").write_text(text)
    return folder


def quiz_arguments(folder: Path, quiz: Path, kind: str = "multiple_choice") -> list[str]:
    return [f"model.path={folder}", "model=llada-base", f"include_path={quiz}", f"dataset.name=quiz-{kind}"]


@pytest.mark.parametrize("family", ["llada", pytest.param("dream", marks=pytest.mark.slow)])
def test_a_multiple_choice_task(run: Run, tiny_folders: dict[str, Path], quiz: Path, family: str) -> None:
    arguments = [*quiz_arguments(tiny_folders[family], quiz), f"model.family={family}", "likelihood.mc_num=16"]
    result = run(*arguments, "batch_size=1")
    assert result.code == 0, result.err
    (summary,) = result.lines
    assert (summary["metric"], summary["n"], summary["tokens_per_second"]) == ("acc,none", 4, None)
    samples = samples_of(result)
    # the task's own rule, on what was recorded
    for sample in samples:
        best = max(range(2), key=lambda choice: sample["choices"][choice]["log_likelihood"])
        assert sample["metrics"]["acc,none"] == float(best == int(sample["target"]))
    assert summary["score"] == sum(sample["metrics"]["acc,none"] for sample in samples) / 4
    assert [choice["answer"] for choice in samples[0]["choices"]] == [" no", " yes, it is"]
    assert [choice["answer_tokens"] for choice in samples[0]["choices"]] == [3, 11]
    # 7 masks of 3 tokens, all of them, and at most 16 different draws of 11; at least one forward each to test greedy
    assert 7 + 2 < samples[0]["forwards"] <= 7 + 16 + 3 + 11
    likelihoods = [[c["log_likelihood"] for c in sample["choices"]] for sample in samples]
    assert all(value < 0 for pair in likelihoods for value in pair)
    batched = samples_of(run(*arguments, "batch_size=5"))
    for one, other in zip(samples, batched, strict=True):
        assert [c["log_likelihood"] for c in one["choices"]] == pytest.approx(
            [c["log_likelihood"] for c in other["choices"]], rel=1e-5
        )
    results = json.loads((Path(summary["folder"]) / "results.json").read_text())
    assert results["efficiency"]["tokens_out"] is None
    assert results["efficiency"]["compute_ratio"] == 1


def test_an_answer_that_greedy_decoding_gives(run: Run, tiny_folders: dict[str, Path], quiz: Path) -> None:
    result = run(*quiz_arguments(tiny_folders["llada"], quiz, "loglikelihood"), "likelihood.mc_num=2")
    assert result.code == 0, result.err
    assert (result.lines[0]["metric"], result.lines[0]["score"]) == ("acc,none", 0.0)
    assert [len(sample["choices"]) for sample in samples_of(result)] == [1] * 4


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        (
            "multiple_choice",
            "cache=dllm",
            "scores given answers and generates nothing, so cache=dllm has nothing to do",
        ),
        ("loglikelihood_rolling", "seed=1", "asks for loglikelihood_rolling, the likelihood of whole texts"),
        pytest.param("multiple_choic", "seed=1", "did you mean 'quiz-multiple_choice'?", marks=pytest.mark.slow),
    ],
)
def test_likelihoods_that_cannot_be_had_are_one_error(
    run: Run, tiny_folders: dict[str, Path], quiz: Path, kind: str, more: str, message: str
) -> None:
    result = run(*quiz_arguments(tiny_folders["llada"], quiz, kind), more)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("task: [oops", "mine", "mine.yaml is not a task file: while parsing"),
        ("- a list", "gsm8k", "mine.yaml is not a task file: Expected YAML dict"),
        ("task: gsm8k", "gsm8k", "mine.yaml has a task 'gsm8k', a name that cache-zoo uses: give it another one"),
        ("include: absent.yaml\ntask: mine", "mine", "mine.yaml is not a task file: "),
    ],
)
def test_task_files_that_would_be_passed_over_are_refused(
    run: Run, short: list[str], tmp_path: Path, content: str, name: str, message: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(content)
    result = run(*short, f"include_path={tmp_path / 'mine'}", f"dataset.name={name}")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_columns_that_a_task_of_lm_eval_lacks_are_named(run: Run, short: list[str]) -> None:
    result = run(*short, "dataset.name=wikitext")
    assert result.code == 2
    assert "dataset 'wikitext' can't be loaded (there is no 'page'); see the rows in dataset.path" in result.err


PUBLISHED = {"gsm8k": "gsm8k", "math-500": "math500", "humaneval": "humaneval", "mbpp": "mbpp"}


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "name", ["math-500", *(pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED if name != "math-500")]
)
def test_the_published_benchmarks_run_on_an_embedded_model(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts with all examples fit the model's context and are scored; nothing is fetched."""
    folder = ROOT.parent / "shared" / "data" / PUBLISHED[name]
    if not folder.is_dir():
        pytest.skip(f"the published files of {name} are not here")
    monkeypatch.setattr("socket.socket.connect", no_network)
    arguments = ["model=nano-llada", f"dataset.name={name}", f"dataset.path={folder}", "dataset.size=2"]
    arguments += [f"sandbox_disable=[{','.join(MISSING)}]", "allow_code_execution=true"]
    result = run(*arguments, "generation.gen_length=8", "generation.block_length=8")
    assert result.code == 0, result.err
    (summary,) = result.lines
    assert (summary["n"], summary["partial"]) == (2, True)
    assert summary["items_total"] == {"gsm8k": 1319, "math-500": 500, "humaneval": 164, "mbpp": 500}[name]
    assert summary["score"] in (0, 0.5, 1)
    samples = samples_of(result)
    assert all(sample["metrics"] and sample["doc"] and sample["raw"] for sample in samples)
    results = json.loads((Path(summary["folder"]) / "results.json").read_text())
    measured = results["efficiency"]
    # with one question per batch the parts are the whole, and the warm-up is in none of them
    for key in ("forwards", "rows", "rows_full", "keys", "logits", "flops"):
        assert measured[key] == sum(sample["work"][key] for sample in samples)
    assert measured["seconds"] == pytest.approx(sum(sample["seconds"] for sample in samples))
    assert measured["forwards"] == sum(sample["forwards"] for sample in samples) == 16
    assert measured["tokens_out"] == sum(sample["tokens_out"] for sample in samples)
    assert measured["tokens_canvas"] == sum(sample["tokens_canvas"] for sample in samples) == 16


@pytest.mark.slow
@pytest.mark.parametrize("task", [pytest.param("math-500", marks=pytest.mark.slow), "humaneval"])
def test_several_processes_score_tasks_as_one_does(
    run: Run, tiny_folders: dict[str, Path], data: dict[str, Path], task: str, tmp_path: Path
) -> None:
    """Two questions for one process and one for the other; only the first one runs what was generated."""
    arguments = [f"model.path={tiny_folders['llada']}", f"dataset={task}", f"dataset.path={data[task]}"]
    arguments += ["model=llada-base", "cache=dual", *SHORT[:2], "allow_code_execution=true"]
    arguments += [f"sandbox_disable=[{','.join(MISSING)}]", "generation.temperature=1.0"]
    one = run(*arguments)
    two = in_two_processes([*arguments, "output_dir=two"], tmp_path)
    assert (one.code, two.code) == (0, 0), two.err
    folders = Path(one.lines[-1]["folder"]), tmp_path / two.lines[-1]["folder"]
    alone, shared = (json.loads((folder / "results.json").read_text()) for folder in folders)
    lines = (folders[1] / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert what([json.loads(line) for line in lines], batches=True) == what(samples_of(one), batches=True)
    assert shared["results"] == alone["results"]
    assert (shared["efficiency"]["processes"], shared["efficiency"]["samples"]) == (2, 3)


@pytest.mark.slow
def test_several_processes_score_what_one_does(
    run: Run, tiny_folders: dict[str, Path], quiz: Path, tmp_path: Path
) -> None:
    arguments = [*quiz_arguments(tiny_folders["dream"], quiz), "model.family=dream"]
    arguments += ["likelihood.mc_num=16", "batch_size=2"]
    one = run(*arguments)
    two = in_two_processes([*arguments, "output_dir=two"], tmp_path)
    assert two.code == 0, two.err
    file = tmp_path / two.lines[-1]["folder"] / "samples.jsonl"
    for alone, shared in zip(samples_of(one), map(json.loads, file.read_text().splitlines()), strict=True):
        assert shared["metrics"] == alone["metrics"]
        assert shared["forwards"] == alone["forwards"]
        assert [c["greedy"] for c in shared["choices"]] == [c["greedy"] for c in alone["choices"]]
        assert [c["log_likelihood"] for c in shared["choices"]] == pytest.approx(
            [c["log_likelihood"] for c in alone["choices"]], rel=1e-5
        )
    assert two.lines[-1]["score"] == one.lines[-1]["score"]


def test_a_recipe_shows_in_the_configuration_and_in_a_sweep(run: Run, short: list[str], tmp_path: Path) -> None:
    shown = launched([str(ROOT / "eval.py"), "+recipe=fast_dllm", "generation.gen_length=64", "--cfg", "job"], tmp_path)
    assert shown.code == 0, shown.err
    for text in ("threshold: 0.9", "gen_length: 64", "name: fast_dllm", "n_shot: 5"):
        assert text in shown.out
    refused = launched([str(ROOT / "eval.py"), "+recipe=fast_dlm", "--cfg", "job"], tmp_path)
    assert (refused.code, refused.out) == (2, "")
    result = run("-m", "+recipe=fast_dllm,d2cache", "cache=dual", "dataset.size=1", *short)
    assert result.code == 0, result.err
    configs = [OmegaConf.load(tmp_path / line["folder"] / "config.yaml") for line in result.lines]
    assert [config.generation.threshold for config in configs] == [0.9, None]
    assert [config.recipe.name for config in configs] == ["fast_dllm", "d2cache"]


@pytest.fixture(scope="session")
def local_gsm8k(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Path]) -> Path:
    """A folder with lm-eval's own gsm8k on local data."""
    folder = tmp_path_factory.mktemp("tasks")
    text = (Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("dataset_path:", "dataset_name:"))]
    files = "".join(f"    {split}: {data['gsm8k'] / f'{split}.jsonl'}\n" for split in ("train", "test"))
    source = f"dataset_path: json\ndataset_kwargs:\n  cache_dir: {folder}\n  data_files:\n{files}"
    (folder / "gsm8k.yaml").write_text(source + "\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_lm_evals_own_program_gives_the_same_samples(
    run: Run, tiny_folders: dict[str, Path], local_gsm8k: Path, short: list[str], tmp_path: Path
) -> None:
    ours = run(*short, "model=llada-base", "cache=dual", "generation.temperature=1.0", "batch_size=2")
    arguments = f"model=llada-base,pretrained={tiny_folders['llada']},cache=dual,gen_length=8,block_length=4"
    command = ["--model", "cache_zoo", "--model_args", f"{arguments},temperature=1.0", "--tasks", "gsm8k"]
    command += ["--include_path", str(local_gsm8k), "--num_fewshot", "1", "--batch_size", "2"]
    theirs = launched(["-m", "evaluation", "lm-eval", *command, "--log_samples", "--output_path", "out"], tmp_path)
    assert theirs.code == 0, theirs.err
    (file,) = (tmp_path / "out").rglob("samples_gsm8k_*.jsonl")
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    texts = {record["doc_id"]: record["resps"][0][0] for record in records}
    assert texts == {sample["doc_id"]: sample["text"] for sample in samples_of(ours)}


@pytest.mark.slow
def test_lm_evals_own_program_knows_the_embedded_tasks(tmp_path: Path) -> None:
    arguments = "pretrained=nano-llada,cache=dual,gen_length=64,block_length=32,threshold=0.9"
    command = ["--model", "cache_zoo", "--model_args", arguments, "--tasks", "nano-gsm", "--limit", "2"]
    command += ["--include_path", str(ROOT / "evaluation" / "tasks"), "--output_path", "out"]
    done = launched(["-m", "evaluation", "lm-eval", *command], tmp_path)
    assert done.code == 0, done.err
    (file,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(file.read_text())["results"]["nano-gsm"]["exact_match,strict-match"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cache=dual", "--model_args has no 'pretrained'"),
        ("pretrained=llada-base,gen_lenght=8", "unknown key 'gen_lenght' in --model_args: did you mean 'gen_length'?"),
        ("pretrained=llada-base,cache=duall", "did you mean 'dual'?"),
        ("pretrained=llada-base,cache=dllm,cache_kpp=3", "did you mean 'cache.kp'?"),
        ("pretrained=llada-base,suffix=windo", "did you mean 'window'?"),
        ("pretrained=llada-base,store=int9", "did you mean 'int8'?"),
        ("pretrained=llada-base,generation=window,generation_widnow=3", "did you mean 'window'?"),
        ("pretrained=llada-base,cache=dllm,cache.kp=0", "'kp' must be at least 1"),
        ("pretrained=llada-base,gen_length=8,block_length=3", "block_length 3 does not divide gen_length 8"),
        ("pretrained=llada-bas", "did you mean 'llada-base'?"),
        ("pretrained=llada-base,apply_chat_template=True", "give --apply_chat_template to lm-eval itself"),
    ],
)
def test_bad_model_args_are_one_error(arguments: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plugin.CacheZooModel.create_from_arg_string(arguments, {"batch_size": 1, "device": None})
    assert message in str(caught.value)


def test_model_args_are_read(tiny_folders: dict[str, Path]) -> None:
    arguments = "pretrained=dream-base,cache=dllm,cache_kp=5,cache.kr=2,threshold=0.5,block_length=null,mc_num=4,seed=3"
    found = plugin.read_arguments({**simple_parse_args_string(arguments), "batch_size": "4", "max_batch_size": None})
    assert (found.model.name, found.model.add_bos, found.batch_size, found.seed) == ("dream-base", True, 4, 3)
    assert found.cache.parameters == {"kp": 5, "kr": 2, "rou": 0.25}
    assert (found.generation.threshold, found.generation.block_length, found.likelihood.mc_num) == (0.5, None, 4)
    assert (found.suffix.label, found.store) == ("all", "native")
    arguments = "pretrained=dream-base,cache=dual,suffix=window,suffix_window=8,store=int8,generation=window"
    found = plugin.read_arguments(simple_parse_args_string(f"{arguments},generation_window=4,block_length=16"))
    assert (found.suffix.label, found.suffix.parameters, found.store) == ("window", {"window": 8}, "int8")
    assert (found.generation.strategy, found.generation.parameters) == ("window", {"window": 4})
    folder = tiny_folders["llada"]
    assert plugin.read_arguments({"pretrained": str(folder), "dtype": "float32"}).model.path == str(folder)


@pytest.mark.slow
def test_bad_model_args_end_the_program_with_two(tmp_path: Path) -> None:
    command = [
        "-m",
        "evaluation.run.lm_eval_plugin",
        "--model",
        "cache_zoo",
        "--model_args",
        "pretrained=llada-base,cahce=dual",
    ]
    result = launched([*command, "--tasks", "gsm8k"], tmp_path)
    assert result.code == 2
    assert "error: unknown key 'cahce' in --model_args: did you mean 'cache'?" in result.err
    assert "Traceback" not in result.err
