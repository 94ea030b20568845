"""Which rows of the pool are shown: what became of them, source, reason, words, order, page. Reads
texts of the pool.

What can be told from arrays is told for the whole pool at once. Words and reasons are looked up row
by row, as far as time
allows: a page then says how many rows were looked at, and the next request goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thresher.html import printable
from thresher.viewer.shown import DROPPED, FAILED, KEPT, LEFT_OUT, Shown

if TYPE_CHECKING:
    from thresher.pools import Pool

PAGE = 24
SECONDS = 0.7  # that one request may look through texts
CHUNK = 128  # rows looked through between looks at the clock
SCANS = 8  # searches whose state is kept
LONGEST = 200  # characters of a search
SHOW = ("all", "kept", "dropped", "pinned", "banned", "failed", "left out")


@dataclass(frozen=True)
class Query:
    """`kind`: of reason. `words`: all must occur, in any case. `page`: from 0."""

    show: str = "all"
    source: str = ""
    kind: str = ""
    words: str = ""
    sort: str = ""
    page: int = 0

    @classmethod
    def of(cls, told: Mapping[str, str]) -> Query:
        """From the parameters of a request; invalid ones count as absent."""
        show, page = told.get("show", "all"), told.get("page", "0")
        return cls(
            show if show in SHOW else "all",
            told.get("source", ""),
            told.get("kind", ""),
            " ".join(told.get("words", "")[:LONGEST].split()),
            told.get("sort", ""),
            int(page) if page.isdecimal() and len(page) < 9 else 0,
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
    """A search through `rows` that has come to `at`."""

    rows: np.ndarray
    at: int = 0
    found: list[int] = field(default_factory=list)


class Browser:
    """Finds pages. Keeps where each of the latest searches has come to."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        # as the page holds them
        self._sources = {printable(name): i for i, name in enumerate(pool.source_names)}
        self._scans: OrderedDict[tuple[int, Query], Scan] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting = 0  # requests for a page: a search that somebody waits for ends early
        self._count = threading.Lock()
        self._plain = np.array([p.container in ("json", "jsonl") for p in pool.pool_files], bool)

    def page(self, shown: Shown, query: Query, more: bool = False) -> Page:
        """`more`: look through further rows although the page is full."""
        with self._count:
            self._waiting += 1
        with self._lock:  # one search at a time: they would only take the time from each other
            with self._count:
                self._waiting -= 1
            began = time.monotonic()
            rows = self._fitting(shown, query)
            if not query.words and not query.kind:
                page = min(query.page, max(-(-len(rows) // PAGE) - 1, 0))
                got = rows[page * PAGE : (page + 1) * PAGE]
                return Page(got, page, len(rows), len(rows), len(rows), time.monotonic() - began)
            scan = self._scan(shown, query, rows)
            wanted = (query.page + 1) * PAGE + 1  # one more shows that there is another page
            self._look(shown, query, scan, wanted if not more else len(rows), began)
            page = min(query.page, max(-(-len(scan.found) // PAGE) - 1, 0))
            got = np.array(scan.found[page * PAGE : (page + 1) * PAGE], np.int64)
            return Page(got, page, len(scan.found), scan.at, len(rows), time.monotonic() - began)

    def _fitting(self, shown: Shown, query: Query) -> np.ndarray:
        """Rows that fit all but words and kind, in order."""
        fits = fitting(shown, query.show)
        if query.source:
            fits = fits & (
                self.pool.source == self._sources.get(query.source.removeprefix("="), -1)
            )
        rows = np.flatnonzero(fits)
        if query.sort:
            order = shown.order(query.sort)
            rows = order[fits[order]]
        return rows

    def _scan(self, shown: Shown, query: Query, rows: np.ndarray) -> Scan:
        key = (shown.number, Query(query.show, query.source, query.kind, query.words, query.sort))
        scan = self._scans.setdefault(key, Scan(rows))
        self._scans.move_to_end(key)
        while len(self._scans) > SCANS:
            self._scans.popitem(last=False)
        return scan

    def _look(self, shown: Shown, query: Query, scan: Scan, wanted: int, began: float) -> None:
        """Search on until `wanted` rows are found, all rows are searched, or the time is over."""
        words = query.words.lower().split()
        while len(scan.found) < wanted and scan.at < len(scan.rows):
            rows = scan.rows[scan.at : scan.at + CHUNK]
            scan.at += len(rows)
            if query.kind:
                rows = self._of_kind(shown, rows, query.kind)
            scan.found += self._saying(rows, words) if words else rows.tolist()
            if self._waiting or time.monotonic() - began > SECONDS:
                return

    def _of_kind(self, shown: Shown, rows: np.ndarray, kind: str) -> np.ndarray:
        at = shown.place(rows)
        return rows[[i >= 0 and shown.explain(i).kind == kind for i in at.tolist()]]

    def _saying(self, rows: np.ndarray, words: list[str]) -> list[int]:
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
            said = [t.text for t in sample.turns] + [image.path for image in sample.images]
            text = "\n".join([*said, self._about(row)]).lower()
            if all(word in text for word in words):
                out.append(row)
        return out

    def _may(self, row: int, raw: bytes, words: list[str]) -> bool:
        """Whether a JSON record may hold all the words: false only where it surely does not. Spares
        most rows the parsing."""
        # escapes hide what is there: \u any character, the others what no word has but for these
        # three
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


def fitting(shown: Shown, show: str) -> np.ndarray:
    """bool [n]: the rows of one of SHOW."""
    if show == "pinned":
        return shown.keep
    if show == "banned":
        return shown.drop
    codes = {"kept": KEPT, "dropped": DROPPED, "failed": FAILED, "left out": LEFT_OUT}
    if show not in codes:
        return np.ones(len(shown.pool), bool)
    fits = shown.state == codes[show]
    return fits & ~shown.drop if show == "left out" else fits
