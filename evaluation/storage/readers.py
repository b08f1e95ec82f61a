"""Bounded readers of files that anyone may have written: plain files, JSON and JSON lines.

A submission to the leaderboard is a pull request, so its run folders are untrusted. These readers open regular files
only, stop at a size limit while reading, and import, resolve and follow nothing that a file names.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import stat
import sys
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, require, short

MAX_JSON_BYTES = 8 << 20
"""Size of a JSON file; the results of a group of 1,000 tasks have 5 MB."""
MAX_DEPTH = 32
"""Nested lists and objects; the files of a run have six levels."""
MAX_VALUES = 250_000
"""Commas and brackets of a JSON text. They bound the number of its values before any is created."""
MAX_MEMORY_BYTES = 192 << 20
"""Memory of the values of a file: a byte of JSON takes up to twenty."""
_MAX_DIGITS = 30
_MAX_INT = 10**_MAX_DIGITS
_MAX_FLOAT_CHARACTERS = 40
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class FileLimits:
    """Bounds of a file of JSON lines; sizes are of the unpacked content.

    Attributes:
        lines: number of lines.
        line_bytes, file_bytes: size of a line, and of the file.
        trusted: the file is the user's own, so links, gzip files of several members and all JSON values are accepted.
            Otherwise these are refused, as are repeated keys and values beyond the bounds of this module.
    """

    lines: int
    line_bytes: int
    file_bytes: int
    trusted: bool = False


SAMPLES_LIMITS = FileLimits(lines=100_000, line_bytes=2 << 20, file_bytes=64 << 20)
"""Of ``samples.jsonl``: the largest task groups ask 20,000 questions, an answer of 32,000 tokens has 1 MB, GSM8K with
512 tokens per answer has 20 MB."""


def open_regular_file(path: Path, follow_links: bool = False) -> BinaryIO:
    """Open a regular file for reading. Devices and pipes may be endless, and opening them must not block.

    The type is that of the open descriptor, so the file can't be exchanged in between.

    Raises:
        UsageError: it can't be opened, or is not a regular file.
    """
    flags = ["O_NONBLOCK", "O_BINARY", "O_CLOEXEC", *([] if follow_links else ["O_NOFOLLOW"])]
    try:
        descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))  # no system has all
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{str(path)!r} is not a valid file name") from error
    except OSError as error:
        reason = "it is a link" if not follow_links and os.path.islink(path) else error.strerror
        raise UsageError(f"{path} can't be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; links are not followed.

    Raises:
        UsageError: as in `open_regular_file`; or the file is larger.
    """
    with open_regular_file(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error}") from error
    require(len(content) <= limit, f"{path} has more than {_size(limit)}, which no file of its kind needs")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Numbers are finite with at most 30 digits, keys are unique, strings are valid UTF-8.

    Raises:
        UsageError: as in `read_bytes`; or it is not such an object.
    """
    where = str(path)
    content = _parse(where, decode_utf8(where, read_bytes(path, MAX_JSON_BYTES)), trusted=False)
    check_values(where, content)
    return content


def read_json_lines(path: Path, limits: FileLimits = SAMPLES_LIMITS) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file of JSON objects line by line, skipping blank lines.

    Args:
        path: UTF-8; a file whose name ends in ``.gz`` is unpacked while it is read.
        limits: bounds of the file.

    Yields:
        File and line for messages, and the object.

    Raises:
        UsageError: as in `read_json`, naming the line; or the file is empty or exceeds a limit.
    """
    packed = path.suffix.lower() == ".gz"
    rows = size = memory = 0
    with open_regular_file(path, follow_links=limits.trusted) as file:
        content = _unpack(file, limits) if packed else file
        try:
            for number in count(1):
                line = content.readline(limits.line_bytes + 1)
                if not line:
                    break
                size += len(line)
                if number > limits.lines:
                    raise UsageError(f"{path} has more than {limits.lines:,} lines")
                if len(line) > limits.line_bytes:
                    raise UsageError(f"{path}, line {number} has more than {_size(limits.line_bytes)}")
                if size > limits.file_bytes:
                    raise UsageError(f"{path} has more than {_size(limits.file_bytes)}")
                where = f"{path}, line {number}"
                text = decode_utf8(where, line.removeprefix(BOM_UTF8) if number == 1 else line).rstrip("\r\n")
                if not text.strip():
                    continue
                row = _parse(where, text, limits.trusted)
                if not limits.trusted:
                    memory += check_values(where, row)
                    require(memory <= MAX_MEMORY_BYTES, f"{path} takes more than {_size(MAX_MEMORY_BYTES)} of memory")
                rows += 1
                yield where, row
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path} can't be {'unpacked' if packed else 'read'}: {error}") from error
    require(rows > 0, f"{path} is empty; it must hold one JSON object per line")


def decode_utf8(where: str, content: bytes) -> str:
    """``content`` as text, or a `UsageError` that names the first invalid byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error


def check_values(where: str, root: Any) -> int:
    """Check all values within ``root``, level by level.

    Returns:
        The memory that they take, in bytes.

    Raises:
        UsageError: too deep, or a value that JSON of a run does not have.
    """
    memory, level = 0, [root]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            memory += sys.getsizeof(value)
            if isinstance(value, int):  # first, and without a message made for each: most values are token ids
                if not -_MAX_INT < value < _MAX_INT:
                    raise UsageError(f"{where} has a number of more than {_MAX_DIGITS} digits")
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                require(is_utf8(value), f"{where} has a text with half a surrogate pair")
            elif isinstance(value, float):
                require(math.isfinite(value), f"{where} has a number that is not finite")
            elif value is not None:
                raise UsageError(f"{where} has a value of type {type(value).__name__}")
        level = below
        if not level:
            return memory
    raise UsageError(f"{where} is nested more than {MAX_DEPTH} levels deep")


def _parse(where: str, text: str, trusted: bool) -> dict[str, Any]:
    if not trusted:
        values = sum(text.count(sign) for sign in ",[{")
        require(values <= MAX_VALUES, f"{where} has more than {MAX_VALUES:,} values")
    try:
        value = (_PLAIN_DECODER if trusted else _BOUNDED_DECODER).decode(text)
    except RecursionError as error:
        raise UsageError(f"{where} is nested too deeply") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UsageError(f"{where} is not valid JSON: {error.msg} in {line}column {error.colno}") from error
    except ValueError as error:
        raise UsageError(f"{where} is not valid JSON: {error}") from error
    require(isinstance(value, dict), f"{where} must hold a JSON object, not {type(value).__name__}")
    return dict(value)


def _unpack(packed: BinaryIO, limits: FileLimits) -> BinaryIO:
    if limits.trusted:
        return gzip.GzipFile(fileobj=packed)  # type: ignore[return-value]
    return io.BufferedReader(_GzipMember(packed), _CHUNK_BYTES)


class _GzipMember(io.RawIOBase):
    """A gzip file of a single member. `gzip` would read any number of empty members."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(wbits=31)
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        unpacked = b""
        while not unpacked and not self._inflate.eof:
            self._ahead = self._ahead or self._packed.read(_CHUNK_BYTES)
            if not self._ahead:
                raise EOFError("its end is missing")
            unpacked = self._inflate.decompress(self._ahead, len(buffer))
            self._ahead = self._inflate.unconsumed_tail
        if self._inflate.eof and (self._inflate.unused_data or self._packed.read(1)):
            raise EOFError("there is data after its end; pack it with gzip -n")
        buffer[: len(unpacked)] = unpacked
        return len(unpacked)


def _parse_float(text: str) -> float:
    value = float(text) if len(text) <= _MAX_FLOAT_CHARACTERS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"a number is too large or too long: {short(text)}")
    return value


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS + 1:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    """`json` reads NaN and Infinity otherwise."""
    raise ValueError(f"{text} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {short(ascii(repeated))} appears twice")
    return mapping


_PLAIN_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_BOUNDED_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_parse_float, parse_int=_parse_int, parse_constant=_refuse_constant
)


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
