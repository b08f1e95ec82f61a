"""Parameters under their official names, and what they are called here."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case

_SHAPING = ("top_p", "top_k", "alg_temp", "temperature")


def layout(case: Case) -> dict[str, Any]:
    """Lengths of answer and block."""
    return {"gen_length": case.params["gen_length"], "block_length": case.block}


def quota(case: Case) -> dict[str, Any]:
    """How many tokens a forward commits in LLaDA's loops: by threshold, factor or an even schedule."""
    params = case.params
    for name in ("threshold", "factor"):
        if params.get(name) is not None:
            return {name: params[name], **({"factor_rule": "with_last"} if name == "factor" else {})}
    return {"steps": params["steps"]}


def dream_quota(case: Case) -> dict[str, Any]:
    """Dream's schedule over ``steps``, or a threshold; and what shapes its confidences."""
    params = case.params
    if params["alg"] == "confidence_threshold":
        return {"threshold": params["threshold"], **shaping(case)}
    eps = {"eps": params["eps"]} if "eps" in params else {}
    return {"schedule": "dream", "steps": params["steps"], "alg": params["alg"], **eps, **shaping(case)}


def shaping(case: Case) -> dict[str, Any]:
    """What shapes the confidences of Dream's samplers, where it is set."""
    return {name: case.params[name] for name in _SHAPING if case.params.get(name)}


def dream_blocks(case: Case) -> dict[str, Any]:
    """Fast-dLLM's loop on Dream, which others share: a block's first forward commits its first token only, and every
    ``alg`` that is no threshold means negative entropy."""
    options = dream_quota(case)
    if "alg" in options:
        options["alg"] = "entropy"
    return {**options, "first_forward": "first_token"}


def early_stop(case: Case, name: str, rule: str) -> dict[str, Any]:
    """The end-of-sequence ``rule`` where the flag ``name`` is set."""
    return {"eos": rule} if case.params.get(name) else {}
