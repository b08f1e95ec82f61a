"""Render the page of one trace, or of two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.arguments import spelled
from cache_zoo.errors import require
from evaluation.config.identity import BASELINE
from evaluation.config.settings import Settings
from evaluation.report.html.self_contained import TEMPLATES, embedded, environment, joined, policy
from evaluation.storage.files import write_text
from evaluation.trace.divergence import Divergence, diverge
from evaluation.trace.page_data import SCALE, page_data
from evaluation.trace.recording import WARM_UP_FORWARDS, Trace
from generation import GenerationOptions

_TEMPLATE = Path(__file__).parent / "template"
_SHARED_PARTS = ("dom", "theme")
_PARTS = ("state", "text", "colours", "map", "tip", "player", "main")
_ALWAYS_SHOWN = ("gen_length", "block_length", "num_transfer_tokens")
"""Decoding options that are shown even with their default."""


def render(traces: Sequence[Trace]) -> str:
    """The page of one trace, or of two of the same question.

    Raises:
        UsageError: more than two, or two of different questions or prompts.
    """
    require(len(traces) in (1, 2), f"a page shows one trace or two side by side, not {len(traces)}")
    names = _names(traces)
    divergence = diverge(*traces) if len(traces) == 2 else None
    script = joined(
        *(TEMPLATES / "script" / f"{part}.js" for part in _SHARED_PARTS),
        *(_TEMPLATE / "script" / f"{part}.js" for part in _PARTS),
    )
    return str(
        environment(_TEMPLATE)
        .get_template("trace.html")
        .render(
            prompt=traces[0].prompt,
            data=embedded(_data(traces, names, divergence)),
            divergence=divergence,
            facts=[_facts(trace) for trace in traces],
            names=names,
            policy=policy(script),
            changing=any(trace.words for trace in traces),
            cut=any(_is_cut(trace) for trace in traces),
            pruned=any(trace.settings.suffix.label != BASELINE["suffix"] for trace in traces),
            script=script,
            warm_up=WARM_UP_FORWARDS,
            token_text=_token_text,
            traces=list(zip(names, traces, strict=True)),
        )
    )


def write(path: Path, traces: Sequence[Trace]) -> Path:
    """Write the page of ``traces`` to ``path`` and return it.

    Raises:
        UsageError: as in `render`, or the file can't be written.
    """
    text = render(traces)
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
    return path


def _data(traces: Sequence[Trace], names: list[str], divergence: Divergence | None) -> dict[str, Any]:
    return {
        "prompt": traces[0].prompt_texts,
        "scale": SCALE,
        "differs": divergence.positions if divergence else [],
        "runs": [{"name": name, **page_data(trace)} for name, trace in zip(names, traces, strict=True)],
    }


def _names(traces: Sequence[Trace]) -> list[str]:
    """Names of the traces: their caches, with what else is needed to tell them apart."""
    settings = [trace.settings for trace in traces]
    for names in (
        [one.cache.label for one in settings],
        [_joined(one.cache.label, _suffix(one), _store(one)) for one in settings],
        [_joined(one.cache.label, _as_arguments(one.cache.parameters), _suffix(one), _store(one)) for one in settings],
        [f"{one.cache.label} {_decoding(trace)}" for one, trace in zip(settings, traces, strict=True)],
        [f"{one.cache.label} {one.config_hash}" for one in settings],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{one.cache.label} ({number})" for number, one in enumerate(settings, 1)]


def _facts(trace: Trace) -> dict[str, str]:
    """Header of a trace: counted or measured in this pass, or saved by the run."""
    settings, counts = trace.settings, trace.output.counts
    facts = {
        "parameters": _as_arguments(settings.cache.parameters) or "none",
        "method": _joined(_suffix(settings), _store(settings)),
        "decoding": _decoding(trace),
        "tokens": f"{trace.answer.tokens} in the answer, {_committed(trace)} of {len(trace.ids)} committed",
        "forwards (NFE)": str(trace.output.nfe),
        "compute ratio": f"{counts.compute_ratio:.3f}",
        "cache holds": f"{counts.cache_bytes / 1e6:.1f} MB" if counts.cache_bytes else "nothing",
        "time": f"{sum(step.seconds for step in trace.steps):.2f} s, one pass, synchronised after each forward",
        "saved answer": _compared_to_saved(trace),
    }
    if trace.saved is not None and trace.saved.get("metrics"):
        facts["score in the run"] = ", ".join(
            f"{name} {value:g}" for name, value in trace.saved["metrics"].items() if isinstance(value, int | float)
        )
    return {name: text for name, text in facts.items() if text}


def _is_cut(trace: Trace) -> bool:
    """Whether a forward had fewer columns than there were, by the strategy alone."""
    if trace.settings.suffix.label != BASELINE["suffix"] or trace.words:
        return False
    return any(step.visible[0] < len(trace.prompt.ids) + len(trace.ids) for step in trace.steps)


def _committed(trace: Trace) -> int:
    return sum(token != trace.config.mask_id for token in trace.ids)


def _suffix(settings: Settings) -> str:
    """The suffix rule as arguments of the command line; empty if nothing is dropped."""
    chosen = settings.suffix
    parameters = {f"suffix.{key}": value for key, value in chosen.parameters.items()}
    return "" if chosen.label == BASELINE["suffix"] else _as_arguments({"suffix": chosen.label, **parameters})


def _store(settings: Settings) -> str:
    """The store as an argument of the command line; empty if it is the native one."""
    return "" if settings.store == BASELINE["store"] else _as_arguments({"store": settings.store})


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _compared_to_saved(trace: Trace) -> str:
    if trace.matches_saved is None:
        return "none to compare with"
    if trace.matches_saved:
        return "the same, token for token"
    return f"differs from token {trace.first_difference} on: rounding in another batch or on another machine"


def _decoding(trace: Trace) -> str:
    """Options that differ from their default, and those that are always shown."""
    given = trace.settings.generation
    defaults = GenerationOptions(given.strategy).as_keywords()
    changed = {
        key: value
        for key, value in given.as_keywords().items()
        if key in _ALWAYS_SHOWN or key not in defaults or value != defaults[key]
    }
    if given.steps is not None:
        del changed["num_transfer_tokens"]
    return f"{given.strategy} {_as_arguments(changed)}"


def _as_arguments(values: dict[str, Any]) -> str:
    """Values as arguments of the command line."""
    return " ".join(f"{key}={spelled(value)}" for key, value in values.items())


def _token_text(trace: Trace, position: int) -> str:
    """A final token in words."""
    if trace.ids[position] == trace.config.mask_id:
        return "left masked"
    text = trace.token_texts[position]
    return "a part of a character" if text is None else f"“{text}”"
