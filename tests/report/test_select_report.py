"""report.html of a selection: content, determinism, and escaping of hostile texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.report.elements import Elements
from tests.report.image_pools import (
    ANSWERS,
    HOSTILE,
    METHODS,
    NAMES,
    hostile_records,
    picture_pool,
    record,
    selected,
)
from thresher import cli, report
from thresher.errors import ConfigError, PoolError
from thresher.html import printable
from thresher.pools import Pool, cards, open_pool
from thresher.report import gallery as gallery_
from thresher.report.folder import load
from thresher.report.health import remarks
from thresher.report.select_report import build, command
from thresher.report.style import answer_style
from thresher.selection.result import LEFT_OUT


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return picture_pool(tmp_path_factory.mktemp("pool"), [record(i) for i in range(160)])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_report(pool: Pool, tmp_path: Path, name: str) -> None:
    folder = selected(pool, name, tmp_path / "out")
    path = report.write(folder, pool)
    page = path.read_text(encoding="utf-8")
    text = Elements(page).text["text"]
    assert "48 of 160 rows kept" in text and f"How {name} chose" in text
    assert path.stat().st_size < 2_000_000
    assert (
        page.count('<li class="card kept"') == 48 and page.count('<li class="card dropped"') == 96
    )
    assert {"Source", "Answer style", "Images per row", "Messages per row"} <= set(
        re.findall(r"<h3>([^<]+)</h3>", page)
    )
    assert "nan" not in re.sub(r"data:[^\"]+", "", page).lower().replace("finance", "")
    # every chart has titled axes and a description for screen readers
    charts = re.findall(r'<svg class="chart".*?</svg>', page, re.S)
    assert all('role="img" aria-label="' in c and ('class="axis"' in c) for c in charts)
    assert len(charts) >= {"stratified": 0, "random": 0, "clipper": 4, "mllm_selector": 2}.get(
        name, 1
    )


def test_page_names_the_reasons_of_each_method(pool: Pool, tmp_path: Path) -> None:
    text = {
        name: Elements(report.write(selected(pool, name, tmp_path / name), pool).read_text()).text[
            "text"
        ]
        for name in METHODS
    }
    assert (
        "random sample of the same size" in text["clipper"]
        and "W_q: not known, queries" in text["clipper"]
    )
    assert re.search(
        r"bin \d+ of the answers that the model (?:knows|does not know) \([PW]\); a demonstration "
        r"(lowers|raises) its loss by [\d.]+ nats",
        text["clipper"],
    )
    assert (
        "Kept rows by group" in text["mllm_selector"]
        and "a seed row, chosen at random" in text["mllm_selector"]
    )
    assert "Dashed: the cut-offs." in text["perplexity"]
    assert (
        "the longest answers are kept" in text["length"]
        and "Dashed: the cut-off." in text["length"]
    )
    assert re.search(
        r"taken for (counting|optical character recognition|colours|logic) in turn \d+: score "
        r"[\d.]+ of 5",
        text["mmssr"],
    )
    assert (
        re.search(r"rim: \d points", text["mmssr"])
        and "Taken for" in text["mmssr"]
        and "highest" in text["mmssr"]
    )
    assert (
        "for “counting <b>small</b> things”, score" in text["error_driven"]
        and "fills the budget" in text["error_driven"]
    )
    assert (
        "skill 7; another" in text["error_driven"]
        and "Skills of the row" not in text["error_driven"]
    )  # on cards, not counted
    assert (
        "Same has the same value in every row" in text["unheard"] and "topic <3>" in text["unheard"]
    )


def test_missing_skills_are_shown(pool: Pool, tmp_path: Path) -> None:
    folder = selected(pool, "error_driven", tmp_path / "out")
    values = {
        "rows": 200,
        "wrong": 40,
        "tasks": [{"task": "clocks", "rows": 200, "wrong": 40}],
        "skills": [
            {"skill": "reading a <i>clock</i>", "errors": 30, "rows": 18},
            {"skill": "counting", "errors": 10, "rows": 6},
        ],
    }
    (folder / "errors.json").write_text(json.dumps(values))
    page = report.write(folder, pool).read_text()
    assert "It got 40 of 200 validation rows wrong." in page
    bar = re.search(
        r"reading a &lt;i&gt;clock&lt;/i&gt;</bdi></th>.*?<td title=\"30 rows\">75.0%</td>\s*<td "
        r"title=\"18 rows\">75.0%",
        page,
        re.S,
    )
    assert bar and '<th scope="col">Errors</th>' in page


def test_the_same_folder_gives_the_same_bytes(pool: Pool, tmp_path: Path) -> None:
    folder = selected(pool, "clipper", tmp_path / "out")
    first = report.write(folder, pool).read_bytes()
    assert report.write(folder).read_bytes() == first  # opens the pool again


def test_counts_in_summary_and_bars(pool: Pool, tmp_path: Path) -> None:
    made = load(selected(pool, "random", tmp_path / "out"), pool)
    page = build(made)
    words = int(pool.facts["answer_words"][made.kept_rows].sum())
    assert f"{words:,} of {int(pool.facts['answer_words'].sum()):,}" in page
    assert ">70%<" in page and "no model needed" in page and "pays off from the first" in page
    for name in pool.source_names:
        n = int((pool.source == pool.source_names.index(name)).sum())
        bar = re.search(
            rf"<bdi>{name}</bdi></th>.*?<td title=\"([\d,]+) rows\">([\d.]+)%</td>", page, re.S
        )
        assert bar and int(bar[1]) == n and float(bar[2]) == pytest.approx(100 * n / 160, abs=0.06)


def test_sample_is_limited_seeded_and_contains_every_source(pool: Pool, tmp_path: Path) -> None:
    made = load(selected(pool, "perplexity", tmp_path / "out"), pool)
    displayed = gallery_.gallery(made, rows=16)
    assert len(displayed.kept) == len(displayed.dropped) == 16
    assert [c.rank for c in displayed.kept[: displayed.best]] == list(range(1, displayed.best + 1))
    assert {c.source for c in displayed.dropped} == set(pool.source_names)
    again = gallery_.gallery(made, rows=16)
    assert [c.row for c in again.dropped] == [c.row for c in displayed.dropped]
    assert all(len(t.uri) < 12_000 for c in displayed.kept for t in c.images)


def test_a_rare_source_is_in_the_sample(tmp_path: Path) -> None:
    records = [record(i) for i in range(400)]
    for i in range(8):
        records[50 * i]["data_source"] = f"rare{i}"
    pool = picture_pool(tmp_path / "pool", records)
    made = load(selected(pool, "random", tmp_path / "out"), pool)
    displayed = gallery_.gallery(made, rows=40)
    assert {c.source for c in (*displayed.kept, *displayed.dropped)} == set(pool.source_names)


def test_thumbnails_are_limited_in_total_size(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "THUMBNAIL_BYTES", 5_000)
    made = load(selected(pool, "random", tmp_path / "out"), pool)
    displayed = gallery_.gallery(made)
    images = [t for c in (*displayed.kept, *displayed.dropped) for t in c.images]
    assert 0 < sum(len(t.uri) for t in images) <= 5_000
    assert {t.problem for t in images if not t.uri} == {"omitted to limit the size of this file"}
    assert any(t.uri for c in displayed.dropped for t in c.images), (
        "both sides have pictures while there is room"
    )


def test_missing_image_and_failed_rows_are_reported(tmp_path: Path) -> None:
    records = [record(i) for i in range(60)]
    records[3]["image"] = "gone.png"
    records[5]["conversations"] = []
    pool = picture_pool(tmp_path / "pool", records)
    folder = selected(pool, "random", tmp_path / "out", budget="100%")
    page = report.write(folder, pool).read_text()
    text = Elements(page).text["text"]
    assert "points at an image that does not exist" in text and "gone.png" in text
    assert "could not be used and were left out" in text and "not usable" in text


# ------------------------------------------------------------------------------------ hostile texts


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    pool = picture_pool(folder / "pool", [*hostile_records(), *(record(i) for i in range(20))])
    return report.write(selected(pool, "length", folder / "out", budget="50%"), pool).read_text(
        encoding="utf-8"
    )


def test_hostile_texts_create_no_element_and_no_attribute(hostile_page: str) -> None:
    found = Elements(hostile_page)
    assert found.tags["script"] == found.tags["style"] == 1
    assert not {"iframe", "object", "embed", "base", "link", "form2", "video"} & set(found.tags)
    assert not [a for a in found.attributes if a[1].startswith("on") or a[1] == "style"]
    assert all(value.startswith("#") for tag, name, value in found.attributes if name == "href")
    assert all(
        value.startswith("data:image/jpeg;base64,")
        for tag, name, value in found.attributes
        if name == "src"
    )
    text = found.text["text"]
    for kind in ("script", "img", "style", "end", "svg", "link", "template", "comment"):
        assert HOSTILE[kind] in text, f"{kind} must be shown as it is"
    assert any(value == f"Image {NAMES[1]}" for _, name, value in found.attributes if name == "alt")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", hostile_page)


def test_long_answers_are_truncated_with_a_mark(hostile_page: str) -> None:
    assert "truncated; 100,000 characters in total" in hostile_page
    assert "x" * (cards.CHARACTERS + 1) not in hostile_page
    assert len(hostile_page) < 500_000


def test_file_stays_under_six_megabytes(tmp_path: Path) -> None:
    (tmp_path / "pool" / "images").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(noise.integers(0, 256, (160, 160, 3), np.uint8)).save(
            tmp_path / "pool" / "images" / f"{i}.png"
        )
    rows = []
    for i in range(200):
        turns = [
            {
                "from": ("human", "gpt")[j % 2],
                "value": ("<image>\n" * 4 if j == 0 else "") + "&" * 5000,
            }
            for j in range(10)
        ]
        rows.append(
            {
                "id": str(i),
                "image": [f"{(4 * i + j) % 60}.png" for j in range(4)],
                "conversations": turns,
            }
        )
    (tmp_path / "pool" / "pool.json").write_text(json.dumps(rows))
    pool = open_pool(tmp_path / "pool" / "pool.json", tmp_path / "pool" / "images")
    path = report.write(selected(pool, "length", tmp_path / "out", budget="50%"), pool)
    assert 4_000_000 < path.stat().st_size < 6_000_000
    assert "omitted to limit the size of this file" in path.read_text()


def test_policy_allows_only_the_own_style_and_script(hostile_page: str) -> None:
    found = Elements(hostile_page)
    (policy,) = [
        value for tag, name, value in found.attributes if tag == "meta" and "default-src" in value
    ]
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for part in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(found.text[part].encode()).digest()).decode()
        assert f"{part}-src 'sha256-{digest}'" in policy


def test_text_invalid_in_html_is_replaced() -> None:
    assert printable("a\x00b\ud800c\x1b[1m\ttab\nline") == "a�b�c�[1m\ttab\nline"
    result = cards.message("user", "<image>\n<image>\nWhat?")
    assert (result.role, result.text, result.cut) == ("Question", "What?", 0)


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000,
        "\n" * 100_000,
        "<image>" + " " * 100_000 + "x",
        "[1," * 30_000,
        "1" * 100_000,
        "</" * 50_000,
    ],
)
def test_texts_are_processed_in_linear_time(text: str) -> None:
    began = time.perf_counter()
    answer_style(text + "x")
    cards.message("user", text)
    assert time.perf_counter() - began < 30  # a hang, not a speed


# -------------------------------------------------------------------------------------- the command


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return int(ended.value.code or 0)


def test_select_writes_the_report_and_report_writes_the_same(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    words = [
        "select",
        str(pool.path),
        "--images",
        str(pool.images_folder),
        "-m",
        "length",
        "-b",
        "20",
        "-o",
        str(tmp_path / "o"),
    ]
    assert call(*words) == 0
    assert "report.html" in capsys.readouterr().out
    path = tmp_path / "o" / "report.html"
    first = path.read_bytes()
    path.unlink()
    assert call("report", str(tmp_path / "o")) == 0
    assert path.read_bytes() == first and "report.html (" in capsys.readouterr().out


def test_failed_report_keeps_the_selection(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no picture")

    monkeypatch.setattr("thresher.report.select_report.method_section", fail)
    words = [
        "select",
        str(pool.path),
        "--images",
        str(pool.images_folder),
        "-m",
        "length",
        "-b",
        "20",
        "-o",
        str(tmp_path / "o"),
    ]
    assert call(*words) == 0
    captured = capsys.readouterr()
    assert (
        "The report could not be written: no picture" in captured.err
        and "Kept 20 of 160 rows" in captured.out
    )
    assert (tmp_path / "o" / "run.yaml").exists() and not (tmp_path / "o" / "report.html").exists()


def test_a_later_selection_removes_the_report_of_an_earlier_one(pool: Pool, tmp_path: Path) -> None:
    folder = selected(pool, "random", tmp_path / "out")
    report.write(folder, pool)
    selected(pool, "length", tmp_path / "out")
    assert not (folder / "report.html").exists()


def test_impossible_reports_are_explained(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished selection"):
        report.write(tmp_path)
    folder = selected(pool, "random", tmp_path / "out")
    other = picture_pool(tmp_path / "other", [record(i) for i in range(300, 460)])
    with pytest.raises(PoolError, match=r"no longer the pool.*older version"):
        report.write(folder, other)
    (folder / "evidence.parquet").unlink()
    with pytest.raises(ConfigError, match="Select again"):
        report.write(folder, pool)


def test_the_command_repeats_every_setting() -> None:
    config: dict[str, object] = {
        "pool": "my pool.json",
        "images": "img",
        "method": "clipper",
        "budget": "30%",
        "settings": {"bins": 7, "mirror": "both"},
        "model": "demo",
        "seed": 3,
        "store": "s",
        "on_missing": "exclude",
        "retry_errors": True,
        "device": "auto",
        "out": "o x",
        "quota": ["a=1", "b=2"],
    }
    config["decided"] = {"for": "0" * 32, "guard.passed": True}  # in run.yaml only
    output = command(config)
    assert output.startswith("thresher select 'my pool.json' \\\n  --images img \\\n")
    for piece in (
        "--budget 30%",
        "--seed 3",
        "--retry-errors",
        "--on-missing exclude",
        "--set bins=7",
        "--quota a=1",
        "--quota b=2",
        "--out 'o x'",
    ):
        assert f"  {piece}" in output
    assert "--device" not in output and "decided" not in output


def test_styles_of_answers_are_counted(pool: Pool, tmp_path: Path) -> None:
    page = build(load(selected(pool, "random", tmp_path / "out"), pool))
    assert len(ANSWERS) == 7
    for style in (
        "yes or no",
        "letter of a choice",
        "number",
        "list or steps",
        "several sentences",
    ):
        assert f"<bdi>{style}</bdi>" in page


def test_unseen_rows_have_no_evidence(tmp_path: Path) -> None:
    records = [record(i) for i in range(40)]
    records[7]["conversations"] = []
    pool = picture_pool(tmp_path / "pool", records)
    made = load(selected(pool, "length", tmp_path / "out"), pool)
    assert 7 not in made.rows and len(made.rows) == 39
    assert np.array_equal(made.reasons["length"], pool.facts["answer_words"][made.rows])
    (card,) = gallery_.make_cards(made, np.array([7]), {7: "no conversation"})
    assert card.state == "failed" and card.scores == () and card.reason == "no conversation"
    json.dumps([f.row for f in made.failures])


@pytest.mark.parametrize("of", ["this version", "an earlier version", "other numbers of both"])
def test_a_note_keeps_its_kind_in_run_yaml(pool: Pool, tmp_path: Path, of: str) -> None:
    folder = selected(pool, "random", tmp_path / "out")
    run = yaml.safe_load((folder / "run.yaml").read_text())
    assert all(isinstance(text, str) for text in run["notes"])
    run["notes"] = ["3 of 160 rows could not be used.", "3 of 160 rows could not be used here."]
    run["note_kinds"] = [LEFT_OUT, "method"]
    if of == "an earlier version":
        del run["note_kinds"]
    elif of == "other numbers of both":
        run["note_kinds"] = [LEFT_OUT]
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    made = load(folder, pool)
    assert [note.text for note in made.notes] == run["notes"]
    known = of == "this version"
    assert [note.kind for note in made.notes] == ([LEFT_OUT, "method"] if known else ["", ""])
    shown = [remark.text for remark in remarks(made)]
    assert (run["notes"][0] in shown) is not known and run["notes"][1] in shown
