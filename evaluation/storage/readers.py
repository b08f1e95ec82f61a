"""Reading files that anybody may have written: bounded in size, depth and time, and never more than data.

A submission to the leaderboard is a pull request. What reads its run folders opens plain files only, stops while
reading where one is larger than a run's can be, and imports, resolves and follows nothing that they name.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, require, short
from evaluation.storage.plain import open_plain, refuse_constant

MOST_YAML = 64 << 10
"""Bytes of a configuration, which has 2 KB; the parser reads some 100 KB a second."""
MOST_JSON = 8 << 20
"""Bytes of a JSON file; the results of a group of 1,000 tasks have 5 MB."""
MOST_LINE = 2 << 20
"""Bytes of a line of samples; an answer of 32,000 tokens has 1 MB."""
MOST_ROWS = 100_000
"""Lines of a file of samples; the largest groups of tasks ask 20,000 questions."""
MOST_ALL_ROWS = 64 << 20
"""Bytes of all lines, unpacked; GSM8K with 512 tokens to an answer has 20 MB."""
MOST_MEMORY = 192 << 20
"""Bytes that the values of a file may take in memory: a byte of JSON makes up to twenty."""
MOST_VALUES = 250_000
"""Commas and brackets of a JSON text, which bound its values before they are made."""
MOST_DEPTH = 32
"""Levels of lists and objects within each other; the files of a run have six."""
_MOST_DIGITS = 30
_LONGEST_NUMBER = 40
_CHUNK = 1 << 16


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a plain file of ``most`` bytes at most.

    Raises:
        UsageError: it is not there, a link, a device or another thing that is no plain file, or longer.
    """
    with open_plain(path, follow=False) as file:
        content = _guarded(path, lambda: file.read(most + 1))
    require(len(content) <= most, f"{path} has more than {_size(most)}, which no file of its kind needs")
    return content


def read_json(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object that a file holds.

    Numbers are finite and have at most 30 digits, no key is there twice, and every text can be written as UTF-8.

    Raises:
        UsageError: as in `read_bytes`; or it is no such object.
    """
    found, _ = _parsed(str(path), read_bytes(path, most))
    return found


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the line and JSON object of each line that is not empty, one after the other.

    Args:
        path: UTF-8; one whose name ends in ``.gz`` is unpacked while it is read.

    Raises:
        UsageError: as in `read_json`, with the line; or there is no row, or more than there may be.
    """
    rows = size = memory = 0
    with open_plain(path, follow=False) as plain:
        file = io.BufferedReader(_Unpacked(path, plain), _CHUNK) if path.suffix == ".gz" else plain
        for number in range(1, MOST_ROWS + 2):
            line = _guarded(path, lambda: file.readline(MOST_LINE + 1))
            if not line:
                break
            where = f"{path}, line {number}"
            size += len(line)
            require(number <= MOST_ROWS, f"{path} has more than {MOST_ROWS:,} lines, which no run has")
            require(len(line) <= MOST_LINE, f"{where} has more than {_size(MOST_LINE)}, which no question needs")
            require(size <= MOST_ALL_ROWS, f"{path} has more than {_size(MOST_ALL_ROWS)}, which no run needs")
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if not line.strip():
                continue
            row, weight = _parsed(where, line)
            memory += weight
            require(memory <= MOST_MEMORY, f"{path} takes more than {_size(MOST_MEMORY)} of memory")
            rows += 1
            yield number, row
    require(rows > 0, f"{path} is empty")


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values that a YAML file holds, as plain data: ``${...}`` is text.

    Raises:
        UsageError: as in `read_json`; or it has anchors, aliases or tags.
    """
    text = _text(str(path), read_bytes(path, MOST_YAML))
    try:
        found = yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line} is not YAML that is read here: {short(str(error.problem))}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is not valid YAML") from error
    require(isinstance(found, dict), f"{path} must hold keys and values, not {type(found).__name__}")
    _weigh(str(path), found)
    return dict(found)


def _guarded(path: Path, read: Any) -> bytes:
    try:
        return bytes(read())
    except (OSError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {error}") from error


class _Unpacked(io.RawIOBase):
    """What a gzip file of one part holds. `gzip` would go through any number of empty parts."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self._path, self._packed = path, packed
        self._inflate = zlib.decompressobj(wbits=31)
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = b""
        while not found and not self._inflate.eof:
            self._ahead = self._ahead or self._packed.read(_CHUNK)
            require(bool(self._ahead), f"{self._path} can't be unpacked: its end is missing")
            try:
                found = self._inflate.decompress(self._ahead, len(buffer))
            except zlib.error as error:
                raise UsageError(f"{self._path} can't be unpacked: {error}") from error
            self._ahead = self._inflate.unconsumed_tail
        if self._inflate.eof:
            more = self._inflate.unused_data or self._packed.read(1)
            require(not more, f"{self._path} has something after its end; pack it with gzip -n")
        buffer[: len(found)] = found
        return len(found)


def _parsed(where: str, content: bytes) -> tuple[dict[str, Any], int]:
    """The JSON object of a text, and the bytes that it takes."""
    text = _text(where, content)
    parts = sum(content.count(sign) for sign in (b",", b"[", b"{"))
    require(parts <= MOST_VALUES, f"{where} has more than {MOST_VALUES:,} values")
    try:
        found = _DECODER.decode(text)
    except RecursionError as error:
        raise UsageError(f"{where} is nested more than {MOST_DEPTH} levels deep") from error
    except ValueError as error:
        raise UsageError(f"{where} is not valid JSON: {error}") from error
    require(isinstance(found, dict), f"{where} must hold a JSON object, not {type(found).__name__}")
    return found, _weigh(where, found)


def _text(where: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error


def _weigh(where: str, found: Any) -> int:
    """Bytes that a value takes with all that is in it, which is checked on the way, level by level."""
    weight, level = 0, [found]
    for _ in range(MOST_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            weight += sys.getsizeof(value)
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                require(is_utf8(value), f"{where} has a text with half a surrogate pair")
            elif isinstance(value, float):
                require(math.isfinite(value), f"{where} has a number that is not finite")
            elif isinstance(value, int):
                require(abs(value) < 10**_MOST_DIGITS, f"{where} has a number of more than {_MOST_DIGITS} digits")
            elif value is not None:
                raise UsageError(f"{where} has a value of the kind {type(value).__name__}")
        level = below
        if not level:
            return weight
    raise UsageError(f"{where} is nested more than {MOST_DEPTH} levels deep")


def _number(text: str) -> float:
    value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise ValueError(f"a number that is too large or too long: {short(text)}")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS + 1:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {short(ascii(twice))} is there twice")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_int=_integer, parse_constant=refuse_constant
)


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no annotations
    """YAML that is nothing but keys, lists and plain values; numbers are written as Hydra writes and reads them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge", ":value"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        for key in ("anchor", "tag"):
            if getattr(event, key, None) is not None:
                raise yaml.composer.ComposerError(None, None, "anchors, aliases and tags", event.start_mark)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value) or len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key that is there twice", node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if not all(isinstance(key, str) for key in found):
            raise yaml.constructor.ConstructorError(None, None, "a key that is no text", node.start_mark)
        return found


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def _size(most: int) -> str:
    return f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
