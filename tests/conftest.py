from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from filelock import FileLock

from tests import processes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

    from evaluation.sandbox import Sandbox
    from models import Transformer
    from tests.page_frames import Opener

# Slow imports are in the fixtures: the process that hands tests to the others needs none of them.

NO_BROWSER = "no browser"


def pytest_configure(config: pytest.Config) -> None:
    """Start the fork server early where pytest-xdist runs several processes; elsewhere its first use starts it."""
    if getattr(config.option, "numprocesses", None):
        processes.start_server()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked ``sampled(n)``, one parameter in n stays in ``make test``: at least one, the same each time, and
    in no order that could leave out all of a kind."""
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            sampled.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for same in sampled.values():
        mark = same[0].get_closest_marker("sampled")
        assert mark is not None
        same.sort(key=lambda item: crc32(item.nodeid.encode()))
        for item in same[-(-len(same) // mark.args[0]) :]:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = sum(NO_BROWSER in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests of pages did not run: {NO_BROWSER} is installed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # tiny products are slower on several


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the processes of pytest-xdist share, made by the first that needs it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (done := folder.with_name(f"{name}.done")).exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small real runs, read-only (see `tests.small_runs`)."""
    from tests.small_runs import make_runs

    return made_once(tmp_path_factory, "small", make_runs) / "results"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with all layers that this machine has."""
    from evaluation.sandbox import Sandbox
    from tests.layers import MISSING

    with Sandbox(MISSING) as made:
        yield made


@pytest.fixture
def results(small_runs: Path, tmp_path: Path) -> Path:
    """A copy of the small runs, to edit."""
    return Path(shutil.copytree(small_runs, tmp_path / "results"))


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint folder per family."""
    from models.tiny import SMALLEST, make_tiny

    root = tmp_path_factory.mktemp("tiny")
    return {family: make_tiny(root / family, family, **sizes) for family, sizes in SMALLEST.items()}


@pytest.fixture(scope="session")
def tiny_models(tiny_folders: dict[str, Path]) -> dict[str, Transformer]:
    """A tiny model per family."""
    from models import load_model

    return {family: load_model(folder) for family, folder in tiny_folders.items()}


@pytest.fixture(scope="session")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Transformer]:
    """Models of one layer: keys and values depend on the token and its position alone."""
    from models import load_model
    from models.tiny import SMALLEST, make_tiny

    layers = {"llada": {"n_layers": 1}, "dream": {"num_hidden_layers": 1}}
    folder = tmp_path_factory.mktemp("shallow")
    sizes = {family: {**SMALLEST[family], **one} for family, one in layers.items()}
    return {family: load_model(make_tiny(folder / family, family, **given)) for family, given in sizes.items()}


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Prompts of different lengths."""
    import torch

    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in (11, 5, 8)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The installed Chromium, headless, with a fresh profile; skips where there is none."""
    pytest.importorskip("playwright.sync_api", reason=f"{NO_BROWSER}: playwright is not installed")
    from tools.screenshots import BROWSERS, chromium

    if not any(map(shutil.which, BROWSERS)):
        pytest.skip(f"{NO_BROWSER}: none of {', '.join(BROWSERS)} is on the path")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """leaderboard.html of `tests.page_frames`, read-only."""
    from evaluation.report.html import render_page
    from tests.page_frames import PUBLISHED, frame

    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(render_page(frame(), PUBLISHED), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file. At the end it must have requested only itself and logged nothing to the console."""
    contexts: list[BrowserContext] = []
    told: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        told.append(dialog.message)
        dialog.dismiss()

    def opener(path: Path, anchor: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", dismiss)
        asked = path.as_uri()
        page.on("request", lambda request: told.extend({request.url.partition("#")[0]} - {asked}))
        page.goto(asked + anchor)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert told == []


@pytest.fixture
def opened(open_page: Opener) -> Opener:
    """Open a page of the leaderboard and wait until it is drawn."""
    from tests.page_frames import drawn

    def opener(path: Path, anchor: str = "", **options: Any) -> Page:
        page = open_page(path, anchor, **options)
        drawn(page)
        return page

    return opener
