r"""One spelling for mathematics as models and people write it: `normalize`.

Typographic characters become LaTeX, Markdown and delimiters disappear, synonyms become one command, and words go into
``\text{}``, neighbours together. The meaning of an answer plays no role here.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from evaluation.tasks.mathematics import units

_CHARACTERS = {
    **dict.fromkeys("−–—‐‑‒―﹣－", "-"),
    **dict.fromkeys("×✕✖⨯", r"\times "),
    **dict.fromkeys("·⋅∙•", r"\cdot "),
    **dict.fromkeys("≤⩽≦", r"\le "),
    **dict.fromkeys("≥⩾≧", r"\ge "),
    **dict.fromkeys("°º˚", r"^{\circ}"),
    **dict.fromkeys("“”„«»", '"'),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("⟨〈", "("),
    **dict.fromkeys("⟩〉", ")"),
    **dict.fromkeys("∣｜", "|"),
    **dict.fromkeys("∕⁄", "/"),
    "÷": r"\div ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "√": r"\sqrt ",
    "∛": r"\sqrt[3]",
    "∜": r"\sqrt[4]",
    "∗": "*",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∅": r"\emptyset ",
    "⇒": r"\implies ",
    "∴": r"\therefore ",
    "∎": "",
    "∈": r"\in ",
    "∖": r"\setminus ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≅": r"\approx ",
    "→": r"\to ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
    "ϕ": r"\phi ",
    "ϵ": r"\epsilon ",
    "ℝ": r"\mathbb{R}",
    "ℂ": r"\mathbb{C}",
    "ℤ": r"\mathbb{Z}",
    "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}",
    "∧": r"\text{and}",
    "∨": r"\text{or}",
    "…": "...",
    "⋯": "...",
    "℃": r"^{\circ}\text{C}",
    "∶": ":",
    "、": ",",
    "。": ".",
}
GREEK = frozenset(
    """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
    """.split()
)
"""LaTeX names of the letters."""
_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp max gcd lcm".split())
_FOREIGN_FUNCTIONS = {
    "cosec": "csc",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
_SYNONYMS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le "),
    **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge "),
    **dict.fromkeys(("neq", "not="), r"\ne "),
    "lt": "<",
    "gt": ">",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "ast": "*",
    "colon": ":",
    "langle": "(",
    "rangle": ")",
    **dict.fromkeys(("lvert", "rvert", "vert"), "|"),
    **dict.fromkeys(("varnothing", "O"), r"\emptyset "),
    "varepsilon": r"\epsilon ",
    "varphi": r"\phi ",
    "vartheta": r"\theta ",
    "infin": r"\infty ",
    "infinity": r"\infty ",
    **dict.fromkeys(("dots", "ldots", "cdots"), "..."),
    "land": r"\text{and}",
    "wedge": r"\text{and}",
    "lor": r"\text{or}",
    "vee": r"\text{or}",
    "degree": r"^{\circ}",
    "degrees": r"^{\circ}",
    "backslash": r"\setminus ",
    "imath": "i",
    "sim": r"\approx ",
    "rightarrow": r"\to ",
    "R": r"\mathbb{R}",
    "bigcup": r"\cup ",
    "doteq": "=",
    "simeq": r"\approx ",
    "bmod": r"\mod ",
    "lg": r"\log_{10} ",
    **dict.fromkeys(("lVert", "rVert", "Vert"), r"\|"),
    **dict.fromkeys(("checkmark", "blacksquare", "square", "qed", "Box", "nonumber", "notag"), " "),
    **dict.fromkeys(("tiny", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge", "tt", "sf"), ""),
    **dict.fromkeys(("left", "right", "displaystyle", "textstyle", "limits", "nolimits", "mathstrut", "strut"), ""),
    **dict.fromkeys(("big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "middle", "rm", "bf", "it"), ""),
    **dict.fromkeys(("quad", "qquad", "hfill", "newline", "par", "centering", "boldmath"), " "),
}
_LINES = re.compile(r"\\(?:begin|end)\{(?:aligned|align|alignat|equation|gathered|gather|split|multline|flalign)\*?\}")
_COMMAND = re.compile(r"\\(not=|[a-zA-Z]+) ?")
_UPRIGHT = re.compile(
    r"\\(?:text|textbf|textrm|textit|textsf|texttt|textnormal|textup|emph|mathrm|mathsf|mathtt|mathit|mathbf|"
    r"boldsymbol|mbox|hbox|operatorname\*?|underline|bold|bm|pmb|ensuremath|textsc|textsl|mathnormal)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_WORD = re.compile(r"(\\[a-zA-Z]+)|([ap]\.\s?m\b\.?)|([^\W\d_]+(?:['-][^\W\d_]+)*)|(.)", re.DOTALL)
_PLAIN = re.compile(
    r"(\\text\{[^{}]*\}|\\[a-zA-Z]+(?:\{[a-zA-Z]*\*?\})?|\\.)|"
    r"(?<![A-Za-z])([ap]\.\s?m\b\.?|[A-Za-z]{3,}(?:['-][A-Za-z]{3,})+|[A-Za-z]+(?:'[a-z])?)"
)
_LINKS = ("and", "or")


def normalize(text: str) -> str:
    """``text``, of bounded length, in the one spelling."""
    text = _layout(_markdown(_characters(text)))
    text = re.sub(r"(?i)\bper\s+cent\b", "percent", text)
    text = re.sub(r"(?i)\bnegative\s+(?=[\d.\\(])", "-", text)
    text = _COMMAND.sub(lambda found: _SYNONYMS.get(found[1], found[0]), text)
    for _ in range(3):  # \textbf{\text{...}}
        text = _UPRIGHT.sub(lambda found: _words(found[1]), text)
    text = re.sub(r"(?<=[\d)])\s*\^\s*(?:o(?![a-z])|\{\s*o\s*\})", r"^{\\circ}", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?\s*([CF])(?![a-zA-Z])", r"^{\\circ}\\text{\1}", text)
    text = _PLAIN.sub(_plain, text)
    text = re.sub(r"(\\text\{[^{}]*\})\.(?=\s*(?:\\text|\^))", r"\1", text)  # sq. units
    text = re.sub(r"(?<=\d)\s*\((\\text\{[^{}]*\})\)", r" \1", text)
    text = re.sub(r"(?<=[\d} ])(m|\\text\{\w+\})/([smh])(?![a-zA-Z])", _per, text)
    text = re.sub(r"\\text\{([^{}]*)\}(?:\s*\\text\{([^{}]*)\})+", _joined, text)
    text = re.sub(r"\s+", " ", text).strip()
    return _arguments(text)


def _characters(text: str) -> str:
    """ASCII wherever LaTeX can express the character; no control or formatting characters."""
    found: list[str] = []
    text = re.sub("([⁰¹²³⁴-⁹]+)[⁄/]([₀-₉]+)", _small, text)
    text = re.sub(r"((?:\d\u0305)+)", lambda runs: rf"\overline{{{runs[1]}}}".replace("\u0305", ""), text)
    for kind, group in groupby(text, _kind):
        run = "".join(group)
        if kind in ("^", "_"):
            found.append(f"{kind}{{{_characters(unicodedata.normalize('NFKC', run))}}}")
        elif kind == "frac":
            for one in run:
                upper, _, lower = unicodedata.normalize("NFKC", one).partition("⁄")
                found.append(rf"\frac{{{upper}}}{{{lower or 1}}}")
        else:
            found.extend(_character(one) for one in run)
    return "".join(found)


def _small(found: re.Match[str]) -> str:
    return rf"\frac{{{unicodedata.normalize('NFKC', found[1])}}}{{{unicodedata.normalize('NFKC', found[2])}}}"


def _kind(one: str) -> str:
    if one < "\x80" or one in _CHARACTERS:
        return ""
    mapping = unicodedata.decomposition(one)
    kinds = {"<super>": "^", "<sub>": "_", "<fraction>": "frac"}
    return kinds.get(mapping.partition(" ")[0], "")


def _character(one: str) -> str:
    if one in _CHARACTERS:
        return _CHARACTERS[one]
    if " " <= one < "\x7f":
        return one
    if one.isspace():
        return "\n" if one == "\n" else " "
    if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return ""
    one = unicodedata.normalize("NFKC", one)
    if len(one) > 1 or one < "\x7f":
        return "".join(_character(part) for part in one) if len(one) <= 4 else one
    if one in _CHARACTERS:
        return _CHARACTERS[one]
    if one.isdecimal():
        return str(unicodedata.decimal(one))
    size, _, name = unicodedata.name(one, "").removeprefix("GREEK ").partition(" LETTER ")
    name = {"lamda": "lambda"}.get(name.lower(), name.lower())
    if name in GREEK and size in ("SMALL", "CAPITAL"):
        return rf"\{name if size == 'SMALL' else name.capitalize()} "
    return "" if unicodedata.category(one) == "So" else one  # a check mark, a face


def _markdown(text: str) -> str:
    """``text`` without emphasis, code marks, headings and math delimiters; ``x**2`` becomes a power."""
    text = re.sub(r"(?m)^\s*#+\s+", "", text.replace("`", " "))
    text = re.sub(r"^\s*[=-]+>\s*", "", text)
    text = re.sub(r"^\s*~\s*(?=[\d.\\-])", r"\\approx ", text)
    text = re.sub(r"</?(?:b|i|u|em|strong|p|span)>", " ", text)
    for mark in (r"\*\*", "__"):
        text = re.sub(rf"(?<![\w)]){mark}(?=\S)([^*_\n]+?)(?<=\S){mark}", r"\1", text)
    text = re.sub(r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])", "^", text).replace("**", " ")
    text = re.sub(r"^\s*([*_])(?=\S)(.+)(?<=\S)\1(?=[.\s]*$)", r"\2", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    if text.count("$") % 2 and "\\$" not in text:
        text = re.sub(r"\$\s*(?=[\d.])", r"\\$", text, count=1)
    return re.sub(r"(?<!\\)\$", " ", text)


def _layout(text: str) -> str:
    """``text`` without layout: spacing, colours, labels; row ends of a matrix stay."""
    if _LINES.search(text) and not re.search(r"\{(?:\w*matrix|array|cases)\}", text):
        text = re.sub(r"\\\\\s*(?=&?\s*=)|&", " ", _LINES.sub(" ", text)).replace(r"\\", ", ")
    text = re.sub(r"\\(?:left|right)\s*\.|(?<![a-zA-Z])\{(?=[+-]\})(.)\}", r"\1", text)
    text = re.sub(r"\{\s*([,:;])\s*\}", r"\1", re.sub(r"(?<!\\)\\!\s*", "", text))
    text = re.sub(r"\\\\\s*\[-?[\d.]+ ?[a-z]{2}\]", r"\\\\", text)  # row distance of a matrix
    text = re.sub(r"(?<=\d)(?:\\,|\\ |\\;|\\:|~|\\thinspace|[\s'])(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:boxed|fbox|framebox)(?![a-zA-Z])", "", text)
    text = re.sub(r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup ", text)
    text = re.sub(r"\\(?:hspace|vspace|phantom|hphantom|label|tag)\s*\*?\{[^{}]*\}", " ", text)
    return re.sub(r"(?<!\\)((?:\\\\)*)\\[,;:> \n]|~", r"\1 ", text)


def _words(content: str) -> str:
    """Content of an upright command: words go into ``\\text{}``, the rest is mathematics."""
    if content.strip() in (*_FUNCTIONS, *_FOREIGN_FUNCTIONS):
        return _as_mathematics(content.strip())
    return "".join(_upright(found) for found in _WORD.finditer(content))


def _upright(found: re.Match[str]) -> str:
    command, noon, word, other = found.groups()
    if command:
        return f"{command} "
    if noon:
        return rf"\text{{{noon[0]}m}}"
    if other is not None:
        return str(other)
    if len(word) == 1 and word not in units.LETTERS:
        return f" {word} "
    return _as_mathematics(word) or rf"\text{{{word}}}"


def _plain(found: re.Match[str]) -> str:
    """A word in plain text: mathematics if it is short or follows a number, else words."""
    command, word = found.groups()
    if command is not None:
        return str(command)
    if re.fullmatch(r"[ap]\.\s?m\b\.?", word):
        return rf"\text{{{word[0]}m}}"
    before = found.string[max(0, found.start() - 1) : found.start()]
    meant = _as_mathematics(word)
    if meant or units.known(word) or word.lower() in (*_LINKS, "is", "no", "of", "to") or word in ("We", "So", "It"):
        return meant or rf"\text{{{word}}}"
    if len(word) < 3 or (before and (before.isdigit() or before in "_^{")):
        return str(word)
    return rf"\text{{{word}}}"


def _as_mathematics(word: str) -> str:
    word = _FOREIGN_FUNCTIONS.get(word, word)
    lower = word.lower()
    if lower in GREEK or word in _FUNCTIONS or lower == "sqrt":
        return rf"\{lower if word.islower() else word} "
    if lower in ("infinity", "inf"):
        return r"\infty "
    return {"minus": "-", "plus": "+", "times": r"\times ", "equals": "="}.get(lower, "")


def _per(found: re.Match[str]) -> str:
    upper = found[1] if found[1] != "m" else r"\text{m}"
    return rf"{upper}/\text{{{found[2]}}}"


def _joined(found: re.Match[str]) -> str:
    words = re.findall(r"\\text\{([^{}]*)\}", found[0])
    return "".join(rf"\text{{{' '.join(run)}}}" for run in _runs(words))


def _runs(words: list[str]) -> list[list[str]]:
    """Neighbouring words together, "and" and "or" separately."""
    runs: list[list[str]] = []
    for word in words:
        if runs and word.lower() not in _LINKS and runs[-1][-1].lower() not in _LINKS:
            runs[-1].append(word)
        else:
            runs.append([word.lower() if word.lower() in _LINKS else word])
    return runs


def _arguments(text: str) -> str:
    r"""Add braces around arguments of fractions, roots and powers: ``\frac12``, ``\sqrt5``, ``x^10``, ``sqrt(2)``."""
    one = r"\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]|\\[a-zA-Z]+))"
    text = re.sub(r"\\frac(?![a-zA-Z])\s*([0-9a-zA-Z]|\\pi)\s*(?=\{)", r"\\frac{\1}", text)
    text = re.sub(rf"\\frac(?![a-zA-Z])(?!\s*\{{){one}{one}", _fraction, text)
    text = re.sub(r"\\frac\s+(?=\{)", r"\\frac", text)
    text = re.sub(r"(\\frac\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})\s*([0-9a-zA-Z]|\\pi(?![a-zA-Z]))", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\[[^\[\]]*\])?\s*(\d+(?:\.\d+)?|[a-zA-Z]|\\pi(?![a-zA-Z]))", r"\\sqrt\1{\2}", text)
    text = re.sub(r"\\(overline|bar|dot)\s*(\d)", r"\\\1{\2}", text)
    text = re.sub(r"\\dot\{(\d)\}(\d*)\\dot\{(\d)\}", r"\\overline{\1\2\3}", text)
    text = re.sub(r"_\s*(\w)", r"_{\1}", text)
    text = re.sub(r"\\pmod\s*(\w)", r"\\pmod{\1}", text)
    text = re.sub(r"\^\s*(\\frac\{[^{}]*\}\{[^{}]*\})", r"^{\1}", text)
    text = re.sub(r"\^\s*([+-]?\d+(?:\.\d+)?|[a-zA-Z]|\\circ|\\pi|\*)", r"^{\1}", text)
    for command in (r"\\sqrt\s*(?:\[[^\[\]]*\])?", r"\^"):
        text = _bracketed(text, command)
    return re.sub(r"\{([^{}]*)\\choose([^{}]*)\}", r"\\binom{\1}{\2}", text)


def _fraction(found: re.Match[str]) -> str:
    upper, lower = found[1] or found[2], found[3] or found[4]
    return rf"\frac{{{upper}}}{{{lower}}}"


def _bracketed(text: str, command: str) -> str:
    """``text`` with braces in place of round brackets after ``command``."""
    for found in reversed(list(re.finditer(rf"{command}\s*\(", text))):
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += (text[end] == "(") - (text[end] == ")")
            end += 1
        if not depth:
            start = found.end() - 1
            text = f"{text[:start].rstrip()}{{{text[start + 1 : end - 1]}}}{text[end:]}"
    return text
