"""Caches with a loop of their own."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.canvas import wino_of_d2cache
from tests.conformance.sources.options import dream_quota, early_stop, layout, quota, shaping


def dllm_cache(case: Case) -> Replay:
    params = case.params
    names = {"kp": "prompt_interval_steps", "kr": "gen_interval_steps", "rou": "transfer_ratio"}
    # top_k is the default of the generation config that the Dream loop inherits, as noted in records of dKV-Cache
    options = {**layout(case), **({"top_k": 50, **dream_quota(case)} if case.dream else quota(case))}
    if scale := params.get("cfg_scale"):
        if params.get("cfg_interval_steps", 1) != 1:
            raise NotReplayedError("the unconditional half of guidance only every few steps (cfg_interval_steps)")
        options["cfg_scale"] = scale
    return Replay(options, "dllm", {ours: params[theirs] for ours, theirs in names.items()})


def d2cache_repo(case: Case) -> Replay:
    params = case.params
    if params["strategy"] == "wino":
        return wino_of_d2cache(case)
    if params["strategy"] != "vanilla":
        raise NotReplayedError(f"the {params['strategy']} strategy")
    for name in ("gamma", "debias"):
        if params.get(name) is not None:
            raise NotReplayedError(f"decoding by {name}")
    parameters = dict(params["cache_args"])
    if params["cache"] == "d2cache":
        # The variant of the recorded code is known by its notes: this one names the repaired confidences.
        live = any("confidence cache really updated" in note for note in case.data["notes"])
        parameters["confidence"] = "live" if live else "first-step"
    names = ("num_transfer_tokens", "threshold", "factor", "sigma", "alg", "top_p", "top_k", "stop_until_eos")
    options = {name: params[name] for name in names if params.get(name) is not None} | {"factor_rule": "without_last"}
    return Replay({**layout(case), **options}, params["cache"], parameters)


def dkv_cache(case: Case) -> Replay:
    params = case.params
    if case.dream:
        variant = {"decoded": "decode"}.get(params["cache_type"], params["cache_type"])
        names = ("cache_steps", "shift_type")
        parameters = {"variant": variant, "wrap": True, **{name: params[name] for name in names}}
        return Replay({**layout(case), **dream_quota(case)}, "dkv", parameters)
    refresh = params["cache_reloading_step"]
    if params["variant"] == "decode":
        return Replay({**layout(case), **quota(case)}, "dkv", {"variant": "decode", "cache_steps": refresh})
    given = {"strategy": "tests.conformance.injected:GivenOrder", "order": _order(case)}
    return Replay({**layout(case), **given}, "dkv_greedy", {"cache_steps": refresh, "window": params["window_size"]})


def sparse_dllm(case: Case) -> Replay:
    given = case.params
    parameters = {"keep_ratio": given["keep_ratio"], "kernel_size": given["kernel_size"] or 1, "ties": "topk"}
    # Fast-dLLM's loop on Dream, but with the `alg` that is asked for
    options = {**dream_quota(case), "first_forward": "first_token"} if case.dream else quota(case)
    return Replay({**layout(case), **options}, "sparse", parameters)


def freecache_llada(case: Case) -> Replay:
    return Replay({**layout(case), **quota(case), **early_stop(case, "early_stop", "fill")}, "freecache")


def freecache_dream(case: Case) -> Replay:
    if case.params.get("early_stop"):
        raise NotReplayedError("the end-of-sequence rule of FlashDLM on Dream")
    options = {**dream_quota(case), "schedule": "dream_canvas"}
    return Replay({**layout(case), **options}, "freecache")


def elastic_cache(case: Case) -> Replay:
    params = case.params
    if params["threshold"] is not None:
        rule = {"threshold": params["threshold"]}
    else:
        rule = {"num_transfer_tokens": params.get("tokens_per_iter", 1)}
    options = {"strategy": "window", "window": params["window_length"], "eos": "cut", **rule, **shaping(case)}
    parameters = {name: params[name] for name in ("gamma", "track_num", "block_caching")}
    return Replay({"gen_length": params["gen_length"], "block_length": None, **options}, "elastic", parameters)


def dyllm(case: Case) -> Replay:
    params = case.params
    options: dict[str, Any] = layout(case)
    if params["confidence_threshold"] is None:
        options["steps"] = params["steps"]
    elif params["algorithm"] == "entropy":
        raise NotReplayedError("a threshold for entropies")
    else:
        options["threshold"] = params["confidence_threshold"]
    if params["algorithm"] == "entropy":
        options["alg"] = "entropy"
    if not params["ignore_eos"]:
        options["stop_until_eos"] = True
    return Replay(options, "dyllm", {"threshold": params["threshold"], "full_steps": params["num_full_steps"]})


def sparsed(case: Case) -> Replay:
    parameters = {name: case.params[name] for name in ("skip", "select", "block_size")}
    options = dream_quota(case) if case.dream else quota(case)
    scale = "head_dim" if case.dream else "num_heads"  # as released
    return Replay({**layout(case), **options}, "sparsed", {**parameters, "scale": scale})


def _order(case: Case) -> list[list[list[int]]]:
    """Per sequence and forward, the generated positions that the recorded random order commits."""
    drawn = [record["denoising_order"] for record in case.expected["forwards"] if "denoising_order" in record]
    size, rest = divmod(case.block, case.block_steps)
    counts = [size + (i < rest) for i in range(case.block_steps)]
    order = []
    for b in range(case.batch):
        queue = [position - case.start for block in drawn for position in block[b]]
        groups = [[queue.pop(0) for _ in range(count)] for _ in drawn for count in counts]
        order.append(groups)
    return order
