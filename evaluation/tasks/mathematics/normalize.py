r"""One spelling for mathematics as models and people write it: `normalize`.

Typographic characters become LaTeX, Markdown and delimiters disappear, synonyms become one command, and words go into
``\text{}``, neighbours together. The meaning of an answer plays no role here.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from evaluation.tasks.mathematics import units


def _table(text: str, separator: str) -> dict[str, str]:
    """Replacements from entries ``keys=>replacement``, in which ``~`` is a space."""
    pairs = [entry.partition("=>") for entry in text.split()]
    return {
        key: new.replace("~", " ") for keys, _, new in pairs for key in (keys.split(separator) if separator else keys)
    }


_CHARACTERS = _table(
    r"""
    −–—‐‑‒―﹣－=>-  ×✕✖⨯=>\times~  ·⋅∙•=>\cdot~  ≤⩽≦=>\le~  ≥⩾≧=>\ge~  °º˚=>^{\circ}  “”„«»=>"  ‘’=>'  ⟨〈=>(  ⟩〉=>)
    ∣｜=>|  ∕⁄=>/  ÷=>\div~  ±=>\pm~  ∓=>\mp~  √=>\sqrt~  ∛=>\sqrt[3]  ∜=>\sqrt[4]  ∗=>*  ∞=>\infty~  ∪=>\cup~
    ∩=>\cap~  ∅=>\emptyset~  ⇒=>\implies~  ∴=>\therefore~  ∎=>  ∈=>\in~  ∖=>\setminus~  ≠=>\ne~  ≈≅=>\approx~  →=>\to~
    ∠=>\angle~  △=>\triangle~  ⌊=>\lfloor~  ⌋=>\rfloor~  ⌈=>\lceil~  ⌉=>\rceil~  ϕ=>\phi~  ϵ=>\epsilon~  ℝ=>\mathbb{R}
    ℂ=>\mathbb{C}  ℤ=>\mathbb{Z}  ℚ=>\mathbb{Q}  ℕ=>\mathbb{N}  ∧=>\text{and}  ∨=>\text{or}  …⋯=>...
    ℃=>^{\circ}\text{C}  ∶=>:  、=>,  。=>.
    """,
    "",
)
GREEK = frozenset(
    """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
    """.split()
)
"""LaTeX names of the letters."""
_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp max gcd lcm".split())
_FOREIGN_FUNCTIONS = _table("cosec=>csc  tg=>tan  ctg=>cot  arctg,atan=>arctan  asin=>arcsin  acos=>arccos", ",")
_SYNONYMS = _table(
    r"""
    dfrac,tfrac,cfrac,nicefrac,sfrac=>\frac  dbinom,tbinom=>\binom  leq,leqslant,leqq=>\le~  geq,geqslant,geqq=>\ge~
    neq,not==>\ne~  lt=><  gt=>>  lbrace=>\{  rbrace=>\}  lbrack=>[  rbrack=>]  ast=>*  colon=>:  langle=>(  rangle=>)
    lvert,rvert,vert=>|  varnothing,O=>\emptyset~  varepsilon=>\epsilon~  varphi=>\phi~  vartheta=>\theta~
    infin,infinity=>\infty~  dots,ldots,cdots=>...  land,wedge=>\text{and}  lor,vee=>\text{or}
    degree,degrees=>^{\circ}  backslash=>\setminus~  imath=>i  sim,simeq=>\approx~  rightarrow=>\to~  R=>\mathbb{R}
    bigcup=>\cup~  doteq=>=  bmod=>\mod~  lg=>\log_{10}~  lVert,rVert,Vert=>\|
    checkmark,blacksquare,square,qed,Box,nonumber,notag,quad,qquad,hfill,newline,par=>~  centering,boldmath=>~
    tiny,small,normalsize,large,Large,LARGE,huge,Huge,tt,sf,left,right=>
    displaystyle,textstyle,limits,nolimits,mathstrut,strut,big,Big,bigg,Bigg,bigl,bigr=>  Bigl,Bigr,middle,rm,bf,it=>
    """,
    ",",
)
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
    text = _COMMAND.sub(lambda match: _SYNONYMS.get(match[1], match[0]), text)
    for _ in range(3):  # \textbf{\text{...}}
        text = _UPRIGHT.sub(lambda match: _words(match[1]), text)
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
            for char in run:
                upper, _, lower = unicodedata.normalize("NFKC", char).partition("⁄")
                found.append(rf"\frac{{{upper}}}{{{lower or 1}}}")
        else:
            found.extend(_character(char) for char in run)
    return "".join(found)


def _small(match: re.Match[str]) -> str:
    return rf"\frac{{{unicodedata.normalize('NFKC', match[1])}}}{{{unicodedata.normalize('NFKC', match[2])}}}"


def _kind(char: str) -> str:
    if char < "\x80" or char in _CHARACTERS:
        return ""
    mapping = unicodedata.decomposition(char)
    kinds = {"<super>": "^", "<sub>": "_", "<fraction>": "frac"}
    return kinds.get(mapping.partition(" ")[0], "")


def _character(char: str) -> str:
    if char in _CHARACTERS:
        return _CHARACTERS[char]
    if " " <= char < "\x7f":
        return char
    if char.isspace():
        return "\n" if char == "\n" else " "
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return ""
    char = unicodedata.normalize("NFKC", char)
    if len(char) > 1 or char < "\x7f":
        return "".join(_character(part) for part in char) if len(char) <= 4 else char
    if char in _CHARACTERS:
        return _CHARACTERS[char]
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    size, _, name = unicodedata.name(char, "").removeprefix("GREEK ").partition(" LETTER ")
    name = {"lamda": "lambda"}.get(name.lower(), name.lower())
    if name in GREEK and size in ("SMALL", "CAPITAL"):
        return rf"\{name if size == 'SMALL' else name.capitalize()} "
    return "" if unicodedata.category(char) == "So" else char  # a check mark, a face


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
    return "".join(_upright(match) for match in _WORD.finditer(content))


def _upright(match: re.Match[str]) -> str:
    command, noon, word, other = match.groups()
    if command:
        return f"{command} "
    if noon:
        return rf"\text{{{noon[0]}m}}"
    if other is not None:
        return str(other)
    if len(word) == 1 and word not in units.LETTERS:
        return f" {word} "
    return _as_mathematics(word) or rf"\text{{{word}}}"


def _plain(match: re.Match[str]) -> str:
    """A word in plain text: mathematics if it is short or follows a number, else words."""
    command, word = match.groups()
    if command is not None:
        return str(command)
    if re.fullmatch(r"[ap]\.\s?m\b\.?", word):
        return rf"\text{{{word[0]}m}}"
    before = match.string[max(0, match.start() - 1) : match.start()]
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


def _per(match: re.Match[str]) -> str:
    upper = match[1] if match[1] != "m" else r"\text{m}"
    return rf"{upper}/\text{{{match[2]}}}"


def _joined(match: re.Match[str]) -> str:
    words = re.findall(r"\\text\{([^{}]*)\}", match[0])
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
    argument = r"\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]|\\[a-zA-Z]+))"
    text = re.sub(r"\\frac(?![a-zA-Z])\s*([0-9a-zA-Z]|\\pi)\s*(?=\{)", r"\\frac{\1}", text)
    text = re.sub(rf"\\frac(?![a-zA-Z])(?!\s*\{{){argument}{argument}", _fraction, text)
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


def _fraction(match: re.Match[str]) -> str:
    upper, lower = match[1] or match[2], match[3] or match[4]
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
