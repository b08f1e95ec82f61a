"""KLASS: its own code, and d2Cache's."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import dream_quota, layout, quota

_NAMES = {
    "conf_threshold": "conf_threshold",
    "kl_threshold": "kl_threshold",
    "kl_history_length": "history",
    "unmask_strategy": "unmask",
}


def klass_official(case: Case) -> Replay:
    params = case.params
    if params.get("temperature"):
        raise NotReplayedError("draws of torch's generator (temperature)")
    if params.get("unmask_strategy") == "random" and params["alg"] == "klass":
        raise NotReplayedError("a token drawn by torch's generator (unmask_strategy=random)")
    own = {"strategy": "klass", **{ours: params[theirs] for theirs, ours in _NAMES.items() if theirs in params}}
    if not case.dream:
        if params["alg"] == "klass":
            return Replay({**layout(case), "steps": params["steps"], **own, "guard": "block"})
        alg = {} if params["alg"] == "default" else {"alg": params["alg"]}
        return Replay({**layout(case), **quota(case), **alg})
    options = {**layout(case), "block_length": None}
    if params["alg"] != "klass":
        return Replay({**options, **dream_quota(case)})
    shaping = {name: value for name, value in dream_quota(case).items() if name in ("top_p", "top_k")}
    return Replay({**options, **own, **shaping})  # without a stable token it commits one


def d2cache(case: Case) -> dict[str, Any]:
    """Options of d2Cache's version, whose probabilities have the threshold of other strategies."""
    params = case.params
    if params.get("threshold") is None:  # then nothing is likely enough
        return {}
    own = {"conf_threshold": params["threshold"], "kl_threshold": params["kl_threshold"]}
    return {"strategy": "klass", **own, "history": params["kl_history_length"]}
