"""Why a run is not ranked, and what runs must share besides the settings to be compared: code, versions and weights."""

from __future__ import annotations

from evaluation.config.identity import BASELINE
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import CheckpointIdentity, Code, Git

SHAPING = "torch transformers tokenizers lm_eval datasets math-verify latex2sympy2_extended sympy".split()
"""Packages whose versions shape tokens, prompts or scores."""


def environment(run: SavedRun) -> dict[str, str | None]:
    """What two runs must share for their figures to be compared, by name; None where it is not recorded.

    The code of cache and suffix is not part of it: it may differ. Of Python the minor version counts.
    """
    found, git = run.provenance, run.provenance.git or Git()
    weights, strategy = found.model or CheckpointIdentity(), found.strategy_code
    python = found.versions.get("python")
    return {
        "commit": f"{git.commit}{'+' * (git.dirty is not False)}" if git.commit else None,
        "cache-zoo": found.versions.get("cache-zoo"),
        "python": ".".join(python.split(".")[:2]) if python else None,
        **{package: found.versions.get(package) for package in SHAPING},
        "strategy": strategy.model_dump_json() if strategy else None,
        "weights": weights.weights_sha256,
        "network": weights.config_sha256,
    }


def mismatch(run: SavedRun, baseline: SavedRun) -> str | None:
    """The first difference between the environments of a run and its baseline; None if there is none."""
    ours, theirs = environment(run), environment(baseline)
    key = next((key for key in ours if ours[key] != theirs[key]), None)
    if key is None:
        return None
    if key == "commit":
        if str(ours[key]).rstrip("+") != str(theirs[key]).rstrip("+"):
            return "the baseline ran another commit"
        changed = "baseline" if str(theirs[key]).endswith("+") else "run"
        return f"the {changed} had uncommitted changes"
    words = {"weights": "weights", "network": "network settings", "strategy": "strategy code"}
    if key in words:
        return f"the baseline had other {words[key]}"
    values = [value or "not recorded" for value in (theirs[key], ours[key])]
    return f"{key} is {values[0]} in the baseline and {values[1]} in this run"


def reasons_not_ranked(run: SavedRun) -> list[str]:
    """Why a finished run is not ranked; empty if nothing speaks against it but, perhaps, its baseline (`mismatch`)."""
    return [*incomplete(run), *untraceable(run), *oversized_batches(run)]


def incomplete(run: SavedRun) -> list[str]:
    """Missing questions, missing score."""
    summary, reasons = run.summary, []
    if summary.partial or summary.n != summary.items_total:
        total = "an unknown number of" if summary.items_total is None else summary.items_total
        reasons.append(f"only {summary.n} of {total} questions were asked")
    if summary.score is None:
        reasons.append(f"no score: {summary.note or 'the task has none'}")
    return reasons


def untraceable(run: SavedRun) -> list[str]:
    """Why code and weights of a finished run are not known."""
    found, git = run.provenance, run.provenance.git or Git()
    reasons = []
    if git.commit is None:
        reasons.append("no commit is recorded")
    elif git.dirty is not False or git.changed:
        reasons.append("run with uncommitted changes")
    codes = {"cache": found.cache_code, "suffix": found.suffix_code, "strategy": found.strategy_code}
    for name, chosen in (("cache", run.config.cache), ("suffix", run.config.suffix)):
        if codes[name] is None and chosen.target is not None:
            codes[name] = Code(origin="unknown")  # runs of older versions do not record it
    reasons += [f"the code of the {name} is in no commit and no package" for name, code in codes.items() if _lost(code)]
    several = {
        "commits": git,
        "versions of the cache": found.cache_code,
        "versions of the suffix": found.suffix_code,
        "versions of the strategy": found.strategy_code,
        "checkpoints": found.model,
    }
    reasons += [f"its sessions ran several {name}" for name, part in several.items() if part and part.several]
    return reasons


def oversized_batches(run: SavedRun) -> list[str]:
    """Batches that ran out of memory, and the size that fits."""
    shortages = run.efficiency.memory_shortages
    return [f"batches did not fit into memory; use batch_size={shortages[-1].then}"] if shortages else []


def unrecorded(run: SavedRun) -> list[str]:
    """What current versions record and this run does not."""
    found = run.provenance
    weights = found.model and found.model.weights_sha256
    values = {"the origin of the cache's code": found.cache_code, "the weights": weights}
    if run.config.suffix.label != BASELINE["suffix"]:
        values["the origin of the suffix's code"] = found.suffix_code
    return [name for name, value in values.items() if value is None]


def _lost(code: Code | None) -> bool:
    return code is not None and (code.origin == "unknown" or (code.origin == "package" and code.name is None))
