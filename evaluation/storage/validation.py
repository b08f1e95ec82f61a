"""Validate parsed JSON or YAML; errors are one line that names file, field and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cache_zoo import UsageError
from cache_zoo.errors import visible

R = TypeVar("R", bound=BaseModel)
_MAX_FIELD_CHARACTERS = 500
_MAX_SHOWN_CHARACTERS = 80


def parse(kind: type[R], content: Any, where: str) -> R:
    """``content``, parsed JSON or YAML of the place ``where``, as a record of class ``kind``.

    Raises:
        UsageError: a field is missing, of another type or out of bounds; it names file, field and value.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(f"{where}{_describe_error(first)}") from error


_EXPECTED_TYPES = {
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
"""By pydantic's name of the error; other errors are shown in pydantic's words."""


def _describe_error(error: Mapping[str, Any]) -> str:
    field = visible(".".join(str(part) for part in error["loc"]))[:_MAX_FIELD_CHARACTERS]
    if error["type"] == "missing":
        return f" has no '{field}'"
    expected = f"must be {_EXPECTED_TYPES[error['type']]}" if error["type"] in _EXPECTED_TYPES else str(error["msg"])
    expected = expected.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{f': {field}' if field else ''} {expected}, not {_describe_value(error['input'])}"


def _describe_value(value: Any) -> str:
    """A short, printable form of ``value``."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_MAX_SHOWN_CHARACTERS:
        return "a number of many digits"
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = visible(repr(value[:_MAX_SHOWN_CHARACTERS] if isinstance(value, str) else value))
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."
