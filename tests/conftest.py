from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from evaluation.report.html import render_page
from evaluation.sandbox import Sandbox
from models import Transformer, load_model
from models.tiny import SMALLEST, make_tiny
from tests.layers import MISSING
from tests.page_frames import PUBLISHED, Opener, drawn, frame
from tests.small_runs import make_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tiny products are slower on several


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small real runs, to read only (see `tests.small_runs`)."""
    return make_runs(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A place to run programs in, with all layers that there are here."""
    with Sandbox(MISSING) as made:
        yield made


@pytest.fixture
def results(small_runs: Path, tmp_path: Path) -> Path:
    """A copy of the small runs that may be edited."""
    return Path(shutil.copytree(small_runs, tmp_path / "results"))


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint folder per family."""
    root = tmp_path_factory.mktemp("tiny")
    return {family: make_tiny(root / family, family, **sizes) for family, sizes in SMALLEST.items()}


@pytest.fixture(scope="session")
def tiny_models(tiny_folders: dict[str, Path]) -> dict[str, Transformer]:
    """A tiny model per family."""
    return {family: load_model(folder) for family, folder in tiny_folders.items()}


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Prompts of different lengths."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in (11, 5, 8)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium, headless, with a fresh profile; skips where there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from benchmarks.screenshots import BROWSERS, chromium

    if not any(map(shutil.which, BROWSERS)):
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """leaderboard.html of `tests.page_frames`, to read only."""
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(render_page(frame(), PUBLISHED), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file; at the end it must have asked for nothing but itself and said nothing on the console."""
    contexts, told = [], []

    def opener(path: Path, anchor: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        asked = path.as_uri()
        page.on("request", lambda request: request.url.partition("#")[0] == asked or told.append(request.url))
        page.goto(asked + anchor)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert told == []


@pytest.fixture
def opened(open_page: Opener) -> Opener:
    """Opens a page of the leaderboard and waits until it is drawn."""

    def opener(path: Path, anchor: str = "", **options: Any) -> Page:
        page = open_page(path, anchor, **options)
        drawn(page)
        return page

    return opener
