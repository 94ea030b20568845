"""The routes: one page, fragments of it, images, and the changes that the page's script asks for.
Starlette.

HTML is rendered here by the report's templates, with everything a pool says escaped; the script
puts it in place. Whatever a user can get wrong comes back as a sentence beside its field. Expects
`guard` in front.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from thresher.errors import ImageError, ThresherError
from thresher.text import parse_json
from thresher.viewer import render
from thresher.viewer.browse import SUSPECTS, Browser, Query
from thresher.viewer.cards import Thumbnails, items
from thresher.viewer.displayed import DisplayedSelection, SelectionParams
from thresher.viewer.export import export
from thresher.viewer.guard import Keys
from thresher.viewer.problems import Problem, problem_of
from thresher.viewer.session import Session
from thresher.viewer.suspects import suspects_by_row

STATIC = {
    "viewer.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "viewer.css": "text/css",
    "page.css": "text/css",
}
BUG = (
    "This is a bug in thresher or in the method, not in your data; the terminal has the details. "
    "The current selection is unchanged."
)
MOST_ROWS = 1000  # pinned or banned at once
LONGEST = 2000  # characters of a setting, a budget, a folder


class Json(JSONResponse):
    """JSON in ASCII: text that UTF-8 cannot hold, such as a lone surrogate, is escaped."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Viewer:
    """The routes of one session.

    Arguments:
        session: the opened selection.
        keys: sign the addresses of images.
    """

    def __init__(self, session: Session, keys: Keys) -> None:
        self.session, self.keys = session, keys
        self.browser, self.thumbnails = (
            Browser(session.pool, session.suspects),
            Thumbnails(session.pool),
        )
        self.drawn = (-1, "")  # number of the selection on display, its plots

    def routes(self) -> list[Route]:
        return [
            Route("/", self.shell),
            Route("/page", self.page),
            Route("/static/{name}", self.static),
            Route("/rows", self.rows),
            Route("/plots", self.plots),
            Route("/row/{row:int}", self.row),
            Route("/image/{row:int}/{number:int}", self.image),
            Route("/select", self._changing(self.select), methods=["POST"]),
            Route("/pin", self._changing(self.pin), methods=["POST"]),
            Route("/undo", self._changing(self.undo), methods=["POST"]),
            Route("/export", self._changing(self.export), methods=["POST"]),
        ]

    # -------------------------------------------------------------------------------------- reading

    def shell(self, request: Request) -> Response:
        """The page without anything of the pool: its script asks for the rest with the token."""
        return HTMLResponse(render.shell())

    def page(self, request: Request) -> Response:
        displayed = self.session.displayed
        self.session.suspects.renew()
        return Json({"ok": True, **render.page(self.session, displayed)})

    def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("No such file.\n", 404)
        package = "thresher" if name == "page.css" else "thresher.viewer"
        folder = "templates" if name == "page.css" else "static"
        data = resources.files(package).joinpath(folder, name).read_bytes()
        return Response(data, media_type=STATIC[name])

    def rows(self, request: Request) -> Response:
        """Cards of a page, and what may be filtered and ordered by now."""
        displayed, query = self.session.displayed, request.query_params
        try:
            asked = Query.of(query)
            found = self.browser.page(displayed, asked, more=query.get("more") == "1")
            known = self.session.suspects.get() if asked.suspects else None
            suspects = suspects_by_row(known, found.rows) if known else None
            html = render.rows(
                found,
                items(displayed, found.rows, self.keys.sign, suspects),
                query.get("view") == "table",
                bool(self.session.fixed),
                asked.show in SUSPECTS,
            )
        except ThresherError as error:  # the pool's file was changed under us
            return Json(
                {"ok": False, "problem": {"field": "rows", "text": str(error), "command": ""}}
            )
        return Json(
            {
                "ok": True,
                "number": displayed.number,
                "html": html,
                "count": render.count_text(found),
                "page": found.page,
                "complete": found.complete,
                "kinds": displayed.kinds,
                "sorts": displayed.sortable,
                **(render.suspects(displayed, known) if asked.suspects else {}),
            }
        )

    def plots(self, request: Request) -> Response:
        displayed = self.session.displayed
        try:
            if self.drawn[0] != displayed.number:
                self.drawn = (displayed.number, render.plots(displayed))
            return Json({"ok": True, "number": displayed.number, "html": self.drawn[1]})
        except ThresherError as error:
            return Json(
                {"ok": False, "problem": {"field": "plots", "text": str(error), "command": ""}}
            )

    def row(self, request: Request) -> Response:
        """A record as it is in the file, as text."""
        row = request.path_params["row"]
        try:
            if row >= len(self.session.pool):
                return PlainTextResponse("The pool has no such row.\n", 404)
            text = render.record(next(iter(self.session.pool.raw([row]))))
        except ThresherError as error:
            return Json(
                {"ok": False, "problem": {"field": "rows", "text": str(error), "command": ""}}
            )
        return Json({"ok": True, "title": f"Row {row:,}", "text": text})

    def image(self, request: Request) -> Response:
        try:
            data = self.thumbnails.get(request.path_params["row"], request.path_params["number"])
        except ThresherError as error:
            what = str(error) if isinstance(error, ImageError) else "the pool has changed"
            return PlainTextResponse(what + "\n", 404)
        return Response(data, media_type="image/jpeg")

    # -------------------------------------------------------------------------------------- changes

    def _changing(
        self, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route that takes JSON and answers JSON: {"ok": true, …} or {"ok": false, "problem":
        …}."""

        async def route(request: Request) -> Response:
            try:
                body = parse_json(await request.body())
            except ValueError:
                body = None
            if (
                not isinstance(body, dict)
                or request.headers.get("content-type") != "application/json"
            ):
                return PlainTextResponse("Expected a JSON object.\n", 400)
            try:
                return Json(await run_in_threadpool(change, body))
            except _BadRequest as error:
                return PlainTextResponse(f"{error}\n", 400)
            except MemoryError:
                return Json(
                    _failed(Problem("", "Not enough memory. The current selection is unchanged."))
                )
            # a bug, ours or a plug-in's: the page must go on, and the terminal shows where it is
            except Exception:
                logging.getLogger("uvicorn.error").exception("a change failed")
                return Json(_failed(Problem("", BUG)))

        return route

    def select(self, body: dict[str, Any]) -> dict[str, Any]:
        settings = body.get("settings", {})
        if not isinstance(settings, dict):
            raise _BadRequest("settings: expected an object")
        seed = _text(body, "seed").strip()
        params = SelectionParams(
            _text(body, "method"),
            {str(name): _text(settings, name) for name in settings},
            _text(body, "budget").strip(),
            int(seed) if seed.isdecimal() and len(seed) < 19 else -1,
        )
        another = params.method != self.session.displayed.params.method
        try:
            if params.seed < 0:
                return _failed(Problem("seed", "The seed must be a whole number, 0 or more."))
            displayed = self.session.select(params)
        except ThresherError as error:
            return _failed(problem_of(error, params, self.session))
        return self._done(displayed, form=another)

    def pin(self, body: dict[str, Any]) -> dict[str, Any]:
        rows, state = body.get("rows"), body.get("state")
        n = len(self.session.pool)
        good = (
            isinstance(rows, list)
            and 0 < len(rows) <= MOST_ROWS
            and state in ("pinned", "banned", "free")
        )
        if not good or any(type(r) is not int or not 0 <= r < n for r in rows or []):
            raise _BadRequest("expected rows of the pool, and a state: pinned, banned or free")
        try:
            return self._done(self.session.pin(np.array(rows, np.int64), str(state)))
        except ThresherError as error:
            return _failed(
                problem_of(error, self.session.displayed.params, self.session, field="rows")
            )

    def undo(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._done(self.session.undo())
        except ThresherError as error:
            return _failed(
                problem_of(error, self.session.displayed.params, self.session, field="rows")
            )

    def export(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            made = export(self.session, _text(body, "where"))
        except ThresherError as error:
            return _failed(
                problem_of(error, self.session.displayed.params, self.session, field="where")
            )
        return {
            "ok": True,
            "html": {"exported": render.exported(made)},
            "status": f"Written to {made.folder}.",
        }

    def _done(self, displayed: DisplayedSelection, form: bool = False) -> dict[str, Any]:
        return {
            "ok": True,
            "number": displayed.number,
            **render.changed(self.session, displayed, form),
        }


class _BadRequest(Exception):
    """What the page's own script never sends."""


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > LONGEST:
        raise _BadRequest(f"{name}: expected a text of at most {LONGEST} characters")
    return value


def _failed(problem: Problem) -> dict[str, Any]:
    return {
        "ok": False,
        "problem": {"field": problem.field, "text": problem.text, "command": problem.command},
    }


def application(session: Session, keys: Keys) -> Starlette:
    """The viewer of an opened selection; to be wrapped in a `Guard` with the same keys.

    Arguments:
        session: the opened selection.
        keys: sign the addresses of images.
    """
    return Starlette(routes=Viewer(session, keys).routes())
