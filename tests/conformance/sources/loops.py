"""Decoding loops of LLaDA, Dream, Fast-dLLM and dInfer."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import dream_blocks, dream_quota, early_stop, layout, quota

_METHODS = {"generate": "none", "generate_with_prefix_cache": "prefix", "generate_with_dual_cache": "dual"}


_DECODERS: dict[str, tuple[str, dict[str, str]]] = {
    "threshold": ("vanilla", {}),
    "hierarchy": ("hierarchy", {"low_threshold": "low"}),
    "credit": ("credit", {name: name for name in ("credit_alpha", "boost_gamma", "decay_beta")}),
}
"""dInfer's decoders: our strategy, and what its parameters are called there and here."""


def llada_official(case: Case) -> Replay:
    names = ("cfg_scale", "logits_eos_inf", "confidence_eos_eot_inf")
    return Replay(
        {**layout(case), **quota(case), **{name: case.params[name] for name in names if case.params.get(name)}}
    )


def dream_official(case: Case) -> Replay:
    return Replay({**layout(case), **dream_quota(case), "strategy": "dream"})


def fastdllm_llada(case: Case) -> Replay:
    return Replay(
        {**layout(case), **quota(case), **early_stop(case, "early_termination", "block")},
        _METHODS[case.data["method"]],
    )


def fastdllm_dream(case: Case) -> Replay:
    cache = case.params["cache"]
    if cache == "none":  # no blocks
        return Replay({**layout(case), "block_length": None, **dream_quota(case)})
    return Replay({**layout(case), **dream_blocks(case)}, cache)


def dinfer(case: Case) -> Replay:
    params = case.params
    if params["decoder"] not in _DECODERS:
        raise NotReplayedError(f"the {params['decoder']} decoder")
    if params.get("start_block_align") and params["decoder"] != "threshold":
        raise NotReplayedError(f"blocks on a grid with the {params['decoder']} decoder (start_block_align)")
    options = {**quota(case), **early_stop(case, "early_stop", "block")}
    name, own = _DECODERS[params["decoder"]]
    options |= {"strategy": name, **{ours: params[theirs] for theirs, ours in own.items() if theirs in params}}
    cache, parameters = params["cache"] or "none", {}
    if "prefix_look" in params:
        cache = "vicinity"
        parameters = {name: params[name] for name in ("prefix_look", "after_look", "warmup_steps")}
    if (every := params.get("cache_update_freq")) and cache != "none":
        if cache == "vicinity":
            raise NotReplayedError("a window and refreshes every few forwards (cache_update_freq)")
        cache, parameters = "tests.conformance.injected:RefreshedPrefix", {"every": every, "use_dual": cache == "dual"}
    return Replay({**options, **_blocks(case)}, cache, parameters)


def _blocks(case: Case) -> dict[str, Any]:
    """Blocks from the start of the answer, or on a grid that starts with the prompt."""
    if not case.params.get("start_block_align"):
        return layout(case)
    block, first = case.block, -(case.start % case.block)
    ends = [*range(first + block, case.params["gen_length"], block), case.params["gen_length"]]
    return {
        "gen_length": case.params["gen_length"],
        "block_length": None,
        "strategy": "tests.conformance.injected:GivenBlocks",
        "bounds": list(zip([first, *ends], ends, strict=False)),
    }
