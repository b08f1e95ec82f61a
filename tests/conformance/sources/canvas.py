"""Methods that take tokens back, cut the canvas or let it grow."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import layout


def wino(case: Case) -> Replay:
    names = ("threshold", "threshold_back")
    return Replay({**layout(case), "strategy": "wino", **_greedy(case), **{name: case.params[name] for name in names}})


def wino_of_d2cache(case: Case) -> Replay:
    params = case.params
    names = {"threshold": "wide_in_thres", "threshold_back": "narrow_out_thres"}
    given = {ours: params[theirs] for ours, theirs in names.items()}
    shaping = {name: params[name] for name in ("alg", "top_p", "top_k", "stop_until_eos") if params.get(name)}
    return Replay(
        {**layout(case), "strategy": "wino", **given, **_greedy(case), **shaping},
        params["cache"],
        dict(params["cache_args"]),
    )


def slow_fast(case: Case) -> Replay:
    params = case.params
    options: dict[str, Any] = {**layout(case), "strategy": "slowfast", **_named(case, _SLOW_FAST[case.dream])}
    if case.dream:  # its code is greedy at every temperature
        return Replay({**options, "rule": "dream"})
    options |= _greedy(case)
    if params["max_sub_cycles_per_block"] < case.block:
        raise NotReplayedError("a bound on the cycles of a block (max_sub_cycles_per_block)")
    if params.get("cfg_scale"):
        options["cfg_scale"] = params["cfg_scale"]
    if params["dllm_cache"] is None:
        return Replay(options)
    names = {"kp": "prompt_interval_steps", "kr": "gen_interval_steps", "rou": "transfer_ratio"}
    return Replay(options, "dllm", {ours: params["dllm_cache"][theirs] for ours, theirs in names.items()})


_SLOW_FAST = {
    False: {
        "k_exploration": "k_exploration_steps",
        "cycle_confidence": "cycle_len_confidence_threshold",
        "window": "cycle_length_stability_window",
        "std": "cycle_length_stability_std_dev_threshold",
        "threshold": "high_confidence_threshold",
    },
    True: {
        "k_exploration": "n_cycle_discovery_steps",
        "cycle_confidence": "conf_threshold_cycle_len_pred",
        "window": "stabilize_count",
        "std": "cycle_len_variance_threshold",
        "slow_threshold": "high_conf_for_parallel_decode_discovery",
        "slow_least": "min_tokens_for_parallel_decode_discovery",
        "threshold": "high_conf_for_cycle_decode",
        "fast_least": "min_decode_in_cycle_fallback",
    },
}
"""For models that are shifted or not; ``num_important_low_confidence_tokens`` is read by nothing."""


def daedal(case: Case) -> Replay:
    if case.params.get("cfg_scale"):
        raise NotReplayedError("guidance that leaves out the first stage (cfg_scale)")
    options = {**_named(case, _DAEDAL), "block_length": case.params["block_length"], **_greedy(case)}
    return Replay({"strategy": "daedal", **options})


_DAEDAL = {
    "gen_length": "max_gen_length",
    "initial_length": "initial_gen_length",
    "threshold": "high_conf_threshold",
    "low_threshold": "low_conf_threshold",
    "expansion": "expansion_factor",
    "eos_threshold": "eos_confidence_threshold",
    "expand_threshold": "expand_eos_confidence_threshold",
    "eos_window": "eos_check_tokens",
}


def _named(case: Case, names: dict[str, str]) -> dict[str, Any]:
    return {ours: case.params[theirs] for ours, theirs in names.items()}


def _greedy(case: Case) -> dict[str, Any]:
    """Nothing: records above temperature 0 hold draws of their own."""
    if case.params.get("temperature"):
        raise NotReplayedError("tokens drawn at a temperature")
    return {}
