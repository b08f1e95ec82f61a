"""Check each answer by itself: question, seed, tokens, text, and the number of forwards."""

from __future__ import annotations

import re
from collections import defaultdict

from evaluation.report.check.context import CheckedRun, Problems, summarize
from evaluation.run.requests import request_seed
from evaluation.storage.saved_run import question_id, question_name
from evaluation.storage.schema import Sample
from generation import GenerationOptions
from generation.strategies.registry import make_strategy

_REQUIRED = "raw text prompt_tokens tokens_out tokens_canvas forwards seconds seed batch work prompt_sha256".split()
_REPLACEMENT = "\ufffd"
"""Decoded from a part of a character."""
_SPECIAL = re.compile(r"<[^<>\s]{1,80}>|\[[A-Z_]{2,20}\]|\s+")


class AnswerCheck:
    """Problems of single answers, counted by kind."""

    def __init__(self, checked: CheckedRun) -> None:
        self.notes: list[str] = []
        self._checked = checked
        self._problems: dict[str, list[str]] = defaultdict(list)
        self._incomplete: str | None = None
        self._count = 0

    def add(self, sample: Sample) -> None:
        self._count += 1
        place = f"row {sample.doc_id}" if self._checked.scorer else question_name(question_id(sample))
        for problem in self._check(sample):
            self._problems[problem].append(place)

    def problems(self) -> Problems:
        if self._incomplete:
            yield self._incomplete
        yield from summarize(self._problems)

    def _check(self, sample: Sample) -> Problems:
        checked = self._checked
        if checked.scorer and (sample.task != checked.task or sample.choices is not None):
            yield f"the answer is not one to {checked.task}"
        elif sample.task not in checked.results.results:
            yield f"the results have no task {sample.task}"
        elif checked.published and not checked.published.has(sample.task, sample.doc_id, sample.doc or {}):
            yield f"the reference is not the published one of {sample.task}"
        if sample.choices is not None:
            yield from self._check_choices(sample)
        elif lacking := [key for key in _REQUIRED if getattr(sample, key) is None]:
            self._incomplete = self._incomplete or f"question {self._count} lacks {', '.join(lacking)}"
        else:
            yield from self._check_counts(sample)
            yield from self._check_text(sample)

    def _check_choices(self, sample: Sample) -> Problems:
        seed = self._checked.run.config.seed or 0
        for index, choice in enumerate(sample.choices or []):
            if choice.seed != request_seed(seed, sample.task, sample.doc_id, index, sample.repeat):
                yield "the seed is not that of the question"
            if choice.log_likelihood > 0 or choice.answer_tokens == 0:
                yield "a likelihood is above 1, or an answer has no tokens"

    def _check_counts(self, sample: Sample) -> Problems:
        settings, tokens = self._checked.settings, len(sample.ids)
        forwards, canvas = sample.forwards or 0, sample.tokens_canvas or 0
        if sample.tokens_out != tokens:
            yield "tokens_out is not the number of ids"
        if not sample.seconds:
            yield "seconds are 0"
        if tokens > canvas:
            yield "there are more tokens than canvas positions"
        if not self._checked.end_ids.isdisjoint(sample.ids):
            yield "the answer contains an end token"
        if settings is None:
            return
        most = settings.generation.gen_length
        if canvas != most and not (0 < canvas < most and make_strategy(settings.generation).resizes):
            yield "tokens_canvas is not gen_length"
        if sample.seed != request_seed(settings.seed, sample.task, sample.doc_id, 0, sample.repeat):
            yield "the seed is not that of the question"
        least, most = _forwards_range(settings.generation)
        if not least <= forwards <= most:
            yield f"forwards are outside the decoder's range of {least} to {most}"
        elif (per_forward := _max_tokens_per_forward(settings.generation)) and tokens > forwards * per_forward:
            yield f"there are more than {per_forward} tokens per forward"

    def _check_text(self, sample: Sample) -> Problems:
        text, raw = sample.text or "", sample.raw or ""
        model, tokenizer = self._checked.model, self._checked.tokenizer
        if tokenizer is None or model is None:
            if not _without_specials(raw).startswith(_without_specials(text)):
                yield "the text is not in raw"
            return
        if any(token >= model.vocab_size for token in sample.ids):
            yield "there are ids outside the vocabulary"
            return
        if model.mask_id in sample.ids:
            yield "the answer contains masked positions"
        if not tokenizer.decode(sample.ids, skip_special_tokens=True).startswith(text):
            yield "the text is not that of the ids"
        elif sample.ids and len(tokenizer.decode(sample.ids[:-1], skip_special_tokens=True)) > len(text):
            yield "the text ends before the ids do"
        decoded = tokenizer.decode(sample.ids, skip_special_tokens=False)
        if not raw.startswith(decoded.rstrip(_REPLACEMENT)):
            yield "raw does not begin with the ids"
        elif len(sample.ids) < (sample.tokens_canvas or 0) and not self._ends(sample.task, raw, raw[len(decoded) :]):
            yield "the answer stops without an end token or a stop text"

    def _ends(self, task: str, raw: str, rest: str) -> bool:
        """Whether an end token follows the answer, or a stop text of the task is in it."""
        tokenizer, stop_texts = self._checked.tokenizer, self._stop_texts(task)
        assert tokenizer is not None
        end_tokens = [tokenizer.id_to_token(token) for token in self._checked.end_ids]
        if rest.startswith(tuple(text for text in [*end_tokens, *stop_texts] if text)):
            return True
        for token in tokenizer.get_added_tokens_decoder().values():
            raw = raw.replace(token.content, "")  # stop texts match across special tokens
        return any(text in raw for text in stop_texts)

    def _stop_texts(self, task: str) -> list[str]:
        """Texts that end an answer, as far as the run records them."""
        config = self._checked.results.configs.get(task)
        arguments = config.get("generation_kwargs") if isinstance(config, dict) else None
        until = arguments.get("until") if isinstance(arguments, dict) else None
        texts = until if isinstance(until, list) else [until]
        settings = self._checked.settings
        texts = [*texts, *(settings.model.stop_words if settings else [])]
        return [text for text in texts if isinstance(text, str) and text]


def _forwards_range(options: GenerationOptions) -> tuple[int, int]:
    """Fewest and most forwards of an answer."""
    if options.strategy != "vanilla" or options.stop_until_eos or options.eos or options.schedule != "even":
        return 1, make_strategy(options).most_forwards  # those that commit nothing included
    blocks = options.gen_length // options.block
    if options.threshold is not None or options.factor is not None:
        return blocks, options.gen_length
    fixed = options.steps or blocks * -(-options.block // options.num_transfer_tokens)
    return fixed, options.gen_length  # a cache may offer fewer positions than the decoder would commit


def _max_tokens_per_forward(options: GenerationOptions) -> int | None:
    """Most tokens that a forward commits; None if unknown."""
    if options.strategy != "vanilla" or options.schedule != "even":
        return None
    if options.threshold is not None or options.factor is not None:
        return options.block
    if options.steps is None:
        return options.num_transfer_tokens
    return -(-options.gen_length // options.steps)


def _without_specials(text: str) -> str:
    """``text`` without whitespace and without anything like a special token: raw may have more of both."""
    return _SPECIAL.sub("", text).rstrip(_REPLACEMENT)
