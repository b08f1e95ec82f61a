"""The benchmarks run; what they print is no claim of speed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import checkouts
from cache_zoo import UsageError

ROOT = Path(__file__).resolve().parents[1]
TINY = "width=64 layers=2 vocab=64 prompt=8 gen=8 block=4 pairs=2 rounds=1 caches=none,dual".split()


@pytest.mark.slow
def test_two_checkouts_are_compared_by_turns(capsys: pytest.CaptureFixture[str]) -> None:
    assert checkouts.main([f"before={ROOT}", f"after={ROOT}", *TINY]) == 0
    header, *rows = capsys.readouterr().out.splitlines()[2:]
    assert header.split() == ["cache", "before_ms", "after_ms", "ratio", "ratio_min", "ratio_max"]
    assert [row.split()[0] for row in rows] == ["none", "dual"]
    assert all(float(value) > 0 for row in rows for value in row.split()[1:])


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no checkout of this repository"):
        checkouts.main([f"before={tmp_path}", *TINY])
