"""The viewer's view of rows that are likely wrong: which are listed, in which order, and that bans
of them are bans like any other."""

from __future__ import annotations

import filecmp
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.image_pools import HOSTILE, hostile_records, selected
from tests.report.planted_suspects import SKILLS, plant
from tests.viewer.sessions import Client, pool_of
from thresher.cli import main
from thresher.storage.columns import Store
from thresher.viewer.session import Session

ROWS = 160


def opened(folder: Path, method: str = "length", **planted: Any) -> tuple[Client, np.ndarray]:
    """A viewer whose store knows which rows are likely wrong, and these rows."""
    pool = pool_of(folder / "pool", ROWS)
    wrong = plant(pool, Store(folder / "work-out" / "store"), **planted)
    return Client(Session(selected(pool, method, folder / "out"))), wrong


def shown(answer: dict[str, Any]) -> list[int]:
    return [int(n) for n in re.findall(r'id="pin-(\d+)"', answer["html"])]


@pytest.mark.parametrize("method", ["length", "random"])
def test_likely_wrong_rows_are_listed_likeliest_first(tmp_path: Path, method: str) -> None:
    client, wrong = opened(tmp_path, method)
    got = client.rows(show="suspected", sort="suspicion")
    assert got["count"] == f"{len(wrong)} rows" and set(shown(got)) <= set(wrong.tolist())
    suspicion = [float(x) for x in re.findall(r"<dt>suspicion</dt><dd><bdi>([\d.]+)", got["html"])]
    assert len(suspicion) == 24 and suspicion == sorted(suspicion, reverse=True)
    assert "visual gain</dt><dd><bdi>-1.50 nats" in got["html"] and "of 40" in got["html"]
    assert f"{len(wrong)} of 160 rows" in got["suspects"]
    table = client.rows(show="suspected", sort="suspicion", view="table")
    assert shown(table) == shown(got) and "visual gain -1.50" in table["html"]
    everything = client.rows(show="all", sort="suspicion", page="0")
    assert shown(everything) == shown(got) and everything["count"] == "160 rows"
    assert "suspects" not in client.rows(show="all") and "suspicion" not in client.rows()["html"]


@pytest.mark.parametrize("skill", [0, 1, 3])  # rows of skill 2 have no image
def test_one_skill(tmp_path: Path, skill: int) -> None:
    client, wrong = opened(tmp_path)
    offered = dict(client.rows(show="suspected")["skills"])
    rows = wrong[wrong % SKILLS == skill]
    assert offered[str(skill)] == f"words of skill {skill} ({len(rows)} of 40)"
    got = client.rows(show="suspected", skill=str(skill))
    assert shown(got) == rows.tolist()[:24] and got["count"] == f"{len(rows)} rows"
    for unknown in ("9", "-1", "x", "١"):
        assert client.rows(show="suspected", skill=unknown)["ok"]


def test_kept_ones_follow_the_selection(tmp_path: Path) -> None:
    client, wrong = opened(tmp_path)
    for budget in ("30%", "100%", "2"):
        client.select(budget)
        kept = np.flatnonzero(client.session.displayed.state == 2)
        both = np.intersect1d(kept, wrong)
        got = client.rows(show="suspected kept")
        assert shown(got) == both.tolist()[:24]
        assert f"{len(both)} of them " in got["suspects"]


def test_a_ban_of_a_page_is_exported_as_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, wrong = opened(tmp_path)
    client.select("100%")
    client.change("/pin", {"rows": [int(wrong[3])], "state": "pinned"})
    page = client.rows(show="suspected", sort="suspicion")
    button = re.search(r'id="ban-page"[^>]*data-rows="([\d,]+)"', page["html"])
    assert button
    rows = [int(n) for n in button[1].split(",")]
    assert set(rows) == set(shown(page)) - {int(wrong[3])} and "Ban these 23 rows" in page["html"]
    assert client.change("/pin", {"rows": rows, "state": "banned"})["ok"]
    assert client.rows(show="banned")["count"] == "23 rows"
    again = client.rows(show="suspected", sort="suspicion")
    assert shown(again) == shown(page) and "ban-page" not in again["html"]
    made = client.change("/export", {"where": "mine"})
    assert made["ok"]
    lines = (tmp_path / "mine" / "drop.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["row"] for line in lines} == set(rows)
    command = re.search(r"<code>(thresher select .*?)</code>", made["html"]["exported"], re.S)
    assert command
    words = shlex.split(command[1].replace("\\\n", "").replace("&#39;", "'"))
    words[words.index("--out") + 1] = str(tmp_path / "again")
    with pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert not ended.value.code
    for name in ("subset.json", "selection.parquet", "evidence.parquet"):
        assert filecmp.cmp(tmp_path / "mine" / name, tmp_path / "again" / name, shallow=False), name
    kept = json.loads((tmp_path / "mine" / "subset.json").read_text("utf-8"))
    assert len(kept) == ROWS - len(rows)
    assert client.change("/undo", {})["ok"] and client.rows(show="banned")["count"] == "0 rows"
    capsys.readouterr()


def test_where_nothing_is_stored_the_command_is_shown(tmp_path: Path) -> None:
    """And once it is stored, a page that is loaded again shows it."""
    pool = pool_of(tmp_path / "pool", ROWS)
    session = Session(selected(pool, "length", tmp_path / "out"))
    client = Client(session)
    got = client.rows(show="suspected", sort="suspicion")
    assert got["count"] == "0 rows" and got["skills"] == []
    assert "Not known" in got["suspects"] and "thresher suspects" in got["suspects"]
    wrong = plant(pool, session.store)
    assert client.get("/page").status_code == 200
    assert client.rows(show="suspected")["count"] == f"{len(wrong)} rows"
    assert "own answers. This command computes what is missing" in client.rows(show="suspected")[
        "suspects"
    ].replace("\n", " ")


@pytest.mark.parametrize("name", ["script", "img", "end", "template"])
def test_hostile_words_and_answers_are_escaped(tmp_path: Path, name: str) -> None:
    pool = pool_of(tmp_path / "pool", 60, hostile_records())
    rows = np.arange(60, len(pool))
    store = Store(tmp_path / "work-out" / "store")
    plant(pool, store, wrong=rows, answers=rows, words=HOSTILE[name], said=HOSTILE[name])
    client = Client(Session(selected(pool, "length", tmp_path / "out")))
    for view in ("cards", "table"):
        got = client.rows(show="suspected", view=view)
        assert len(shown(got)) == len(rows)
        for text in (got["html"], got["suspects"]):
            assert not re.search(r"<(script|img src=x|iframe|svg onload|style>)", text)
    assert HOSTILE[name] in got["skills"][0][1]  # put into an option as text
