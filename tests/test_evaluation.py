"""Parts of the evaluation without a run: ends of answers, random streams, data files, settings, measurements."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cache_zoo import CacheInfo, UsageError, describe_all
from cache_zoo.errors import nearest, refusing
from evaluation.config.command_line import cells
from evaluation.config.settings import Settings
from evaluation.run.answer_end import AnswerEnd
from evaluation.run.distributed import Processes
from evaluation.run.efficiency import (
    Batch,
    GeneratedAnswer,
    ScoredQuestion,
    efficiency,
    starvation,
    warm_up_options,
)
from evaluation.run.folder import RunFolder
from evaluation.run.requests import request_seed
from evaluation.storage.files import write_text
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Latency
from evaluation.tasks.jsonl import read_rows, read_splits
from generation import Counts, GenerationOptions
from generation.strategies.registry import make_strategy
from models import ModelConfig
from models.tiny import SPECIAL_TOKENS, byte_tokenizer

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MASK, EOS, EOT, START = (byte_tokenizer().get_added_vocab()[token] for token in SPECIAL_TOKENS)
MODEL = ModelConfig("llada", 260, 8, 1, 1, 1, 8, 1e-5, 1e4, True, False, False, 64, 0, MASK, EOS, EOS, EOT)


def tokens(text: str) -> list[int]:
    return list(byte_tokenizer()(text, add_special_tokens=False)["input_ids"])


def settings(*overrides: str) -> Settings:
    (found,) = cells(list(overrides))
    return found


@pytest.mark.parametrize(
    ("generated", "until", "text", "count"),
    [
        ("12 apples", [], "12 apples", 9),
        ("12<|endoftext|>34", [], "12", 2),
        ("12<|eot_id|>34<|endoftext|>", [], "12", 2),
        ("<|endoftext|>", [], "", 0),
        ("12\n\nQuestion: 34", ["Question:"], "12\n\n", 4),
        ("12;34.56", [".", ";"], "12", 2),
        ("12<|start|>34", ["<|start|>"], "12", 2),
        ("12STOP34", ["absent", ""], "12", 2),
        ("12<|endoftext|>;", [";"], "12", 2),
        ("héllo;", [";"], "héllo", 6),
    ],
)
def test_an_answer_ends_at_the_first_end_token_or_stop_text(
    generated: str, until: list[str], text: str, count: int
) -> None:
    answer = AnswerEnd(byte_tokenizer(), MODEL, stop_words=["STOP"]).cut(tokens(generated), until)
    assert (answer.text, answer.tokens, answer.raw) == (text, count, generated)


def test_end_tokens_of_the_config_are_added_and_unknown_ones_passed_over() -> None:
    ending = AnswerEnd(byte_tokenizer(), MODEL, end_tokens=["<|start|>", "<|im_end|>"])
    assert ending.end_ids == {EOS, EOT, START}


def test_masks_behind_the_end_do_not_count() -> None:
    assert AnswerEnd(byte_tokenizer(), MODEL).cut([*tokens("12"), EOS, MASK, MASK]).text == "12"


def test_each_request_has_its_own_stream() -> None:
    seeds = [request_seed(1234, "gsm8k", row, 0, repeat) for row in range(50) for repeat in range(2)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert request_seed(1234, "gsm8k", 3) == request_seed(1234, "gsm8k", 3) != request_seed(1235, "gsm8k", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "q", "answer": "a"}\n{"question": ', "line 2 is not valid JSON"),
        ('{"question": "q", "answer": "a"}\n\n[1]', "line 3 must hold a JSON object, not list"),
        ('{"question": "q", "anser": "a"}', "line 1 has no 'answer'; its columns are question, anser"),
        ('{"question": "q", "answer": 5}', "line 1: 'answer' must be text, not 5"),
        ("\n", "is empty"),
    ],
)
def test_malformed_data_is_named_by_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_rows(file, {"question": str, "answer": str})
    assert str(file) in str(caught.value)


def test_a_unicode_line_separator_inside_a_text_is_no_new_line(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "a\u2028b"}\n', encoding="utf-8")
    assert read_rows(tmp_path / "test.jsonl") == [{"question": "a\u2028b"}]


def test_samples_are_read_packed_or_not(tmp_path: Path) -> None:
    run = SavedRun(tmp_path)
    assert run.samples_path == tmp_path / "samples.jsonl"
    packed = tmp_path / "samples.jsonl.gz"
    packed.write_bytes(gzip.compress('{"text": "a\u2028b"}\n{"text": "c"}\n'.encode()))
    assert run.samples_path == packed
    assert [sample["text"] for sample in read_rows(packed)] == ["a\u2028b", "c"]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"samples\.jsonl\.gz can't be unpacked"):
        read_rows(packed)
    (tmp_path / "samples.jsonl").write_text('{"text": "d"}\n')
    assert run.samples_path == tmp_path / "samples.jsonl"


def test_splits_come_from_a_folder_or_from_beside_a_file(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"question": split}))
    expected = {"test": [{"question": "test"}], "train": [{"question": "train"}]}
    assert read_splits(str(tmp_path), "test", {"train", "validation"}, {}) == expected
    assert read_splits(str(tmp_path / "test.jsonl"), "test", {"train"}, {}) == expected
    with pytest.raises(UsageError, match=r"has no validation\.jsonl; it holds test\.jsonl, train\.jsonl"):
        read_splits(str(tmp_path), "validation", set(), {})
    with pytest.raises(UsageError, match=r"does not exist: did you mean 'test\.jsonl'\?"):
        read_splits(str(tmp_path / "tst.jsonl"), "test", set(), {})


@pytest.mark.parametrize("info", [info for info in describe_all() if info.error is None], ids=lambda info: info.name)
def test_every_cache_is_a_choice_with_its_defaults(info: CacheInfo) -> None:
    cache = settings(f"cache={info.name}").cache
    assert cache.make()
    assert cache.config == {"name": info.name, **{one.name: one.default for one in info.parameters}}


@pytest.mark.parametrize("name", [path.stem for path in (CONFIGS / "model").glob("*.yaml")])
def test_every_model_file_is_complete(name: str) -> None:
    assert settings(f"model={name}").model.name == name


def test_generation_keys_are_the_options_one_to_one() -> None:
    values = OmegaConf.to_container(OmegaConf.load(CONFIGS / "generation" / "vanilla.yaml"))
    assert GenerationOptions(**values) == GenerationOptions() == settings().generation


def test_the_hash_does_not_follow_where_results_go() -> None:
    assert settings().run_name == settings("output_dir=elsewhere").run_name
    names = {settings(one).run_name for one in ("seed=1234", "seed=1", "cache=dllm", "cache.name=dual", "batch_size=2")}
    assert len(names) == 5
    assert settings().run_name.startswith("llada-inst__none__vanilla__gsm8k__")


def test_a_class_can_be_named_in_place_of_a_cache() -> None:
    chosen = settings("+cache._target_=cache_zoo.methods.prefix.PrefixCache", "+cache.use_dual=true").cache
    assert (chosen.label, chosen.make().use_dual) == ("dual", True)
    chosen = settings("+cache._target_=cache_zoo.base.KVCache").cache
    assert (chosen.label, chosen.target) == ("KVCache", "cache_zoo.base:KVCache")
    assert chosen.config == {"_target_": "cache_zoo.base.KVCache"}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cache.rollour_p=0.1", "'cache.rollour_p': did you mean 'cache.rollout_p' of cache=d2cache?"),
        ("cache.rollout_p=0.1", "'cache.rollout_p': it belongs to cache=d2cache"),
        ("generation.treshold=0.9", "'generation.treshold': did you mean 'generation.threshold'?"),
        ("block_length=4", "'block_length': did you mean 'generation.block_length'?"),
        ("sede=1", "'sede': did you mean 'seed'?"),
        ("+extra=1", "unknown key 'extra'"),
        ("+cache.kp=1", "unknown parameter 'kp' of cache 'none'"),
        ("cache=d3cache", "'cache=d3cache': did you mean 'd2cache'?"),
        ("dataset=hellaswag", "any other task of lm-eval is dataset.name=NAME"),
        ("model=lada-inst", "'model=lada-inst': did you mean 'llada-inst'?"),
        ("cache.name=duall", "unknown cache 'duall': did you mean 'dual'?"),
        ("+cache._target_=NoModule", "must be package.module.Class"),
        ("+cache._target_=no.such.Thing", "can't be imported"),
        ("likelihood.mc_nmu=3", "'likelihood.mc_nmu': did you mean 'likelihood.mc_num'?"),
        ("likelihood.mc_num=0", "mc_num must be at least 1, not 0"),
        ("likelihood.mc_num=many", "likelihood.mc_num must be a whole number, not 'many'"),
        ("likelihood.estimator=lada", "unknown estimator 'lada': did you mean 'llada'?"),
        ("mc_num=3", "'mc_num': did you mean 'likelihood.mc_num'?"),
        ("include_path=/no/such/place", "include_path /no/such/place is not a folder"),
        ("generation.block_length=3", "block_length 3 does not divide gen_length 128; the nearest that does is 2"),
        ("generation.gen_length=8.5", "gen_length must be a whole number, not 8.5"),
        ("batch_size=two", "batch_size must be a whole number, not 'two'"),
        ("batch_size=0", "batch_size must be at least 1"),
        ("model.stop_words=x", "model.stop_words must be a list of texts, not 'x'"),
        ("model.dtype=float31", "did you mean 'float32'?"),
        ("dataset.size=0", "dataset.size must be at least 1"),
        ("dataset.n_shot=-1", "dataset.n_shot must be at least 0, not -1"),
        ("attn_implementation=egaer", "did you mean 'eager'?"),
        ("cache=none,dual", "a sweep over them needs -m"),
        ("just_words", "is not of the form key=value"),
        ("model.system_prompt='a\x85b'", "without control characters, not 'a\\x85b'"),
        ("+cache._target_=null", "cache._target_ must be text, not None"),
        ("+cache._target_=", "cache._target_ must be package.module.Class, not ''"),
        ("model=null", "unknown choice 'model=None'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(override)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["generation.threshold=0.9", "generation.factor=1"], "two rules for the same choice"),
        (["cache=dllm", "cache.kp=often"], "cache.kp must be a whole number, not 'often'"),
        (["cache=dllm", "cache.kp=0"], "'kp' must be at least 1"),
    ],
)
def test_mistakes_in_combination_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings(*overrides)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("math500", "math-500"),
        ("math_500", "math-500"),
        ("MATH-500", "math-500"),
        ("gsm-8k", "gsm8k"),
        ("GSM8K", "gsm8k"),
        ("MBPP", "mbpp"),
        ("HumanEval", "humaneval"),
        ("human_eval", "humaneval"),
        ("wikitext", None),
    ],
)
def test_what_was_meant_is_found_in_other_spellings(given: str, meant: str | None) -> None:
    assert nearest(given, ["tinyGSM8k", "gsm8k", "math-500", "math-500_instruct", "humaneval", "mbpp"]) == meant


def test_programs_end_with_two_where_something_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    @refusing
    def main() -> int:
        """Do it."""
        raise UsageError("no such thing")

    assert (main(), main.__doc__) == (2, "Do it.")
    assert capsys.readouterr() == ("", "error: no such thing\n")
    assert refusing(lambda: 1)() == 1


def test_a_sweep_is_checked_whole() -> None:
    found = cells(["cache=none,dllm", "seed=1,2"], sweep=True)
    assert [(one.cache.label, one.seed) for one in found] == [("none", 1), ("none", 2), ("dllm", 1), ("dllm", 2)]
    with pytest.raises(UsageError, match=r"'cache\.kp': "):
        cells(["cache=dllm,none", "cache.kp=3"], sweep=True)


def sample(**values: Any) -> GeneratedAnswer:
    given = {"task": "t", "doc_id": 0, "repeat": 0, "prompt": "p", "prompt_tokens": 5, "raw": "", "text": "", "seed": 0}
    return GeneratedAnswer(
        **{**given, "ids": [7] * 6, "forwards": 4, "seconds": 2.0, "batch": 0, "tokens_canvas": 8, **values}
    )


def test_efficiency_by_hand() -> None:
    counts = Counts(forwards=5, rows=30.0, rows_full=60, keys=7, logits=8, flops=900, cache_bytes=10)
    batches = [Batch(2, 2.0, counts), Batch(1, 4.0, Counts(forwards=3, rows=10.0, rows_full=20, cache_bytes=30))]
    found = efficiency([sample(), sample(), sample(forwards=3, ids=[])], batches, processes=1)
    assert found.tokens_per_second == 12 / 6
    assert found.nfe == 11 / 3
    assert found.tokens_per_forward == 12 / 11
    assert found.compute_ratio == 40 / 80
    assert (found.forwards, found.flops, found.cache_bytes) == (8, 900, 30)
    assert found.latency_seconds == Latency(mean=3.0, median=3.0, p90=4.0)
    assert found.peak_memory_bytes is None
    assert (found.tokens_out, found.tokens_canvas) == (12, 24)


def test_a_busy_machine_is_told_by_the_processor_time() -> None:
    def run(*batches: tuple[float, float | None], threads: int = 1) -> str | None:
        timed = [Batch(1, wall, Counts(), processor_seconds=processor) for wall, processor in batches]
        return starvation(efficiency([sample()], timed, 1), threads)

    assert run((3.0, 2.9)) is run((3.0, 1.5)) is run((1.0, 0.1)) is None, "enough of it, or too short to tell"
    assert run((3.0, 0.1), (3.0, None)) is None, "a batch of an older version"
    found = run((2.0, 0.4), (2.0, 1.5))
    assert found is not None
    assert "took 4.0 s, in which this process had 1.9 s of processor time of a core" in found
    assert run((4.0, 4.5), threads=2) is None
    assert "of 2 cores" in str(run((4.0, 3.9), threads=2))


def test_scored_answers_are_no_tokens() -> None:
    found = efficiency([ScoredQuestion("t", 0, 0, [], forwards=6, seconds=1.0)], [Batch(2, 2.0, Counts(forwards=3))], 1)
    assert (found.samples, found.nfe, found.seconds) == (1, 6, 2.0)
    for key in ("tokens_out", "tokens_canvas", "tokens_per_second", "tokens_per_forward", "rows_per_token"):
        assert getattr(found, key) is None


def test_what_was_not_measured_is_none() -> None:
    found = efficiency([sample(ids=[])], [Batch(1, 1.0, Counts(rows=5.0))], processes=1)
    assert found.tokens_per_second == 0
    assert found.rows_per_token is found.flops_per_token is found.compute_ratio is None
    assert efficiency([], [], processes=1).tokens_per_second is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 64},
        {"threshold": 0.9, "alpha": 0.3},
        {"factor": 1.0},
        {"block_length": None},
        {"block_length": 128},
        {"steps": 64, "schedule": "dream", "alg": "origin"},
        {"strategy": "window", "window": 8},
        {"strategy": "dream"},
    ],
)
def test_warm_up_is_short_and_usable(options: dict[str, Any]) -> None:
    short = warm_up_options(GenerationOptions.make(**options))
    assert short.gen_length / short.num_transfer_tokens <= 4
    assert make_strategy(short).patience == 1
    assert short.parameters.get("window") == options.get("window")


def test_shares_are_disjoint_and_complete() -> None:
    shares = [Processes(rank, 3).share(list(range(10))) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(10))


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert (path.read_text(), [file.name for file in tmp_path.iterdir()]) == ("old", ["results.json"])


def test_a_run_folder_tells_how_far_it_came(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a__b__c__d__0", {"seed": 1})
    run.fail(UsageError("nothing is written for unusable settings"))
    assert not run.path.exists()
    run.start()
    assert json.loads((run.path / "status.json").read_text())["status"] == "running"
    run.finish({"summary": {}}, [{"id": 1}])
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "results.json",
        "samples.jsonl",
        "status.json",
    ]
    run.start()
    run.fail(ValueError("why"))
    status = json.loads((run.path / "status.json").read_text())
    assert (status["status"], status["error"]) == ("failed", "ValueError: why")
    assert not (run.path / "results.json").exists()
