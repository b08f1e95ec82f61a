"""Runs with a forged part and fitting totals: answers, rows, batches, sessions, weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer

from evaluation.config import identity
from evaluation.report.check import check_all, check_run
from evaluation.report.check.answers import _without_specials
from evaluation.run.requests import request_seed
from evaluation.storage.saved_run import SavedRun
from tests.small_runs import edit_results, edit_samples
from tests.test_forged_runs import (
    GSM,
    STRICT,
    Edit,
    Found,
    Samples,
    add_up,
    copied,
    forge,
    problems,
    provenance,
    right_texts,
    work,
)

TOKENIZER = Path(__file__).resolve().parent.parent / "models" / "nano" / "llada" / "tokenizer.json"


def weights(**values: Any) -> Edit:
    return lambda found, samples: found["provenance"]["model"].update(values)


def behind_the_end(found: Found, samples: Samples) -> None:
    end = min(found["provenance"]["end_ids"])
    for sample in samples:
        sample["ids"] = [*sample["ids"], *[end] * 3][: sample["tokens_canvas"]]
        sample["tokens_out"] = len(sample["ids"])
    add_up(found, samples)


def still_masked(found: Found, samples: Samples) -> None:
    mask = Tokenizer.from_file(str(TOKENIZER)).token_to_id("<|mask|>")
    samples[0]["ids"] = [*samples[0]["ids"], mask]
    samples[0]["tokens_out"] += 1
    add_up(found, samples)


def cut_short(found: Found, samples: Samples) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    for sample in samples:
        sample["ids"] = sample["ids"][:-2]
        sample |= {"text": tokenizer.decode(sample["ids"]), "tokens_out": len(sample["ids"])}
    add_up(found, samples)


def right_ones_again(found: Found, samples: Samples) -> None:
    right = [sample for sample in samples if sample["metrics"][STRICT] == 1]
    for repeat in (1, 2):
        for sample in right:
            seed = request_seed(1234, GSM, sample["doc_id"], 0, repeat)
            samples.append({**sample, "repeat": repeat, "seed": seed, "batch": len(samples)})
    add_up(found, samples)
    found["summary"]["n"] = 500


def left_out(found: Found, samples: Samples) -> None:
    del samples[3]
    for number, sample in enumerate(samples):
        sample["batch"] = number
    add_up(found, samples)
    found["summary"]["items_total"] = 499
    found["n-samples"][GSM] = {"original": 499, "effective": 499}


def a_part(found: Found, samples: Samples) -> None:
    del samples[400:]
    add_up(found, samples)
    found["summary"] |= {"items_total": 400, "partial": False}


def in_no_time(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["seconds"] *= 1e-5
    add_up(found, samples)


def at_once(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["seconds"] = 0.05
    add_up(found, samples)


def other_session(part: str, value: Any) -> Edit:
    def edit(found: Found, samples: Samples) -> None:
        last = found["provenance"]
        found["provenance"]["sessions"] = [{**json.loads(json.dumps(last)), part: value}, json.loads(json.dumps(last))]

    return edit


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (behind_the_end, "the answer contains an end token in 500"),
        (still_masked, "the answer contains masked positions in 1"),
        (cut_short, "the answer stops without an end token or a stop text in"),
        (right_ones_again, "nano-gsm asks each question once, not 3 times"),
        (right_ones_again, "some questions of nano-gsm have 3 answers, others fewer"),
        (a_part, "summary.items_total: results.json has 400, expected 500"),
        (in_no_time, "a forward was faster than any machine in 500"),
        (at_once, "half of the batches took exactly as long as another"),
        (work(cache_bytes=0), "rows were skipped, but the cache kept nothing in 500"),
        (weights(weights_sha256=None), "not recorded: the weights"),
        (weights(name="llada-inst"), "the provenance has the model llada-inst, the configuration nano-llada"),
        (weights(family="dream"), "the provenance has a model of the family dream, the configuration one of llada"),
        (
            provenance(strategy_code={"origin": "package", "name": "a"}),
            "the code of vanilla is from package, the registered strategy from cache-zoo",
        ),
        (
            provenance(git={"commit": "a" * 40, "dirty": False, "changed": ["cache_zoo/dual.py"]}),
            "run with uncommitted changes",
        ),
        (other_session("git", {"commit": "b" * 40, "dirty": False}), "its sessions had several commits, which"),
        (other_session("machine", {"system": "a", "processor": "b"}), "its sessions had several machines, which"),
        (
            lambda found, samples: found["provenance"]["versions"].update({"cache-zoo": "0.1.0+edited"}),
            "cache-zoo was edited after it was installed",
        ),
    ],
)
def test_the_check_finds_forged_parts(tmp_path: Path, edit: Edit, expected: str) -> None:
    run = copied(tmp_path, "dual")
    forge(run, edit)
    assert expected in "\n".join(check_run(run))


def test_rows_of_any_task_are_the_first_ones(tmp_path: Path) -> None:
    run = copied(tmp_path, "dual")
    forge(run, left_out)
    assert "rows of nano-gsm are missing: there are 499, the last is row 499" in check_run(run, datasets={})


def configured(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The run with another configuration and fitting results and name."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    edit_results(run, lambda found: found.update(config=config))
    return run.rename(run.with_name(identity.run_name(config)))


def test_a_threshold_commits_at_most_a_block_at_once(tmp_path: Path) -> None:
    run = configured(
        copied(tmp_path, "dual"),
        lambda config: config["generation"].update(threshold=0.9, block_length=4, stop_until_eos=True),
    )

    def once(samples: Samples) -> None:
        for sample in samples:
            sample["forwards"] = 1

    edit_samples(run, once)
    assert "there are more than 4 tokens per forward in" in "\n".join(check_run(run))


def test_batches_are_as_large_as_they_can_be(tmp_path: Path) -> None:
    run = configured(copied(tmp_path, "dual"), lambda config: config.update(batch_size=4))
    assert "there are 500 batches; batch_size=4 makes 125" in check_run(run)


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_weights_are_known_wherever_they_lie(tmp_path: Path, digest: str | None) -> None:
    run = configured(copied(tmp_path, "dual"), lambda config: config["model"].update(path="/somewhere/else"))
    forge(run, right_texts)
    if digest is None:
        assert "the text is not that of the ids in" in "\n".join(check_run(run))
    else:
        forge(run, weights(weights_sha256=digest))
        assert "the weights are not those of nano-llada, whose digest is" in "\n".join(check_run(run))


def test_a_status_has_a_date(tmp_path: Path) -> None:
    run = copied(tmp_path, "dual")
    (run / "status.json").write_text('{"status": "done"}')
    assert "the provenance lacks the date of its status" in "\n".join(check_run(run))


def test_the_length_of_prompts_is_that_of_the_other_runs(tmp_path: Path) -> None:
    none, dual = (copied(tmp_path, cache) for cache in ("none", "dual"))
    edit_samples(dual, lambda samples: samples[0].update(prompt_tokens=samples[0]["prompt_tokens"] - 1))
    assert "its questions or prompts are not those of" in problems(none, dual)


def elsewhere(found: Found) -> None:
    found["provenance"]["machine"]["processor"] = "Another Processor"
    found["provenance"]["date"] = "2026-11-26T14:00:00+00:00"


def later(found: Found) -> None:
    found["provenance"]["git"]["commit"] = "b" * 40
    found["provenance"]["date"] = "2026-11-26T14:00:00+00:00"


@pytest.mark.parametrize("change", [elsewhere, later])
def test_the_same_may_be_run_again_by_others(tmp_path: Path, change: Callable[[Found], None]) -> None:
    """The baseline is checked like every other run."""
    run = copied(tmp_path, "dual")
    again = Path(shutil.copytree(run, tmp_path / "again" / run.name))

    def slower(samples: Samples) -> None:
        for sample in samples:
            sample["seconds"] *= 1.5
            if change is later:
                sample["prompt_sha256"] = "0" * 64  # of other code

    edit_samples(again, slower)
    forge(again, add_up)
    edit_results(again, change)
    (again / "status.json").write_text('{"status": "done", "date": "2026-11-26T14:00:01+00:00"}')
    assert problems(run, again) == ""


def metrics_of_lm_eval(found: Found, samples: Samples) -> None:
    """A task without a scorer here, and a metric that is no mean."""
    for sample in samples:
        sample |= {"task": "lambada", "doc": None, "metrics": {"perplexity,none": -1.0, "mcc,none": [0, 1]}}
        sample["seed"] = request_seed(1234, "lambada", sample["doc_id"])
    found["results"] = {"lambada": {"perplexity,none": 2.718281828, "mcc,none": 0.5}}
    found["configs"] = {
        "lambada": {
            "metric_list": [{"metric": "perplexity"}, {"metric": "mcc"}],
            "generation_kwargs": {"until": ["Question:", "\n\n"]},
        }
    }
    found["provenance"]["dataset_sha256"] = {"lambada": "0" * 64}
    for key in ("n-shot", "n-samples"):
        found[key] = {"lambada": found[key][GSM]}
    found["summary"] |= {"dataset": "lambada", "metric": "mcc,none", "score": 0.5, "score_stderr": None}


def test_metrics_that_are_no_means_are_left_alone(tmp_path: Path) -> None:
    run = configured(copied(tmp_path, "dual"), lambda config: config["dataset"].update(name="lambada"))
    forge(run, metrics_of_lm_eval)
    ((_, found),) = check_all([SavedRun(run)])
    assert found.problems == []
    assert found.notes == [
        f"{key} of lambada is not a mean over the questions and was not checked"
        for key in ("perplexity,none", "mcc,none")
    ]
    forge(run, lambda found, samples: found["configs"]["lambada"].update(metric_list=[]))
    assert any("perplexity,none of lambada" in one for one in check_run(run))


def without_outcomes(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["metrics"] = {"pass@1,none": 1.0}


def nearly(found: Found, samples: Samples) -> None:
    samples[0]["metrics"] |= {"pass@1,none": 0.99, "outcome,none": "failed: assert"}


@pytest.mark.parametrize("edit", [without_outcomes, nearly])
def test_a_program_passes_by_its_outcome_alone(tmp_path: Path, edit: Edit) -> None:
    run = copied(tmp_path, "dual", "nano-code")
    forge(run, edit)
    assert "are not those of their outcomes" in "\n".join(check_run(run))


@pytest.mark.parametrize(
    ("text", "raw", "good"),
    [
        ("the answer is 7", "the answer is 7<|endoftext|><|mask|>", True),
        ("the answer is 7", "the <|eot|>answer is [MASK] 7<|endoftext|>", True),
        ("a<b and List<int>", " a<b and List<int><|im_end|>", True),
        ("", "<|endoftext|>", True),
        ("half \ufffd", "half \ufffd\ufffd<|endoftext|>", True),
        ("#### 18", "#### 1234 of 18<|endoftext|>", False),
        ("answer is 7", "the answer is 7", False),
        ("7", "", False),
    ],
)
def test_a_text_is_the_begin_of_raw(text: str, raw: str, good: bool) -> None:
    assert _without_specials(raw).startswith(_without_specials(text)) is good
