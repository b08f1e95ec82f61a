"""Trajectories equal those of the official implementations token for token."""

from __future__ import annotations

import pytest
import torch

from tests.conformance import KEPT, SHARED, Case, cases, differences, judge
from tests.conformance.known import KNOWN, known_difference
from tests.conformance.probe import first_logits, logits_error
from tests.conformance.replay import NotReplayedError
from tests.conformance.sources import SOURCES, replay_of

ALL = cases(KEPT, *SHARED)
pytestmark = pytest.mark.filterwarnings("ignore:.*needs blocks:UserWarning")


def _offered(case: Case) -> bool:
    try:
        replay_of(case)
    except NotReplayedError:
        return False
    return True


REPLAYED = [case for case in ALL if _offered(case)]


@pytest.mark.parametrize("case", REPLAYED, ids=lambda case: case.id)
def test_replays_the_recorded_trajectory(case: Case) -> None:
    verdict = judge(case)
    assert verdict.status in ("exact", "named"), verdict.text


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_named_difference_is_one(known: object) -> None:
    names = [judge(case).text for case in REPLAYED if known_difference(case) is known]
    assert known.name in names, "no recorded case shows it: delete the entry"


def test_the_kept_cases_cover_every_source() -> None:
    kept = [case.source for case in cases(KEPT) if _offered(case)]
    assert {source: kept.count(source) for source in SOURCES if kept.count(source) < 2} == {}


@pytest.mark.skipif(
    not all(folder.is_dir() for folder in SHARED), reason="the full set is not here; the kept cases ran"
)
def test_the_full_set_is_here() -> None:
    assert len(cases(*SHARED)) >= 323


def test_a_wrong_replay_is_noticed() -> None:
    case = next(c for c in cases(KEPT) if c.path.stem == "dual_a_b8_s32")
    broken = Case(case.path, {**case.data, "method": "generate_with_prefix_cache"})
    found = " ".join(differences(broken))
    assert "final tokens differ" in found
    assert "canvas after forward" in found
    assert "rows of forward" in found
    assert judge(broken).status == "unexplained"


def test_a_wrong_logit_is_noticed() -> None:
    case = next(c for c in cases(KEPT) if c.path.stem == "dual_a_b8_s32")
    with first_logits(case.model()) as logits:
        replay_of(case).run(case)
    assert logits_error(case, logits[0]) < 1e-4
    wrong = logits[0] + torch.eye(*logits[0].shape) * 0.01
    assert logits_error(case, wrong) > 1e-3
