"""Differences on purpose: recorded cases that a replay can't equal, and the row of METHODS.md or METHODS-2.md (parts F
and I4) that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cache_zoo import UsageError
from tests.conformance.case import Case
from tests.conformance.compare import differences
from tests.conformance.replay import NotReplayedError


@dataclass(frozen=True)
class Known:
    """A named difference.

    Attributes:
        name: the row of part F or I4.
        why: what the released code does.
        applies: whether a case may show it, by its source and parameters.
        repaired: the case as recorded without the difference; everything else has to agree then. None: the difference
            changes the course of decoding.
        refused: our objects refuse these parameters.
    """

    name: str
    why: str
    applies: Callable[[Case], bool]
    repaired: Callable[[Case], Case] | None = None
    refused: bool = False


def _masks_become_eos(case: Case) -> Case:
    """Masks left in the final tokens replaced by end of sequence."""
    eos, mask = case.model().config.eos_id, case.data["mask_id"]
    final = [[eos if token == mask else token for token in row] for row in case.expected["final"]]
    last = final if case.batch > 1 else final[0]
    return case.with_expected(final=final, trajectory=[*case.expected["trajectory"][:-1], last])


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
        lambda case: case.source == "d2cache_repo" and case.params["cache"] == "d2cache",
    ),
    Known(
        "d2.topup",
        "sequences of a batch are topped up to the same number of rows",
        lambda case: (
            case.source == "d2cache_repo_fixed" and case.params["cache"] == "d2cache" and case.data["batch_size"] > 1
        ),
    ),
    Known(
        "factor",
        "the last candidate of a block is decoded although it fails the test",
        lambda case: case.params.get("factor") is not None,
    ),
    Known(
        "dkv.wrap",
        "the last row is stored as a mask from the second forward on",
        lambda case: (
            case.source == "dkv_cache"
            and case.params.get("shift_type") == "un"
            and case.params["cache_type"] in ("decoded", "pd")
        ),
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
    ),
    Known(
        "freecache.one_step",
        "with one forward per block, rows are stored and rotated a block too early",
        lambda case: case.source == "freecache_llada" and case.block_steps == 1,
    ),
    Known(
        "elastic.eos_masks",
        "masks behind the end of sequence stay masks",
        lambda case: (
            case.source == "elastic_cache" and any(case.data["mask_id"] in row for row in case.expected["final"])
        ),
        repaired=_masks_become_eos,
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
    ),
    Known(
        "dpad.dream_schedule",
        "without a cache, the schedule starts with its second step",
        lambda case: case.source == "dpad_dream" and case.params["cache"] == "none" and _scheduled(case),
    ),
    Known(
        "fast.dream_uncached",
        "the uncached threshold rule of the Dream port caps and defers tokens over the whole answer (METHODS.md A1)",
        lambda case: case.source == "fastdllm_dream" and case.params["cache"] == "none" and not _scheduled(case),
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
    problems: list[str] = field(default_factory=list)


def known_difference(case: Case) -> Known | None:
    """The named difference that ``case`` may show."""
    return next((known for known in KNOWN if known.applies(case)), None)


def judge(case: Case) -> Verdict:
    """Replay ``case``."""
    known = known_difference(case)
    try:
        problems = differences(case)
    except NotReplayedError as reason:
        return Verdict("not replayed", str(reason))
    except UsageError as error:
        status = "named" if known is not None and known.refused else "unexplained"
        return Verdict(status, known.name if known is not None and known.refused else f"refused: {error}")
    if not problems:
        return Verdict("exact")
    if known is not None and known.repaired is not None:
        problems = differences(known.repaired(case))
        return Verdict("unexplained", "; ".join(problems), problems) if problems else Verdict("named", known.name)
    if known is not None:
        return Verdict("named", known.name, problems)
    return Verdict("unexplained", "; ".join(problems), problems)
