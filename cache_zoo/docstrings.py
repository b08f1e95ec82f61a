"""Docstrings as text for users: the description, and the entries of a section such as ``Args``."""

from __future__ import annotations

import inspect
import re


def documented(cls: type, section: str) -> dict[str, str]:
    """Names and texts of a section of a class's own docstring, such as ``Args``, each text in one line."""
    found = re.search(rf"^{section}:\n((?:[ ]{{4}}.*\n|\n)*)", inspect.cleandoc(cls.__doc__ or "") + "\n", re.MULTILINE)
    lines = inspect.cleandoc(found.group(1)).splitlines() if found else []
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        if start := re.match(r"([\w, ]+): (.*)", line):
            names = start.group(1).split(", ")
            texts |= dict.fromkeys(names, start.group(2))
        else:
            texts |= {name: f"{texts[name]} {line.strip()}".strip() for name in names}
    return {name: prose(text) for name, text in texts.items()}


def description_of(cls: type) -> str:
    """The docstring up to its sections."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return re.split(r"^[A-Z]\w*:\n", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def prose(text: str) -> str:
    """A paragraph of a docstring in one line, code in single backticks."""
    return " ".join(text.split()).replace("``", "`")
