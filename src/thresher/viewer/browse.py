"""Filters, sorts and searches the rows of the pool, page by page. Reads texts of the pool.

Filters on arrays apply to the whole pool at once. Words and reasons are looked up row by row, for a
limited time: a page then gives the number of rows searched, and the next request continues there.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.html import printable
from thresher.viewer import suspects
from thresher.viewer.displayed import DROPPED, FAILED, KEPT, LEFT_OUT, DisplayedSelection
from thresher.viewer.suspects import SORT, SuspectSource

if TYPE_CHECKING:
    from thresher.pools import Pool

PAGE = 24
SECONDS = 0.7  # that one request may look through texts
CHUNK = 128  # rows looked through between looks at the clock
SCANS = 8  # searches whose state is kept
LONGEST = 200  # characters of a search
SUSPECTS = ("suspected", "suspected kept")
SHOW = ("all", "kept", "dropped", *SUSPECTS, "pinned", "banned", "failed", "left out")


@dataclass(frozen=True)
class Query:
    """`kind`: of reason. `words`: all must occur, in any case. `page`: from 0. `skill`: number of
    one, where suspects are shown."""

    show: str = "all"
    source: str = ""
    kind: str = ""
    words: str = ""
    sort: str = ""
    page: int = 0
    skill: str = ""

    @property
    def suspects(self) -> bool:
        """Whether it takes what is known of likely wrong rows."""
        return self.show in SUSPECTS or self.sort == SORT

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """From the parameters of a request; invalid ones count as absent."""
        show, page = parameters.get("show", "all"), parameters.get("page", "0")
        return cls(
            show if show in SHOW else "all",
            parameters.get("source", ""),
            parameters.get("kind", ""),
            " ".join(parameters.get("words", "")[:LONGEST].split()),
            parameters.get("sort", ""),
            int(page) if page.isdecimal() and len(page) < 9 else 0,
            parameters.get("skill", "")[:9],
        )


@dataclass(frozen=True)
class Page:
    """`rows`: int64, pool rows. `fit`: how many fit in all, as far as is known; `looked` of `of`
    rows were looked at."""

    rows: np.ndarray
    page: int
    fit: int
    looked: int
    of: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether `fit` is all."""
        return self.looked >= self.of

    @property
    def pages(self) -> int:
        """At least; exact where complete."""
        return max(-(-self.fit // PAGE), 1)


@dataclass
class Scan:
    """A search through `rows` that has reached index `at`."""

    rows: np.ndarray
    at: int = 0
    found: list[int] = field(default_factory=list)


class Browser:
    """Finds pages. Remembers how far each of the latest searches got.

    Arguments:
        pool: whose rows are listed.
        suspects: its rows that are likely wrong.
    """

    def __init__(self, pool: Pool, suspects: SuspectSource) -> None:
        self.pool, self._suspects = pool, suspects
        # as the page holds them
        self._sources = {printable(name): i for i, name in enumerate(pool.source_names)}
        self._scans: OrderedDict[tuple[int, Query], Scan] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting = 0  # requests for a page: the running search ends early for them
        self._count = threading.Lock()
        self._plain = np.array([p.container in ("json", "jsonl") for p in pool.pool_files], bool)

    def page(self, displayed: DisplayedSelection, query: Query, more: bool = False) -> Page:
        """One page of the rows that fit a query. Raises StoreError, PoolError.

        A search for words or a kind of reason may end early, see `Page.complete`.

        Arguments:
            displayed: the selection, of the browser's pool.
            query: filters, order and page; a page past the end is the last one.
            more: look through further rows although the page is full.
        """
        with self._count:
            self._waiting += 1
        with self._lock:  # one search at a time: they would only take the time from each other
            with self._count:
                self._waiting -= 1
            began = time.monotonic()
            rows = self._fitting(displayed, query)
            if not query.words and not query.kind:
                page = min(query.page, max(-(-len(rows) // PAGE) - 1, 0))
                got = rows[page * PAGE : (page + 1) * PAGE]
                return Page(got, page, len(rows), len(rows), len(rows), time.monotonic() - began)
            scan = self._scan(displayed, query, rows)
            needed = (query.page + 1) * PAGE + 1  # one more shows that there is another page
            self._look(displayed, query, scan, needed if not more else len(rows), began)
            page = min(query.page, max(-(-len(scan.found) // PAGE) - 1, 0))
            got = np.array(scan.found[page * PAGE : (page + 1) * PAGE], np.int64)
            return Page(got, page, len(scan.found), scan.at, len(rows), time.monotonic() - began)

    def _fitting(self, displayed: DisplayedSelection, query: Query) -> np.ndarray:
        """Rows that fit all but words and kind, in order."""
        fits = _state_mask(displayed, query.show)
        if query.source:
            fits = fits & (
                self.pool.source == self._sources.get(query.source.removeprefix("="), -1)
            )
        found = self._suspects.get() if query.suspects else None
        if query.show in SUSPECTS:
            fits = fits & (suspects.fitting(found, query.skill) if found else False)
        rows = np.flatnonzero(fits)
        if query.sort == SORT:
            order = suspects.ordered(found) if found else rows
            return order[fits[order]]
        if query.sort:
            order = displayed.order(query.sort)
            rows = order[fits[order]]
        return rows

    def _scan(self, displayed: DisplayedSelection, query: Query, rows: np.ndarray) -> Scan:
        key = (
            displayed.number,
            replace(query, page=0),
        )
        scan = self._scans.setdefault(key, Scan(rows))
        self._scans.move_to_end(key)
        while len(self._scans) > SCANS:
            self._scans.popitem(last=False)
        return scan

    def _look(
        self, displayed: DisplayedSelection, query: Query, scan: Scan, needed: int, began: float
    ) -> None:
        """Search on until `wanted` rows are found, all rows are searched, or the time is up."""
        words = query.words.lower().split()
        while len(scan.found) < needed and scan.at < len(scan.rows):
            rows = scan.rows[scan.at : scan.at + CHUNK]
            scan.at += len(rows)
            if query.kind:
                rows = self._of_kind(displayed, rows, query.kind)
            scan.found += self._containing(rows, words) if words else rows.tolist()
            if self._waiting or time.monotonic() - began > SECONDS:
                return

    def _of_kind(self, displayed: DisplayedSelection, rows: np.ndarray, kind: str) -> np.ndarray:
        at = displayed.place(rows)
        return rows[[i >= 0 and displayed.explain(i).kind == kind for i in at.tolist()]]

    def _containing(self, rows: np.ndarray, words: list[str]) -> list[int]:
        """Those of `rows` whose texts, id, number, source or image names hold all the words."""
        plain = rows[self._plain[self.pool.index.part[rows]]]
        barred = {
            r
            for r, raw in zip(plain.tolist(), self.pool.raw(plain), strict=True)
            if not self._may(r, raw, words)
        }
        rows = np.array([r for r in rows.tolist() if r not in barred], np.int64)
        out = []
        for row, sample in zip(rows.tolist(), self.pool.samples(rows), strict=True):
            texts = [t.text for t in sample.turns] + [image.path for image in sample.images]
            text = "\n".join([*texts, self._about(row)]).lower()
            if all(word in text for word in words):
                out.append(row)
        return out

    def _may(self, row: int, raw: bytes, words: list[str]) -> bool:
        """Whether a JSON record may hold all the words: false only where it certainly does not.
        Avoids parsing most rows."""
        # escapes hide characters: \u any of them, the others only these three
        if b"\\u" in raw or any(c in word for word in words for c in '"\\/'):
            return True
        text = raw.decode("utf-8", "replace").lower()
        missing = [word for word in words if word not in text]
        return not missing or all(word in self._about(row).lower() for word in missing)

    def _about(self, row: int) -> str:
        """What is known of the row without reading it: id, number, source."""
        return (
            f"{self.pool.ids([row])[0]}\nrow:{row}\n{self.pool.source_names[self.pool.source[row]]}"
        )


def _state_mask(displayed: DisplayedSelection, show: str) -> np.ndarray:
    """bool [n]: the rows of one of SHOW.

    Arguments:
        displayed: the selection, of n rows.
        show: one of SHOW.
    """
    if show == "pinned":
        return displayed.keep
    if show == "banned":
        return displayed.drop
    codes = {
        "kept": KEPT,
        "suspected kept": KEPT,
        "dropped": DROPPED,
        "failed": FAILED,
        "left out": LEFT_OUT,
    }
    if show not in codes:
        return np.ones(len(displayed.pool), bool)
    fits = displayed.state == codes[show]
    return fits & ~displayed.drop if show == "left out" else fits
