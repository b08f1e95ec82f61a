"""Check the provenance of a run: settings, commit, versions, machine, dates and data."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from cache_zoo.registry import Registry, caches, suffixes
from evaluation.config import identity
from evaluation.config.registered_choices import GROUPS
from evaluation.config.settings import Settings
from evaluation.report.check.context import CheckedRun, Problems, compare_figure
from evaluation.report.ranking import reasons_not_ranked, unrecorded
from evaluation.run.checkpoint import EMBEDDED
from evaluation.storage.files import CONFIG, RESULTS
from evaluation.storage.schema import Code, Git, Session
from generation.strategies.registry import strategies

_FIRST_COMMIT = datetime(2026, 11, 23, tzinfo=timezone.utc)
_DAY = timedelta(days=1)
_PACKAGES = ("python", "torch", "transformers", "cache-zoo")


def check_settings(checked: CheckedRun) -> Problems:
    """The configuration is valid and is that of the folder, the results and the summary."""
    run = checked.run
    settings = Settings.from_config(run.resolved, trusted=False)
    for group in GROUPS:
        if ":" in getattr(settings, group).target:
            yield (
                f"the {group} {getattr(run.config, group).target} is in no commit and in no package that is installed "
                "here; such runs are not ranked"
            )
    name = identity.run_name(run.resolved)
    if name != run.folder.name:
        yield f"the folder of this configuration is called {name}"
    for key in sorted({*run.results.config, *run.resolved} - {"output_dir"}):
        if run.results.config.get(key) != run.resolved.get(key):
            yield f"{key} is not the same in {CONFIG} and {RESULTS}"
    for key, value in settings.axes.items():
        if (recorded := getattr(run.summary, key)) != value:
            yield f"the summary has {key} {recorded}, the configuration {value}"


def check_provenance(checked: CheckedRun) -> Problems:
    """The origin of the figures is recorded, complete and consistent."""
    yield from _check_ranking(checked)
    yield from _check_completeness(checked)
    yield from _check_dates(checked)
    yield from _check_sessions(checked)
    if checked.settings:
        yield from _check_machine(checked, checked.settings)
        yield from _check_model(checked, checked.settings)
        yield from _check_code(checked, checked.settings)
    yield from _check_data(checked)


def _check_ranking(checked: CheckedRun) -> Problems:
    """The run can be ranked, and its code is in a commit."""
    commit = (checked.results.provenance.git or Git()).commit
    if commit is not None and (not re.fullmatch(r"[0-9a-f]{40}", commit) or set(commit) == {"0"}):
        yield f"{commit} is not a commit"
    yield from reasons_not_ranked(checked.run)
    yield from (f"not recorded: {name}" for name in unrecorded(checked.run))


def _check_completeness(checked: CheckedRun) -> Problems:
    provenance = checked.results.provenance
    lacking = [key for key in ("date", "device", "dtype", "checkpoint") if not getattr(provenance, key)]
    lacking += [f"the version of {key}" for key in _PACKAGES if not provenance.versions.get(key)]
    lacking += ["the date of its status"] * (checked.run.status.date is None)
    lacking += [f"machine.{key}" for key in ("system", "processor") if not getattr(provenance.machine, key)]
    if lacking:
        yield f"the provenance lacks {', '.join(lacking)}"
    if str(provenance.versions.get("cache-zoo")).endswith("+edited"):
        yield "cache-zoo was edited after it was installed"
    for key in _PACKAGES:
        if (version := provenance.versions.get(key)) and not re.match(r"\d+(\.\d+)+", version):
            yield f"{version} is not a version of {key}"


def _check_dates(checked: CheckedRun) -> Problems:
    provenance, ended = checked.results.provenance, checked.run.status.date
    texts = {"the results": provenance.date, "the status": ended}
    texts |= {f"session {number}": session.date for number, session in enumerate(provenance.sessions, start=1)}
    dates = {name: _parse_date(text) for name, text in texts.items() if text is not None}
    for name, date in dates.items():
        if date is None:
            yield f"the date of {name} is not one: {texts[name]}"
        elif not _FIRST_COMMIT <= date <= datetime.now(timezone.utc) + _DAY:
            yield f"the date of {name}, {texts[name]}, is not between the first commit of cache-zoo and today"
    results, status = dates.get("the results"), dates.get("the status")
    if results and status and not timedelta() <= status - results <= _DAY:
        yield f"the results are from {provenance.date}, the status from {ended}; a run writes both when it ends"


def _check_sessions(checked: CheckedRun) -> Problems:
    """Sessions of different commits or machines are recorded as ``several``."""
    provenance = checked.results.provenance
    for name, key, part in (("commits", "git", provenance.git), ("machines", "machine", provenance.machine)):
        values = [_comparable(session, key) for session in (provenance, *provenance.sessions)]
        if any(value != values[0] for value in values) and not (part and part.several):
            yield f"its sessions had several {name}, which the provenance does not say"


def _comparable(session: Session, key: str) -> dict[str, Any] | None:
    part = getattr(session, key)
    return part.model_dump(exclude={"several"}) if part else None


def _check_machine(checked: CheckedRun, settings: Settings) -> Problems:
    """Device and data type are those of the configuration."""
    provenance, device = checked.results.provenance, settings.model.device
    if provenance.dtype and provenance.dtype != settings.model.dtype.removeprefix("torch."):
        yield f"the provenance has dtype {provenance.dtype}, the configuration {settings.model.dtype}"
    if device.startswith("cuda"):
        if provenance.machine.gpu is None:
            yield f"it ran on {device}, but the machine has no GPU"
    elif provenance.device and provenance.device != device:
        yield f"the provenance has device {provenance.device}, the configuration {device}"


def _check_model(checked: CheckedRun, settings: Settings) -> Problems:
    """Checkpoint, chat template and end tokens are those of the configured model, as far as they are known."""
    provenance, model = checked.results.provenance, settings.model
    if checked.embedded and provenance.checkpoint and not provenance.checkpoint.endswith(model.path):
        yield f"the provenance has checkpoint {provenance.checkpoint}, the configuration {model.path}"
    if bool(provenance.chat_template_sha256) != model.apply_chat_template:
        yield f"apply_chat_template is {model.apply_chat_template}, but the provenance differs"
    if not checked.model_end_ids <= set(provenance.end_ids):
        yield f"end_ids {provenance.end_ids} lack those of the model, {sorted(checked.model_end_ids)}"
    if (weights := provenance.model) is None:
        return
    digests = {model.name: EMBEDDED.get(model.name)}
    if checked.embedded:
        digests[model.path] = EMBEDDED[f"nano-{checked.embedded.name}"]
    for name, digest in digests.items():
        if digest and weights.weights_sha256 not in (None, digest):
            yield f"the weights are not those of {name}, whose digest is {digest}"
    if weights.name not in (None, model.name):
        yield f"the provenance has the model {weights.name}, the configuration {model.name}"
    family = checked.model.family if checked.model else model.family
    if None not in (weights.family, family) and weights.family != family:
        yield f"the provenance has a model of the family {weights.family}, the configuration one of {family}"


def _check_code(checked: CheckedRun, settings: Settings) -> Problems:
    """Strategy, suffix rule and cache come from where they are registered."""
    provenance, target, suffix = checked.results.provenance, settings.cache.target, settings.suffix.target
    yield from _check_origin(strategies, settings.generation.strategy, provenance.strategy_code)
    if ":" not in suffix:
        yield from _check_origin(suffixes, suffix, provenance.suffix_code)
    if ":" in target:
        return
    yield from _check_origin(caches, target, provenance.cache_code)
    package = caches.find(target).package
    if package is None and provenance.cache_package is not None:
        yield f"{target} comes with cache-zoo, but the provenance names another package"
    if package is not None and provenance.cache_package is None:
        yield f"{target} comes with {package}, which the provenance does not name"


def _check_origin(registry: Registry, name: str, code: Code | None) -> Problems:
    expected = "package" if registry.find(name).package else "cache-zoo"
    if code is not None and code.origin != expected:
        yield f"the code of {name} is from {code.origin}, the registered {registry.kind} from {expected}"


def _check_data(checked: CheckedRun) -> Problems:
    """The data are the published ones, and all questions were asked."""
    total, digests = checked.run.summary.items_total, checked.results.provenance.dataset_sha256
    if not digests:
        yield "the digest of the data is missing"
    scored = set(checked.results.results)
    if checked.scorer and {*scored, *digests} - {checked.task}:
        yield f"there are scores or data other than those of {checked.task}: {', '.join(sorted({*scored, *digests}))}"
    elif lacking := sorted(set(digests) - scored):
        yield f"there are no scores of {', '.join(lacking)}"
    for task, digest in digests.items():
        if digest != (published := checked.datasets.get(task, digest)):
            yield f"the data of {task} are not the published ones: their digest is {digest}, not {published}"
    counts = checked.results.n_samples.values()
    if counts and total is not None:
        yield from compare_figure("summary.items_total", sum(count.original or 0 for count in counts), total)
    if (published_rows := checked.published) and total != len(published_rows.rows):
        yield f"{checked.task} has {len(published_rows.rows)} questions, not {total}"


def _parse_date(text: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
