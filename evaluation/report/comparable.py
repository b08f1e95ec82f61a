"""What figures come from besides the settings: code, versions and weights, which runs must share to be compared."""

from __future__ import annotations

from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Code, Git, Weights

SHAPING = (
    "torch",
    "transformers",
    "tokenizers",
    "lm_eval",
    "datasets",
    "math-verify",
    "latex2sympy2_extended",
    "sympy",
)
"""Packages whose versions shape tokens, prompts or scores. Of Python that is the minor version."""


def shared(run: SavedRun) -> dict[str, str | None]:
    """What two runs must have in common for their figures to be compared, by its name; None where it is not recorded.

    The code of the cache is not in it: that is what differs.
    """
    found, git = run.provenance, run.provenance.git or Git()
    weights, strategy = found.model or Weights(), found.strategy_code
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


def apart(run: SavedRun, baseline: SavedRun) -> str | None:
    """What of `shared` sets a run apart from the one without a cache, in words; None where nothing does."""
    ours, theirs = shared(run), shared(baseline)
    differing = [key for key in ours if ours[key] != theirs[key]]
    if not differing:
        return None
    key = differing[0]
    if key == "commit":
        if str(ours[key]).rstrip("+") != str(theirs[key]).rstrip("+"):
            return "the run without a cache is of another commit"
        changed = "without a cache" if str(theirs[key]).endswith("+") else "with one"
        return f"the run {changed} had changes that are in no commit"
    others = {"weights": "weights", "network": "settings of the network", "strategy": "code of its strategy"}
    if key in others:
        return f"the run without a cache had other {others[key]}"
    named = [value or "that is not recorded" for value in (theirs[key], ours[key])]
    return f"the run without a cache had {key} {named[0]}, this one {named[1]}"


def doubts(run: SavedRun) -> list[str]:
    """Why it is not known what code and weights a finished run is of."""
    found, git = run.provenance, run.provenance.git or Git()
    said = []
    if git.commit is None:
        said.append("no commit is recorded")
    elif git.dirty is not False or git.changed:
        said.append("run with changes that are in no commit")
    codes = {"cache": found.cache_code, "strategy": found.strategy_code}
    if found.cache_code is None and run.config.cache.target is not None:
        codes["cache"] = Code(origin="unknown")  # of an older run
    said += [f"the code of its {name} is in no commit and in no package" for name, code in codes.items() if _lost(code)]
    several = {"commits": git, "versions of its cache": found.cache_code, "checkpoints": found.model}
    said += [f"its sessions ran several {name}" for name, part in several.items() if part and part.several]
    return said


def _lost(code: Code | None) -> bool:
    return code is not None and (code.origin == "unknown" or (code.origin == "package" and code.name is None))


def unrecorded(run: SavedRun) -> list[str]:
    """What a run of today would record of itself and this one did not."""
    found = run.provenance
    weights = found.model and found.model.weights_sha256
    there = {"the origin of the cache's code": found.cache_code, "the weights": weights}
    return [name for name, value in there.items() if value is None]
