"""``cache-zoo generate PROMPT`` answers a prompt and shows the text unmasking in the terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from math import ceil, isfinite
from typing import Any, get_args, get_type_hints

import torch
from rich.console import Console

from cache_zoo import UsageError, caches, make_cache
from cache_zoo.arguments import Parser
from cache_zoo.errors import DONE, FAILED, is_utf8, refusing, require
from cache_zoo.info import documented
from generation.decoder import check_prompts, stream
from generation.finite_logits import NotFiniteError
from generation.options import MAX_SEED, MAX_TOKENS, GenerationOptions, between, require_reachable
from generation.output import Progress
from generation.strategies.registry import strategies
from generation.terminal import Picture, Screen, marks_of, printable
from models import ModelConfig, Transformer, load_model, resolve_checkpoint
from models.chat import Chat
from models.loading import as_device, as_dtype, read_config

_EPILOG = """examples:
  cache-zoo generate "Tom has 3 bags with 4 coins each. How many coins does Tom have?" --threshold 0.9
  cache-zoo generate - --model llada-inst --cache NAME --cache-arg KEY=VALUE < prompt.txt
  cache-zoo generate "Once upon a time" --no-chat --cache NAME --compare none

The answer goes to standard output, what it took to standard error. In a terminal the text is shown while it unmasks.
"""
_LONGEST = 16 * MAX_TOKENS
"""Bytes of a prompt; a token of a text has some four."""
_SINGLE = "one timing of each, forward by forward in turns; eval.py measures"


class Pass:
    """A generation with one cache, run a forward at a time, and what it has taken so far.

    Args:
        label: how it is called.
        forwards: the generation.
        options: of the generation.
        mask_id: of the checkpoint.
    """

    def __init__(self, label: str, forwards: Iterator[Progress], options: GenerationOptions, mask_id: int) -> None:
        self.label, self.seconds, self.ids = label, 0.0, [mask_id] * options.gen_length
        self.progress: Progress | None = None
        self._forwards, self._mask_id, self._blocks = forwards, mask_id, options.gen_length // options.block
        self._most = options.steps or options.gen_length // options.block * ceil(
            options.block / options.num_transfer_tokens
        )

    def advance(self) -> bool:
        """Run one forward; False where there was none left. Only this is timed."""
        start = time.perf_counter()
        progress = next(self._forwards, None)
        if progress is not None:
            self.progress, self.ids = progress, progress.tokens[0].tolist()  # which waits for the device
        self.seconds += time.perf_counter() - start
        return progress is not None

    @property
    def decided(self) -> int:
        """Tokens decided so far."""
        return sum(token != self._mask_id for token in self.ids)

    def status(self) -> str:
        """Where it stands, once a forward was run; a narrow window shows the begin of it."""
        assert self.progress is not None
        counts, block = self.progress.counts, self.progress.blocks[0]
        return (
            f"{self.decided / self.seconds:.1f} tokens/s · compute ratio {counts.compute_ratio:.3f} · "
            f"step {counts.forwards}/{self._most} · block {block + 1}/{self._blocks} · "
            f"{self.decided}/{len(self.ids)} tokens"
        )

    def summary(self, answer: int) -> str:
        """What it took in the end; ``answer`` of the tokens are the answer."""
        assert self.progress is not None
        counts = self.progress.counts
        return (
            f"{self.label}: {self.decided} tokens in {self.seconds:.2f} s, {self.decided / self.seconds:.1f} tokens/s "
            f"({answer} of them the answer); NFE {counts.forwards}, compute ratio {counts.compute_ratio:.3f}"
        )


@refusing
def main() -> int:
    """Do what the command line asks for, and return the exit status."""
    arguments = _parser().parse_args()
    try:
        _answer(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return FAILED
    return DONE


def _answer(arguments: argparse.Namespace) -> None:
    given = {field.name for field in fields(GenerationOptions)} & set(vars(arguments))
    options = GenerationOptions.make(**{key: getattr(arguments, key) for key in given})
    require_reachable(options)
    strategies.load(strategies.find(options.strategy))
    between("--seed", arguments.seed, 0, MAX_SEED)
    parameters = dict(map(_parameter, arguments.cache_arg))
    make_cache(arguments.cache, **parameters)  # what can't be used is said before anything is loaded
    chosen = [(arguments.cache, parameters)]
    if arguments.compare is not None:
        make_cache(arguments.compare)
        chosen.append((arguments.compare, {}))
    prompt = _read(arguments.prompt)

    from models.tokenizer import load_tokenizer  # transformers takes its time, which an error needs not wait for

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

    passes = [_begin(model, ids, name, given, arguments.seed, options) for name, given in chosen]
    console = Console(highlight=False)
    if sys.stdout.isatty() and not console.is_dumb_terminal and not arguments.plain:
        console.print(printable(prompt), style="dim", markup=False)
        _show(console, prompt, passes, tokenizer, model.config, options)
    else:
        _run(passes, lambda: None)
    first, *others = passes
    kept = _cut(first.ids, model.config)
    text = str(tokenizer.decode(kept, skip_special_tokens=True))
    print(printable(text) if sys.stdout.isatty() else text, flush=True)
    for one in passes:
        print(one.summary(len(_cut(one.ids, model.config))), file=sys.stderr)
    for other in others:
        same = sum(ours == theirs for ours, theirs in zip(first.ids, other.ids, strict=True))
        print(
            f"{other.seconds / first.seconds:.2f} times as fast as {other.label} ({_SINGLE}); "
            f"{same} of {len(first.ids)} tokens are the same",
            file=sys.stderr,
        )


def _begin(
    model: Transformer, ids: list[int], name: str, parameters: dict[str, Any], seed: int, options: GenerationOptions
) -> Pass:
    """A generation that has not begun; one forward is run before, for what only a first one needs."""
    label = " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])
    keys = {field.name: getattr(options, field.name) for field in fields(options)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(stream(model, [ids], make_cache(name, **parameters), seed=seed, **keys))
        forwards = stream(model, [ids], make_cache(name, **parameters), seed=seed, **keys)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"warning: {message}", file=sys.stderr)
    return Pass(label, forwards, options, model.config.mask_id)


def _run(passes: list[Pass], after: Callable[[], None]) -> None:
    """Run all, forward by forward in turns, so that a machine that slows down does so for each of them."""
    left = passes
    while left:
        left = [one for one in left if one.advance()]
        after()


def _show(
    console: Console,
    prompt: str,
    passes: list[Pass],
    tokenizer: Any,
    config: ModelConfig,
    options: GenerationOptions,
) -> None:
    marks = marks_of(console)
    pictures = [Picture(one.label, tokenizer, config.mask_id, options.block, marks) for one in passes]
    with Screen(console, printable(prompt), pictures) as screen:

        def draw() -> None:
            for one, picture in zip(passes, pictures, strict=True):
                if one.progress is not None:
                    picture.update(one.progress, one.status())
            screen.draw()

        _run(passes, draw)


def _read(prompt: str) -> str:
    """The prompt; of what comes from standard input without the line ends behind it."""
    if prompt != "-":
        return prompt
    try:
        content = sys.stdin.buffer.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"the prompt can't be read from standard input: {error.strerror}") from error
    require(len(content) <= _LONGEST, f"the prompt on standard input has more than {_LONGEST:,} bytes")
    return content.decode("utf-8", errors="surrogateescape").rstrip("\n")


def _encode(tokenizer: Any, prompt: str, chat: bool | None) -> list[int]:
    """Token ids of the prompt, through the chat template where there is one, unless ``chat`` says otherwise."""
    require(bool(prompt.strip()), "the prompt is empty")
    require(is_utf8(prompt), "the prompt is not text in UTF-8")
    require(not chat or bool(tokenizer.chat_template), "the tokenizer has no chat template; leave out --chat")
    if chat or (chat is None and tokenizer.chat_template):
        prompt = Chat(tokenizer, "--no-chat").render([{"role": "user", "content": prompt}])
    return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def _cut(ids: list[int], config: ModelConfig) -> list[int]:
    """What stands before the end of the text, or before what was left masked."""
    ends = {config.eos_id, config.eot_id, config.mask_id}
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[:length]


def _parameter(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with numbers, true, false and null read as such."""
    key, sign, value = text.partition("=")
    require(bool(key and sign), f"--cache-arg takes KEY=VALUE, such as kp=50, not '{text}'")
    try:
        found = json.loads(value)
    except ValueError:
        return key, value
    require(not isinstance(found, float) or isfinite(found), f"--cache-arg {key} must be a finite number, not {found}")
    return key, found


def _parser() -> Parser:
    parser = Parser(
        prog="cache-zoo generate",
        description="Answer a prompt, and show the text unmasking in the terminal.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", help="what to answer; -: read it from standard input")
    parser.add_argument(
        "--model", default="nano-llada", help="a folder, a hub id or a name of configs/model (%(default)s)"
    )
    known = ", ".join(caches.names())
    parser.add_argument("--cache", default="none", help=f"{known}, or module:Class (%(default)s)")
    parser.add_argument(
        "--cache-arg", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the cache; repeatable"
    )
    parser.add_argument("--compare", metavar="CACHE", help="run the same with another cache in turns, such as none")
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="put the prompt through the tokenizer's chat template (done where it has one)",
    )
    parser.add_argument("--seed", type=int, default=1234, help="of everything random (%(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto: a GPU if there is one")
    parser.add_argument(
        "--dtype", default="auto", help="float32, bfloat16, float16; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    parser.add_argument("--plain", action="store_true", help="only the final text, as where there is no terminal")
    decoding = parser.add_argument_group("decoding", "Options of generation.generate.")
    texts, hints = documented(GenerationOptions, "Attributes"), get_type_hints(GenerationOptions)
    for field in fields(GenerationOptions):
        flag, kind = f"--{field.name.replace('_', '-')}", _kind(hints[field.name])
        text = texts[field.name].partition(". ")[0].rstrip(".").replace("%", "%%")
        if kind is bool:
            action = argparse.BooleanOptionalAction
            decoding.add_argument(flag, action=action, default=argparse.SUPPRESS, help=text)
        else:
            text += f" ({'none' if field.default is None else field.default})"
            metavar = {int: "N", float: "X", str: "NAME"}[kind]
            decoding.add_argument(flag, type=_or_none(kind), default=argparse.SUPPRESS, metavar=metavar, help=text)
    return parser


def _kind(hint: Any) -> type:
    return next((one for one in get_args(hint) if one is not type(None)), hint)


def _or_none(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        return None if text in ("none", "null") else kind(text)

    read.__name__ = "number" if kind is not str else "name"  # argparse puts it into its message
    return read


if __name__ == "__main__":
    sys.exit(main())
