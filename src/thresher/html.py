"""What pages and notebook cells are made of: templates, and the plain values that they show.

A notebook cell is a piece of HTML with a style of its own and no script; colours come from the notebook, so that light and
dark both work. Values are data: the templates escape them. Touches nothing but this package's own templates.
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

# what HTML cannot hold, or shows as nothing: control characters but tab and newline, lone surrogates, noncharacters
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class Message:
    """`role` is what people call it. `cut`: characters in all, where `text` is not all of them; else 0."""

    role: str
    text: str
    cut: int = 0


@dataclass(frozen=True)
class Thumbnail:
    """`uri`: a JPEG data URI, or "" with `problem` saying why there is none."""

    name: str
    uri: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """One row. `state`: kept, dropped or failed; "row" where nothing was selected."""

    row: int
    id: str
    source: str
    state: str
    rank: int  # 1 = best; 0 = not kept
    kind: str  # of reason, to filter by
    reason: str
    scores: tuple[tuple[str, str], ...]
    messages: tuple[Message, ...]
    more_messages: int
    images: tuple[Thumbnail, ...]
    more_images: int
    other: str = ""  # what another selection says of the row


@dataclass(frozen=True)
class Share:
    """A source: its share of the pool's rows, then of the kept where there are any. `bars`: percent of the longest bar."""

    name: str
    bars: tuple[float, ...]
    said: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What is shown. `why_none`: why there are no rows, "" where there are."""

    title: str
    lead: str
    counts: tuple[tuple[str, str, str], ...]  # name, value, detail
    heads: tuple[str, ...] = ()
    sources: tuple[Share, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # the first row is its head
    notes: tuple[str, ...] = ()
    rows_lead: str = ""
    rows: tuple[Card, ...] = ()
    why_none: str = ""


@cache
def environment() -> Environment:
    """Templates of pages and notebook cells. Autoescape, always; undefined names are errors."""
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
    """The text of a template file that goes into the page as it is."""
    text = resources.files("thresher").joinpath("templates", name).read_text(encoding="utf-8")
    assert "</style" not in text and "</script" not in text, f"{name} would end its own element"
    return text


def printable(text: str) -> str:
    """Text that any page can hold; what it cannot hold becomes �."""
    return _UNPRINTABLE.sub("\ufffd", text)


def render_look(look: Callable[[], Look], what: object) -> str:
    """The cell's HTML. Never raises: what cannot be shown is said in words, with `repr(what)`."""
    try:
        style = Markup(asset("notebook.css"))
        return printable(environment().get_template("notebook.html.jinja").render(look=look(), style=style))
    except Exception as error:  # noqa: BLE001 - a cell that only shows something must not stop a notebook
        why = f"{type(error).__name__}: {error}"[:TEXT]
        return printable(str(Markup("<p>{}</p><p>It cannot be displayed: {}</p>").format(repr(what), why)))
