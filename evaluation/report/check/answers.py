"""Each answer by itself: its question, random stream, tokens, text, and the forwards that it can have taken."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from evaluation.report.check.subject import Problems, Subject, several
from evaluation.run.requests import request_seed
from evaluation.storage.saved_run import question_id, question_name
from evaluation.storage.schema import Sample
from generation import GenerationOptions

_COUNTED = (
    "raw",
    "text",
    "prompt_tokens",
    "tokens_out",
    "tokens_canvas",
    "forwards",
    "seconds",
    "seed",
    "batch",
    "work",
    "prompt_sha256",
)
_CUT = "\ufffd"
"""What is decoded from a part of a character."""
_SPECIAL = re.compile(r"<[^<>\s]{1,80}>|\[[A-Z_]{2,20}\]|\s+")


class Answers:
    """What is wrong with single answers, counted by kind."""

    def __init__(self, subject: Subject) -> None:
        self.notes: list[str] = []
        self._subject = subject
        self._found: dict[str, list[str]] = defaultdict(list)
        self._first: str | None = None
        self._number = 0

    def see(self, sample: Sample) -> None:
        self._number += 1
        where = question_name(question_id(sample)) if self._subject.scorer is None else f"row {sample.doc_id}"
        for problem in self._problems(sample):
            self._found[problem].append(where)

    def problems(self) -> Problems:
        if self._first:
            yield self._first
        for what, where in self._found.items():
            yield from several(where, what)

    def _problems(self, sample: Sample) -> Iterator[str]:
        subject = self._subject
        if subject.scorer and (sample.task != subject.task or sample.choices is not None):
            yield f"something else than {subject.task} was answered"
        elif sample.task not in subject.results.results:
            yield f"the results have no task {sample.task}, which was answered"
        elif subject.published and not subject.published.has(sample.task, sample.doc_id, sample.doc or {}):
            yield f"the reference is not that of {sample.task}"
        if sample.choices is not None:
            yield from self._choices(sample)
            return
        if lacking := [key for key in _COUNTED if getattr(sample, key) is None]:
            self._first = self._first or f"question {self._number} lacks {', '.join(lacking)}"
            return
        yield from self._generated(sample)
        yield from self._text(sample)

    def _choices(self, sample: Sample) -> Iterator[str]:
        seed = self._subject.run.config.seed or 0
        for index, choice in enumerate(sample.choices or []):
            if choice.seed != request_seed(seed, sample.task, sample.doc_id, index, sample.repeat):
                yield "the seed is not the one of the question"
            if choice.log_likelihood > 0 or choice.answer_tokens == 0:
                yield "a likelihood is above 1, or an answer has no tokens"

    def _generated(self, sample: Sample) -> Iterator[str]:
        settings, tokens = self._subject.settings, len(sample.ids)
        forwards, canvas = sample.forwards or 0, sample.tokens_canvas or 0
        if sample.tokens_out != tokens:
            yield "tokens_out is not the number of ids"
        if not sample.seconds:
            yield "no time was taken"
        if tokens > canvas:
            yield "there are more tokens than the canvas had"
        if not self._subject.ends.isdisjoint(sample.ids):
            yield "there are tokens in the answer that end one"
        if settings is None:
            return
        if canvas != settings.generation.gen_length:
            yield "tokens_canvas is not gen_length"
        if sample.seed != request_seed(settings.seed, sample.task, sample.doc_id, 0, sample.repeat):
            yield "the seed is not the one of the question"
        least, most = _forwards(settings.generation)
        if not least <= forwards <= most:
            yield f"forwards are not between {least} and {most}, which the decoder allows,"
        elif (at_once := _at_once(settings.generation)) and tokens > forwards * at_once:
            yield f"there are more tokens than {at_once} to a forward"

    def _text(self, sample: Sample) -> Iterator[str]:
        text, raw = sample.text or "", sample.raw or ""
        model, tokenizer = self._subject.model, self._subject.tokenizer
        if tokenizer is None or model is None:
            if not _bare(raw).startswith(_bare(text)):
                yield "the text is not in raw"
            return
        if any(token >= model.vocab_size for token in sample.ids):
            yield "there are ids outside the vocabulary"
            return
        if model.mask_id in sample.ids:
            yield "there are tokens in the answer that were not decided"
        if not tokenizer.decode(sample.ids, skip_special_tokens=True).startswith(text):
            yield "the text is not that of the ids"
        elif sample.ids and len(tokenizer.decode(sample.ids[:-1], skip_special_tokens=True)) > len(text):
            yield "the text ends before the ids do"
        whole = tokenizer.decode(sample.ids, skip_special_tokens=False)
        if not raw.startswith(whole.rstrip(_CUT)):
            yield "raw does not begin with the ids"
        elif len(sample.ids) < (sample.tokens_canvas or 0) and not self._ended(sample.task, raw, raw[len(whole) :]):
            yield "the answer ends where nothing ends it"

    def _ended(self, task: str, raw: str, rest: str) -> bool:
        """Whether an end token is behind an answer, or a text in it that ends answers of the task."""
        tokenizer, until = self._subject.tokenizer, self._until(task)
        assert tokenizer is not None
        ends = [tokenizer.id_to_token(token) for token in self._subject.ends]
        if rest.startswith(tuple(end for end in [*ends, *until] if end)):
            return True
        for token in tokenizer.get_added_tokens_decoder().values():
            raw = raw.replace(token.content, "")  # texts end an answer across them
        return any(text in raw for text in until)

    def _until(self, task: str) -> list[str]:
        """Texts that end an answer, as far as the run says."""
        config = self._subject.results.configs.get(task)
        given = config.get("generation_kwargs") if isinstance(config, dict) else None
        until = given.get("until") if isinstance(given, dict) else None
        texts = [until] if isinstance(until, str) else until if isinstance(until, list) else []
        settings = self._subject.settings
        words = settings.model.stop_words if settings else []
        return [text for text in [*texts, *words] if isinstance(text, str) and text]


def _forwards(options: GenerationOptions) -> tuple[int, int]:
    """Fewest and most forwards of one answer."""
    if options.strategy != "vanilla" or options.stop_until_eos:
        return 1, options.gen_length
    blocks = options.gen_length // options.block
    if options.threshold is not None or options.factor is not None:
        return blocks, options.gen_length
    fixed = options.steps or blocks * -(-options.block // options.num_transfer_tokens)
    return fixed, options.gen_length  # a cache may have fewer positions to decide than the decoder asks for


def _at_once(options: GenerationOptions) -> int | None:
    """Most tokens that a forward decides; None where that is not known."""
    if options.strategy != "vanilla":
        return None
    if options.threshold is not None or options.factor is not None:
        return options.block  # as many as there are
    if options.steps is None:
        return options.num_transfer_tokens
    return -(-options.gen_length // options.steps)


def _bare(text: str) -> str:
    """``text`` without blanks, and without what looks like a special token, which raw has more of."""
    return _SPECIAL.sub("", text).rstrip(_CUT)
