"""The lm-eval model class: prompts in, answers out, every one of them measured."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from tqdm import tqdm

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.measure import Batch, Sample, Stopwatch, warm_up_options
from evaluation.ranks import Ranks
from evaluation.settings import Settings
from evaluation.tokens import Answer, Ending
from generation import generate
from models import ModelConfig, Transformer


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
        samples: one per answer, in the order asked; of all processes in the first one.
        batches: the timed generations.
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
        self.samples: list[Sample] = []
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
        collected = self.ranks.collect(lambda: self._answers(self.ranks.share(prepared), disable_tqdm))
        if collected is None:
            return [""] * len(requests)
        for _, batches, peak in collected:
            self.batches += batches
            if peak is not None:
                self.peak_memory = max(peak, self.peak_memory or 0)
        place = [iter(samples) for samples, _, _ in collected]
        ordered = [next(place[number % self.ranks.size]) for number in range(len(prepared))]
        self.samples += ordered
        return [Text(sample.text, sample.raw) for sample in ordered]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise UsageError("this task needs log-likelihoods, which are not supported yet; only generation is")

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise UsageError("this task needs log-likelihoods, which are not supported yet; only generation is")

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

    def _check(self, request: _Request) -> None:
        where, length = f"prompt of {request.task}, row {request.doc_id}", len(request.ids)
        gen_length, limit = self.settings.generation.gen_length, self.config.context_length
        require(length > 0, f"the {where} is empty")
        require(
            length + gen_length <= limit,
            f"the {where} has {length} tokens; with generation.gen_length {gen_length} that is more than the model's "
            f"context of {limit}; give a smaller dataset.n_shot or generation.gen_length",
        )
        unknown = [token for token in request.ids if token >= self.config.vocab_size]
        require(
            not unknown,
            f"the {where} has token ids outside the model's vocabulary of {self.config.vocab_size}: {unknown[:5]}; "
            "tokenizer and model do not belong together",
        )

    def _answers(self, requests: list[_Request], quiet: bool) -> tuple[list[Sample], list[Batch], int | None]:
        """This process's share."""
        model, size = self.model, self.settings.batch_size
        samples: list[Sample] = []
        batches: list[Batch] = []
        groups = [requests[start : start + size] for start in range(0, len(requests), size)]
        if groups:
            self._generate(model, groups[0], warm_up_options(self.settings.generation))
        measured = model.device.type == "cuda"
        if measured:
            torch.cuda.reset_peak_memory_stats(model.device)
        for group in tqdm(groups, desc="batches", disable=quiet or not self.ranks.first):
            with Stopwatch(model.device) as watch:
                out = self._generate(model, group, self.settings.generation)
            batches.append(Batch(len(group), watch.seconds, out.counts))
            for request, ids, forwards in zip(group, out.tokens.tolist(), out.forwards, strict=True):
                answer = self.ending.cut(ids, request.until)
                samples.append(_sample(request, answer, ids, forwards, watch.seconds))
        return samples, batches, torch.cuda.max_memory_allocated(model.device) if measured else None

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


def _sample(request: _Request, answer: Answer, ids: list[int], forwards: int, seconds: float) -> Sample:
    return Sample(
        task=request.task,
        doc_id=request.doc_id,
        prompt=request.prompt,
        prompt_tokens=len(request.ids),
        raw=answer.raw,
        text=answer.text,
        ids=ids[: answer.tokens],
        forwards=forwards,
        seconds=seconds,
        seed=request.seed,
    )
