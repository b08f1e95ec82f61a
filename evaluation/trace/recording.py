"""Decoding one question of a run again, this time with every forward recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from cache_zoo import UsageError
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import find_checkpoint
from evaluation.run.lm import CacheZooLM
from evaluation.run.provenance import provenance
from evaluation.run.requests import GenerationRequest, digest, request_seed
from evaluation.run.stopping import Ending, TrimmedAnswer
from evaluation.trace.pieces import pieces
from evaluation.trace.prompt import Asked, ask
from generation import GenerationOutput, TraceStep, generate, stream
from models import ModelConfig, Transformer, load_model
from models.tokenizer import load_tokenizer

WARM_UP = 4
"""Forwards before the recorded ones, so that what only first ones need is in no step's seconds."""


@dataclass(frozen=True)
class Trace:
    """A question answered alone, forward by forward.

    Attributes:
        settings: of the run.
        config: of the checkpoint.
        asked: the question.
        output: what was generated; a batch of one.
        answer: the part of it that counts.
        prompt_pieces, pieces: text of each token (see `evaluation.trace.pieces.pieces`).
        special: ids of special tokens.
        saved: the line of ``samples.jsonl`` that the run left, None where there is none.
        dtype, device: of the model.
        provenance: versions, machine and date of the recording.
    """

    settings: Settings
    config: ModelConfig
    asked: Asked
    output: GenerationOutput
    answer: TrimmedAnswer
    prompt_pieces: list[str | None]
    pieces: list[str | None]
    special: frozenset[int]
    saved: Mapping[str, Any] | None
    dtype: str
    device: str
    provenance: dict[str, Any]

    @property
    def ids(self) -> list[int]:
        """Tokens of the generated part."""
        return list(self.output.tokens[0].tolist())

    @property
    def steps(self) -> list[TraceStep]:
        """One per forward."""
        return self.output.trace or []

    @property
    def saved_ids(self) -> list[int] | None:
        """Tokens of the answer that the run saved; None where it saved none."""
        ids = None if self.saved is None else self.saved.get("ids")
        return None if ids is None else list(ids)

    @property
    def same(self) -> bool | None:
        """Whether the answer is the saved one, token for token; None: there is none."""
        saved = self.saved_ids
        return None if saved is None else saved == self.ids[: self.answer.tokens]

    @property
    def departure(self) -> int | None:
        """First token in which the answer is not the saved one; None: it is, or there is none."""
        if self.same is not False:
            return None
        ours, saved = self.ids[: self.answer.tokens], self.saved_ids or []
        pairs = enumerate(zip(ours, saved, strict=False))
        return next((place for place, (one, other) in pairs if one != other), min(len(ours), len(saved)))


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
        task: where the dataset is a group of several.
        saved: the line of ``samples.jsonl`` of this question; its prompt must be the same.
        model: of the checkpoint, or what loads it once it is needed; None: it is loaded.
        tokenizer: of the checkpoint; None: it is loaded.

    Raises:
        UsageError: no such row, nothing is generated there, a prompt that does not fit or is not the saved one, or no
            such device.
    """
    checkpoint = find_checkpoint(settings.model)
    folder, config = checkpoint.folder, checkpoint.config
    tokenizer = load_tokenizer(folder) if tokenizer is None else tokenizer

    def load() -> Transformer:
        if isinstance(model, Transformer):
            return model
        return model() if model else load_model(folder, settings.model.dtype, settings.model.device)

    asked = ask(settings, CacheZooLM(settings, config, tokenizer, load), row, task)
    seed = request_seed(settings.seed, asked.task, asked.row)
    request = GenerationRequest(asked.task, asked.row, 0, asked.prompt, asked.ids, seed, asked.until)
    request.check(config, settings.generation.gen_length)
    if saved is not None:
        _check_prompt(asked, saved)
    loaded = load()
    output = _decode(loaded, settings, request)
    ids = output.tokens[0].tolist()
    ending = Ending(tokenizer, config, settings.model.end_tokens, settings.model.stop_words)
    return Trace(
        settings=settings,
        config=config,
        asked=asked,
        output=output,
        answer=ending.cut(ids, asked.until),
        prompt_pieces=pieces(tokenizer, asked.ids),
        pieces=pieces(tokenizer, ids),
        special=frozenset(tokenizer.all_special_ids) | ending.end_ids,
        saved=saved,
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        provenance=provenance(),
    )


def _check_prompt(asked: Asked, saved: Mapping[str, Any]) -> None:
    found, expected = digest(asked.prompt), saved.get("prompt_sha256")
    if found != expected:
        raise UsageError(
            f"the prompt of {asked.task}, row {asked.row} is not the one of the run: its digest is {found[:12]}, the "
            f"saved one {str(expected)[:12]}; data, examples, chat template or system prompt have changed since"
        )


def _decode(model: Transformer, settings: Settings, request: GenerationRequest) -> GenerationOutput:
    options, seed = asdict(settings.generation), request.seed
    for _ in islice(stream(model, [request.ids], settings.cache.make(), seed=seed, **options), WARM_UP):
        pass
    return generate(model, [request.ids], settings.cache.make(), seed=[seed], trace=True, **options)
