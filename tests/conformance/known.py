"""Differences on purpose: recorded cases that a replay can't equal. `docs/semantics.md` explains each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from cache_zoo import UsageError
from tests.conformance.case import Case
from tests.conformance.compare import differences
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources import replay_of


@dataclass(frozen=True)
class Known:
    """A named difference.

    Attributes:
        name: method and point.
        why: what the released code does.
        applies: whether a case may show it, by its source and parameters.
        rest: what differs besides, for example with the released rule in place of ours. None: that can't be told.
        refused: our objects refuse these parameters.
    """

    name: str
    why: str
    applies: Callable[[Case], bool]
    rest: Callable[[Case, Replay], list[str]] | None = None
    refused: bool = False


def _as_released(**changed: Any) -> Callable[[Case, Replay], list[str]]:
    """What differs with other objects or ``options``, which do what the released code does."""
    options = changed.pop("options", {})
    return lambda case, replay: differences(case, replace(replay, options={**replay.options, **options}, **changed))


def _in_the_first_forward(case: Case, replay: Replay) -> list[str]:
    """What differs in the first forward, where the released code and ours do the same."""
    return [text for text in differences(case, replay) if text.startswith("first logits") or "forward 0 " in text]


def _slow_fast_with_cache(case: Case, replay: Replay) -> list[str]:
    """What differs with the released cache, up to exploring calls that find nothing, as these advance its schedule."""
    canvases = [call[0] for call in case.canvases]
    last = max(number for number, canvas in enumerate(canvases) if number == 0 or canvas != canvases[number - 1])
    if any(canvas == before for before, canvas in pairwise(canvases[: last + 1])):
        return _in_the_first_forward(case, replay)
    return differences(case, replace(replay, cache="tests.conformance.released_rules:AllLayersAlike"))


def _masks_become_eos(case: Case, replay: Replay) -> list[str]:
    """What differs if the masks that the record leaves in the final tokens were end of sequence."""
    eos, mask = case.model().config.eos_id, case.data["mask_id"]
    final = [[eos if token == mask else token for token in row] for row in case.expected["final"]]
    last = final if case.batch > 1 else final[0]
    return differences(case.with_expected(final=final, trajectory=[*case.expected["trajectory"][:-1], last]), replay)


def _scheduled(case: Case) -> bool:
    """Whether a quota, and no threshold, says how many tokens a forward commits."""
    params = case.params
    if "alg" in params:
        return params["alg"] != "confidence_threshold"
    return params.get("threshold") is None and params.get("factor") is None


KNOWN = (
    Known(
        "d2.round",
        "the block mask shrinks in place, so the candidate window is rounded by the masks left",
        lambda case: (
            case.source == "d2cache_repo" and case.params["cache"] == "d2cache" and case.params["strategy"] != "wino"
        ),
        rest=_in_the_first_forward,
    ),
    Known(
        "d2.topup",
        "sequences of a batch are topped up to the same number of rows",
        lambda case: (
            case.source == "d2cache_repo_fixed" and case.params["cache"] == "d2cache" and case.data["batch_size"] > 1
        ),
        rest=_in_the_first_forward,
    ),
    Known(
        "dkv.right",
        "rows that predict masks do not run: token 0 is written",
        lambda case: case.source == "dkv_cache" and case.params.get("shift_type") == "right",
        refused=True,
    ),
    Known(
        "dinfer.early_stop_false",
        "stops at a block with an end of sequence all the same, and leaves masks",
        lambda case: case.source == "dinfer" and not case.params["early_stop"],
        rest=lambda case, replay: _masks_become_eos(case, replace(replay, options={**replay.options, "eos": "block"})),
    ),
    Known(
        "freecache.one_step",
        "with one forward per block, rows are stored and rotated a block too early",
        lambda case: case.source.startswith("freecache_") and case.block_steps == 1,
        rest=_in_the_first_forward,
    ),
    Known(
        "dsb.suffix_window",
        "masks behind the block that are run may be committed",
        lambda case: case.source.startswith("dsb_") and case.params.get("suffix_window", 0) > 0,
    ),
    Known(
        "dsb.quota",
        "with the cache, every forward commits the quota of the first",
        lambda case: case.source.startswith("dsb_") and case.params["cache"] and _scheduled(case),
    ),
    Known(
        "dsb.dream_refresh",
        "a full forward commits the first mask only",
        lambda case: case.source == "dsb_dream" and case.params["cache"],
    ),
    Known(
        "dyllm.dream_shift",
        "the first generated position is predicted by its own row",
        lambda case: case.source == "dyllm" and case.dream,
        rest=_in_the_first_forward,
    ),
    Known(
        "dpad.dream_schedule",
        "without a cache, the schedule starts with its second step",
        lambda case: case.source == "dpad_dream" and case.params["cache"] == "none" and _scheduled(case),
        rest=_as_released(options={"strategy": "tests.conformance.released_rules:LateSchedule"}),
    ),
    Known(
        "slowfast.dllm",
        "its copy of dLLM-Cache does not recompute layer 0 in every forward, and exploring on when nothing is left "
        "advances the schedule of refreshes",
        lambda case: case.source == "slow_fast" and case.params.get("dllm_cache") is not None,
        rest=_slow_fast_with_cache,
    ),
    Known(
        "wino.d2cache",
        "takes back by another bound, and a block whose bounds have shrunk leaves revoked tokens masked",
        lambda case: case.source == "d2cache_repo" and case.params["strategy"] == "wino",
        rest=_in_the_first_forward,
    ),
    Known(
        "fast.dream_uncached",
        "the uncached threshold rule of the Dream port caps and defers tokens over the whole answer",
        lambda case: case.source == "fastdllm_dream" and case.params["cache"] == "none" and not _scheduled(case),
        rest=lambda case, replay: _as_released(
            options={"strategy": "tests.conformance.released_rules:DeferringThreshold", "steps": case.params["steps"]}
        )(case, replay),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """Outcome of a replay.

    Attributes:
        status: ``exact``, ``named``, ``unexplained`` or ``not replayed``.
        text: the name of the difference, why there is no replay, or what differs.
    """

    status: str
    text: str = ""


def known_difference(case: Case) -> Known | None:
    """The named difference that ``case`` may show."""
    return next((known for known in KNOWN if known.applies(case)), None)


def judge(case: Case) -> Verdict:
    """Replay ``case``."""
    known = known_difference(case)
    try:
        replay = replay_of(case)
        problems = differences(case, replay)
    except NotReplayedError as reason:
        return Verdict("not replayed", str(reason))
    except Exception as error:  # whatever a case runs into, the others are replayed
        if known is not None and known.refused and isinstance(error, UsageError):
            return Verdict("named", known.name)
        return Verdict("unexplained", f"{type(error).__name__}: {error}")
    if not problems:
        return Verdict("exact")
    if known is None:
        return Verdict("unexplained", "; ".join(problems))
    if known.rest is not None and (left := known.rest(case, replay)):
        return Verdict("unexplained", f"besides {known.name}: " + "; ".join(left))
    return Verdict("named", known.name)
