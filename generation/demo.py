"""``cache-zoo generate PROMPT`` answers a prompt and shows the text unmasking in the terminal."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any

import torch
from rich.console import Console

from cache_zoo import UsageError, make_cache, make_suffix
from cache_zoo.arguments import grouped, named, positional, read
from cache_zoo.errors import DONE, FAILED, INTERRUPTED, is_utf8, refusing, require
from cache_zoo.stores import require_store
from generation.batch import check_prompts
from generation.compatibility import require_compatible
from generation.decoder import stream
from generation.finite_logits import NotFiniteError
from generation.frequencies import frequencies
from generation.options import MAX_SEED, MAX_TOKENS, GenerationOptions, between, require_reachable
from generation.output import Progress
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Region
from generation.terminal import Picture, Screen, marks_of, printable
from models import ModelConfig, Transformer, load_model, resolve_checkpoint
from models.chat import Chat
from models.loading import as_device, as_dtype, read_config

_MAX_PROMPT_BYTES = 16 * MAX_TOKENS  # a token of text has about four


@dataclass(frozen=True)
class GenerateOptions:
    """Answer a prompt and show the text unmasking in the terminal.

        cache-zoo generate "Tom has 3 bags with 4 coins each. How many coins does Tom have?" generation.threshold=0.9
        cache-zoo generate - model=llada-inst cache=NAME cache.KEY=VALUE < prompt.txt
        cache-zoo generate "Once upon a time" chat=false cache=NAME suffix=NAME suffix.KEY=VALUE compare=none

    The answer goes to standard output, its cost to standard error. A pipe gets the answer alone.

    Attributes:
        prompt: what to answer; - reads it from standard input.
        model: a folder, a hub id or a name of configs/model.
        dtype: float32, bfloat16 or float16; auto: bfloat16 on a GPU, float32 on a CPU.
        device: cpu, cuda or cuda:N; auto: a GPU if there is one.
        chat: apply the tokenizer's chat template (default: if it has one).
        cache: a name of `cache-zoo list`, or module:Class.
        parameters: a parameter of the cache.
        suffix: which columns behind the current block are seen: all, a name of docs/suffixes.md, or module:Class.
        suffix_parameters: a parameter of the suffix rule.
        store: how the cache stores keys and values.
        compare: run the same with another cache, such as none, with suffix=all and store=native, in turns.
        seed: of everything random.
        plain: print only the final text, also in a terminal.
        generation: options of generation.generate.
    """

    prompt: str = positional()
    model: str = "nano-llada"
    dtype: str = named("model.dtype", "auto")
    device: str = named("model.device", "auto")
    chat: bool | None = None
    cache: str = "none"
    parameters: dict[str, Any] = grouped("cache.")
    suffix: str = "all"
    suffix_parameters: dict[str, Any] = grouped("suffix.")
    store: str = "native"
    compare: str | None = None
    seed: int = 1234
    plain: bool = False
    generation: dict[str, Any] = grouped("generation.", GenerationOptions)


@dataclass(frozen=True)
class Method:
    """How work is saved: cache, suffix rule and store, with their parameters."""

    cache: str
    parameters: dict[str, Any] = field(default_factory=dict)
    suffix: str = "all"
    suffix_parameters: dict[str, Any] = field(default_factory=dict)
    store: str = "native"

    def make(self) -> dict[str, Any]:
        """New objects, as arguments of `generation.stream`.

        Raises:
            UsageError: unknown names or parameters.
        """
        cache = make_cache(self.cache, **self.parameters)
        require_store(self.store, cache)
        return {"cache": cache, "suffix": make_suffix(self.suffix, **self.suffix_parameters), "store": self.store}

    def __str__(self) -> str:
        words = [self.cache, *_pairs(self.parameters)]
        if self.suffix != "all":
            words += [f"suffix={self.suffix}", *_pairs(self.suffix_parameters)]
        return " ".join(words + [f"store={self.store}"] * (self.store != "native"))


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


class TimedGeneration:
    """A generation with one method, timed, one forward at a time; ``forwards`` yields the progress after each."""

    def __init__(self, label: str, forwards: Iterator[Progress], options: GenerationOptions, mask_id: int) -> None:
        self.label, self.seconds, self.ids = label, 0.0, [mask_id] * options.gen_length
        self.progress: Progress | None = None
        self._forwards, self.mask_id, self._options = forwards, mask_id, options

    def advance(self) -> bool:
        """Run one forward; False if none was left. Only this is timed."""
        start = time.perf_counter()
        progress = next(self._forwards, None)
        if progress is not None:
            self.progress, self.ids = progress, progress.ids(0)  # waits for the device
        self.seconds += time.perf_counter() - start
        return progress is not None

    @property
    def committed(self) -> int:
        """Number of committed tokens."""
        return sum(token != self.mask_id for token in self.ids)

    @property
    def speed(self) -> str:
        """Committed tokens per second."""
        return f"{self.committed / self.seconds:.1f} tokens/s"

    def status(self) -> str:
        """The progress in one line, the most important first: a narrow window cuts it."""
        assert self.progress is not None
        counts = self.progress.counts
        return (
            f"{self.speed} · compute ratio {counts.compute_ratio:.3f} · step {counts.forwards}{self._most} · "
            f"{self._place(self.progress.regions[0])} · {self.committed}/{len(self.ids)} tokens{self._revoked}"
        )

    @property
    def _revoked(self) -> str:
        """How many tokens the last forward took back, if it did."""
        revoked = None if self.progress is None else self.progress.revoked
        number = 0 if revoked is None else int(revoked[0].sum())
        return f" · {number} taken back" if number else ""

    @property
    def _most(self) -> str:
        """The most forwards after a slash, where they are known."""
        options = self._options
        if options.strategy != "vanilla" or options.first_forward != "decode":
            return ""
        blocks = options.gen_length // options.block
        return f"/{options.steps or blocks * ceil(options.block / options.num_transfer_tokens)}"

    def _place(self, region: Region) -> str:
        """The current block, or the columns of a region that is none."""
        width, length = self._options.block, len(self.ids)
        if (region.start, region.end) == (region.block * width, (region.block + 1) * width):
            return f"block {region.block + 1}/{ceil(length / width)}"
        return f"columns {region.start + 1}-{region.end}"

    def summary(self, answer: int) -> str:
        """The cost of the finished generation; the answer takes ``answer`` of its tokens."""
        assert self.progress is not None
        counts = self.progress.counts
        return (
            f"{self.label}: {self.committed} tokens in {self.seconds:.2f} s, {self.speed} "
            f"({answer} of them the answer); NFE {counts.forwards}, compute ratio {counts.compute_ratio:.3f}"
        )


@refusing
def main() -> int:
    """Answer the prompt and return the exit status."""
    try:
        _answer(read(GenerateOptions, "cache-zoo generate"))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return FAILED
    return DONE


def _answer(arguments: GenerateOptions) -> None:
    options = GenerationOptions.make(**arguments.generation)
    require_reachable(options)
    if options.debias is not None:
        frequencies(options.debias, options.debias_sha256)  # before a model is loaded
    between("seed", arguments.seed, 0, MAX_SEED)
    chosen = [Method(**{entry.name: getattr(arguments, entry.name) for entry in fields(Method)})]
    if arguments.compare is not None:
        chosen.append(Method(arguments.compare))
    for method in chosen:  # errors come before anything is loaded
        made = method.make()
        require_compatible(made["cache"], make_strategy(options), made["store"])
    prompt = _read(arguments.prompt)

    from models.tokenizer import load_tokenizer  # transformers is slow to import

    device = ("cuda" if torch.cuda.is_available() else "cpu") if arguments.device == "auto" else arguments.device
    dtype = ("bfloat16" if device.startswith("cuda") else "float32") if arguments.dtype == "auto" else arguments.dtype
    as_device(device)
    as_dtype(dtype)
    folder = resolve_checkpoint(arguments.model)
    tokenizer = load_tokenizer(folder)
    ids = _encode(tokenizer, prompt, arguments.chat)
    _, config = read_config(folder)
    check_prompts([ids], config, options)
    model = load_model(folder, dtype, device)

    generations = [_begin(model, ids, method, arguments.seed, options) for method in chosen]
    console = Console(highlight=False)
    if sys.stdout.isatty() and not console.is_dumb_terminal and not arguments.plain:
        console.print(printable(prompt), style="dim", markup=False)
        _show(console, prompt, generations, tokenizer)
    else:
        _run(generations, lambda: None)
    first, *others = generations
    kept = _cut(first.ids, model.config)
    text = str(tokenizer.decode(kept, skip_special_tokens=True))
    print(printable(text) if sys.stdout.isatty() else text, flush=True)
    for generation in generations:
        print(generation.summary(len(_cut(generation.ids, model.config))), file=sys.stderr)
    for other in others:
        same = sum(ours == theirs for ours, theirs in zip(first.ids, other.ids, strict=False))
        print(
            f"{other.seconds / first.seconds:.2f} times as fast as {other.label} "
            "(one timing of each, forward by forward in turns; eval.py measures); "
            f"{same} of {max(len(first.ids), len(other.ids))} tokens are the same",
            file=sys.stderr,
        )


def _begin(
    model: Transformer, ids: list[int], method: Method, seed: int, options: GenerationOptions
) -> TimedGeneration:
    """A generation at its start, after one forward to warm up."""
    keys = options.as_keywords()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(stream(model, [ids], **method.make(), seed=seed, **keys))
        forwards = stream(model, [ids], **method.make(), seed=seed, **keys)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"warning: {message}", file=sys.stderr)
    return TimedGeneration(str(method), forwards, options, model.config.mask_id)


def _run(generations: list[TimedGeneration], after: Callable[[], None]) -> None:
    """Run all, forward by forward in turns: if the machine slows down, it does so for all of them."""
    left = generations
    while left:
        left = [generation for generation in left if generation.advance()]
        after()


def _show(console: Console, prompt: str, generations: list[TimedGeneration], tokenizer: Any) -> None:
    marks = marks_of(console)
    pictures = [Picture(one.label, tokenizer, one.mask_id, marks) for one in generations]
    with Screen(console, printable(prompt), pictures) as screen:

        def draw() -> None:
            for generation, picture in zip(generations, pictures, strict=True):
                if generation.progress is not None:
                    picture.update(generation.progress, generation.status())
            screen.draw()

        _run(generations, draw)


def _read(prompt: str) -> str:
    """The prompt; from standard input without line ends at its end."""
    if prompt != "-":
        return prompt
    try:
        content = sys.stdin.buffer.read(_MAX_PROMPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the prompt can't be read from standard input: {error.strerror}") from error
    require(len(content) <= _MAX_PROMPT_BYTES, f"the prompt on standard input exceeds {_MAX_PROMPT_BYTES:,} bytes")
    return content.decode("utf-8", errors="surrogateescape").rstrip("\n")


def _encode(tokenizer: Any, prompt: str, chat: bool | None) -> list[int]:
    """Token ids of the prompt; ``chat`` None applies the chat template if there is one."""
    require(bool(prompt.strip()), "the prompt is empty")
    require(is_utf8(prompt), "the prompt is not text in UTF-8")
    require(not chat or bool(tokenizer.chat_template), "the tokenizer has no chat template; leave out chat=true")
    if chat or (chat is None and tokenizer.chat_template):
        prompt = Chat(tokenizer, "chat=false").render([{"role": "user", "content": prompt}])
    return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def _cut(ids: list[int], config: ModelConfig) -> list[int]:
    """The tokens before the first end token or masked position."""
    ends = config.end_ids | {config.mask_id}
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[:length]
