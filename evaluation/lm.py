"""The lm-eval model class: prompts in, answers out, every one of them measured."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from lm_eval.api.model import TemplateLM
from tqdm import tqdm

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.compare import BASELINE
from evaluation.measure import Batch, Choice, Sample, Scored, Stopwatch, warm_up_options
from evaluation.ranks import Ranks
from evaluation.settings import Settings
from evaluation.tokens import Answer, Ending
from generation import Counts, Likelihood, LikelihoodOptions, generate, log_likelihoods
from models import ModelConfig, Transformer

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Request:
    """A prompt to answer, and what is known of it."""

    task: str
    doc_id: int
    prompt: str
    ids: list[int]
    until: list[str]
    seed: int


class Text(str):
    """An answer as lm-eval sees it, cut at its stop words; ``raw`` is everything generated, which some filters read."""

    raw: str

    def __new__(cls, text: str, raw: str) -> Text:
        made = super().__new__(cls, text)
        made.raw = raw
        return made


@dataclass(frozen=True)
class _Pair:
    """A prompt and an answer to score, and what is known of them."""

    task: str
    doc_id: int
    prompt: str
    answer: str
    ids: list[int]
    answer_ids: list[int]
    seed: int


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

    Attributes:
        samples: one per generated answer, and one per question whose answers were scored, in the order asked; of all
            processes in the first one.
        batches: the timed generations and scorings.
        peak_memory: bytes of the process that needed most; None where it is not measured.
    """

    def __init__(
        self,
        settings: Settings,
        config: ModelConfig,
        tokenizer: Any,
        load: Callable[[], Transformer],
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.config, self.tokenizer = settings, config, tokenizer
        self.ranks = ranks or Ranks()
        self._load = load
        self._model: Transformer | None = None
        self.ending = Ending(tokenizer, config, settings.model.end_tokens, settings.model.stop_words)
        self.samples: list[Sample | Scored] = []
        self.batches: list[Batch] = []
        self.peak_memory: int | None = None

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
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens written in the text count as such, and only BOS is added, where the model asks."""
        ids: list[int] = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        add = self.settings.model.add_bos if add_special_tokens is None else add_special_tokens
        return [bos, *ids] if add and bos is not None and ids[:1] != [bos] else ids

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        prepared = list(self._prepared(requests))
        for request in prepared:
            self._check(request)
        ordered = self._shared_out(prepared, lambda share: self._answers(share, disable_tqdm))
        if ordered is None:
            return [""] * len(requests)
        self.samples += ordered
        return [Text(sample.text, sample.raw) for sample in ordered]

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
            self._check_pair(pair)
        found = self._shared_out(pairs, lambda share: self._scores(share, disable_tqdm))
        if found is None:
            return [(0.0, False)] * len(requests)
        questions: dict[tuple[str, int], list[tuple[_Pair, Likelihood, float]]] = {}
        for pair, (score, seconds) in zip(pairs, found, strict=True):
            questions.setdefault((pair.task, pair.doc_id), []).append((pair, score, seconds))
        self.samples += [_scored(*question, parts) for question, parts in questions.items()]
        return [(score.value, score.greedy) for score, _ in found]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError("loglikelihood does without it")

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise UsageError(
            "this task asks for the likelihood of whole texts (loglikelihood_rolling); the estimators of LLaDA and "
            "Dream score answers to prompts only"
        )

    def _shared_out(
        self, items: list[T], work: Callable[[list[T]], tuple[list[R], list[Batch], int | None]]
    ) -> list[R] | None:
        """What all processes make of their shares, in the order of ``items``; None in all processes but the first."""
        collected = self.ranks.collect(lambda: work(self.ranks.share(items)))
        if collected is None:
            return None
        results: list[Iterator[R]] = []
        for done, batches, peak in collected:
            first = len(self.batches)  # batches are numbered over all processes
            results.append(replace(one, batch=one.batch + first) if isinstance(one, Sample) else one for one in done)
            self.batches += batches
            if peak is not None:
                self.peak_memory = max(peak, self.peak_memory or 0)
        return [next(results[number % self.ranks.size]) for number in range(len(items))]

    def _prepared(self, requests: Sequence[Any]) -> Iterator[_Request]:
        asked: Counter[tuple[str, int, int]] = Counter()
        for request in requests:
            prompt, arguments = request.args
            until = arguments.get("until") or []
            key = (str(request.task_name), int(request.doc_id), int(request.idx))
            yield _Request(
                task=key[0],
                doc_id=key[1],
                prompt=prompt,
                ids=self.tok_encode(prompt),
                until=[until] if isinstance(until, str) else list(until),
                seed=request_seed(self.settings.seed, *key, asked[key]),
            )
            asked[key] += 1

    def _pairs(self, requests: Sequence[Any]) -> Iterator[_Pair]:
        asked: Counter[tuple[str, int, int]] = Counter()
        for request in requests:
            prompt, answer = request.args
            key = (str(request.task_name), int(request.doc_id), int(request.idx))
            if prompt:
                ids, answer_ids = self._encode_pair(prompt, answer)
            else:
                ids, answer_ids = [self.prefix_token_id], self.tok_encode(answer, add_special_tokens=False)
            seed = request_seed(self.settings.seed, *key, asked[key])
            yield _Pair(key[0], key[1], prompt, answer, ids, answer_ids, seed)
            asked[key] += 1

    def _check(self, request: _Request) -> None:
        where, length = f"prompt of {request.task}, row {request.doc_id}", len(request.ids)
        gen_length, limit = self.settings.generation.gen_length, self.config.context_length
        require(length > 0, f"the {where} is empty")
        require(
            length + gen_length <= limit,
            f"the {where} has {length} tokens; with generation.gen_length {gen_length} that is more than the model's "
            f"context of {limit}; give a smaller dataset.n_shot or generation.gen_length",
        )
        self._check_tokens(where, request.ids)

    def _check_pair(self, pair: _Pair) -> None:
        where = f"prompt of {pair.task}, row {pair.doc_id}"
        require(len(pair.answer_ids) > 0, f"an answer of {pair.task}, row {pair.doc_id} has no tokens: {pair.answer!r}")
        length, limit = len(pair.ids) + len(pair.answer_ids) + 1, self.config.context_length
        require(
            length <= limit,
            f"the {where} has {length} tokens with its answer, which is more than the model's context of {limit}; give "
            "a smaller dataset.n_shot",
        )
        self._check_tokens(where, [*pair.ids, *pair.answer_ids])

    def _check_tokens(self, where: str, ids: list[int]) -> None:
        unknown = [token for token in ids if token >= self.config.vocab_size]
        require(
            not unknown,
            f"the {where} has token ids outside the model's vocabulary of {self.config.vocab_size}: {unknown[:5]}; "
            "tokenizer and model do not belong together",
        )

    def _answers(self, requests: list[_Request], quiet: bool) -> tuple[list[Sample], list[Batch], int | None]:
        """This process's share of what is to be generated."""
        model, samples = self.model, []
        groups = self._groups(requests)
        if groups:
            self._generate(model, groups[0], warm_up_options(self.settings.generation))
        batches: list[Batch] = []
        with _PeakMemory(model.device) as peak:
            for group in tqdm(groups, desc="batches", disable=quiet or not self.ranks.first):
                with Stopwatch(model.device) as watch:
                    out = self._generate(model, group, self.settings.generation)
                for request, ids, forwards in zip(group, out.tokens.tolist(), out.forwards, strict=True):
                    answer = self.ending.cut(ids, request.until)
                    samples.append(_sample(request, answer, ids, forwards, watch.seconds, len(batches)))
                batches.append(Batch(len(group), watch.seconds, out.counts))
        return samples, batches, peak.bytes

    def _scores(
        self, pairs: list[_Pair], quiet: bool
    ) -> tuple[list[tuple[Likelihood, float]], list[Batch], int | None]:
        """This process's share of what is to be scored; each with its share of the seconds of its batch."""
        model, found = self.model, []
        groups = self._groups(pairs)
        if groups:
            self._score(model, groups[0], LikelihoodOptions(mc_num=1))
        batches: list[Batch] = []
        with _PeakMemory(model.device) as peak:
            for group in tqdm(groups, desc="batches", disable=quiet or not self.ranks.first):
                with Stopwatch(model.device) as watch:
                    scores, counts = self._score(model, group, self.settings.likelihood)
                found += [(score, watch.seconds / len(group)) for score in scores]
                batches.append(Batch(len(group), watch.seconds, counts))
        return found, batches, peak.bytes

    def _groups(self, items: list[T]) -> list[list[T]]:
        size = self.settings.batch_size
        return [items[start : start + size] for start in range(0, len(items), size)]

    def _score(
        self, model: Transformer, group: list[_Pair], options: LikelihoodOptions
    ) -> tuple[list[Likelihood], Counts]:
        pairs = [(pair.ids, pair.answer_ids) for pair in group]
        seeds = [pair.seed for pair in group]
        return log_likelihoods(model, pairs, options, seeds=seeds, batch_size=self.settings.batch_size)

    def _generate(self, model: Transformer, group: list[_Request], options: Any) -> Any:
        return generate(
            model,
            [request.ids for request in group],
            self.settings.cache.make(),
            seed=[request.seed for request in group],
            **asdict(options),
        )


def request_seed(seed: int, task: str, doc_id: int, index: int = 0, repeat: int = 0) -> int:
    """The random stream of one request: the same in every batch size and number of processes."""
    digest = hashlib.sha256(f"{seed}/{task}/{doc_id}/{index}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _sample(request: _Request, answer: Answer, ids: list[int], forwards: int, seconds: float, batch: int) -> Sample:
    return Sample(
        task=request.task,
        doc_id=request.doc_id,
        prompt=request.prompt,
        prompt_tokens=len(request.ids),
        raw=answer.raw,
        text=answer.text,
        ids=ids[: answer.tokens],
        tokens_canvas=len(ids),
        forwards=forwards,
        seconds=seconds,
        seed=request.seed,
        batch=batch,
    )


def _scored(task: str, doc_id: int, parts: list[tuple[_Pair, Likelihood, float]]) -> Scored:
    return Scored(
        task=task,
        doc_id=doc_id,
        choices=[
            Choice(pair.prompt, pair.answer, len(pair.answer_ids), score.value, score.greedy, pair.seed)
            for pair, score, _ in parts
        ],
        forwards=sum(score.forwards for _, score, _ in parts),
        seconds=sum(seconds for _, _, seconds in parts),
    )


class _PeakMemory:
    """Most bytes allocated between entering and leaving; None where that is not measured."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes: int | None = None

    def __enter__(self) -> _PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
