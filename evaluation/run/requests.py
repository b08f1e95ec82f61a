"""Questions as they are put to a model, prompts to continue and answers to score, checked before weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import require, shown
from evaluation.run.journal import Question
from models import ModelConfig


@dataclass(frozen=True)
class Request:
    """A prompt to continue, and what is known of it.

    Attributes:
        task: name of the lm-eval task.
        doc_id: row of the dataset.
        repeat: number of the answer, from 0, where a task asks for several.
        prompt, ids: as text and as tokens.
        until: texts that end the answer.
        seed: its random stream, another one for each repeat.
    """

    task: str
    doc_id: int
    repeat: int
    prompt: str
    ids: list[int]
    until: list[str]
    seed: int

    def identity(self) -> Question:
        """What makes it the same request in another session."""
        return [self.task, self.doc_id, self.seed, digest(self.prompt)]


@dataclass(frozen=True)
class Pair:
    """A prompt and an answer to score, and what is known of them; as in `Request`."""

    task: str
    doc_id: int
    repeat: int
    prompt: str
    answer: str
    ids: list[int]
    answer_ids: list[int]
    seed: int

    def identity(self) -> Question:
        """What makes it the same pair in another session."""
        return [self.task, self.doc_id, self.seed, digest(self.prompt), digest(self.answer)]


def digest(text: str) -> str:
    """SHA-256 of a text, by which runs tell whether they asked the same."""
    return sha256(text.encode()).hexdigest()


def request_seed(seed: int, task: str, doc_id: int, index: int = 0, repeat: int = 0) -> int:
    """The random stream of one request: the same in every batch size and number of processes."""
    drawn = sha256(f"{seed}/{task}/{doc_id}/{index}/{repeat}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 1


def check_texts(instance: Any) -> None:
    """Raise `UsageError` if a question of lm-eval holds half a surrogate, which has no tokens, and digests no bytes."""
    try:
        json.dumps([instance.args, instance.doc], ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        text = str(error.object)[error.start : error.end]
        raise UsageError(
            f"row {instance.doc_id} of {instance.task_name} holds {shown(text)}, half of a character, which is no text"
        ) from error


def check_request(request: Request, gen_length: int, config: ModelConfig) -> None:
    """Raise `UsageError` unless the prompt has known tokens and fits with ``gen_length``."""
    where, length = _where(request), len(request.ids)
    require(length > 0, f"the {where} is empty")
    require(
        length + gen_length <= config.context_length,
        f"the {where} has {length} tokens; with generation.gen_length {gen_length} that is more than the model's "
        f"context of {config.context_length}; give a smaller dataset.n_shot or generation.gen_length",
    )
    _check_tokens(where, request.ids, config)


def check_pair(pair: Pair, config: ModelConfig) -> None:
    """Raise `UsageError` unless there is an answer, of known tokens, that fits with its prompt."""
    where = _where(pair)
    require(len(pair.answer_ids) > 0, f"an answer of {pair.task}, row {pair.doc_id} has no tokens: {pair.answer!r}")
    length, limit = len(pair.ids) + len(pair.answer_ids) + 1, config.context_length
    require(
        length <= limit,
        f"the {where} has {length} tokens with its answer, which is more than the model's context of {limit}; give "
        "a smaller dataset.n_shot",
    )
    _check_tokens(where, [*pair.ids, *pair.answer_ids], config)


def _where(asked: Request | Pair) -> str:
    return f"prompt of {asked.task}, row {asked.doc_id}"


def _check_tokens(where: str, ids: Sequence[int], config: ModelConfig) -> None:
    unknown = [token for token in ids if token >= config.vocab_size]
    require(
        not unknown,
        f"the {where} has token ids outside the model's vocabulary of {config.vocab_size}: {unknown[:5]}; "
        "tokenizer and model do not belong together",
    )
