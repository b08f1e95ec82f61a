"""A sweep on this machine: run all cells, one after the other or side by side; a failed cell stops no other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

from cache_zoo import UsageError
from cache_zoo.errors import DONE, require
from evaluation.config.settings import Settings
from evaluation.storage.files import as_json
from evaluation.sweep.baselines import distinct
from evaluation.sweep.cell import Cell
from evaluation.sweep.progress import Display
from evaluation.sweep.workers import WorkerPool, assign_resources


def sweep(settings: Sequence[Settings]) -> int:
    """Run the cells that are not done, print a line of JSON as each ends, and return the exit status.

    Raises:
        UsageError: ``jobs`` differs between cells or exceeds the machine, or two cells have the same name.
    """
    jobs = {one.jobs for one in settings}
    require(len(jobs) == 1, f"jobs applies to the whole sweep, not to single cells; give one of {sorted(jobs)}")
    cells = [Cell(one) for one in distinct(settings)]
    pool = WorkerPool(assign_resources(jobs.pop(), [cell.settings.model.device for cell in cells]))
    announce(cells)
    results = {cell: cell.settled() for cell in cells}
    settled = ((cell, result) for cell, result in results.items() if result)
    exit_status = DONE
    try:
        with Display(cells) as display:
            for ended in chain(settled, pool.run([cell for cell, result in results.items() if not result])):
                if ended is None:
                    display.refresh(pool.running)
                    continue
                cell, result = ended
                display.ended(cell, result.line)
                print(as_json(result.line), flush=True)
                exit_status = max(exit_status, result.code)
    finally:
        pool.stop()
    return exit_status


def announce(cells: Sequence[Cell]) -> None:
    """Make a ``pending`` folder for every cell without one, so that cells a sweep never reached are visible."""
    for cell in cells:
        with suppress(UsageError):  # the folder is unusable or holds another run; `Cell.settled` reports it
            cell.run.require_own()
            if not cell.run.status:
                cell.run.set_status("pending")
