"""The lm-eval model class: prompts in, answers out, every one of them measured."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lm_eval.api.model import TemplateLM

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config.settings import Settings
from evaluation.run.batching import Answered, Answering, Answers, Job
from evaluation.run.distributed import Ranks
from evaluation.run.efficiency import Batch, Choice, Sample, Scored, warm_up_options
from evaluation.run.journal import Journal
from evaluation.run.requests import Pair, Request, check_pair, check_request, check_texts, request_seed
from evaluation.run.stopping import Ending
from evaluation.storage.saved_run import BASELINE
from generation import GenerationOptions, GenerationOutput, LikelihoodOptions, generate, log_likelihoods
from models import ModelConfig, Transformer
from models.chat import Chat

_LOG = logging.getLogger(__name__)
EQUAL = "several answers to a question were asked for; they are equal, since nothing is drawn, and one is generated"


class Text(str):
    """An answer as lm-eval sees it, cut at its stop words; ``raw`` is everything generated, which some filters read.

    It can be made from whatever a `str` can: lm-eval makes a reference of any kind an object of the answer's class.
    """

    raw: str

    def __new__(cls, text: object = "", raw: str | None = None) -> Text:
        made = super().__new__(cls, text)
        made.raw = str(made) if raw is None else raw
        return made


class CacheZooLM(TemplateLM):  # type: ignore[misc] # lm-eval has no annotations
    """A model, a cache and decoding options behind lm-eval's interface.

    Weights are loaded once the prompts are known to fit. lm-eval sees one process; the requests are shared out here,
    and the first process has all answers in the end (the others return empty ones, which nobody reads).

    Args:
        settings: of the run.
        config: of the checkpoint.
        tokenizer: of the checkpoint.
        load: loads the weights.
        ranks: the processes that share the work.
        journal: where answers are kept as they come, and those of an interrupted run are found; None: nowhere.

    Attributes:
        samples: one per generated answer, and one per question whose answers were scored, in the order asked; of all
            processes in the first one.
        batches: the timed generations and scorings.
        shortages: each time memory was too short for a batch (see `evaluation.run.batching.Answered`).
        sessions: the different circumstances under which answers were made.
        repeats: answers that are asked of each question, by task.
    """

    def __init__(
        self,
        settings: Settings,
        config: ModelConfig,
        tokenizer: Any,
        load: Callable[[], Transformer],
        ranks: Ranks | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.config, self.tokenizer = settings, config, tokenizer
        self.ranks, self.journal = ranks or Ranks(), journal
        self._load = load
        self._model: Transformer | None = None
        self.ending = Ending(tokenizer, config, settings.model.end_tokens, settings.model.stop_words)
        given = "model.system_prompt" if settings.model.system_prompt else "dataset.system_prompt"
        self._chat = Chat(
            tokenizer, "model.apply_chat_template=false" + (f", or no {given}" if settings.system_instruction else "")
        )
        self.samples: list[Sample | Scored] = []
        self.batches: list[Batch] = []
        self.shortages: list[dict[str, int]] = []
        self.sessions: list[dict[str, Any]] = []
        self.repeats: dict[str, int] = {}

    @property
    def model(self) -> Transformer:
        """The network, loaded when first asked for."""
        if self._model is None:
            self._model = self._load()
        return self._model

    @property
    def eot_token_id(self) -> int:
        return self.config.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before an answer that has no prompt."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """Longest canvas, prompt and generation together."""
        return self.config.context_length

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self._chat.render(chat_history, continued=not add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens written in the text count as such, and only BOS is added, where the model asks."""
        ids: list[int] = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        add = self.settings.model.add_bos if add_special_tokens is None else add_special_tokens
        return [bos, *ids] if add and bos is not None and ids[:1] != [bos] else ids

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers. Where nothing is drawn, several to one question are equal, so that one is generated for all."""
        every = list(self._requests(requests))
        asked, answer_of = (every, list(range(len(every)))) if self.settings.generation.random else _distinct(every)
        if len(asked) < len(every) and self.ranks.first:
            _LOG.warning(EQUAL)
        for request in asked:
            check_request(request, self.settings.generation.gen_length, self.config)
        job = Job("generate", Request.identity, self._generated, self._warmed_up)
        found = self._answered(job, asked, disable_tqdm)
        if found is None:
            return [""] * len(requests)
        first = len(self.batches) - len(found.batches)
        answered = zip(asked, found.answers, found.batch_of, strict=True)
        samples = [self._sample(request, answer, first + batch) for request, answer, batch in answered]
        self.samples += samples
        texts = [Text(sample.text, sample.raw) for sample in samples]
        return [texts[place] for place in answer_of]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each answer, and whether greedy decoding gives it (see `generation.log_likelihoods`).

        Caches carry work from one forward of a generation to the next; forwards that score an answer share none.
        """
        pairs = list(self._pairs(requests))
        cache = self.settings.cache
        for pair in pairs:
            require(
                cache.target == BASELINE,
                f"task '{pair.task}' scores given answers and generates nothing, so cache={cache.label} has nothing to "
                f"do; give cache={BASELINE}",
            )
            check_pair(pair, self.config)
        job = Job("score", Pair.identity, self._scored, self._scoring_warmed_up)
        found = self._answered(job, pairs, disable_tqdm)
        if found is None:
            return [(0.0, False)] * len(requests)
        first = len(self.batches) - len(found.batches)
        seconds = [self.batches[first + batch].seconds / self.batches[first + batch].size for batch in found.batch_of]
        questions: dict[tuple[str, int, int], list[tuple[Pair, dict[str, Any], float]]] = {}
        for part in zip(pairs, found.answers, seconds, strict=True):
            questions.setdefault((part[0].task, part[0].doc_id, part[0].repeat), []).append(part)
        self.samples += [_scored(*question, parts) for question, parts in questions.items()]
        return [(score["value"], score["greedy"]) for score in found.answers]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError("loglikelihood does without it")

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise UsageError(
            "this task asks for the likelihood of whole texts (loglikelihood_rolling); the estimators of LLaDA and "
            "Dream score answers to prompts only"
        )

    def _answered(self, job: Job[Any], questions: list[Any], quiet: bool) -> Answered | None:
        """What became of the questions, in the first process; what it cost is added to what was measured before."""
        answering = Answering(self.settings.batch_size, self.ranks, self.journal, quiet)
        found = answering.all(job, questions, lambda: self.model)
        if found is not None:
            self.batches += found.batches
            self.shortages += found.shortages
            self.sessions += [one for one in found.sessions if one not in self.sessions]
        return found

    def _requests(self, requests: Sequence[Any]) -> Iterator[Request]:
        asked: Counter[tuple[str, int, int]] = Counter()
        for request in requests:
            check_texts(request)
            prompt, arguments = request.args
            until = arguments.get("until") or []
            key = (str(request.task_name), int(request.doc_id), int(request.idx))
            repeat = self._repeat(key, asked)
            yield Request(
                task=key[0],
                doc_id=key[1],
                repeat=repeat,
                prompt=prompt,
                ids=self.tok_encode(prompt),
                until=[until] if isinstance(until, str) else list(until),
                seed=request_seed(self.settings.seed, *key, repeat),
            )

    def _pairs(self, requests: Sequence[Any]) -> Iterator[Pair]:
        asked: Counter[tuple[str, int, int]] = Counter()
        for request in requests:
            check_texts(request)
            prompt, answer = request.args
            key = (str(request.task_name), int(request.doc_id), int(request.idx))
            if prompt:
                ids, answer_ids = self._encode_pair(prompt, answer)
            else:
                ids, answer_ids = [self.prefix_token_id], self.tok_encode(answer, add_special_tokens=False)
            repeat = self._repeat(key, asked)
            seed = request_seed(self.settings.seed, *key, repeat)
            yield Pair(key[0], key[1], repeat, prompt, answer, ids, answer_ids, seed)

    def _repeat(self, key: tuple[str, int, int], asked: Counter[tuple[str, int, int]]) -> int:
        """How often a question was asked before; lm-eval does so where a task has ``repeats``."""
        asked[key] += 1
        self.repeats[key[0]] = max(asked[key], self.repeats.get(key[0], 1))
        return asked[key] - 1

    def _generated(self, model: Transformer, requests: list[Request]) -> Answers:
        out = self._generate(model, requests, self.settings.generation)
        return [
            {"ids": ids, "forwards": forwards, "tokens": answer.tokens, "text": answer.text}
            for request, ids, forwards in zip(requests, out.tokens.tolist(), out.forwards, strict=True)
            for answer in [self.ending.cut(ids, request.until)]
        ], out.counts

    def _warmed_up(self, model: Transformer, requests: list[Request]) -> None:
        self._generate(model, requests, warm_up_options(self.settings.generation))

    def _generate(self, model: Transformer, requests: list[Request], options: GenerationOptions) -> GenerationOutput:
        return generate(
            model,
            [request.ids for request in requests],
            self.settings.cache.make(),
            seed=[request.seed for request in requests],
            **asdict(options),
        )

    def _sample(self, request: Request, answer: dict[str, Any], batch: int) -> Sample:
        ids = answer["ids"]
        ended = self.ending.cut(ids, request.until)
        return Sample(
            task=request.task,
            doc_id=request.doc_id,
            repeat=request.repeat,
            prompt=request.prompt,
            prompt_tokens=len(request.ids),
            raw=ended.raw,
            text=ended.text,
            ids=ids[: ended.tokens],
            tokens_canvas=len(ids),
            forwards=answer["forwards"],
            seconds=self.batches[batch].seconds,
            seed=request.seed,
            batch=batch,
        )

    def _scored(self, model: Transformer, pairs: list[Pair]) -> Answers:
        return self._score(model, pairs, self.settings.likelihood)

    def _scoring_warmed_up(self, model: Transformer, pairs: list[Pair]) -> None:
        self._score(model, pairs, LikelihoodOptions(mc_num=1))

    def _score(self, model: Transformer, pairs: list[Pair], options: LikelihoodOptions) -> Answers:
        scores, counts = log_likelihoods(
            model,
            [(pair.ids, pair.answer_ids) for pair in pairs],
            options,
            seeds=[pair.seed for pair in pairs],
            batch_size=len(pairs),
        )
        return [asdict(score) for score in scores], counts


def _distinct(requests: list[Request]) -> tuple[list[Request], list[int]]:
    """The requests without those that repeat another one, and for each of all of them its place among these."""
    keys = [(request.task, request.doc_id, request.prompt, tuple(request.until)) for request in requests]
    first = dict(zip(reversed(keys), reversed(requests), strict=True))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [first[key] for key in places], [places[key] for key in keys]


def _scored(task: str, doc_id: int, repeat: int, parts: list[tuple[Pair, dict[str, Any], float]]) -> Scored:
    return Scored(
        task=task,
        doc_id=doc_id,
        repeat=repeat,
        choices=[
            Choice(pair.prompt, pair.answer, len(pair.answer_ids), score["value"], score["greedy"], pair.seed)
            for pair, score, _ in parts
        ],
        forwards=sum(score["forwards"] for _, score, _ in parts),
        seconds=sum(seconds for _, _, seconds in parts),
    )
