"""Trajectories equal those of the official implementations token for token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from _pytest.mark import ParameterSet

from tests.conformance import KEPT, SHARED, Case, cases, differences, judge
from tests.conformance.known import KNOWN, Known, known_difference
from tests.conformance.probe import TOLERANCE, first_logits, logits_error
from tests.conformance.replay import NotReplayedError
from tests.conformance.sources import SOURCES, replay_of

ALL = cases(KEPT, *SHARED)
HERE = all(folder.is_dir() for folder in SHARED)
MISSING = "the full set of recorded cases is not here"
pytestmark = pytest.mark.filterwarnings("ignore:.*needs blocks:UserWarning")


def _offered(case: Case) -> bool:
    try:
        replay_of(case)
    except NotReplayedError:
        return False
    return True


REPLAYED = [case for case in ALL if _offered(case)]


def _parameter(case: Case) -> ParameterSet:
    return pytest.param(case, id=case.id, marks=[] if case.path.is_relative_to(KEPT) else pytest.mark.slow)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("case", map(_parameter, REPLAYED))
def test_replays_the_recorded_trajectory(case: Case) -> None:
    verdict = judge(case)
    assert verdict.status in ("exact", "named"), verdict.text


SHOWN = [known for known in KNOWN if any(known_difference(case) is known for case in REPLAYED)]


@pytest.mark.parametrize("known", SHOWN, ids=lambda known: known.name)
def test_a_named_difference_is_one(known: Known) -> None:
    shown = (judge(case).status == "named" for case in REPLAYED if known_difference(case) is known)
    assert any(shown), "no recorded case shows it: delete the entry"


def test_the_kept_cases_cover_every_source() -> None:
    kept = [case.source for case in cases(KEPT) if _offered(case)]
    assert {source: kept.count(source) for source in SOURCES if kept.count(source) < 2} == {}


@pytest.mark.skipif(not HERE, reason=f"{MISSING}; the kept ones ran")
def test_the_full_set_is_here() -> None:
    assert len(cases(*SHARED)) >= 323


def test_a_wrong_replay_is_noticed() -> None:
    case = next(c for c in cases(KEPT) if c.path.stem == "dual_a_b8_s32")
    broken = Case(case.path, {**case.data, "method": "generate_with_prefix_cache"})
    found = " ".join(differences(broken, replay_of(broken)))
    assert "final tokens differ" in found
    assert "canvas after forward" in found
    assert "rows of forward" in found
    assert judge(broken).status == "unexplained"


def test_a_wrong_logit_is_noticed() -> None:
    case = next(c for c in cases(KEPT) if c.path.stem == "dual_a_b8_s32")
    with first_logits(case.model()) as logits:
        replay_of(case).run(case)
    assert logits_error(case, logits[0]) < TOLERANCE
    wrong = logits[0] + torch.eye(*logits[0].shape) * 0.001
    assert logits_error(case, wrong) > TOLERANCE


def _lists(value: object) -> Iterator[list[int]]:
    """The innermost lists that are not empty."""
    if isinstance(value, list) and value and not isinstance(value[-1], list):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _lists(part)


@pytest.mark.parametrize("name", ["kept_positions", "kept_blocks", "salient_rows"])
def test_a_wrong_choice_inside_a_forward_is_noticed(name: str) -> None:
    records = ((case, record) for case in cases(KEPT) for record in (case.expected, *case.expected["forwards"]))
    case, rows = next((case, rows) for case, record in records for rows in _lists(record.get(name, [])))
    rows.pop()
    found = differences(case, replay_of(case))
    assert len(found) == 1
    assert name in found[0]


@pytest.mark.parametrize("name", ["refresh_from_layer", "q_start"])
def test_a_wrong_row_is_noticed(name: str) -> None:
    case = next(case for case in cases(KEPT) if name in case.expected["forwards"][-1])
    case.expected["forwards"][-1][name] = 1
    found = differences(case, replay_of(case))
    assert len(found) == 1
    assert "rows of forward" in found[0]
