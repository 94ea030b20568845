"""Building blocks of HTML pages and notebook cells: templates and the plain values that they
render.

A notebook cell is a piece of HTML with its own style and no script; colours come from the notebook,
so that light and dark themes work. Templates escape all values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEXT = 300  # characters of a note

# not allowed or invisible in HTML: control characters except tab and newline, surrogates, nonchars
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class Message:
    """A message of a conversation. `cut`: total number of characters if `text` is truncated, else
    0.
    """

    role: str
    text: str
    cut: int = 0


@dataclass(frozen=True)
class Thumbnail:
    """An image. `uri`: JPEG data URI, or "" with the reason in `problem`."""

    name: str
    uri: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """One row. `state`: kept, dropped or failed; "row" if nothing was selected."""

    row: int
    id: str
    source: str
    state: str
    rank: int  # 1 = best; 0 = not kept
    kind: str  # kind of reason, to filter by
    reason: str
    scores: tuple[tuple[str, str], ...]
    messages: tuple[Message, ...]
    more_messages: int
    images: tuple[Thumbnail, ...]
    more_images: int
    other: str = ""  # the row's state in another selection


@dataclass(frozen=True)
class Share:
    """A source's share of the pool's rows and, if any, of the kept rows.

    `bars`: lengths in percent of the longest bar. `labels`: the shares as text.
    """

    name: str
    bars: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class NotebookView:
    """Contents of a notebook cell. `empty_reason`: why there are no rows, "" if there are."""

    title: str
    lead: str
    counts: tuple[tuple[str, str, str], ...]  # name, value, detail
    heads: tuple[str, ...] = ()
    sources: tuple[Share, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # the first row is its head
    notes: tuple[str, ...] = ()
    rows_lead: str = ""
    rows: tuple[Card, ...] = ()
    empty_reason: str = ""


@cache
def environment() -> Environment:
    """Jinja environment of pages and cells: autoescape always on, undefined names are errors."""
    env = Environment(
        loader=PackageLoader("thresher", "templates"),
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
    """A template file's text, inserted into pages verbatim."""
    text = resources.files("thresher").joinpath("templates", name).read_text(encoding="utf-8")
    assert "</style" not in text and "</script" not in text, f"{name} would end its own element"
    return text


def printable(text: str) -> str:
    """Text that any page can contain; other characters are replaced by �."""
    return _UNPRINTABLE.sub("\ufffd", text)


def render_notebook_view(view: Callable[[], NotebookView], what: object) -> str:
    """Render a notebook cell as HTML. Never raises: errors are shown as text with `repr(what)`.

    Arguments:
        view: returns what is displayed; may raise.
        what: the object, for the message if `view` raises.
    """
    try:
        style = Markup(asset("notebook.css"))
        return printable(
            environment().get_template("notebook.html.jinja").render(view=view(), style=style)
        )
    except Exception as error:  # noqa: BLE001 - displaying a value must not stop a notebook
        reason = f"{type(error).__name__}: {error}"[:TEXT]
        return printable(
            str(Markup("<p>{}</p><p>It cannot be displayed: {}</p>").format(repr(what), reason))
        )
