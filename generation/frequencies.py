"""How often each token occurs in a corpus, from a file, and confidences without what that alone explains."""

from __future__ import annotations

import hashlib
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

import torch
from torch import Tensor

from cache_zoo import UsageError
from cache_zoo.errors import require, short

_MAX_BYTES = 256 << 20
_MAX_TOKENS = 10_000_000
_FLOOR = 1e-10


def frequencies(path: str, sha256: str | None = None) -> Tensor:
    """Frequencies of the tokens 0, 1, ..., float32 ``[N]``, from a JSON file.

    The file holds an array with a number per token, or an object of token ids and numbers, or an object whose ``freq``
    is one of these. Tokens that an object leaves out, and those behind the last, count as the rarest in it; the last
    entry is theirs.

    Args:
        path: of the file.
        sha256: digest that its content must have; None: any.

    Raises:
        UsageError: it can't be read, holds something else or has another digest.
    """
    return _found(path, sha256)[0]


def digest_of(path: str, sha256: str | None = None) -> str:
    """Digest of a file that `frequencies` can read.

    Raises:
        UsageError: as in `frequencies`.
    """
    return _found(path, sha256)[1]


def calibrated(confidence: Tensor, tokens: Tensor, frequency: Tensor, clip: float) -> Tensor:
    """``confidence * -log(frequency of the token)``, at most ``clip`` (PC-Sampler, arXiv 2508.13021, section 4).

    Args:
        confidence: float32, of any shape.
        tokens: LongTensor of the same shape.
        frequency: from `frequencies`.
        clip: highest value.
    """
    surprise = -(frequency[tokens.clamp(max=len(frequency) - 1)] + _FLOOR).log()
    return (confidence * surprise).clamp(max=clip)


def _found(path: str, sha256: str | None) -> tuple[Tensor, str]:
    try:
        state = os.stat(path)
        require(S_ISREG(state.st_mode), f"debias: {short(path)} is no regular file")
        require(state.st_size <= _MAX_BYTES, f"debias: {short(path)} is larger than {_MAX_BYTES >> 20} MiB")
        values, digest = _read(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UsageError(f"debias: {short(path)} can't be read: {error.strerror}") from error
    require(
        sha256 in (None, digest),
        f"debias: the content of {short(path)} is not that of debias_sha256, whose digest begins with "
        f"{short(str(sha256)[:8])}; its own is {digest}",
    )
    return values, digest


@lru_cache(maxsize=4)
def _read(path: str, _changed: int, _size: int) -> tuple[Tensor, str]:
    content = Path(path).read_bytes()
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UsageError(f"debias: {short(path)} is not JSON") from error
    if isinstance(found, dict) and "freq" in found:
        found = found["freq"]
    pairs = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else []
    known = {_token(path, token): _share(path, value) for token, value in pairs}
    require(bool(known), f"debias: {short(path)} holds no frequencies of tokens")
    values = torch.full((max(known) + 2,), min(known.values()))
    values[list(known)] = torch.tensor(list(known.values()))
    return values, hashlib.sha256(content).hexdigest()


def _token(path: str, token: object) -> int:
    text = str(token)
    fits = text.isdecimal() and len(text) < 9 and int(text) < _MAX_TOKENS
    require(fits, f"debias: {short(path)} has the key {short(text)}, which is no token id")
    return int(text)


def _share(path: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    require(
        number and math.isfinite(value) and 0 <= value <= 1,  # type: ignore[arg-type, operator]
        f"debias: {short(path)} has a frequency that is no number between 0 and 1",
    )
    return float(value)  # type: ignore[arg-type]
