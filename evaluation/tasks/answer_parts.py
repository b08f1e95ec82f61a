"""Split an answer into fenced and plain parts; drop the model's thoughts."""

from __future__ import annotations

import re
from dataclasses import dataclass

TURN_ENDS = ("<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|end|>", "</s>", "[DONE]", "[/DONE]")
"""What ends an answer: special tokens of the models as text, and MBPP's own mark."""

MAX_CHARACTERS, MAX_LINES = 20_000, 1000
"""Of an answer without thoughts; the longest programs of the benchmarks have 3,000 characters."""
_MAX_FENCES = 40

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
    """Lines of an answer without fences: whether they stand in one, and whether they end before the answer does."""

    lines: list[str]
    fenced: bool
    closed: bool


def parts_of(raw: str, careful: bool = True) -> list[Part]:
    """The parts of an answer that may be Python, in order; the first one precedes any fence.

    Args:
        raw: everything generated, special tokens included.
        careful: treat a fence inside a string of the program as part of the string. An unclosed string would swallow
            the rest, so it may be worth trying without.
    """
    lines = _final_text(raw).split("\n")[:MAX_LINES]
    found: list[Part] = []
    current: list[str] = []
    mark, python, fences = "", True, 0

    def close(ended: bool) -> None:
        if python:
            found.append(Part(list(current), bool(mark), ended))
        current.clear()

    for line in (piece for whole in lines for piece in _split_fences(whole)):
        fence = _FENCE.match(line) if fences < _MAX_FENCES else None
        fences += fence is not None
        if not fence or (careful and _is_in_string("\n".join(current))):
            current.append(line)
            continue
        info = fence["info"].strip()
        if mark and not info and not fence["mark"].startswith(mark):
            current.append(line)  # belongs to another fence inside this one
            continue
        close(True)
        language = _language(info)
        mark = "" if mark and not info else fence["mark"]
        python = not mark or language in (*_TEXT, *_NO_LANGUAGE) or bool(_PYTHON.match(info))
        if language in ("markdown", "md"):
            mark = ""  # the fences inside it count
        if language in _NO_LANGUAGE:
            current.append(info)
    close(False)
    return found


def _final_text(raw: str) -> str:
    """The answer up to the end of its turn, without thoughts and surrounding tags, with Unix line ends."""
    text = raw.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = without_thoughts(text)
    ends = [place for mark in TURN_ENDS if (place := text.find(mark)) >= 0]
    text = text[: min([*ends, MAX_CHARACTERS])]
    if re.search(r"(?m)^> ?```", text):
        text = _QUOTED.sub("", text)
    return _TAGGED.sub("", text)


def without_thoughts(text: str) -> str:
    """The text outside of thinking marks. Thoughts may begin in the prompt; unclosed ones swallow the rest."""
    kept, place, depth = "", 0, 0
    for match in _MARKS.finditer(text):
        if match["begin"]:
            if not depth:
                kept += text[place : match.start()]
            depth += 1
        elif depth:
            depth = 0
        else:
            kept = ""
        place = match.end()
    return kept if depth else kept + text[place:]


def _split_fences(line: str) -> list[str]:
    """A line, or several if a fence follows other text or encloses it."""
    if "```" not in line:
        return [line]
    if match := _FENCED_LINE.match(line):
        return ["```python", match["code"], "```"]
    match = _FENCE_BEHIND.match(line)
    return [match["before"], match["fence"]] if match else [line]


def _language(info: str) -> str:
    match = _LANGUAGE.match(info)
    return match[1].lower() if match else ""


def _is_in_string(code: str) -> bool:
    """Whether a triple-quoted string is open at the end of ``code``."""
    place = 0
    while match := _STRINGS.search(code, place):
        place = match.end()
        if match[0] in ('"""', "'''"):
            place = code.find(match[0], place) + 3
            if place < 3:
                return True
    return False
