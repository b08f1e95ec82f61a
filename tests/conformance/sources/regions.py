"""Methods that cut the suffix or move the block."""

from __future__ import annotations

from typing import Any

from cache_zoo import make_suffix
from tests.conformance.case import Case
from tests.conformance.injected import GivenSuffix
from tests.conformance.replay import Replay
from tests.conformance.sources.options import dream_blocks, dream_quota, early_stop, layout, quota


def streaming(case: Case) -> Replay:
    options = dream_blocks(case) if case.dream else quota(case)
    if "threshold" in options:
        options["alpha"] = case.params["confidence_alpha"]
    suffix = make_suffix("window", window=case.params["window_size"])
    return Replay({**layout(case), **options, "eos": "block"}, "prefix", suffix=suffix)


def dpad(case: Case) -> Replay:
    cache = case.params["cache"]
    dream = dream_quota if cache == "none" else dream_blocks
    options = dream(case) if case.dream else quota(case)
    suffix = GivenSuffix(case.expected["visible_suffix"])
    stop = early_stop(case, "early_termination", "block")
    return Replay({**layout(case), **options, **stop}, cache, suffix=suffix)


def dsb(case: Case) -> Replay:
    params = case.params
    longest = None if params["max_block_length"] == -1 else params["max_block_length"]
    options: dict[str, Any] = {**layout(case), "strategy": "sliding", "max_block_length": longest}
    options |= dream_quota(case) if case.dream else quota(case)
    if not params["cache"]:
        return Replay(options)
    return Replay(options, "dsb", {"prefix_window": params["prefix_window"]})
