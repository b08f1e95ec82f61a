#!/usr/bin/env python
"""Entry point: evaluate one cell (model x cache x generation x dataset), or a sweep of cells with -m.

``python eval.py --help`` shows the choices and keys; docs/running.md explains them.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from cache_zoo import UsageError

if TYPE_CHECKING:
    from evaluation.settings import Settings

CONFIGS = Path(__file__).resolve().parent / "configs"
DONE, FAILED, UNUSABLE = 0, 1, 2


def main() -> int:
    """Check the command line, run what it asks for, and return the exit status."""
    arguments = get_args_parser().parse_args()
    shows = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    statuses: list[int] = []
    checked: Iterator[Settings] = iter(())

    def cell(_: DictConfig) -> None:  # hydra knows no recipes: what it composed is the same without them
        statuses.append(_run(next(checked), sweep=arguments.multirun))

    try:
        if not shows:
            checked = iter(_check(arguments.overrides, arguments.multirun))
        elif not arguments.multirun:
            _write_out_recipe(arguments.overrides)
    except UsageError as error:
        return _refuse(error)
    hydra.main(config_path=str(CONFIGS), config_name="eval", version_base="1.3")(cell)()
    return max(statuses, default=DONE)


def _check(overrides: list[str], sweep: bool) -> list[Settings]:
    """The cells in the order in which hydra comes to them.

    Raises:
        UsageError: something in the command line can't be used, in whichever cell.
    """
    from evaluation.overrides import cells
    from evaluation.ranks import refuse_under_launcher

    if sweep:
        refuse_under_launcher()
    return cells(CONFIGS, "eval", overrides, sweep)


def _write_out_recipe(overrides: list[str]) -> None:
    """Let hydra, which reads the command line itself, show the values of a recipe as if they had been given."""
    from evaluation.installed import offer
    from evaluation.overrides import with_recipe

    offer(CONFIGS)  # shown among the choices
    expanded = with_recipe(CONFIGS, "eval", overrides)
    sys.argv[1:] = [*(argument for argument in sys.argv[1:] if argument not in overrides), *expanded]


def _run(settings: Settings, sweep: bool) -> int:
    """One cell; in a sweep whatever goes wrong is reported and the next one follows."""
    from evaluation.cell import evaluate_cell, skip_reason
    from evaluation.ranks import Ranks

    ranks = Ranks.from_launcher()
    axes = {"model": settings.model.name, "cache": settings.cache.label, "dataset": settings.dataset.name}
    try:
        if sweep and (reason := skip_reason(settings)):
            _print({"status": "skipped", **axes, "reason": reason})
            return DONE
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the result
            summary = evaluate_cell(settings, ranks)
    except UsageError as error:
        return _refuse(error)
    except Exception as error:
        traceback.print_exc()
        if ranks.first:
            _print({"status": "failed", **axes, "reason": f"{type(error).__name__}: {error}"})
        return FAILED
    if summary is not None:
        _print(summary)
    return DONE


def _refuse(error: UsageError) -> int:
    from evaluation.ranks import Ranks

    if Ranks.from_launcher().first:
        print(f"error: {error}", file=sys.stderr, flush=True)
    return UNUSABLE


def _print(summary: dict[str, Any]) -> None:
    print(json.dumps(summary), flush=True)


def _terminated(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # so that a run that is ended says so in its folder
    sys.exit(main())
