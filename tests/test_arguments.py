"""Command lines of the commands other than eval: one grammar, ``key=value``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from cache_zoo import UsageError
from cache_zoo.arguments import grouped, named, positional, read


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        width: of the model. More about it.
        depth: layers 1, 2, ... n. More about it.
        shape: of a layer.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"shape": ("square", "round")}

    width: int = 8
    depth: int | None = None
    shape: str = "square"


@dataclass(frozen=True)
class Options:
    """Do something.

    Attributes:
        run: a folder.
        more: more folders.
        rate: a share.
        theme: colours.
        layers: names.
        quick: skip the rest.
        place: where.
        free: any key.
        sizes: of the model.
    """

    run: Path = positional()
    more: list[Path] = positional([])
    rate: float = 0.5
    theme: Literal["light", "dark"] = "light"
    layers: list[str] = field(default_factory=list)
    quick: bool = False
    place: str | None = named("a.place", None)
    free: dict[str, Any] = grouped("free.")
    sizes: dict[str, Any] = grouped("sizes.", Sizes)


def test_values_have_the_types_of_the_annotations() -> None:
    line = "x rate=2 y theme=dark quick=True layers=[a,b] a.place=b=c free.n=1 free.t=text sizes.depth=null z"
    found = read(Options, "program", line.split())
    assert found == Options(
        Path("x"),
        [Path("y"), Path("z")],
        2.0,
        "dark",
        ["a", "b"],
        True,
        "b=c",
        {"n": 1, "t": "text"},
        {"depth": None},
    )
    assert read(Options, "program", ["./a=b"]) == Options(Path("a=b"))
    assert read(Options, "program", ["x", "+sizes.width=3"]).sizes == {"width": 3}  # as eval spells a new key
    assert read(Options, "program", ["x", "rate=1", "rate=0.25", "layers=a,b"]) == Options(
        Path("x"), rate=0.25, layers=["a", "b"]
    )
    assert read(Options, "program", ["~/x"]).run == Path.home() / "x"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "RUN is missing; usage: program RUN [MORE ...] [key=value ...]"),
        ("x rate=much", "rate must be a number, not 'much'"),
        ("x theme=drak", "unknown theme 'drak': did you mean 'dark'?"),
        ("x quick=1", "quick must be true or false, not '1'"),
        ("x sizes.width=null", "sizes.width must be a whole number, not 'null'"),
        ("x sizes.depth=1.0", "sizes.depth must be a whole number or null, not '1.0'"),
        ("x sizes.widht=1", "unknown option 'sizes.widht': did you mean 'sizes.width'?"),
        ("x width=1", "unknown option 'width': did you mean 'sizes.width'?"),
        ("x place=1", "unknown option 'place': did you mean 'a.place'?"),
        ("x run=1", "unknown option 'run'"),
        ("x --rate 1", "'--rate' is not an option, options are written key=value: did you mean 'rate='?"),
        ("x --sizes-width=1", "'--sizes-width' is not an option, options are written key=value: did you mean"),
        ("x -q", "'-q' is not an option"),
        ("x ~nobody-of-this-name/x", "MORE can't be '~nobody-of-this-name/x'"),
    ],
)
def test_a_line_that_cannot_be_used_is_one_error(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(Options, "program", line.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_lists_every_key_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read(Options, "program", ["x", "bad=1", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: program RUN [MORE ...] [key=value ...]\n\nDo something.\n\n")
    for line in (
        "rate=X                    a share (default: 0.5)",
        "theme=light|dark ",
        "sizes.width=N             of the model (d",
        "sizes.depth=N             layers 1, 2, ... n\n",
        "sizes.shape=square|round  of a layer (d",
    ):
        assert f"  {line}" in out
