"""Notebook views of pools, selections and differences: correct counts, rows and reasons; safe,
small, and never an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.elements import Elements
from tests.report.image_pools import (
    HOSTILE,
    METHODS,
    chosen,
    hostile_records,
    picture_pool,
    record,
    selected,
)
from thresher.api import Chosen
from thresher.pools import Pool, open_pool
from thresher.pools.notebook import IMAGES, MESSAGE_CHARACTERS, ROWS
from thresher.report.diff import difference
from thresher.report.folder import load, of_outcome
from thresher.report.gallery import make_cards
from thresher.report.notebook import KEPT

LARGEST = 200_000


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return picture_pool(tmp_path_factory.mktemp("pool"), [record(i) for i in range(120)])


def counts(html: str) -> dict[str, str]:
    """The figures at the top, by name."""
    return dict(re.findall(r"<dt>([^<]+)</dt><dd><b>([^<]+)</b>", html))


def safe(html: str) -> Elements:
    """Nothing but elements of the template, one style, no script, images as data."""
    found = Elements(html)
    expected = {
        "div",
        "style",
        "p",
        "b",
        "bdi",
        "dl",
        "dt",
        "dd",
        "span",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "svg",
        "rect",
        "ul",
        "ol",
        "li",
        "img",
    }
    assert set(found.tags) <= expected and found.tags["style"] == 1
    assert not [
        name
        for _, name, _ in found.attributes
        if name.startswith("on") or name in ("style", "href", "id")
    ]
    assert all(
        value.startswith("data:image/jpeg;base64,")
        for _, name, value in found.attributes
        if name == "src"
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", html) and len(html.encode()) < LARGEST
    return found


# ------------------------------------------------------------------------------------ what is shown


def test_a_pool(pool: Pool) -> None:
    html = pool._repr_html_()
    safe(html)
    assert counts(html) == {"Rows": "120", "Images": "6", "Sources": "3", "Problems": "none"}
    assert html.count("<li class=") == ROWS and html.count("<img src=") >= ROWS // 2
    for name in pool.source_names:
        assert f"· <bdi>{name}</bdi>" in html, "a row of every source"
    assert f"<Pool {pool.path} (llava-json): 120 rows, 3 sources, 6 images>" == repr(pool)


def test_problems_are_counted_with_an_example(tmp_path: Path) -> None:
    records = [record(i) for i in range(60)]
    records[3]["image"] = "gone.png"
    records[7]["conversations"] = []
    records[8]["conversations"] = records[8]["conversations"][:1]
    pool = picture_pool(tmp_path / "pool", records)
    html = pool._repr_html_()
    assert counts(html)["Problems"] == f"{len(set(pool.problems) | {3})} rows"
    assert "1 row: an image that does not exist" in html and "<b>problem:</b>" in html
    assert repr(pool).endswith("3 rows with a problem>")


def test_the_same_rows_in_any_file_order(tmp_path: Path) -> None:
    records = [record(i) for i in range(60)]
    displayed = []
    for name, some in (("a", records), ("b", records[::-1])):
        html = picture_pool(tmp_path / name, some)._repr_html_()
        displayed.append(re.findall(r"number \d+", html))
    assert displayed[0] == displayed[1] and len(set(displayed[0])) == ROWS


@pytest.mark.parametrize("name", METHODS)
def test_selection_view_matches_its_report(pool: Pool, tmp_path: Path, name: str) -> None:
    kept = chosen(pool, name, tmp_path / "out")
    html = kept._repr_html_()
    safe(html)
    assert counts(html)["Rows kept"] == "30.0%" and "36 of 120 rows of pool.json kept" in html
    assert html.count('<li class="kept">') == KEPT and html.count('<li class="dropped">') == 2
    assert repr(kept).startswith(f"<Chosen: 36 of 120 rows kept by {name}, budget 30%, seed 0")
    selected(pool, name, tmp_path / "out")
    read, in_memory = load(tmp_path / "out", pool), of_outcome(kept.outcome, pool)
    rows = np.arange(0, 120, 7)
    assert make_cards(in_memory, rows) == make_cards(read, rows), (
        "the same reasons without a folder"
    )
    assert np.array_equal(in_memory.sampling_keys, read.sampling_keys)


def test_unusable_rows_are_reported(tmp_path: Path) -> None:
    records = [record(i) for i in range(60)]
    records[8]["conversations"] = records[8]["conversations"][:1]
    pool = picture_pool(tmp_path / "pool", records)
    kept = chosen(pool, "perplexity", tmp_path / "out")
    assert (
        counts(kept._repr_html_())["Left out"] == "1" and "1 row left out: " in kept._repr_html_()
    )
    assert "; 1 left out" in repr(kept)


def test_a_difference(pool: Pool, tmp_path: Path) -> None:
    a, b = (load(selected(pool, name, tmp_path / name), pool) for name in ("random", "length"))
    d = difference(a, b)
    html = d._repr_html_()
    safe(html)
    assert counts(html) == {
        "In both": str(len(d.both)),
        "Only A": str(len(d.only_a)),
        "Only B": str(len(d.only_b)),
    }
    assert "would share about 11" in html and "median of answer length (B)" in html
    assert repr(d).startswith(f"<Difference: {len(d.both)} rows in both, {len(d.only_a)} only in A")


def test_a_methods_own_selection_is_one_line(pool: Pool, tmp_path: Path) -> None:
    from thresher.types import Selection

    displayed = repr(Selection(np.arange(1000), {"nll": np.zeros(5000)}, ("a note",)))
    assert displayed == "<Selection: 1,000 rows; reasons: nll; 1 in notes>"


# --------------------------------------------------------------------------------- nothing stops it


def test_hostile_texts(tmp_path: Path) -> None:
    """Every text is shown at least once: as many pools as texts, each of one kind."""
    for i, hostile in enumerate(hostile_records()):
        pool = picture_pool(tmp_path / f"p{i}", [hostile] * 3)
        for html in (
            pool._repr_html_(),
            chosen(pool, "length", tmp_path / f"out{i}", "67%")._repr_html_(),
        ):
            found = safe(html)
            text = hostile["conversations"][1]["value"].strip()[:MESSAGE_CHARACTERS]
            displayed = re.sub("[\x00-\x08\x0b-\x1f\x7f]", "�", text)
            assert displayed in found.text["text"]
    assert "{{7*7}}" in HOSTILE["template"]


def test_long_texts_are_truncated_with_a_mark(tmp_path: Path) -> None:
    (long,) = [r for r in hostile_records() if r["id"].startswith("xxx")]
    html = picture_pool(tmp_path / "pool", [long])._repr_html_()
    assert "100,000 characters in all" in html and "x" * (MESSAGE_CHARACTERS + 1) not in html


def test_output_with_noise_images_stays_small(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(noise.integers(0, 256, (160, 160, 3), np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
    rows = []
    for i in range(20):
        texts = [
            {"from": ("human", "gpt")[j % 2], "value": "<image>" * 8 * (j == 0) + '"&' * 5000}
            for j in range(10)
        ]
        rows.append(
            {
                "id": str(i),
                "data_source": f"s{i}",
                "image": [f"{(8 * i + j) % 40}.png" for j in range(8)],
                "conversations": texts,
            }
        )
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    pool = open_pool(tmp_path / "pool.json", tmp_path / "images")
    html = pool._repr_html_()
    safe(html)
    assert (
        "and 6 more" in html
        and "omitted to limit the size of this file" in html
        and "14 smaller" in html
    )


def test_broken_image_and_deleted_pool_are_described(tmp_path: Path) -> None:
    pool = picture_pool(tmp_path / "pool", [record(i) for i in range(40)])
    kept = chosen(pool, "random", tmp_path / "out")
    for path in (tmp_path / "pool" / "images").iterdir():
        path.write_bytes(b"GIF89a" + b"\0" * 10)
    for html in (pool._repr_html_(), kept._repr_html_()):
        assert (
            "<img" not in html
            and "changed since the pool was opened" in html
            and "Question:" in html
        )
    pool.path.write_text("[]")
    for html in (pool._repr_html_(), kept._repr_html_()):
        assert "The rows cannot be displayed: " in html and "40" in html and safe(html)
    assert "40 rows" in repr(pool) and "of 40 rows" in repr(kept)


def test_empty_pool_and_internal_error(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = chosen(pool, "random", tmp_path / "out")
    odd = Chosen(replace(kept.outcome, evidence={"nll": np.zeros(3)}), pool, kept.request)
    assert "The rows cannot be displayed: " in odd._repr_html_(), "reasons of another length"
    monkeypatch.setattr("thresher.html.asset", lambda name: 1 / 0)
    displayed = pool._repr_html_()
    assert (
        "It cannot be displayed: ZeroDivisionError" in displayed
        and "&lt;Pool " in displayed
        and "<Pool" not in displayed
    )


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_small_pools(tmp_path: Path, rows: int) -> None:
    (tmp_path / "pool.jsonl").write_text(
        "".join(json.dumps(record(4 * i + 2)) + "\n" for i in range(rows))
    )
    try:
        pool = open_pool(tmp_path / "pool.jsonl")
    except Exception:  # noqa: BLE001 - a pool without rows may be refused; it is then never shown
        assert rows == 0
        return
    html = pool._repr_html_()
    assert safe(html) and html.count("<li class=") == min(rows, ROWS) and "no images" in html


# -------------------------------------------------------------------------------------------- cheap


def test_a_large_pool_is_sampled_not_read(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    samples, load_image = Pool.samples, Pool.load_image
    opened: list[str] = []
    monkeypatch.setattr(
        Pool, "samples", lambda self, rows: read.extend(rows) or samples(self, rows)
    )
    monkeypatch.setattr(
        Pool, "load_image", lambda self, ref: opened.append(ref.path) or load_image(self, ref)
    )
    pool._repr_html_()
    assert len(read) == ROWS and len(opened) <= ROWS * IMAGES
    chosen(pool, "length", tmp_path / "out")._repr_html_()
    assert len(read) == 2 * ROWS


@pytest.mark.slow
def test_a_million_rows_in_a_second(tmp_path: Path) -> None:
    with open(tmp_path / "pool.jsonl", "w") as file:
        for i in range(1_000_000):
            file.write(json.dumps(record(4 * i + 2)) + "\n")
    pool = open_pool(tmp_path / "pool.jsonl")
    kept = chosen(pool, "length", tmp_path / "out")
    for thing in (pool, kept):
        thing._repr_html_()
        began = time.process_time()
        assert len(thing._repr_html_()) < LARGEST
        assert time.process_time() - began < 30, "reads more than a handful of rows"


def test_opening_and_printing_a_pool_needs_no_templates_and_no_images(pool: Pool) -> None:
    code = (
        "import sys, thresher\n"
        f"pool = thresher.open_pool({str(pool.path)!r}, {str(pool.images_folder)!r})\n"
        "print(repr(pool))\n"
        "print([m for m in ('jinja2', 'PIL', 'markupsafe', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [repr(pool), "[]"]
