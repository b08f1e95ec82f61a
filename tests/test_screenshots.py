"""Pictures of pages for the documents."""

from __future__ import annotations

import struct
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools import screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = """<!DOCTYPE html><style>:root { color-scheme: light dark } body { margin: 0 }
#part { width: 300px; height: 1500px } #gone { display: none }</style>
<button onclick="document.body.dataset.drawn = 'no'; setTimeout(() => { document.querySelector('#part').style.width =
'200px'; document.body.dataset.drawn = 'yes' }, 300)">draw</button><div id="part"></div><div id="gone"></div>"""


@pytest.fixture
def shared(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser of all tests takes the pictures; skips where there is none."""
    monkeypatch.setattr(screenshots, "chromium", lambda: nullcontext(browser))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    return path


def size(picture: Path) -> tuple[int, int]:
    """Of a PNG, as its header says."""
    return struct.unpack(">II", picture.read_bytes()[16:24])


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["screenshots", *map(str, arguments)])
    return screenshots.main()


@pytest.mark.usefixtures("shared")
def test_a_picture_shows_the_window_or_a_part_once_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch, page: Path, tmp_path: Path
) -> None:
    window, part, drawn, dark, hidden = (tmp_path / "made" / f"{name}.png" for name in "abcde")
    assert call(monkeypatch, page, window, "width=500", "height=400") == 0
    assert size(window) == (500, 400)
    assert call(monkeypatch, page, part, "select=#part", "height=400") == 0
    assert size(part) == (300, 1500)
    assert call(monkeypatch, f"{page}#part", drawn, "select=#part", "click=button") == 0
    assert size(drawn) == (200, 1500)
    assert call(monkeypatch, page, dark, "width=500", "height=400", "theme=dark") == 0
    assert dark.read_bytes() != window.read_bytes()
    assert call(monkeypatch, page, hidden, "width=500", "height=400", "hide=button, p") == 0
    assert hidden.read_bytes() != window.read_bytes()


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select=#nosuch"], "page.html has no visible '#nosuch'"),
        (["select=#gone"], "page.html has no visible '#gone'"),
        (["click=#nosuch"], "page.html has no '#nosuch'"),
    ],
)
def test_what_is_not_there_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: Path,
    arguments: list[str],
    message: str,
) -> None:
    picture = page.with_name("none.png")
    assert call(monkeypatch, page, picture, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not picture.exists()


def test_a_page_that_is_not_there_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, tmp_path / "no.html", tmp_path / "a.png") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'no.html'} is not a file\n"
