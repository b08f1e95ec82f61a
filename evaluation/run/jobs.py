"""How a batch runs: generation from prompts, and log-likelihoods of given answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from evaluation.config.settings import Settings
from evaluation.run.answer_end import AnswerEnd
from evaluation.run.batching import Job
from evaluation.run.efficiency import warm_up_options
from evaluation.run.requests import GenerationRequest, LikelihoodRequest
from generation import (
    Counts,
    GenerationOutput,
    Likelihood,
    LikelihoodOptions,
    generate,
    log_likelihoods,
    stream,
)
from models import Transformer


@dataclass(frozen=True)
class Generation:
    """What was generated for one request: all tokens of the canvas that exist, and the part that counts (``tokens``,
    ``text``)."""

    ids: list[int]
    forwards: int
    tokens: int
    text: str


def generation_job(settings: Settings, ending: AnswerEnd) -> Job[GenerationRequest, Generation]:
    """Generate with the method and the options of ``settings``; ``ending`` cuts the answers."""

    def decode(run: Callable[..., Any], model: Transformer, requests: list[GenerationRequest], **options: Any) -> Any:
        prompts, seeds = [request.ids for request in requests], [request.seed for request in requests]
        return run(model, prompts, **settings.method, seed=seeds, **options)

    def answer(model: Transformer, requests: list[GenerationRequest]) -> tuple[list[Generation], Counts]:
        output: GenerationOutput = decode(generate, model, requests, **settings.generation.as_keywords())
        generations = []
        answers = zip(requests, output.tokens.tolist(), output.lengths, output.forwards, strict=True)
        for request, canvas, length, forwards in answers:
            ids = canvas[:length]
            trimmed = ending.cut(ids, request.until)
            generations.append(Generation(ids, forwards, trimmed.tokens, trimmed.text))
        return generations, output.counts

    def warm_up(model: Transformer, requests: list[GenerationRequest]) -> None:
        for _ in islice(decode(stream, model, requests, **warm_up_options(settings.generation).as_keywords()), 4):
            pass

    return Job("generate", Generation, answer, warm_up)


def likelihood_job(options: LikelihoodOptions) -> Job[LikelihoodRequest, Likelihood]:
    """Score given answers."""

    def score(
        model: Transformer, requests: list[LikelihoodRequest], options: LikelihoodOptions = options
    ) -> tuple[list[Likelihood], Counts]:
        pairs, seeds = [(one.ids, one.answer_ids) for one in requests], [one.seed for one in requests]
        return log_likelihoods(model, pairs, options, seeds=seeds, batch_size=len(requests))

    def warm_up(model: Transformer, requests: list[LikelihoodRequest]) -> None:
        score(model, requests, LikelihoodOptions(mc_num=1))

    return Job("score", Likelihood, score, warm_up)
