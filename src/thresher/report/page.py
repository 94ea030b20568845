"""Templates to one self-contained page: style and script inline, known to its Content-Security-Policy by their hashes.

Jinja2 with autoescape, always; undefined names are errors. Reads the package's own templates and writes the one file.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thresher._version import __version__
from thresher.storage.atomic import write_bytes
from thresher.storage.lock import folder_lock

# what HTML cannot hold, or shows as nothing: control characters but tab and newline, lone surrogates, noncharacters
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@cache
def environment() -> Environment:
    """The templates of this package."""
    env = Environment(
        loader=PackageLoader("thresher.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["count"] = lambda n: f"{n:,}"
    env.filters["percent"] = lambda x: f"{x:.1f}%"
    return env


@cache
def asset(name: str) -> str:
    """The text of a template file that goes into the page as it is."""
    text = resources.files("thresher.report").joinpath("templates", name).read_text(encoding="utf-8")
    assert "</style" not in text and "</script" not in text, f"{name} would end its own element"
    return text


def render(template: str, values: dict[str, Any]) -> str:
    """The whole page."""
    style, script = asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    frame = {
        "style": Markup(style),
        "script": Markup(script),
        "policy": policy,
        "version": __version__,
    }
    return printable(environment().get_template(template).render({**frame, **values}))


def printable(text: str) -> str:
    """Text that any page can hold; what it cannot hold becomes �."""
    return _UNPRINTABLE.sub("\ufffd", text)


def publish(path: Path, text: str) -> Path:
    """Write `text` to `path`, whole or not at all. Raises StoreError."""
    with folder_lock(path.parent, "writes there"):
        write_bytes(path, text.encode(), advice="")
    return path


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
