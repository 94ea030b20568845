"""A pool with one of everything: each finding is named, counted, and tells what a run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from thresher.doctor import KINDS, SEVERITIES, Diagnosis, examine
from thresher.pools import open_pool
from thresher.pools.llava import parse


class Count:
    """A Progress that only counts."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self, label: str, total: int, done: int) -> None:
        self.calls.append(("start", total, done))

    def advance(self, n: int) -> None:
        self.calls.append(n)

    def finish(self) -> None:
        self.calls.append("finish")


def by_kind(diagnosis: Diagnosis) -> dict[str, tuple[int, list[int]]]:
    return {f.kind: (f.rows, [e.row for e in f.examples]) for f in diagnosis.findings}


def test_a_good_pool(tiny_pool):
    diagnosis = examine(open_pool(tiny_pool, tiny_pool.parent / "images"), workers=2)
    assert not diagnosis.fails and diagnosis.lost == 0 and (diagnosis.rows, diagnosis.images) == (10, 4)
    assert by_kind(diagnosis) == {"text-only": (2, [5, 9]), "duplicate-id": (1, [6])}


def bad_pool(folder: Path, make_row) -> tuple[Path, dict[str, list[int]]]:
    """A JSONL pool with one row (or more) of every kind, and where each kind must be found."""
    images = folder / "images"
    images.mkdir()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(images / "good.png")
    Image.new("RGB", (8, 8), (0, 200, 0)).save(images / "other.png")
    shutil.copy(images / "good.png", images / "copy.png")
    Image.new("RGB", (8, 8), (0, 0, 200)).save(images / "really.gif")
    shutil.move(images / "really.gif", images / "claims.jpg")
    Image.new("RGB", (8, 8), (1, 1, 1)).save(images / "ocr.gif")
    (images / "cut.png").write_bytes((images / "good.png").read_bytes()[:50])
    (images / "zero.png").write_bytes(b"")
    (images / "out.png").symlink_to(folder / "secret.png")
    Image.new("RGB", (8, 8)).save(folder / "secret.png")

    rows: list[object] = []
    where: dict[str, list[int]] = {}

    def add(kind: str, record: object) -> None:
        where.setdefault(kind, []).append(len(rows))
        rows.append(record)

    def image(path: object, **more: object) -> dict:
        return make_row(len(rows), path, "<image>\nQ", "A", **more)

    def chat(*turns: tuple[object, object]) -> dict:
        return {"id": len(rows), "conversations": [{"from": r, "value": v} for r, v in turns]}

    rows.append(image("good.png"))
    rows.append(image("other.png"))
    add("duplicate-image", image("copy.png"))
    add("duplicate-row", image("good.png"))
    add("missing-image", image("gone.png"))
    add("missing-image", image("ocr.jpg"))
    add("missing-image", make_row(6, ["good.png", "gone.png"], "<image><image>", "A"))
    add("broken-image", image("cut.png"))
    add("broken-image", image("zero.png"))
    add("unsafe-path", image("../secret.png"))
    add("unsafe-path", image("out.png"))
    add("remote-url", image("https://host/x.png"))
    add("image-extension", image("claims.jpg"))
    add("bad-image", image(5))
    add("placeholder-mismatch", make_row(14, None, "<image>", "A"))
    add("placeholder-missing", make_row(15, "other.png", "Unplaced?", "A"))
    add("no-answer", chat(("human", "Q"), ("gpt", " ")))
    add("bad-turn", {"id": 17, "conversations": ["Q"]})
    add("unknown-role", chat(("human", "Q"), ("bot", "A"), ("gpt", "A")))
    add("bad-value", chat(("human", "Q"), ("gpt", None)))
    add("invalid-text", chat(("human", "\ud800"), ("gpt", "A")))
    add("video", {**chat(("human", "Q"), ("gpt", "A")), "video": "v.mp4"})
    add("empty-answer", chat(("human", "Q"), ("gpt", ""), ("human", "Q"), ("gpt", "A")))
    add("empty-question", chat(("human", ""), ("gpt", "A")))
    add("starts-with-assistant", chat(("gpt", "A"), ("human", "Q"), ("gpt", "A")))
    add("ends-with-user", chat(("human", "Q"), ("gpt", "A"), ("human", "Q")))
    add("user-twice", chat(("human", "Q"), ("human", "Q"), ("gpt", "A")))
    add("assistant-twice", chat(("human", "Q"), ("gpt", "A"), ("gpt", "A")))
    add("late-system", chat(("human", "Q"), ("gpt", "A"), ("system", "S"), ("human", "Q"), ("gpt", "A")))
    add("duplicate-id", {**chat(("human", "Unique question"), ("gpt", "A")), "id": 0})
    add("unreadable", {"id": 30})
    lines = [json.dumps(r) for r in rows]
    where["unreadable"].append(len(lines))
    lines.append('{"id": 31, "conv')
    file = folder / "bad.jsonl"
    file.write_text("\n".join(lines))
    return file, where


def test_one_of_everything(tmp_path, make_row):
    file, where = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    diagnosis = examine(pool, workers=3)
    found = by_kind(diagnosis)
    text_only = found.pop("text-only")
    assert found == {kind: (len(rows), rows[:3]) for kind, rows in where.items()}
    assert set(where) | {"text-only"} == set(KINDS)
    assert text_only == (8, [22, 23, 24])  # those that are scored
    errors = {row for kind, rows in where.items() if KINDS[kind][0] == "error" for row in rows}
    assert diagnosis.fails and diagnosis.lost == len(errors)


def test_details_say_what_exactly(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    findings = {f.kind: f for f in examine(open_pool(file, tmp_path / "images")).findings}
    assert [e.detail for e in findings["missing-image"].examples] == [
        "gone.png",
        "ocr.jpg (there is ocr.gif)",
        "gone.png",
    ]
    assert findings["missing-image"].images == 2 and findings["unreadable"].images == 0
    assert "empty file" in findings["broken-image"].examples[1].detail
    assert "symbolic link" in findings["unsafe-path"].examples[1].detail
    assert findings["image-extension"].examples[0].detail == "claims.jpg holds GIF"
    assert findings["duplicate-image"].examples[0].detail == "copy.png is good.png"
    assert findings["duplicate-row"].examples[0].detail == "same as row 0"
    assert findings["duplicate-id"].examples[0].detail == "same id as row 0"
    assert findings["placeholder-mismatch"].examples[0].detail == "1 <image> but 0 images"
    assert findings["video"].examples[0].id == "21"


def test_errors_come_first_and_json_holds_it_all(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    diagnosis = examine(open_pool(file, tmp_path / "images"))
    order = [SEVERITIES.index(f.severity) for f in diagnosis.findings]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    content = json.loads(json.dumps(diagnosis.to_json()))
    assert content["fails"] is True and content["rows"] == len(open_pool(file, tmp_path / "images"))
    assert content["findings"][0]["examples"][0].keys() == {"row", "id", "detail"}


def test_lost_rows_are_those_that_a_run_with_a_model_loses(tmp_path, make_row):
    """The doctor's promise, held against what the pool itself refuses."""
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    lost = set(pool.problems)
    for row, sample in enumerate(pool.samples(range(len(pool)))):
        for ref in sample.images:
            try:
                pool.load_image(ref)
            except Exception:  # noqa: BLE001 - any failure at all loses the row
                lost.add(row)
    assert examine(pool).lost == len(lost)


def test_progress_is_told_of_every_image(tiny_pool):
    count = Count()
    examine(open_pool(tiny_pool, tiny_pool.parent / "images"), workers=1, progress=count)
    assert count.calls[0] == ("start", 4, 0) and count.calls[-1] == "finish"
    assert sum(c for c in count.calls if isinstance(c, int)) == 4


def test_same_for_any_number_of_workers(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    assert examine(pool, workers=1) == examine(pool, workers=5)


def test_every_problem_kind_of_the_parser_is_known_to_the_doctor():
    turn = {"from": "human", "value": "Q"}
    for record in (1, {"conversations": [1]}, {"conversations": [{**turn, "from": "x"}]}, {"conversations": [turn]}):
        assert parse(record, "", "").problem.partition(":")[0] in KINDS


@pytest.mark.slow
def test_public_data_is_clean(shared):
    pool = open_pool(shared / "data/nlvr/dev.json", shared / "data/nlvr/images")
    diagnosis = examine(pool)
    assert not diagnosis.fails and by_kind(diagnosis).keys() == {"duplicate-image"}


def test_the_first_copy_in_the_file_is_the_original(tmp_path, make_row):
    (tmp_path / "p.json").write_text(json.dumps([make_row(i, None, "Q", "A") for i in range(9)]))
    pool = open_pool(tmp_path / "p.json")
    assert int(pool.order[0]) != 0
    (copies,) = [f for f in examine(pool).findings if f.kind == "duplicate-row"]
    assert copies.rows == 8 and [e.detail for e in copies.examples] == ["same as row 0"] * 3
