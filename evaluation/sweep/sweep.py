"""A sweep on this machine: all cells, one after the other or side by side, whatever becomes of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

from cache_zoo import UsageError
from cache_zoo.errors import DONE, require
from evaluation.config.settings import Settings
from evaluation.run.evaluate import run_of
from evaluation.storage.files import as_json
from evaluation.sweep.baselines import distinct
from evaluation.sweep.outcome import settled
from evaluation.sweep.progress import Display
from evaluation.sweep.workers import Pool, places


def sweep(cells: Sequence[Settings]) -> int:
    """Run what is not done yet, print a line of JSON per cell as it ends, and return the exit status.

    Raises:
        UsageError: ``jobs`` is not one number, or more than the machine has room for; or two cells have one name.
    """
    jobs = {cell.jobs for cell in cells}
    require(len(jobs) == 1, f"jobs is of the whole sweep, not of its cells; give one of {sorted(jobs)}")
    cells = distinct(cells)
    pool = Pool(places(jobs.pop(), [cell.model.device for cell in cells]))
    announce(cells)
    known = [(cell, outcome) for cell in cells if (outcome := settled(cell))]
    there = [cell for cell, _ in known]
    code = DONE
    try:
        with Display(cells) as display:
            for ended in chain(known, pool.run([cell for cell in cells if cell not in there])):
                if ended is None:
                    display.refresh(pool.running)
                    continue
                cell, outcome = ended
                display.ended(cell, outcome.line)
                print(as_json(outcome.line), flush=True)
                code = max(code, outcome.code)
    finally:
        pool.stop()
    return code


def announce(cells: Sequence[Settings]) -> None:
    """Leave a folder for every cell that has none, so that what a sweep did not come to is seen, too."""
    for cell in cells:
        run = run_of(cell)
        with suppress(UsageError):  # the folder is in the way, or of another run: left alone, and told in its turn
            run.require_own()
            if not run.status:
                run.put("pending")
