"""Methods that choose their blocks or the length of the answer."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import layout, quota, shaping


def adablock(case: Case) -> Replay:
    params = case.params
    if params.get("remasking", "low_confidence") != "low_confidence":
        raise NotReplayedError("a random order that is drawn anew in each forward (remasking)")
    if params.get("alg", "confidence_threshold") != "confidence_threshold":
        raise NotReplayedError(f"AdaBlock with alg={params['alg']}")
    own = ("delimiter_threshold", "threshold", "gen_length")
    options: dict[str, Any] = {"strategy": "adablock", **{name: params[name] for name in own}, **shaping(case)}
    options |= {"block_length": params["init_block_length"], "delimiters": params["delimiter_ids"]}
    if case.dream and params["cache"] != "none":
        options["first_forward"] = "first_token"
    return Replay(options, params["cache"])


_CADLLM = {
    "block_length": "initial_block_length",
    "confidence": "confidence_method",
    "adaptive_top_k": "adaptive_vocab_size",
    "repetition": "repetition_detection",
    "early_exit": "prophet_enabled",
    "exit_gap": "min_confidence_gap",
    "exit_confidence": "min_confidence_commit",
    "exit_patience": "prophet_patience",
}
_SAME_NAME = (
    *("gen_length", "threshold", "min_block", "max_block", "initial_steps", "max_steps"),
    *("adaptive_blocks", "adaptive_steps", "adaptive_threshold"),
)


def cadllm(case: Case) -> Replay:
    params = case.params
    if params.get("remasking", "low_confidence") != "low_confidence":
        raise NotReplayedError("a random order that is drawn anew in each forward (remasking)")
    options: dict[str, Any] = {"strategy": "cadllm", **shaping(case)}
    options |= {ours: params[theirs] for ours, theirs in _CADLLM.items() if theirs in params}
    options |= {name: params[name] for name in _SAME_NAME if name in params}
    if params.get("factor") is not None:  # it comes before the threshold
        options |= {"factor": params["factor"], "factor_rule": "with_last", "threshold": None}
    return Replay(options, "dual")


_DOUBLE_NEWLINE = [198, 198]
_CODE_ENDS = [[198, token] for token in (2439, 1413, 2, 7442, 371, 3384)]


def odb(case: Case) -> Replay:
    params = case.params
    task, options = params["task"], {**layout(case), **quota(case), **shaping(case)}
    stops: dict[str, list[Any]] = {
        "gsm8k": [params["stop_token"]],
        "mbpp": [params["stop_token"]],
        "minerva_math": [params["stop_token"]],
        "bbh": [params["stop_token"], _DOUBLE_NEWLINE],
        "humaneval": _CODE_ENDS,
    }
    if task not in stops:
        raise NotReplayedError(f"the stop words of the task {task}")
    own = {"stop_tokens": stops[task], "stop_confidence": params["length_confidence"]}
    protected = params["protected_prefix"] if task in ("gsm8k", "mbpp") else 0
    drafts = case.source == "odb_accept_jump"
    return Replay({**options, "strategy": "odb", **own, "protected": protected, "drafts": drafts}, "dual")
