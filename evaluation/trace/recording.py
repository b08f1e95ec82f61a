"""Decode one question of a run again and record every forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from cache_zoo import UsageError
from evaluation.config.settings import Settings
from evaluation.run.answer_end import AnswerEnd, TrimmedAnswer
from evaluation.run.checkpoint import find_checkpoint
from evaluation.run.lm import CacheZooLM
from evaluation.run.provenance import provenance
from evaluation.run.requests import GenerationRequest, digest, request_seed
from evaluation.trace.prompt import Prompt, build_prompt
from evaluation.trace.token_texts import token_texts
from generation import GenerationOutput, TraceStep, generate, stream
from models import ModelConfig, Transformer, load_model
from models.tokenizer import load_tokenizer

WARM_UP_FORWARDS = 4
"""Forwards before the recorded ones, so that one-time costs are in no step's seconds."""


@dataclass(frozen=True)
class Trace:
    """A question answered alone, forward by forward.

    Attributes:
        settings: of the run.
        config: of the checkpoint.
        prompt: the question.
        output: the generation; a batch of one.
        answer: the part of it that counts.
        prompt_texts, token_texts: text of each token (see `evaluation.trace.token_texts`).
        special: ids of special tokens.
        saved: the run's line of ``samples.jsonl``, if there is one.
        dtype, device: of the model.
        provenance: versions, machine and date of the recording.
        words: where tokens were taken back or the canvas grew, the text of every token that it ever held, by itself.
    """

    settings: Settings
    config: ModelConfig
    prompt: Prompt
    output: GenerationOutput
    answer: TrimmedAnswer
    prompt_texts: list[str | None]
    token_texts: list[str | None]
    special: frozenset[int]
    saved: Mapping[str, Any] | None
    dtype: str
    device: str
    provenance: dict[str, Any]
    words: Mapping[int, str | None] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        """Generated tokens."""
        return _generated(self.output)

    @property
    def steps(self) -> list[TraceStep]:
        """One per forward."""
        return self.output.trace or []

    @property
    def matches_saved(self) -> bool | None:
        """Whether the answer is the saved one, token for token; None if none is saved."""
        return None if self._saved_ids is None else self._saved_ids == self.ids[: self.answer.tokens]

    @property
    def first_difference(self) -> int | None:
        """First token that differs from the saved answer; None if none does."""
        if self.matches_saved is not False:
            return None
        ours, saved = self.ids[: self.answer.tokens], self._saved_ids or []
        pairs = enumerate(zip(ours, saved, strict=False))
        return next((position for position, (one, other) in pairs if one != other), min(len(ours), len(saved)))

    @property
    def _saved_ids(self) -> list[int] | None:
        ids: list[int] | None = (self.saved or {}).get("ids")
        return ids


def record(
    settings: Settings,
    row: int,
    *,
    task: str | None = None,
    saved: Mapping[str, Any] | None = None,
    model: Transformer | Callable[[], Transformer] | None = None,
    tokenizer: Any = None,
) -> Trace:
    """Answer a question of a run alone, with its own random stream, and record every forward.

    Args:
        settings: of the run.
        row: of the dataset.
        task: needed if the dataset is a group of tasks.
        saved: the question's line of ``samples.jsonl``; its prompt must be the same.
        model: of the checkpoint, or a function that loads it; None loads it here.
        tokenizer: of the checkpoint; None loads it.

    Raises:
        UsageError: no such row or device, a task that generates nothing, or a prompt that is too long or not the saved
            one.
    """
    checkpoint = find_checkpoint(settings.model)
    folder, config = checkpoint.folder, checkpoint.config
    tokenizer = load_tokenizer(folder) if tokenizer is None else tokenizer

    def load() -> Transformer:
        if isinstance(model, Transformer):
            return model
        return model() if model else load_model(folder, settings.model.dtype, settings.model.device)

    prompt = build_prompt(settings, CacheZooLM(settings, config, tokenizer, load), row, task)
    seed = request_seed(settings.seed, prompt.task, prompt.row)
    request = GenerationRequest(prompt.task, prompt.row, 0, prompt.text, prompt.ids, seed, prompt.until)
    request.check(config, settings.generation.gen_length)
    if saved is not None:
        _check_prompt(prompt, saved)
    loaded = load()
    output = _decode(loaded, settings, request)
    ids = _generated(output)
    ending = AnswerEnd(tokenizer, config, settings.model.end_tokens, settings.model.stop_words)
    return Trace(
        settings=settings,
        config=config,
        prompt=prompt,
        output=output,
        answer=ending.cut(ids, prompt.until),
        prompt_texts=token_texts(tokenizer, prompt.ids),
        token_texts=token_texts(tokenizer, ids),
        special=frozenset(tokenizer.all_special_ids) | ending.end_ids,
        saved=saved,
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        provenance=provenance(),
        words={token: token_texts(tokenizer, [token])[0] for token in _held(output)},
    )


def _generated(output: GenerationOutput) -> list[int]:
    """The tokens of the canvas that exist."""
    ids: list[int] = output.tokens[0, : output.lengths[0]].tolist()
    return ids


def _held(output: GenerationOutput) -> set[int]:
    """The tokens that the canvas ever held, if some were taken back or it grew; otherwise none."""
    trace = output.trace or []
    if not any(step.lengths is not None or (step.revoked is not None and step.revoked.any()) for step in trace):
        return set()
    return {token for step in trace for token in step.canvas[0].tolist()}


def _check_prompt(prompt: Prompt, saved: Mapping[str, Any]) -> None:
    found, expected = digest(prompt.text), saved.get("prompt_sha256")
    if found != expected:
        raise UsageError(
            f"the prompt of {prompt.task}, row {prompt.row} is not that of the run: its digest is {found[:12]}, the "
            f"saved one {str(expected)[:12]}; data, examples, chat template or system prompt have changed"
        )


def _decode(model: Transformer, settings: Settings, request: GenerationRequest) -> GenerationOutput:
    options, seed = settings.generation.as_keywords(), [request.seed]
    for _ in islice(stream(model, [request.ids], **settings.method, seed=seed, **options), WARM_UP_FORWARDS):
        pass
    return generate(model, [request.ids], **settings.method, seed=seed, trace=True, **options)
