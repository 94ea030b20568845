"""Parses HTML into elements, to test the content of a page."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Every element with its attributes, and the text of style, script and everything else."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        where = self._open if self._open in ("style", "script") else "text"
        self.text[where] = self.text.get(where, "") + data
