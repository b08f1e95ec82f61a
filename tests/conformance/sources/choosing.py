"""Methods that choose their blocks or the length of the answer."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import shaping


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
