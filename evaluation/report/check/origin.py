"""What a run says of itself: settings, commit, versions, machine, dates and data."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from cache_zoo import caches
from evaluation.config import identity
from evaluation.config.settings import Settings
from evaluation.report.check.subject import Problems, Subject, unequal
from evaluation.report.ranking import reasons_not_ranked, unrecorded
from evaluation.run.checkpoint import EMBEDDED
from evaluation.storage.files import CONFIG, RESULTS
from evaluation.storage.schema import Git, Session
from generation import strategies

_BEGAN = datetime(2026, 11, 23, tzinfo=timezone.utc)
"""Of the first commit: no run is older."""
_DAY = timedelta(days=1)
_PACKAGES = ("python", "torch", "transformers", "cache-zoo")
_NOT_COMPARED = ("output_dir",)


def check_settings(subject: Subject) -> Problems:
    """Keys and values, and that folder, configuration and results belong together."""
    run = subject.run
    settings = Settings.from_config(run.resolved, trusted=False)
    if ":" in settings.cache.target:
        yield (
            f"the cache is {run.config.cache.target}, code that is in no commit and in no package that is installed "
            "here; such runs are not ranked"
        )
    name = identity.run_name(run.resolved)
    if name != run.folder.name:
        yield f"the folder of this configuration is called {name}"
    recorded, given = (
        {key: value for key, value in values.items() if key not in _NOT_COMPARED}
        for values in (run.results.config, run.resolved)
    )
    for key in sorted({*recorded, *given}):
        if recorded.get(key) != given.get(key):
            yield f"{key} is not the same in {CONFIG} and {RESULTS}"
    named = {
        "model": settings.model.name,
        "cache": settings.cache.label,
        "generation": settings.generation.strategy,
        "dataset": settings.dataset.name,
    }
    for key, value in named.items():
        if (said := getattr(run.summary, key)) != value:
            yield f"the summary names {key} {said}, the configuration {value}"


def check_origin(subject: Subject) -> Problems:
    """That it is known where the figures are from."""
    yield from _commit(subject)
    yield from _lacking(subject)
    yield from _dates(subject)
    yield from _sessions(subject)
    yield from _contradictions(subject)
    yield from _data(subject)


def _commit(subject: Subject) -> Problems:
    """That what was run is in a commit or a package, whole and the same throughout."""
    commit = (subject.results.provenance.git or Git()).commit
    if commit is not None and (not re.fullmatch(r"[0-9a-f]{40}", commit) or set(commit) == {"0"}):
        yield f"no commit is recorded but {commit}"
    yield from reasons_not_ranked(subject.run)
    yield from (f"it does not record {what}" for what in unrecorded(subject.run))


def _lacking(subject: Subject) -> Problems:
    found = subject.results.provenance
    lacking = [key for key in ("date", "device", "dtype", "checkpoint") if not getattr(found, key)]
    lacking += [f"the version of {key}" for key in _PACKAGES if not found.versions.get(key)]
    lacking += ["the date of its status"] * (subject.run.status.date is None)
    lacking += [f"machine.{key}" for key in ("system", "processor") if not getattr(found.machine, key)]
    if lacking:
        yield f"the provenance lacks {', '.join(lacking)}"
    if str(found.versions.get("cache-zoo")).endswith("+edited"):
        yield "cache-zoo was edited after it was installed"
    odd = [key for key in _PACKAGES if (version := found.versions.get(key)) and not re.match(r"\d+(\.\d+)+", version)]
    yield from (f"{found.versions[key]} is no version of {key}" for key in odd)


def _dates(subject: Subject) -> Problems:
    found, ended = subject.results.provenance, subject.run.status.date
    told = {"the results": found.date, "the status": ended}
    told |= {f"session {number}": one.date for number, one in enumerate(found.sessions, start=1)}
    dates = {what: _date(text) for what, text in told.items() if text is not None}
    for what, date in dates.items():
        if date is None:
            yield f"the date of {what} is none: {told[what]}"
        elif not _BEGAN <= date <= datetime.now(timezone.utc) + _DAY:
            yield f"the date of {what}, {told[what]}, is not between the first commit of cache-zoo and today"
    results, status = dates.get("the results"), dates.get("the status")
    if results and status and not timedelta() <= status - results <= _DAY:
        yield f"the results are of {found.date}, the status of {ended}: a run writes both when it ends"


def _sessions(subject: Subject) -> Problems:
    """That what was not the same in all sessions is said to be so."""
    found = subject.results.provenance
    parts = {"commits": ("git", found.git), "machines": ("machine", found.machine)}
    for name, (key, told) in parts.items():
        own = [_plain(one, key) for one in (found, *found.sessions)]
        if any(one != own[0] for one in own) and not (told and told.several):
            yield f"its sessions had several {name}, which the provenance does not say"


def _plain(session: Session, key: str) -> dict[str, Any] | None:
    part = getattr(session, key)
    return part.model_dump(exclude={"several"}) if part else None


def _contradictions(subject: Subject) -> Problems:
    """What the provenance says against the configuration."""
    settings, found = subject.settings, subject.results.provenance
    if settings is None:
        return
    if found.dtype and found.dtype != settings.model.dtype.removeprefix("torch."):
        yield f"the provenance has dtype {found.dtype}, the configuration {settings.model.dtype}"
    cuda, gpu = settings.model.device.startswith("cuda"), found.machine.gpu is not None
    if cuda and not gpu:
        yield f"it ran on {settings.model.device}, and the machine has no GPU"
    elif not cuda and found.device and found.device != settings.model.device:
        yield f"the provenance has device {found.device}, the configuration {settings.model.device}"
    if subject.embedded and found.checkpoint and not found.checkpoint.endswith(settings.model.path):
        yield f"the provenance has checkpoint {found.checkpoint}, the configuration {settings.model.path}"
    if bool(found.chat_template_sha256) != settings.model.apply_chat_template:
        yield f"apply_chat_template is {settings.model.apply_chat_template}, and the provenance says otherwise"
    yield from _weights(subject, settings)
    if subject.model:
        ends = {subject.model.eos_id, subject.model.eot_id} - {None}
        if not ends <= set(found.end_ids):
            yield f"end_ids {found.end_ids} lack those of the model, {sorted(map(int, filter(None, ends)))}"
    yield from _code(subject, settings)


def _weights(subject: Subject, settings: Settings) -> Problems:
    """That the checkpoint is the one that the configuration names, where that is known."""
    found, model = subject.results.provenance.model, settings.model
    if found is None:
        return
    known = {model.name: EMBEDDED.get(model.name)}
    if subject.embedded:
        known[model.path] = EMBEDDED[f"nano-{subject.embedded.name}"]
    for name, digest in known.items():
        if digest and found.weights_sha256 not in (None, digest):
            yield f"the weights are not those of {name}, whose digest is {digest}"
    if found.name not in (None, model.name):
        yield f"the provenance has the model {found.name}, the configuration {model.name}"
    family = subject.model.family if subject.model else model.family
    if None not in (found.family, family) and found.family != family:
        yield f"the provenance has a model of the family {found.family}, the configuration one of {family}"


def _code(subject: Subject, settings: Settings) -> Problems:
    """Where the classes of strategy and cache are from."""
    found, target = subject.results.provenance, settings.cache.target
    name = settings.generation.strategy
    expected = "package" if strategies.find(name).package else "cache-zoo"
    if found.strategy_code is not None and found.strategy_code.origin != expected:
        yield f"the code of {name} was of the origin {found.strategy_code.origin}, not that of the registered strategy"
    if ":" in target:
        return
    entry = caches.find(target)
    if entry.package is None and found.cache_package is not None:
        yield f"{target} comes with cache-zoo, and the provenance names another package"
    if entry.package is not None and found.cache_package is None:
        yield f"{target} comes with {entry.package}, which the provenance does not name"
    if found.cache_code is not None and found.cache_code.origin != ("package" if entry.package else "cache-zoo"):
        yield f"the code of {target} was of the origin {found.cache_code.origin}, not that of the registered cache"


def _data(subject: Subject) -> Problems:
    """That all questions of the dataset were asked."""
    summary, digests = subject.run.summary, subject.results.provenance.dataset_sha256
    if not digests:
        yield "the digest of the data is missing"
    scored = set(subject.results.results)
    if subject.scorer and {*scored, *digests} - {subject.task}:
        yield f"there are other scores or data than those of {subject.task}: {', '.join(sorted({*scored, *digests}))}"
    elif lacking := sorted(set(digests) - scored):
        yield f"there are no scores of {', '.join(lacking)}"
    for task, digest in digests.items():
        if digest != subject.datasets.get(task, digest):
            right = subject.datasets[task]
            yield f"the data of {task} are not the published ones: their digest is {digest}, not {right}"
    there = subject.results.n_samples.values()
    if there and summary.items_total is not None:
        yield from unequal("summary.items_total", sum(one.original or 0 for one in there), summary.items_total)
    if (known := subject.published) and summary.items_total != len(known.rows):
        yield f"{subject.task} has {len(known.rows)} questions, not {summary.items_total}"


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
