"""Everything that the page shows, as HTML: the report's templates and a few of the viewer's own.
Autoescape, always.

Pure, except for what a selection reads from the pool when asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader

from thresher import methods
from thresher._version import __version__
from thresher.console.formatting import format_percent, truncate
from thresher.errors import ThresherError
from thresher.html import environment as page_environment
from thresher.html import printable
from thresher.methods.settings import settings_of
from thresher.report.breakdown import media_counts, panels
from thresher.report.health import remarks
from thresher.report.method_section import method_section
from thresher.report.suspects_section import suspects_overview
from thresher.text import parse_json
from thresher.viewer.browse import PAGE, SHOW
from thresher.viewer.suspects import skills

if TYPE_CHECKING:
    from thresher.doctor.stored_suspects import StoredSuspects
    from thresher.viewer.browse import Page
    from thresher.viewer.cards import Item
    from thresher.viewer.displayed import DisplayedSelection, SelectionParams
    from thresher.viewer.export import Exported
    from thresher.viewer.session import Session

FILTER_LABELS = {
    "all": "all rows",
    "kept": "kept",
    "dropped": "not kept",
    "suspected": "likely wrong",
    "suspected kept": "likely wrong and kept",
    "pinned": "pinned",
    "banned": "banned",
    "failed": "not usable",
    "left out": "left out",
}
MOST_TEXT = 100_000  # characters of a whole record
MOST_SOURCES = 500  # in the list of sources to filter by


@dataclass(frozen=True)
class Field:
    """A setting as a form field. `kind`: choice, whole, number or text. `choices`: of a choice."""

    name: str
    value: str
    kind: str
    choices: tuple[str, ...]
    help: str
    default: str


@cache
def environment() -> Environment:
    """The viewer's templates, with the report's beside them."""
    env = page_environment().overlay(
        loader=ChoiceLoader([PackageLoader("thresher.viewer"), PackageLoader("thresher")])
    )
    return env


def _render(template: str, **values: Any) -> str:
    return printable(environment().get_template(template).render(values))


# ----------------------------------------------------------------------------------------- the page


def shell() -> str:
    """What is served to anyone: a frame that holds nothing of the pool."""
    return _render("shell.html.jinja")


def page(session: Session, displayed: DisplayedSelection) -> dict[str, Any]:
    """Everything inside the frame, and what the script needs to know.

    Arguments:
        session: the opened selection.
        displayed: the selection on the page.
    """
    title = f"{session.folder.name}: {len(session.pool):,} rows"
    return {
        "title": printable(f"{title} · thresher view"),
        "rows": len(session.pool),
        "kept": displayed.kept,
        "html": _body(session, displayed, title),
    }


def _body(session: Session, displayed: DisplayedSelection, title: str) -> str:
    names = session.pool.source_names
    sizes = np.bincount(session.pool.source, minlength=len(names))
    largest = np.lexsort((np.arange(len(names)), -sizes))[:MOST_SOURCES].tolist()
    sources = [
        (names[i], truncate(names[i]) or "(none)")
        for i in sorted(largest, key=lambda i: names[i])
        if sizes[i]
    ]
    return _render(
        "view.html.jinja",
        title=title,
        version=__version__,
        session=session,
        displayed=displayed,
        n=len(session.pool),
        pool_name=str(session.run["config"].get("pool", session.run["pool"]["path"])),
        model=session.run["model"]["name"] if session.run.get("model") else "",
        methods=[(name, _summary(name)) for name in _methods(session)],
        fields=fields(displayed.params),
        sources=sources,
        show=[(value, FILTER_LABELS[value]) for value in SHOW],
        new_name=_new_name(session, displayed.params),
        also=_also(session),
        page_size=PAGE,
        **_parts(session, displayed),
    )


def changed(session: Session, displayed: DisplayedSelection, form: bool) -> dict[str, Any]:
    """What the script must put in place after a change.

    Arguments:
        session: the opened selection.
        displayed: the selection on the page from now on.
        form: with the settings' fields, because they are another method's.
    """
    html = {name: str(text) for name, text in _parts(session, displayed).items()}
    if form:
        html["settings"] = _render("settings.html.jinja", fields=fields(displayed.params))
    k, n = displayed.kept, len(session.pool)
    return {
        "html": html,
        "status": (
            f"{k:,} of {n:,} rows kept ({format_percent(k, n)}), chosen in "
            f"{_seconds(displayed.seconds)}."
        ),
        "kept": k,
        "ask": {
            "method": displayed.params.method,
            "budget": displayed.params.budget,
            "seed": str(displayed.params.seed),
            "settings": {f.name: f.value for f in fields(displayed.params)},
        },
        "new_name": _new_name(session, displayed.params),
    }


def _parts(session: Session, displayed: DisplayedSelection) -> dict[str, Any]:
    """The pieces of the page that follow every change, by the id of their place."""
    from markupsafe import Markup

    values = {
        "tiles": _tiles(session, displayed),
        "notes": displayed.notes,
        "pinned": int(displayed.keep.sum()),
        "banned": int(displayed.drop.sum()),
        "undoable": len(session.undoable),
        "folder": session.pins.folder,
        "command": session.command_or_nothing(displayed.params),
        "fixed": session.fixed,
    }
    names = ("counts", "notes", "pins", "command")
    return {
        name: Markup(_render("parts_of_view.html.jinja", part=name, **values)) for name in names
    }


def _tiles(session: Session, displayed: DisplayedSelection) -> list[tuple[str, str, str]]:
    """(name, value, detail)."""
    facts, kept = session.pool.facts, displayed.state == 2
    k, n = displayed.kept, len(session.pool)
    words, all_words = int(facts["answer_words"][kept].sum()), int(facts["answer_words"].sum())
    more, fewer = int((kept & ~session.saved).sum()), int((session.saved & ~kept).sum())
    against = f"+{more:,} −{fewer:,}" if more or fewer else "the same"
    out = [
        ("Rows kept", format_percent(k, n), f"{k:,} of {n:,}"),
        ("Answer words", format_percent(words, all_words), f"{words:,} of {all_words:,}"),
        *media_counts(facts, kept),
        ("Against saved", against, f"rows of {session.folder.name}"),
    ]
    return [t for t in out if t[1] != "-"]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _new_name(session: Session, params: SelectionParams) -> str:
    return session.new_name(params).name


def _also(session: Session) -> list[str]:
    """What of the run stays in force whatever is changed here, as it would be typed."""
    mixture = session.request.mixture
    return [
        f"--{name} {value}"
        for name in ("quota", "filter", "dedup", "unscorable")
        for value in (
            [mixture[name]] if isinstance(mixture.get(name), str) else mixture.get(name, [])
        )
    ]


def _methods(session: Session) -> list[str]:
    names = list(methods.available())
    current = session.displayed.params.method
    return names if current in names else [current, *names]


def _summary(name: str) -> str:
    try:
        return str(methods.method_class(name).summary)
    except (ThresherError, ImportError, AttributeError):
        return ""  # the selection's method is not installed here, or a plug-in is broken


def fields(params: SelectionParams) -> list[Field]:
    """The settings of the method as form fields, with the values that are asked for."""
    if params.method not in methods.available():
        return []
    out = []
    for s in settings_of(methods.method_class(params.method)):
        value = params.settings.get(s.name, s.default)
        plain = {"a whole number": "whole", "a number": "number", "text": "text"}
        if s.type == "true or false":
            out.append(Field(s.name, value.lower(), "choice", ("true", "false"), s.help, s.default))
        elif s.type in plain:
            out.append(Field(s.name, value, plain[s.type], (), s.help, s.default))
        elif s.type.removesuffix(" | none") in plain:
            out.append(Field(s.name, value, "text", (), s.help, s.default))
        else:
            out.append(
                Field(s.name, value, "choice", tuple(s.type.split(" | ")), s.help, s.default)
            )
    return out


# ---------------------------------------------------------------------------------------- fragments


def rows(found: Page, items: list[Item], table: bool, fixed: bool, suspects: bool = False) -> str:
    """Cards or a table, and the pager.

    Arguments:
        found: the page, for the pager.
        items: its rows.
        table: a table instead of cards.
        fixed: rows cannot be pinned or banned: these buttons are disabled.
        suspects: with a button that bans all rows of the page, and in a table with what is known
            of their answers.
    """
    free = [item.card.row for item in items if not item.mark] if suspects else []
    return _render(
        "rows.html.jinja",
        found=found,
        items=items,
        table=table,
        fixed=fixed,
        suspects=suspects,
        free=free,
        page_size=PAGE,
    )


def suspects(displayed: DisplayedSelection, found: StoredSuspects | None) -> dict[str, Any]:
    """What the rows' filters need, and what the suspicions are worth.

    Arguments:
        displayed: the selection on the page.
        found: its suspects; None if they are not known.
    """
    content = suspects_overview(displayed.made, found)
    html = _render("suspects_overview.html.jinja", s=content)
    return {"skills": skills(found) if found else [], "suspects": html}


def count_text(found: Page) -> str:
    """How many rows fit, as text."""
    if found.complete:
        return f"{found.fit:,} row{'' if found.fit == 1 else 's'}"
    return f"{found.fit:,} so far: searched {found.looked:,} of {found.of:,} rows"


def plots(displayed: DisplayedSelection) -> str:
    """Warnings, pool against subset, and the section on the method."""
    made = displayed.made
    every = panels(made)
    varied = [p for p in every if len(p.parts) > 1]
    return _render(
        "plots.html.jinja",
        made=made,
        remarks=remarks(made),
        panels=varied,
        top=max((p.top for p in varied), default=100.0) or 1.0,
        plain=[f"{p.title.lower()}: {p.parts[0].label}" for p in every if len(p.parts) == 1],
        section=method_section(made),
    )


def record(raw: bytes) -> str:
    """A record as people read it: JSON with line breaks where it is JSON; cut where it is very
    long."""
    text = raw.decode("utf-8", "replace")
    try:
        text = json.dumps(parse_json(text), indent=2, ensure_ascii=False)
    except ValueError:
        pass  # damaged: unchanged
    more = f"\n… truncated; {len(text):,} characters in total" if len(text) > MOST_TEXT else ""
    return printable(text[:MOST_TEXT] + more)


def exported(made: Exported) -> str:
    """Where it was written, and the command that writes the same."""
    return _render("exported.html.jinja", made=made)
