"""Search finds what a scan of every text finds, whatever the file escapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.report.image_pools import HOSTILE, selected
from tests.viewer.sessions import pool_of
from thresher.pools import Pool, open_pool
from thresher.viewer.browse import Browser, Query
from thresher.viewer.displayed import DisplayedSelection
from thresher.viewer.session import Session

TEXTS = (
    *HOSTILE.values(),
    'say "hi"\nand\\or',
    "a/b",
    "Größe ÄÖÜ",
    "ΟΔΟΣ\nnext",
    "tab\tred",
    "İstanbul",
    "日本語で？",
    "naïve café",
)


def opened(folder: Path, ascii_only: bool) -> Session:
    """A pool of awkward texts, written with or without \\u escapes."""
    rows = [
        {
            "id": i,
            "data_source": f"S{i % 3}",
            "conversations": [{"from": "human", "value": t}, {"from": "gpt", "value": "Yes."}],
        }
        for i, t in enumerate(TEXTS)
    ]
    folder.mkdir(parents=True)
    (folder / "pool.json").write_text(json.dumps(rows, ensure_ascii=ascii_only), encoding="utf-8")
    return Session(selected(open_pool(folder / "pool.json"), "length", folder / "out", "50%"))


def found(session: Session, words: str) -> list[int]:
    browser, rows = Browser(session.pool, session.suspects), []
    page = browser.page(session.displayed, Query(words=words))
    while not page.complete:
        page = browser.page(session.displayed, Query(words=words), more=True)
    for number in range(page.pages):
        rows += browser.page(session.displayed, Query(words=words, page=number)).rows.tolist()
    return rows


def plainly(pool: Pool, words: str) -> list[int]:
    out = []
    for row in range(len(pool)):
        sample = pool.sample(row)
        about = [pool.ids([row])[0], f"row:{row}", sample.source]
        text = "\n".join(
            [*(t.text for t in sample.turns), *(i.path for i in sample.images), *about]
        ).lower()
        if all(word in text for word in words.lower().split()):
            out.append(row)
    return out


@pytest.mark.parametrize("ascii_only", [True, False])
def test_search_finds_matches(tmp_path: Path, ascii_only: bool) -> None:
    session = opened(tmp_path / "pool", ascii_only)
    words = [
        "red",
        "nred",
        "tred",
        '"hi"',
        "and\\or",
        "a/b",
        "größe",
        "ÄÖÜ",
        "οδος",
        "next",
        "istanbul",
        "日本",
        "CAFÉ",
        "n",
    ]
    words += [
        "row:3",
        "s1",
        "yes. s2",
        "u00e4",
        "\\n",
        "script",
        "onerror=",
        "many words",
        "no such",
    ]
    for asked in words:
        assert found(session, asked) == plainly(session.pool, asked), asked
    assert found(session, "größe") and found(session, '"hi"') and not found(session, "u00e4")


def test_search_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thresher.viewer.browse.CHUNK", 2)
    session = opened(tmp_path / "pool", True)
    browser = Browser(session.pool, session.suspects)
    browser._waiting = 1
    page = browser.page(session.displayed, Query(words="no such"))
    assert page.looked == 2 and not page.complete
    browser._waiting = 0
    assert browser.page(session.displayed, Query(words="no such")).complete


def test_rows_without_a_number_come_last_in_both_orders(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 40)
    # a quality that every seventh row lacks
    session = Session(selected(pool, "unheard", tmp_path / "out"))
    displayed: DisplayedSelection = session.displayed
    quality = np.full(40, np.nan)
    quality[displayed.made.rows] = displayed.made.reasons["quality"]
    missing = int(np.isnan(quality).sum())
    for sort, sign in (("quality", 1), ("-quality", -1)):
        order = displayed.order(sort)
        assert (
            sorted(order.tolist()) == list(range(40)) and np.isnan(quality[order[-missing:]]).all()
        )
        assert (np.diff(sign * quality[order[:-missing]]) >= 0).all()
    assert (
        displayed.order("topic").tolist()
        == displayed.order("none such").tolist()
        == list(range(40))
    )
    # what is the same in every row orders nothing
    assert dict(displayed.sortable).keys() == {"quality", "level"}
