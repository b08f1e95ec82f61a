"""A picture of a page, or of a part of it: ``python -m benchmarks.screenshots PAGE PICTURE``.

The page is opened in the machine's own Chromium, headless and without a network, and taken once its charts are drawn:

    python -m benchmarks.screenshots results/reference/leaderboard.html docs/leaderboard-front.png --select '#fronts'
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cache_zoo import UsageError
from cache_zoo.arguments import Parser
from cache_zoo.errors import require

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync"""
_DRAWN = "() => document.readyState === 'complete' && !document.querySelector('[data-drawn=no]')"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The first of `BROWSERS` on the path, headless, with a fresh profile.

    Raises:
        UsageError: there is none, or playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UsageError("playwright is not installed: pip install playwright") from error
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    require(executable is not None, f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable, args=_QUIET.split())
        yield opened
        opened.close()


def take(
    page: str,
    picture: Path,
    *,
    width: int = 1400,
    height: int = 900,
    theme: str = "light",
    select: str | None = None,
    click: Sequence[str] = (),
    hide: str | None = None,
) -> None:
    """Write ``picture``, a PNG.

    Args:
        page: an HTML file, behind ``#`` an anchor in it.
        picture: where the picture goes.
        width, height: of the window.
        theme: ``light`` or ``dark``.
        select: the part to show, as a CSS selector; None: the window as it opens.
        click: parts that are clicked before, one after the other.
        hide: parts to leave out, as a CSS selector.

    Raises:
        UsageError: the page is not there, or has no such part.
    """
    name, mark, anchor = page.partition("#")
    require(Path(name).is_file(), f"{name} is not a file")
    window = {"viewport": {"width": width, "height": height}, "color_scheme": theme}
    with chromium() as browser, browser.new_page(**window, offline=True, reduced_motion="reduce") as opened:
        opened.goto(Path(name).resolve().as_uri() + mark + anchor)
        if hide is not None:
            opened.add_style_tag(content=f"{hide} {{ display: none !important }}")
        for part in (None, *click):
            if part is not None:
                require(opened.locator(part).count() > 0, f"{name} has no '{part}'")
                opened.locator(part).first.click()
            opened.wait_for_timeout(100)  # a change is answered in the next turn of the page
            opened.wait_for_function(_DRAWN)
        picture.parent.mkdir(parents=True, exist_ok=True)
        if select is None:
            opened.screenshot(path=picture)
            return
        opened.evaluate("scrollTo({ top: 0, behavior: 'instant' })")  # what sticks to the top is at its own place
        box = opened.locator(select).first.bounding_box() if opened.locator(select).count() else None
        if box is None:
            raise UsageError(f"{name} has no '{select}' that can be seen")
        opened.screenshot(path=picture, full_page=True, clip=box)


def main() -> int:
    """Take the picture that the command line asks for; 0 done, 2 something given can't be used."""
    parser = Parser(prog="python -m benchmarks.screenshots", description="A picture of a page.")
    parser.add_argument("page", help="an HTML file, behind # an anchor in it")
    parser.add_argument("picture", type=Path, help="where the picture goes (.png)")
    parser.add_argument("--width", type=int, default=1400, help="of the window (default: %(default)s)")
    parser.add_argument("--height", type=int, default=900, help="of the window (default: %(default)s)")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="(default: %(default)s)")
    parser.add_argument("--select", help="the part to show, as a CSS selector (default: the window as it opens)")
    parser.add_argument("--click", action="append", default=[], help="a part to click before; can be repeated")
    parser.add_argument("--hide", help="parts to leave out, as a CSS selector")
    try:
        take(**vars(parser.parse_args()))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
