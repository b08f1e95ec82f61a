"""Prophet's loop, which is LLaDA's with an exit."""

from __future__ import annotations

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources.options import layout


def prophet(case: Case) -> Replay:
    params = case.params
    if params.get("temperature") or params["remasking"] != "low_confidence":
        raise NotReplayedError("draws of torch's generator (temperature, remasking)")
    options = {**layout(case), "steps": params["steps"]}
    if params.get("cfg_scale"):
        options["cfg_scale"] = params["cfg_scale"]
    names = ("answer_start", "answer_length", "constraints")
    own = {name: params[name] for name in names if params.get(name) is not None}
    limits = params["thresholds"]
    if params.get("answer_start") is None:  # there it does not follow from the constraints
        limits = dict.fromkeys(limits, 1e30)
    return Replay({**options, "strategy": "prophet", **own, **limits})
