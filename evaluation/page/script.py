"""The scripts of the page, and the policy under which a browser runs these and nothing else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cache_zoo import UsageError

_SCRIPTS = Path(__file__).parent / "template" / "script"
_PARTS = ("state", "theme", "front", "charts", "fronts", "curves", "table", "filters", "pages", "main")


@dataclass(frozen=True)
class Library:
    """Vega, Vega-Lite and Vega-Embed as one script, and their versions in words."""

    script: str
    versions: str


def vega() -> Library:
    """The plotting library, which comes with vl-convert-python; nothing is fetched.

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
    return Library(_inlined(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", lite)), versions)


def page_script() -> str:
    """The page's own script, its parts in the order in which they use each other."""
    return _inlined("\n".join((_SCRIPTS / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS))


def policy(*scripts: str) -> str:
    """A content security policy: no network, no script but ``scripts``."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; form-action 'none'"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _inlined(script: str) -> str:
    """``script`` with nothing in it that would end its element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
