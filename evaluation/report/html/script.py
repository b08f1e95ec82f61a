"""The scripts of the leaderboard's page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cache_zoo import UsageError
from evaluation.report.html.self_contained import TEMPLATES, inlined, joined

_PARTS = ("dom", "state", "theme", "front", "charts", "fronts", "curves", "table", "filters", "pages", "main")


@dataclass(frozen=True)
class Library:
    """Vega, Vega-Lite and Vega-Embed as one script, with their versions."""

    script: str
    versions: str


@cache  # it takes a second
def vega() -> Library:
    """The plotting library, from vl-convert-python; nothing is downloaded.

    Raises:
        UsageError: vl-convert-python is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError("leaderboard.html needs vl-convert-python: pip install vl-convert-python") from error
    lite = vl_convert.get_vegalite_versions()[-1]
    versions = f"Vega {vl_convert.get_vega_version()}, Vega-Lite {lite}"
    versions += f", Vega-Embed {vl_convert.get_vega_embed_version()}"
    return Library(inlined(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", lite)), versions)


def page_script() -> str:
    """The page's own script."""
    return joined(*(TEMPLATES / "script" / f"{part}.js" for part in _PARTS))
