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


def _greedy(case: Case) -> dict[str, Any]:
    """Nothing: records above temperature 0 hold draws of their own."""
    if case.params.get("temperature"):
        raise NotReplayedError("tokens drawn at a temperature")
    return {}
