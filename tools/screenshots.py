"""A picture of a page, or of a part of it: ``python -m tools.screenshots PAGE PICTURE``.

The page is opened in the machine's own Chromium, headless and without a network, and taken once its charts are drawn:

    python -m tools.screenshots results/reference/leaderboard.html docs/leaderboard-front.png select='#fronts'
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cache_zoo import UsageError
from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require

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


@dataclass(frozen=True)
class ScreenshotOptions:
    """Take a picture of a page.

    Attributes:
        page: an HTML file, with # and an anchor where needed.
        picture: file of the picture (.png).
        width, height: of the window.
        theme: colours of the page.
        select: the part to show, as a CSS selector (default: the window as it opens).
        click: parts to click first, in this order.
        hide: parts to leave out, as a CSS selector.
    """

    page: str = positional()
    picture: Path = positional()
    width: int = 1400
    height: int = 900
    theme: Literal["light", "dark"] = "light"
    select: str | None = None
    click: list[str] = field(default_factory=list)
    hide: str | None = None


def take(options: ScreenshotOptions) -> None:
    """Write the picture, a PNG.

    Raises:
        UsageError: the page is not there, or has no such part.
    """
    name, mark, anchor = options.page.partition("#")
    require(Path(name).is_file(), f"{name} is not a file")
    window: dict[str, Any] = {
        "viewport": {"width": options.width, "height": options.height},
        "color_scheme": options.theme,
    }
    with chromium() as browser, browser.new_page(**window, offline=True, reduced_motion="reduce") as opened:
        opened.goto(Path(name).resolve().as_uri() + mark + anchor)
        if options.hide is not None:
            opened.add_style_tag(content=f"{options.hide} {{ display: none !important }}")
        for part in (None, *options.click):
            if part is not None:
                require(opened.locator(part).count() > 0, f"{name} has no '{part}'")
                opened.locator(part).first.click()
            opened.wait_for_timeout(100)  # a change is answered in the next turn of the page
            opened.wait_for_function(_DRAWN)
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        if options.select is None:
            opened.screenshot(path=options.picture)
            return
        opened.evaluate("scrollTo({ top: 0, behavior: 'instant' })")  # what sticks to the top is at its own place
        box = opened.locator(options.select).first.bounding_box() if opened.locator(options.select).count() else None
        if box is None:
            raise UsageError(f"{name} has no visible '{options.select}'")
        opened.screenshot(path=options.picture, full_page=True, clip=box)


@refusing
def main() -> int:
    """Take the picture and return the exit status."""
    take(read(ScreenshotOptions, "python -m tools.screenshots"))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
