"""The text of an answer in parts: what is fenced, what stands around it, and nothing of what the model only thought."""

from __future__ import annotations

import re
from dataclasses import dataclass

TURN_ENDS = ("<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|end|>", "</s>", "[DONE]", "[/DONE]")
"""What ends an answer: special tokens of the models, as raw text shows them, and MBPP's own mark."""

MOST_CHARACTERS, MOST_LINES = 20_000, 1000
"""Of an answer, without the thoughts: the longest programs of the benchmarks have 3,000 characters."""
_MOST_FENCES = 40

_THOUGHT = r"(?:\w+[_:])?think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad"
_BEGINS = rf"(?:<\|?(?:{_THOUGHT})\|?>|<\|(?:begin_of|start)_(?:thought|thinking)\|>|\[think\]|◁think▷|Thinking\.\.\.$)"
_ENDS = (
    rf"(?:<\|?/(?:{_THOUGHT})\|?>|<\|end_(?:of_)?(?:thought|thinking)\|>|\[/think\]|◁/think▷|\.\.\.done thinking\."
    rf"|<\|channel\|>final<\|message\|>)(?![\"'])"
)
_MARKS = re.compile(rf"(?im)(?P<end>{_ENDS})|^[ \t]*(?P<begin>{_BEGINS})")

_TAGS = r"(?:</?(?:answer|solution|response|code|pre|python|output)>)+"
_TAGGED = re.compile(rf"(?m)^[ \t]*{_TAGS}|{_TAGS}[ \t]*$")
_QUOTED = re.compile(r"(?m)^> ?")
_FENCE = re.compile(r"^(?P<margin>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_FENCE_BEHIND = re.compile(r"^(?P<before>[^`\n]*[^`\"'\s][ \t]*)(?P<fence>```[ \t]*(?i:python|py)?[\d.]*)[ \t]*$")
_FENCED_LINE = re.compile(r"^[ \t]*```[ \t]*(?i:python3?[ \t]|py[ \t])?(?P<code>[^`\n]*[^`\s])[ \t]*```[ \t]*$")
_LANGUAGE = re.compile(r"[\W_]*([A-Za-z][A-Za-z+#-]*)")
_TEXT = ("", "text", "txt", "plain", "plaintext", "code", "sage", "markdown", "md", "solution", "source", "tool")
_PYTHON = re.compile(r"(?i)\S*?(?<![a-z])i?py")  # python3, {.python}, lang-python, area.py
_NO_LANGUAGE = ("def", "class", "import", "from", "async")
_STRINGS = re.compile(r"""\"{3}|'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#[^\n]*|\\.""")


@dataclass(frozen=True)
class Part:
    """A stretch of an answer.

    Attributes:
        lines: its lines, fences left out.
        fenced: whether it stands in a fence.
        closed: whether it ends before the answer does.
    """

    lines: list[str]
    fenced: bool
    closed: bool


def parts_of(raw: str, careful: bool = True) -> list[Part]:
    """The parts of an answer that may hold Python, in order; the first one is what comes before any fence.

    Args:
        raw: everything generated, special tokens included.
        careful: a fence inside a string of the program is part of the string. A string that is never closed would
            hold all that follows, so that it may be worth a second look without.
    """
    lines = _answered(raw).split("\n")[:MOST_LINES]
    found: list[Part] = []
    current: list[str] = []
    mark, python, fences = "", True, 0

    def close(ended: bool) -> None:
        if python:
            found.append(Part(list(current), bool(mark), ended))
        current.clear()

    for line in (one for whole in lines for one in _apart(whole)):
        fence = _FENCE.match(line) if fences < _MOST_FENCES else None
        fences += fence is not None
        if not fence or (careful and _is_in_string("\n".join(current))):
            current.append(line)
            continue
        info = fence["info"].strip()
        if mark and not info and not fence["mark"].startswith(mark):
            current.append(line)  # of another fence, inside this one
            continue
        close(True)
        language = _language(info)
        mark = "" if mark and not info else fence["mark"]
        python = not mark or language in (*_TEXT, *_NO_LANGUAGE) or bool(_PYTHON.match(info))
        if language in ("markdown", "md"):
            mark = ""  # its own fences are those that count
        if language in _NO_LANGUAGE:
            current.append(info)
    close(False)
    return found


def _answered(raw: str) -> str:
    """What a model answered: line ends of Unix, up to the end of its turn, without its thoughts and tags around it."""
    text = raw.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = _ended(without_thoughts(text))[:MOST_CHARACTERS]
    if re.search(r"(?m)^> ?```", text):
        text = _QUOTED.sub("", text)
    return _TAGGED.sub("", text)


def without_thoughts(text: str) -> str:
    """What is outside of the marks of thinking. Thoughts that never end have no answer; some begin in the prompt."""
    kept, place, depth = "", 0, 0
    for found in _MARKS.finditer(text):
        if found["begin"]:
            if not depth:
                kept += text[place : found.start()]
            depth += 1
        elif depth:
            depth = 0
        else:
            kept = ""
        place = found.end()
    return kept if depth else kept + text[place:]


def _ended(text: str) -> str:
    found = [place for mark in TURN_ENDS if (place := text.find(mark)) >= 0]
    return text[: min(found)] if found else text


def _apart(line: str) -> list[str]:
    """A line, or several where a fence stands behind something else, or around it."""
    if "```" not in line:
        return [line]
    if found := _FENCED_LINE.match(line):
        return ["```python", found["code"], "```"]
    found = _FENCE_BEHIND.match(line)
    return [found["before"], found["fence"]] if found else [line]


def _language(info: str) -> str:
    found = _LANGUAGE.match(info)
    return found[1].lower() if found else ""


def _is_in_string(code: str) -> bool:
    """Whether a string in three quotes is open at the end of ``code``."""
    place = 0
    while found := _STRINGS.search(code, place):
        place = found.end()
        if found[0] in ('"""', "'''"):
            place = code.find(found[0], place) + 3
            if place < 3:
                return True
    return False
