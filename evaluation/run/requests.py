"""Requests to the model, prompts to continue and answers to score, checked before weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import require, shown
from evaluation.run.journal import RequestKey
from models import ModelConfig


@dataclass(frozen=True)
class _Request:
    """What both kinds of requests have.

    Attributes:
        task: name of the lm-eval task.
        doc_id: row of the dataset.
        repeat: number of the answer, from 0, for tasks that ask for several.
        prompt, ids: as text and as tokens.
        seed: of its random stream, different for each repeat.
    """

    task: str
    doc_id: int
    repeat: int
    prompt: str
    ids: list[int]
    seed: int

    @property
    def key(self) -> RequestKey:
        """What identifies the request in the journal."""
        return [self.task, self.doc_id, self.seed, digest(self.prompt)]

    def _require(self, condition: bool, problem: str) -> None:
        require(condition, f"the prompt of {self.task}, row {self.doc_id} {problem}")

    def _require_known_tokens(self, ids: Sequence[int], config: ModelConfig) -> None:
        unknown = [token for token in ids if token >= config.vocab_size]
        self._require(
            not unknown,
            f"has token ids outside the model's vocabulary of {config.vocab_size}: {unknown[:5]}; "
            "tokenizer and model do not belong together",
        )


@dataclass(frozen=True)
class GenerationRequest(_Request):
    """A prompt to continue until one of the texts ``until``."""

    until: list[str]

    def check(self, config: ModelConfig, gen_length: int) -> None:
        """Raise `UsageError` unless the prompt is not empty, has known tokens and fits with ``gen_length``."""
        length, limit = len(self.ids), config.context_length
        self._require(length > 0, "is empty")
        self._require(
            length + gen_length <= limit,
            f"has {length} tokens; with generation.gen_length {gen_length} that is more than the model's context of "
            f"{limit}; give a smaller dataset.n_shot or generation.gen_length",
        )
        self._require_known_tokens(self.ids, config)


@dataclass(frozen=True)
class LikelihoodRequest(_Request):
    """A prompt and an answer to score."""

    answer: str
    answer_ids: list[int]

    @property
    def key(self) -> RequestKey:
        return [*super().key, digest(self.answer)]

    def check(self, config: ModelConfig) -> None:
        """Raise `UsageError` unless the answer is not empty, has known tokens and fits with its prompt."""
        length, limit = len(self.ids) + len(self.answer_ids) + 1, config.context_length
        self._require(len(self.answer_ids) > 0, f"has an empty answer: {self.answer!r}")
        self._require(
            length <= limit,
            f"has {length} tokens with its answer, which is more than the model's context of {limit}; give a smaller "
            "dataset.n_shot",
        )
        self._require_known_tokens([*self.ids, *self.answer_ids], config)


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return sha256(text.encode()).hexdigest()


def request_seed(seed: int, task: str, doc_id: int, index: int = 0, repeat: int = 0) -> int:
    """Seed of one request, independent of batch size and number of processes."""
    drawn = sha256(f"{seed}/{task}/{doc_id}/{index}/{repeat}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 1


def check_texts(instance: Any) -> None:
    """Raise `UsageError` if a request of lm-eval holds a lone surrogate, which is neither encodable nor a token."""
    try:
        json.dumps([instance.args, instance.doc], ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        text = str(error.object)[error.start : error.end]
        raise UsageError(
            f"row {instance.doc_id} of {instance.task_name} holds a lone surrogate, which is not text: {shown(text)}"
        ) from error
