"""The command ``eval``: evaluate one cell (model x cache x generation x dataset), or with -m a sweep of cells.

Hydra composes configurations and starts jobs through its launchers (`_launch`); docs/running.md says why it does not
run the sweeps of this machine.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cache_zoo import UsageError, standard_streams
from cache_zoo.errors import DONE, FAILED, INTERRUPTED, UNUSABLE, require, suggest, visible
from evaluation.run.interrupts import end_on_sigterm

if TYPE_CHECKING:
    from evaluation.config.settings import Settings

_SHORT = {"-h": "--help", "-c": "--cfg", "-m": "--multirun"}
_CFG = ("job", "hydra", "all")


class _Arguments(NamedTuple):
    """A command line: ``show`` is ``--help``, a value of ``--cfg``, or None for a run."""

    overrides: list[str]
    sweep: bool
    show: str | None


def main() -> int:
    """Check the command line, do what it asks for, and return the exit status."""
    end_on_sigterm()
    standard_streams.harden()
    shows = False
    try:
        arguments = _parse(sys.argv[1:])
        shows = arguments.show is not None
        code = _show(arguments) if shows else _run(arguments)
    except UsageError as error:
        code = _refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    # what a run prints is in its folder as well
    return max(code, FAILED) if standard_streams.output_lost() and shows else code


def _parse(given: list[str]) -> _Arguments:
    """Options may stand anywhere between the keys."""
    overrides, sweep, show = [], False, None
    arguments = iter(given)
    for argument in arguments:
        name, _, value = argument.partition("=")
        name = _SHORT.get(name, name)
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name == "--multirun":
            sweep = True
        elif name == "--help":
            show = name
        elif name == "--cfg":
            show = value or next(arguments, "")
            require(show in _CFG, f"--cfg takes one of {', '.join(_CFG)}, not '{show}'")
        else:
            raise UsageError(f"unknown option '{name}': {suggest(name, _SHORT.values())}")
    require(not sweep or show in (None, "--help"), "--cfg prints the configuration of one cell; leave out -m")
    return _Arguments(overrides, sweep, show)


def _show(arguments: _Arguments) -> int:
    from evaluation.config.command_line import cells
    from evaluation.config.display import config_text, help_text

    overrides = [] if arguments.sweep else arguments.overrides
    if arguments.overrides:
        cells(arguments.overrides, arguments.sweep)  # raises what a run would raise
    print(help_text(overrides) if arguments.show == "--help" else config_text(overrides, str(arguments.show)))
    return DONE


def _run(arguments: _Arguments) -> int:
    """Run one cell or a sweep, once the whole command line is known to be usable."""
    from evaluation.config.command_line import cells, launcher
    from evaluation.run.distributed import refuse_under_launcher
    from evaluation.storage.disk import require_place
    from evaluation.sweep.baselines import distinct, with_baselines

    if arguments.sweep:
        refuse_under_launcher()
    settings = cells(arguments.overrides, arguments.sweep)
    for folder in dict.fromkeys(Path(cell.output_dir) for cell in settings):
        require_place(folder)
    if not arguments.sweep:
        return _run_cell(settings[0])
    given, settings = len(settings), with_baselines(settings)
    if added := len(settings) - given:
        print(f"{added} more baselines: the recipe decodes differently for some caches", file=sys.stderr)
    if launcher(arguments.overrides):
        return _launch(distinct(settings), arguments.overrides)
    from evaluation.sweep.sweep import sweep

    return sweep(settings)


def _run_cell(settings: Settings) -> int:
    from evaluation.run.distributed import Processes
    from evaluation.run.logs import configure_logging
    from evaluation.sweep.cell import Cell

    configure_logging()
    processes = Processes.from_launcher()
    cell = Cell(settings, processes)
    try:
        summary = cell.answer()
    except UsageError:
        raise
    except Exception as error:
        if not processes.is_main_process:
            traceback.print_exc()
            return FAILED
        result = cell.failed(error)
        _print(result.line)
        return result.code
    if summary is not None:
        _print(summary)
    return DONE


def _launch(cells: list[Settings], overrides: list[str]) -> int:
    """Run the cells through the hydra launcher of the command line, which starts jobs elsewhere, and print results.

    Hydra knows neither recipes nor baselines, so it sweeps over one seed per cell, and job N runs cell N.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from evaluation.config.command_line import CONFIGS, ROOT_CONFIG
    from evaluation.config.recipes import as_override
    from evaluation.sweep.cell import Cell
    from evaluation.sweep.sweep import announce

    def job(_: Any) -> dict[str, Any]:
        from hydra.core.hydra_config import HydraConfig

        end_on_sigterm()
        return Cell(cells[HydraConfig.get().job.num]).attempt().line

    announce([Cell(cell) for cell in cells])
    of_hydra = [override for override in overrides if override.lstrip("+~").startswith(("hydra.", "hydra/"))]
    jobs = [*of_hydra, as_override("output_dir", cells[0].output_dir), f"seed=range({len(cells)})"]
    with initialize_config_dir(str(CONFIGS), job_name=ROOT_CONFIG, version_base="1.3"):
        GlobalHydra.instance().hydra.multirun(ROOT_CONFIG, job, jobs)
    results = [Cell(cell).result() for cell in cells]
    for result in results:
        _print(result.line)
    return max(result.code for result in results)


def _refuse(error: UsageError) -> int:
    if os.environ.get("RANK", "0") in ("0", ""):  # one process of a launcher prints it
        print(f"error: {visible(str(error))}", file=sys.stderr, flush=True)
    return UNUSABLE


def _print(summary: dict[str, Any]) -> None:
    from evaluation.storage.files import as_json

    print(as_json(summary), flush=True)
