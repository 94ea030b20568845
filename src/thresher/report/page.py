"""Renders a template to a self-contained HTML page with inline style and script, whose hashes are
in the Content-Security-Policy.

Jinja2 with autoescape; undefined names are errors.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thresher._version import __version__
from thresher.html import asset, environment, printable
from thresher.storage.atomic import write_bytes
from thresher.storage.lock import folder_lock


def render(template: str, values: dict[str, Any]) -> str:
    """Render a page.

    Arguments:
        template: file name of the template.
        values: its variables.
    """
    style, script = asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src "
        f"'{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    frame = {
        "style": Markup(style),
        "script": Markup(script),
        "policy": policy,
        "version": __version__,
    }
    return printable(environment().get_template(template).render({**frame, **values}))


def write_page(path: Path, text: str) -> Path:
    """Write a page atomically; returns its path. Raises StoreError.

    Arguments:
        path: of the file; missing folders are created.
        text: the whole page.
    """
    with folder_lock(path.parent, "writes there"):
        write_bytes(path, text.encode(), advice="")
    return path


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
