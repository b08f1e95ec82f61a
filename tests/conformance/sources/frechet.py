"""Fast-dLLM++: Fast-dLLM's loops with another rule."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import dream_blocks, layout, quota, shaping

_METHODS = {"generate": "none", "generate_with_prefix_cache": "prefix", "generate_with_dual_cache": "dual"}


def llada(case: Case) -> Replay:
    if case.params.get("temperature") or case.params["remasking"] != "low_confidence":
        raise NotReplayedError("draws of torch's generator (temperature, remasking)")
    return Replay({**layout(case), **(_rule(case) or quota(case))}, _METHODS[case.data["method"]])


def dream(case: Case) -> Replay:
    cache, rule = case.params["cache"], _rule(case)
    if cache == "none":
        raise NotReplayedError("the uncached loop, which has no such rule (cache)")
    if rule is None:
        return Replay({**layout(case), **dream_blocks(case)}, cache)
    return Replay({**layout(case), **rule, **shaping(case), "first_forward": "first_token"}, cache)


def _rule(case: Case) -> dict[str, Any] | None:
    margin = case.params.get("frechet_margin")
    return None if margin is None else {"frechet": margin}
