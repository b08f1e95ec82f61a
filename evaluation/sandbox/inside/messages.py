"""Length-prefixed messages on pipes."""

from __future__ import annotations

import json
import os
from typing import Any

MAX_BYTES = 16 * 2**20
"""Of one message."""


def write(pipe: int, message: bytes) -> None:
    """Write a whole message.

    Raises:
        OSError: the pipe has no reader.
    """
    rest = memoryview(len(message).to_bytes(8, "big") + message)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def read(pipe: int) -> bytes:
    """Wait for a message and read it.

    Raises:
        EOFError: the pipe ended.
        ValueError: it is longer than `MAX_BYTES`.
    """
    size = int.from_bytes(_exactly(pipe, 8), "big")
    if size > MAX_BYTES:
        raise ValueError(f"a message of {size} bytes")
    return _exactly(pipe, size)


def write_json(pipe: int, message: Any) -> None:
    """Write a message as JSON."""
    write(pipe, json.dumps(message).encode())


def read_json(pipe: int) -> Any:
    """Read what `write_json` wrote; garbage raises ValueError and nothing else."""
    return json.loads(read(pipe))


def _exactly(pipe: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(pipe, min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
