"""Shared by all pages: templates, embedded data and scripts, and the policy that keeps them offline."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "template"
"""Folder of ``theme.css``, and of the scripts that all pages share: ``dom.js``, ``theme.js``."""


def environment(*folders: Path) -> Environment:
    """Templates of ``folders``, then the shared ones; values are escaped."""
    return Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(data: Any) -> Markup:
    """``data`` as JSON that can't close its element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def joined(*scripts: Path) -> str:
    """Several scripts as one, in order of use."""
    return inlined("\n".join(script.read_text(encoding="utf-8") for script in scripts))


def inlined(script: str) -> str:
    """``script`` without anything that would close its element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def policy(*scripts: str) -> str:
    """Content security policy: no network, no script but ``scripts``."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; form-action 'none'"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
