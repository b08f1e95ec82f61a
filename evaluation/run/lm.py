"""The lm-eval model class: takes lm-eval's requests, runs them in measured batches and returns the answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config.identity import BASELINE
from evaluation.config.settings import Settings
from evaluation.run.answer_end import AnswerEnd
from evaluation.run.batching import BatchRunner
from evaluation.run.distributed import Processes
from evaluation.run.efficiency import GeneratedAnswer, ScoredChoice, ScoredQuestion
from evaluation.run.jobs import Generation, generation_job, likelihood_job
from evaluation.run.journal import Journal
from evaluation.run.requests import GenerationRequest, LikelihoodRequest, check_texts, request_seed
from generation import Likelihood
from models import ModelConfig, Transformer
from models.chat import Chat

_LOG = logging.getLogger(__name__)
EQUAL_ANSWERS = "the task asks for several answers per question; without sampling they are equal, so one is generated"


class Text(str):
    """An answer as lm-eval sees it, cut at its stop texts; ``raw`` is the whole generation, which some filters read.

    It can be made from any object, as a `str` can: lm-eval converts references to the class of the answer.
    """

    raw: str

    def __new__(cls, text: object = "", raw: str | None = None) -> Text:
        made = super().__new__(cls, text)
        made.raw = str(made) if raw is None else raw
        return made


class CacheZooLM(TemplateLM):  # type: ignore[misc] # lm-eval has no annotations
    """A model, a cache and decoding options behind lm-eval's interface.

    Weights are loaded after all prompts have been checked. lm-eval sees one process: requests are shared out here, and
    the main process collects the answers. The other processes return placeholders.

    ``load`` loads the weights. ``journal`` keeps answers as they come, and has those of earlier sessions.

    Attributes:
        answers: one per generated answer or scored question, in the order of the requests; complete in the main
            process only.
        runner: what was measured while they were made.
        repeats: answers asked for per question, by task.
    """

    def __init__(
        self,
        settings: Settings,
        config: ModelConfig,
        tokenizer: Any,
        load: Callable[[], Transformer],
        processes: Processes | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.config, self.tokenizer = settings, config, tokenizer
        self.processes = processes or Processes()
        self.runner = BatchRunner(settings.batch_size, self.processes, journal)
        self._load = load
        self._model: Transformer | None = None
        self.ending = AnswerEnd(tokenizer, config, settings.model.end_tokens, settings.model.stop_words)
        prompt_key = "model.system_prompt" if settings.model.system_prompt else "dataset.system_prompt"
        no_prompt = f", or no {prompt_key}" if settings.system_instruction else ""
        self._chat = Chat(tokenizer, f"model.apply_chat_template=false{no_prompt}")
        self.answers: list[GeneratedAnswer | ScoredQuestion] = []
        self.repeats: dict[str, int] = {}

    @property
    def model(self) -> Transformer:
        """The network, loaded at first use."""
        if self._model is None:
            self._model = self._load()
        return self._model

    @property
    def eot_token_id(self) -> int:
        return self.config.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token before an answer without a prompt."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self._chat.render(chat_history, continued=not add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens in the text count as such, and only BOS is added, if the model asks for it."""
        ids: list[int] = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        add = self.settings.model.add_bos if add_special_tokens is None else add_special_tokens
        return [bos, *ids] if add and bos is not None and ids[:1] != [bos] else ids

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers. Where nothing is drawn, repeated requests have equal answers, so one is generated for all."""
        asked = list(self._generation_requests(requests))
        distinct, positions = (asked, list(range(len(asked)))) if self.settings.random else _distinct(asked)
        if len(distinct) < len(asked) and self.processes.is_main_process:
            _LOG.warning(EQUAL_ANSWERS)
        for request in distinct:
            request.check(self.config, self.settings.generation.gen_length)
        job = generation_job(self.settings, self.ending)
        generations = self.runner.run(job, distinct, lambda: self.model, disable_tqdm)
        if generations is None:
            return [""] * len(asked)
        answers = [self._generated(*parts) for parts in zip(distinct, generations, strict=True)]
        self.answers += answers
        return [Text(answers[position].text, answers[position].raw) for position in positions]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each answer, and whether greedy decoding gives it (see `generation.log_likelihoods`).

        No cache applies: caches carry work between the forwards of a generation, and scoring forwards share none.
        """
        asked = list(self._likelihood_requests(requests))
        saving = {key: self.settings.axes[key] for key in BASELINE if self.settings.axes[key] != BASELINE[key]}
        for request in asked:
            require(
                self.settings.is_baseline,
                f"task '{request.task}' scores given answers and generates nothing, so {_assignments(saving)} has "
                f"nothing to do; give {_assignments({key: BASELINE[key] for key in saving})}",
            )
            request.check(self.config)
        scores = self.runner.run(likelihood_job(self.settings.likelihood), asked, lambda: self.model, disable_tqdm)
        if scores is None:
            return [(0.0, False)] * len(asked)
        questions: dict[tuple[str, int, int], list[tuple[LikelihoodRequest, Likelihood, float]]] = {}
        for request, (score, number) in zip(asked, scores, strict=True):
            batch = self.runner.batches[number]
            question = (request.task, request.doc_id, request.repeat)
            questions.setdefault(question, []).append((request, score, batch.seconds / batch.size))
        self.answers += map(_scored, questions.values())
        return [(score.value, score.greedy) for score, _ in scores]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError("loglikelihood is overridden")

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise UsageError(
            "this task asks for the likelihood of whole texts (loglikelihood_rolling); the estimators of LLaDA and "
            "Dream score answers to prompts only"
        )

    def _generation_requests(self, instances: Sequence[Any]) -> Iterator[GenerationRequest]:
        for instance, origin in self._with_origin(instances):
            prompt, arguments = instance.args
            until = arguments.get("until") or []
            until = [until] if isinstance(until, str) else list(until)
            yield GenerationRequest(**origin, prompt=prompt, ids=self.tok_encode(prompt), until=until)

    def _likelihood_requests(self, instances: Sequence[Any]) -> Iterator[LikelihoodRequest]:
        for instance, origin in self._with_origin(instances):
            prompt, answer = instance.args
            if prompt:
                ids, answer_ids = self._encode_pair(prompt, answer)
            else:
                ids, answer_ids = [self.prefix_token_id], self.tok_encode(answer, add_special_tokens=False)
            yield LikelihoodRequest(**origin, prompt=prompt, answer=answer, ids=ids, answer_ids=answer_ids)

    def _with_origin(self, instances: Sequence[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Each request of lm-eval with its task, row, repeat and seed; repeats are equal requests in a row."""
        times: Counter[tuple[str, int, int]] = Counter()
        for instance in instances:
            check_texts(instance)
            task, doc_id, index = key = str(instance.task_name), int(instance.doc_id), int(instance.idx)
            repeat = times[key]
            times[key] += 1
            self.repeats[task] = max(times[key], self.repeats.get(task, 1))
            seed = request_seed(self.settings.seed, task, doc_id, index, repeat)
            yield instance, {"task": task, "doc_id": doc_id, "repeat": repeat, "seed": seed}

    def _generated(self, request: GenerationRequest, generated: tuple[Generation, int]) -> GeneratedAnswer:
        generation, batch = generated
        answer = self.ending.cut(generation.ids, request.until)
        return GeneratedAnswer(
            task=request.task,
            doc_id=request.doc_id,
            repeat=request.repeat,
            prompt=request.prompt,
            prompt_tokens=len(request.ids),
            raw=answer.raw,
            text=answer.text,
            ids=generation.ids[: answer.tokens],
            tokens_canvas=len(generation.ids),
            forwards=generation.forwards,
            seconds=self.runner.batches[batch].seconds,
            seed=request.seed,
            batch=batch,
        )


def _assignments(values: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _distinct(requests: list[GenerationRequest]) -> tuple[list[GenerationRequest], list[int]]:
    """The requests without repetitions, and for each request the position of its first occurrence among them."""
    keys = [(request.task, request.doc_id, request.prompt, tuple(request.until)) for request in requests]
    first: dict[tuple[Any, ...], GenerationRequest] = {}
    for key, request in zip(keys, requests, strict=True):
        first.setdefault(key, request)
    positions = {key: position for position, key in enumerate(first)}
    return list(first.values()), [positions[key] for key in keys]


def _scored(parts: list[tuple[LikelihoodRequest, Likelihood, float]]) -> ScoredQuestion:
    """One question from its requests, their likelihoods and their seconds."""
    first, _, _ = parts[0]
    choices = [
        ScoredChoice(one.prompt, one.answer, len(one.answer_ids), score.value, score.greedy, one.seed)
        for one, score, _ in parts
    ]
    forwards, seconds = sum(score.forwards for _, score, _ in parts), sum(seconds for _, _, seconds in parts)
    return ScoredQuestion(first.task, first.doc_id, first.repeat, choices, forwards, seconds)
