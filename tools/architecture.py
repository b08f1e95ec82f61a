"""Draw docs/architecture.svg, the rooms of the code and their imports: ``python -m tools.architecture``.

The picture is a function of the source files: the same code gives the same bytes.
"""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
ROOMS = (
    "cache_zoo",
    "models",
    "generation",
    "evaluation.sandbox",
    "evaluation.config",
    "evaluation.storage",
    "evaluation.tasks",
    "evaluation.run",
    "evaluation.report",
    "evaluation.trace",
    "evaluation.sweep",
    "evaluation",
    "eval",
)
"""From the bottom to the top: each may import those before it. ``evaluation`` alone is the commands' own files."""


def sources(room: str) -> list[Path]:
    """The Python files of a room, without those of the rooms inside it."""
    path = ROOT / room.replace(".", "/")
    if room == "eval":
        return [path.with_suffix(".py")]
    return sorted(path.glob("*.py")) if room == "evaluation" else sorted(path.rglob("*.py"))


@cache
def imported_modules(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
            modules.add(parent if node.level else str(node.module))
            modules |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "evaluation"}
    return modules


def room_of(module: str) -> str | None:
    """The innermost room that a module lies in; None if it is not ours."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default=None)


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    return {
        room: {other for path in sources(room) for other in map(room_of, imported_modules(path)) if other} - {room}
        for room in ROOMS
    }


def direct_imports() -> dict[str, set[str]]:
    """`imports` without those that follow from others: the arrows of the picture."""
    edges = imports()
    below: dict[str, set[str]] = {}
    for room in ROOMS:
        below[room] = edges[room].union(*(below.get(other, set()) for other in edges[room]))
    return {room: {one for one in edges[room] if not any(one in below[two] for two in edges[room])} for room in ROOMS}


_WIDTH, _LEFT, _RIGHT, _GAP = 920, 70, 40, 26
_ARROWHEAD = """<defs>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 L8 4 L0 8 z" style="fill: #0b3d91; stroke: none; marker-end: none"/></marker></defs>"""
_STYLE = """
  text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #57606a }
  .name { font-weight: bold; font-size: 15px; fill: #0b3d91 }
  .line { font-family: system-ui, sans-serif; fill: #1f2328 }
  rect { fill: #f6f8fa; stroke: #8c959f; rx: 6px }
  path { fill: none; stroke: #0b3d91; stroke-width: 1.5; marker-end: url(#head) }
"""


def draw() -> str:
    """The picture: a box per room, the top of the imports first, and an arrow per direct import."""
    boxes, top, bottom, height = [], {}, {}, 20
    for room in reversed(ROOMS):
        lines = [("line", text) for text in textwrap.wrap(_summary(room), 112)]
        lines += [("file", text) for text in textwrap.wrap(_files(room), 98)]
        top[room], bottom[room] = height, height + 34 + 18 * len(lines)
        boxes += _box(room, top[room], bottom[room], lines)
        height = bottom[room] + _GAP
    arrows = [
        _arrow(bottom[room], top[other], abs(ROOMS.index(room) - ROOMS.index(other)), number)
        for room, others in direct_imports().items()
        for number, other in enumerate(sorted(others, key=ROOMS.index, reverse=True))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}">',
            f"<title>Rooms and their imports</title><style>{_STYLE}</style>",
            _ARROWHEAD,
            f'<rect width="{_WIDTH}" height="{height}" style="fill: #fff; stroke: none"/>',
            *boxes,
            *arrows,
            "</svg>\n",
        ]
    )


def _summary(room: str) -> str:
    """First paragraph of the docstring of a room, or of the file that is one."""
    named = {"evaluation": "evaluation/__main__.py", "eval": "eval.py"}
    path = ROOT / named.get(room, f"{room.replace('.', '/')}/__init__.py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].replace("`", "").split())


def _files(room: str) -> str:
    """Names of the files of a room, and of the folders in it."""
    modules = {path.relative_to(ROOT / room.replace(".", "/")).parts for path in sources(room) if room != "eval"}
    files = {parts[0].removesuffix(".py") for parts in modules if len(parts) == 1} - {"__init__", "__main__"}
    return " · ".join([*sorted(files), *sorted({f"{parts[0]}/" for parts in modules if len(parts) > 1})])


def _box(room: str, top: int, bottom: int, lines: list[tuple[str, str]]) -> list[str]:
    name = {"eval": "eval.py", "evaluation": "evaluation: commands"}.get(room, room.replace(".", "/"))
    texts = [("name", name), *lines]
    return [
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - _RIGHT}" height="{bottom - top}"/>',
        *(
            f'<text class="{kind}" x="{_LEFT + 14}" y="{top + 24 + 18 * number}">{escape(text, quote=False)}</text>'
            for number, (kind, text) in enumerate(texts)
        ),
    ]


def _arrow(start: int, end: int, distance: int, number: int) -> str:
    if distance == 1:
        return f'<path d="M{_LEFT + 40} {start} V{end}"/>'
    x = _LEFT - 10 - 9 * min(distance, 5)  # around the boxes between, further out the more there are
    return f'<path d="M{_LEFT} {start - 12 - 6 * number} H{x} V{end + 14} H{_LEFT}"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
