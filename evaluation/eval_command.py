"""The command ``eval``: run one cell (model x cache x generation x dataset), or a sweep of cells with -m."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from cache_zoo import UsageError, streams
from cache_zoo.errors import DONE, FAILED, INTERRUPTED, UNUSABLE, require, suggest, visible

if TYPE_CHECKING:
    from evaluation.config.settings import Settings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_OF_HYDRA = ("config_path", "config_name", "config_dir", "experimental_rerun")


class _Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, but for its errors: ``error: ...`` in one line, and status 2."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found, others = super().parse_known_args(args, namespace)
        for other in others:
            name = other.partition("=")[0]
            if name.startswith("-"):
                self.error(f"unknown option '{name}': {suggest(name, self._options())}")
            self.error(f"'{other}' is one argument too many; what has blanks in it needs quotes")
        return found, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"there is no '{value}': {suggest(str(value), action.choices)}")

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        self.exit(2)

    def _options(self) -> list[str]:
        return [text for text in self._option_string_actions if text.startswith("--")]


def main() -> int:
    """Check the command line, run what it asks for, and return the exit status."""
    signal.signal(signal.SIGTERM, _terminated)  # a run that is terminated says so in its folder
    streams.settle()
    arguments = _arguments()
    shows = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    try:
        for name in _OF_HYDRA:
            flag = f"--{name.replace('_', '-')}"
            require(not getattr(arguments, name), f"{flag} has no effect on a run; give keys, or add files to configs/")
        require(
            not arguments.package or bool(arguments.cfg), "--package is a part of the configuration; give --cfg, too"
        )
        require(
            not arguments.multirun or not (arguments.cfg or arguments.info or arguments.shell_completion),
            "-m runs a sweep; what --cfg, --info and --shell-completion show is of one cell, so give them without -m",
        )
        code = (_show if shows else _run)(arguments.overrides, arguments.multirun)
    except UsageError as error:
        code = _refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    # what a run printed is in its folder
    return max(code, FAILED) if streams.lost() and shows else code


def _arguments() -> argparse.Namespace:
    """The command line as hydra reads it, who wants options before keys; an error in it ends the program."""
    keys = [one for one in sys.argv[1:] if one.startswith("~") or ("=" in one and not one.startswith("-"))]
    sys.argv[1:] = [*(one for one in sys.argv[1:] if one not in keys), *keys]
    parser = _Parser(prog="eval.py", add_help=False, parents=[get_args_parser()])
    return parser.parse_args(sys.argv[1:])


def _show(overrides: list[str], sweep: bool) -> int:
    """Let hydra, which reads the command line itself, show what it is asked for; a recipe as if it had been typed."""
    from evaluation.config.command_line import cells, whole_lists, with_recipe
    from evaluation.config.installed import offer

    if overrides and "-sc" not in sys.argv and "--shell-completion" not in sys.argv:
        cells(CONFIGS, "eval", overrides, sweep)  # what can't be used is said as it is of a run
    if not sweep:
        offer(CONFIGS)  # shown among the choices
        _replace_overrides(overrides, with_recipe(CONFIGS, "eval", whole_lists(overrides)))
    try:
        _hydra(lambda _: None)
    except SystemExit as end:  # which hydra ends some of it with, once it has said why
        return UNUSABLE if end.code else DONE
    except Exception as error:  # of a command line that hydra can't show
        raise UsageError(
            f"there is nothing to show: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    return DONE


def _run(overrides: list[str], sweep: bool) -> int:
    """One cell or a sweep, once all of it is known to be usable."""
    from evaluation.config.command_line import cells, launcher
    from evaluation.run.distributed import refuse_under_launcher
    from evaluation.storage.disk import require_place
    from evaluation.sweep.baselines import distinct, with_baselines

    if sweep:
        refuse_under_launcher()
    found = cells(CONFIGS, "eval", overrides, sweep)
    for folder in dict.fromkeys(Path(cell.output_dir) for cell in found):
        require_place(folder)
    if not sweep:
        return _one(found[0])
    asked, found = len(found), with_baselines(found)
    if added := len(found) - asked:
        print(f"{added} more without a cache: a recipe decodes in another way for some caches", file=sys.stderr)
    if launcher(overrides):
        found = distinct(found)
        _replace_overrides(overrides, _jobs(overrides, found))
        return _launch(found)
    from evaluation.sweep.sweep import sweep as run_sweep

    return run_sweep(found)


def _one(settings: Settings) -> int:
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


def _jobs(overrides: list[str], cells: list[Settings]) -> list[str]:
    """A sweep of as many jobs as there are cells, which is all that a launcher needs to know of them."""
    from evaluation.config.recipes import as_override

    of_hydra = [override for override in overrides if override.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return [*of_hydra, as_override("output_dir", cells[0].output_dir), f"seed=range({len(cells)})"]


def _launch(cells: list[Settings]) -> int:
    """A sweep by one of hydra's launchers, which start jobs elsewhere; what became of them is in their folders."""
    from evaluation.sweep.cell import Cell
    from evaluation.sweep.sweep import announce

    def job(_: DictConfig) -> dict[str, Any]:
        """One cell, where the launcher has put it. Hydra knows no recipes, so what it composed is not what counts."""
        from hydra.core.hydra_config import HydraConfig

        signal.signal(signal.SIGTERM, _terminated)
        return Cell(cells[HydraConfig.get().job.num]).attempt().line

    announce([Cell(cell) for cell in cells])
    _hydra(job)
    results = [Cell(cell).result() for cell in cells]
    for result in results:
        _print(result.line)
    return max(result.code for result in results)


def _hydra(job: Any) -> None:
    hydra.main(config_path=str(CONFIGS), config_name="eval", version_base="1.3")(job)()


def _replace_overrides(old: list[str], new: list[str]) -> None:
    """In the command line as hydra reads it."""
    sys.argv[1:] = [*(argument for argument in sys.argv[1:] if argument not in old), *new]


def _refuse(error: UsageError) -> int:
    if os.environ.get("RANK", "0") in ("0", ""):  # of the processes of a launcher one says it
        print(f"error: {visible(str(error))}", file=sys.stderr, flush=True)
    return UNUSABLE


def _print(summary: dict[str, Any]) -> None:
    from evaluation.storage.files import as_json

    print(as_json(summary), flush=True)


def _terminated(number: int, _: Any) -> None:
    raise SystemExit(128 + number)
