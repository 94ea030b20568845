"""`thresher diff`: overlap by row or content, by source and by score, as tables, JSON and a
page."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.report.image_pools import hostile_records, picture_pool, record, selected
from thresher import cli
from thresher.pools import Pool
from thresher.report.diff import difference
from thresher.report.diff_report import build
from thresher.report.folder import load


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return picture_pool(tmp_path / "pool", [record(i) for i in range(120)])


def test_parts_equal_set_operations(pool: Pool, tmp_path: Path) -> None:
    a = load(selected(pool, "perplexity", tmp_path / "a", where="top"), pool)
    b = load(selected(pool, "length", tmp_path / "b", budget="20%"), pool)
    d = difference(a, b)
    in_a, in_b = set(a.kept_rows.tolist()), set(b.kept_rows.tolist())
    assert set(d.only_a.tolist()) == in_a - in_b and set(d.only_b.tolist()) == in_b - in_a
    assert set(d.both.tolist()) == in_a & in_b and d.jaccard == pytest.approx(
        len(in_a & in_b) / len(in_a | in_b)
    )
    assert d.by_chance == pytest.approx(36 * 24 / 120) and d.same_pool
    for c in d.sources:
        number = pool.source_names.index(c.name)
        assert (c.a, c.b) == tuple(
            sum(pool.source[r] == number for r in rows) for rows in (in_a, in_b)
        )
    nll = next(s for s in d.scores if s.name == "nll")
    assert nll.of == "A" and nll.only_b == pytest.approx(
        float(np.median([a.reasons["nll"][np.searchsorted(a.rows, r)] for r in d.only_b]))
    )


def test_selection_equals_itself(pool: Pool, tmp_path: Path) -> None:
    a = load(selected(pool, "length", tmp_path / "a"), pool)
    d = difference(a, a)
    assert (len(d.only_a), len(d.both), len(d.only_b), d.jaccard) == (0, 36, 0, 1.0)
    assert "36 rows are in both selections" in build(d)


def test_different_pools_are_matched_by_content(tmp_path: Path) -> None:
    records = [record(i) for i in range(30)]
    first = picture_pool(tmp_path / "p", [*records, record(0), record(0)])
    shuffled = random.Random(1).sample(records, 30) + [record(900)]
    second = picture_pool(tmp_path / "q", shuffled)
    a = load(selected(first, "random", tmp_path / "a", budget="100%"), first)
    b = load(selected(second, "random", tmp_path / "b", budget="100%"), second)
    d = difference(a, b)
    assert (len(d.only_a), len(d.both), len(d.only_b)) == (2, 30, 1)
    assert d.by_chance is None and second.ids(d.only_b) == ["r900"]
    assert "The pools differ" in build(d)


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return int(ended.value.code or 0)


def test_the_command(pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(selected(pool, name, tmp_path / name)) for name in ("clipper", "length"))
    page = tmp_path / "d.html"
    assert call("diff", a, b, "--out", str(page)) == 0
    output = capsys.readouterr().out
    assert (
        "A: clipper 30%, seed 0, 36 rows" in output
        and "rows in both" in output
        and "would share about 11" in output
    )
    assert (
        "charts" in output
        and "Only A, best rank first:" in output
        and f"Written to {page}" in output
    )
    text = page.read_text()
    assert 'id="side-a"' in text and "B, not kept: " in text
    assert call("diff", a, b, "--json") == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured["only_a"] + captured["both"] == captured["only_b"] + captured["both"] == 36
    assert len(captured["examples"]["only_a"]) == 10 and captured["a"]["method"] == "clipper"


def test_invalid_input_is_explained(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = str(selected(pool, "length", tmp_path / "a"))
    assert (
        call("diff", a, str(tmp_path)) == 2
        and "not a finished selection" in capsys.readouterr().err
    )
    assert (
        call("diff", a, a, "--out", str(tmp_path)) == 2 and "give a file" in capsys.readouterr().err
    )


def test_hostile_rows_cannot_control_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = picture_pool(tmp_path / "pool", [*hostile_records(), *(record(i) for i in range(4))])
    a, b = (
        str(selected(pool, name, tmp_path / name, budget="50%")) for name in ("length", "random")
    )
    assert call("diff", a, b) == 0
    assert "\x1b" not in capsys.readouterr().out
