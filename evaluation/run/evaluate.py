"""Run one cell, from settings to a finished run folder."""

from __future__ import annotations

import logging

import lm_eval
import torch

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config.registered_choices import GROUPS
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import find_checkpoint
from evaluation.run.code_origin import origin_of
from evaluation.run.distributed import Processes
from evaluation.run.efficiency import starvation
from evaluation.run.folder import RunFolder
from evaluation.run.journal import Journal
from evaluation.run.lm import CacheZooLM
from evaluation.run.provenance import provenance
from evaluation.run.results import make_results, make_samples, summarize
from evaluation.sandbox import Sandbox
from evaluation.storage.files import ANSWERED
from evaluation.storage.schema import Summary
from evaluation.tasks.loading import LoadedTask, load_task
from generation.strategies.registry import strategies
from models import Transformer, load_model
from models.tokenizer import load_tokenizer

_LOG = logging.getLogger(__name__)


def evaluate_cell(settings: Settings, processes: Processes | None = None) -> Summary | None:
    """Run or resume a cell and write its folder.

    All settings and prompts are checked before the weights are loaded; nothing is written before that.

    Returns:
        The summary in the main process; None in the others.

    Raises:
        UsageError: the settings cannot be used, or another process works on this run.
    """
    processes = processes or Processes()
    if reason := settings.obstacle:
        raise UsageError(reason)
    run = RunFolder.of(settings, processes)
    if processes.is_main_process:
        run.require_usable()
    # only the main process has answers to score
    allowed = settings.allow_code_execution and processes.is_main_process
    sandbox = Sandbox(settings.sandbox_disable) if allowed else None
    task = load_task(settings.dataset, settings.seed, sandbox, settings.include_path)
    _require_rows(settings.trace, task)
    checkpoint = find_checkpoint(settings.model)
    tokenizer = load_tokenizer(checkpoint.folder)
    require(
        not settings.model.apply_chat_template or bool(tokenizer.chat_template),
        f"the tokenizer in {checkpoint.folder} has no chat template; give model.apply_chat_template=false",
    )
    journal = Journal(run.path / ANSWERED, processes, fresh=settings.force)

    def load() -> Transformer:
        """Load the weights, take the run folder, and open the journal: all prompts have been checked."""
        device = settings.model.device
        device = f"cuda:{processes.local_rank}" if device == "cuda" else device
        model = load_model(checkpoint.folder, settings.model.dtype, device)
        session = {
            **provenance(),
            **{f"{group}_code": origin_of(GROUPS[group].get(getattr(settings, group).target)) for group in GROUPS},
            "strategy_code": origin_of(strategies.get(settings.generation.strategy)),
        }
        if processes.is_main_process:  # the digest reads all of the weights again
            session["model"] = checkpoint.identity()
        dtype = str(model.dtype).removeprefix("torch.")
        run.start(lm.runner.progress)
        journal.open({**session, "device": _device_name(model.device), "dtype": dtype, "rank": processes.rank})
        return model

    lm = CacheZooLM(settings, checkpoint.config, tokenizer, load, processes, journal)
    try:
        scored = lm_eval.evaluate(
            lm=lm,
            task_dict=task.loaded,
            limit=settings.dataset.size,
            system_instruction=settings.system_instruction,
            apply_chat_template=settings.model.apply_chat_template,
            fewshot_as_multiturn=settings.model.apply_chat_template,
        )
        if not processes.is_main_process:
            return None
        samples = make_samples(lm.answers, lm.runner.batches, scored.pop("samples"), task)
        results = make_results(settings, task, lm, checkpoint, scored)
        starved = starvation(results["efficiency"], torch.get_num_threads())
        if lm.model.device.type == "cpu" and starved:
            _LOG.warning(starved)
        summary = summarize(settings, task, lm, results, run.path)
        run.finish({**results, "summary": summary.as_dict()}, samples)
    except BaseException as error:  # an interrupt leaves a record as well
        run.fail(error)
        raise
    finally:
        if sandbox:
            sandbox.close()
    return summary


def _require_rows(rows: list[int], task: LoadedTask) -> None:
    """Raise `UsageError` if a row to be traced is not in the data."""
    total = max((len(one.eval_docs) for one in task.loaded["tasks"].values()), default=0)
    unknown = [row for row in rows if row >= total]
    require(not unknown, f"trace names row {unknown[:1]}, and {task.name} has rows 0 to {total - 1}")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
