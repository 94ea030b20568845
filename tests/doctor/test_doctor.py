"""A pool with every kind of problem: each finding is reported, counted, and matches a run."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import runs as run
from tests.text_pools import HighestLoss, Model, write_pool
from thresher.cli import main
from thresher.doctor import KINDS, SEVERITIES, Diagnosis, diagnose, find_problems, repair
from thresher.doctor.repair import _repair_turns, check_target
from thresher.errors import ConfigError, ImageError, TooManyFailures
from thresher.pools import open_pool
from thresher.pools.llava import parse
from thresher.storage.columns import Store
from thresher.types import Budget


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


def test_pool_without_problems(tiny_pool):
    diagnosis = diagnose(open_pool(tiny_pool, tiny_pool.parent / "images"), workers=2)
    assert (
        not diagnosis.fails
        and diagnosis.lost == 0
        and (diagnosis.rows, diagnosis.images) == (10, 4)
    )
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
    (images / "page.png").write_bytes(b"<html>404 Not Found</html>")
    (images / "bomb.png").write_bytes(huge_png(20_000, 20_000))
    Image.new("RGB", (1, 1), (9, 9, 9)).save(images / "one.png")
    Image.new("RGB", (9, 9), (50, 60, 70)).convert("P").save(images / "palette.png")
    Image.new("RGBA", (9, 9), (80, 90, 70, 128)).save(images / "clear.png")
    Image.new("CMYK", (9, 9), (10, 90, 170, 0)).save(images / "print.jpg")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(images / "deep.png")
    frames = [Image.new("RGB", (9, 9), (c, 130, 0)) for c in (10, 200)]
    frames[0].save(images / "moves.gif", save_all=True, append_images=frames[1:])
    turned = Image.new("RGB", (12, 9), (140, 20, 170))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(images / "turned.jpg", exif=exif)
    noise = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    )
    noise.save(images / "noise.png")
    noise.save(images / "noise.jpg", quality=85)
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
    add("missing-image", make_row(len(rows), ["good.png", "gone.png"], "<image><image>", "A"))
    add("broken-image", image("cut.png"))
    add("empty-image", image("zero.png"))
    add("not-an-image", image("page.png"))
    add("huge-image", image("bomb.png"))
    add("tiny-image", image("one.png"))
    add("palette-image", image("palette.png"))
    add("alpha-image", image("clear.png"))
    add("cmyk-image", image("print.jpg"))
    add("wide-image", image("deep.png"))
    where["palette-image"].append(len(rows))  # a GIF has a palette
    add("animated-image", image("moves.gif"))
    add("rotated-image", image("turned.jpg"))
    rows.append(image("noise.png"))
    add("near-duplicate", image("noise.jpg"))
    add("unsafe-path", image("/etc/secret.png"))
    add("nul-byte", chat(("human", "What\0?"), ("gpt", "A")))
    add("crlf", chat(("human", "First\r\nline?"), ("gpt", "A")))
    add("long-row", chat(("human", "word " * 9000), ("gpt", "A")))
    rows.append(chat(("human", f"{LONG} first?"), ("gpt", "A")))
    add("near-duplicate", chat(("human", f"{LONG} first!?"), ("gpt", "A")))
    add("unsafe-path", image("../secret.png"))
    add("unsafe-path", image("out.png"))
    add("remote-url", image("https://host/x.png"))
    where["palette-image"].append(len(rows))
    add("image-extension", image("claims.jpg"))
    add("bad-image", image(5))
    add("placeholder-mismatch", make_row(len(rows), None, "<image>", "A"))
    add("placeholder-missing", make_row(len(rows), "other.png", "Unplaced?", "A"))
    add("no-answer", chat(("human", "Q"), ("gpt", " ")))
    add("bad-turn", {"id": len(rows), "conversations": ["Q"]})
    add("unknown-role", chat(("human", "Q"), ("bot", "A"), ("gpt", "A")))
    add("bad-value", chat(("human", "Q"), ("gpt", None)))
    add("invalid-text", chat(("human", "\ud800"), ("gpt", "A")))
    add("video", {**chat(("human", "Q"), ("gpt", "A")), "video": "v.mp4"})
    add("audio", {**chat(("human", "Q"), ("gpt", "A")), "audio": "a.wav"})
    add("unread-media", {**chat(("human", "Q"), ("gpt", "A")), "image_path": "good.png"})
    add("media-marker", chat(("human", "<|image_pad|>What is this?"), ("gpt", "A")))
    add("grounding", chat(("human", "Where is <ref-object>?"), ("gpt", "A")))
    add("marker-read", make_row(len(rows), "other.png", "Look at <image1> closely.", "A"))
    objects = {"ref": ["the hat"], "bbox": []}
    add(
        "grounding-filled",
        {**chat(("human", "What colour has <ref-object>?"), ("gpt", "A")), "objects": objects},
    )
    add(
        "grounding-tags",
        chat(("human", "Find it."), ("gpt", "<ref>hat</ref><box>(1,2),(3,4)</box>")),
    )
    add("empty-answer", chat(("human", "Q"), ("gpt", ""), ("human", "Q"), ("gpt", "A")))
    add("empty-question", chat(("human", ""), ("gpt", "A")))
    add("starts-with-assistant", chat(("gpt", "A"), ("human", "Q"), ("gpt", "A")))
    add("ends-with-user", chat(("human", "Q"), ("gpt", "A"), ("human", "Q")))
    add("user-twice", chat(("human", "Q"), ("human", "Q"), ("gpt", "A")))
    add("assistant-twice", chat(("human", "Q"), ("gpt", "A"), ("gpt", "A")))
    add(
        "late-system",
        chat(("human", "Q"), ("gpt", "A"), ("system", "S"), ("human", "Q"), ("gpt", "A")),
    )
    add("duplicate-id", {**chat(("human", "Unique question"), ("gpt", "A")), "id": 0})
    add("unreadable", {"id": len(rows)})
    lines = [json.dumps(r) for r in rows]
    where["unreadable"].append(len(lines))
    lines.append('{"id": 931, "conv')
    file = folder / "bad.jsonl"
    where["byte-order-mark"] = [0]
    where["crlf"].insert(0, 0)
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    # the same image and words under another path
    where["duplicate-row"].insert(0, where["duplicate-image"][0])
    return file, where


LONG = " ".join(f"item{i} and thing{i} are near place{i}," for i in range(12))


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_every_kind_of_problem(tmp_path, make_row):
    file, where = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    diagnosis = diagnose(pool, workers=3)
    found = by_kind(diagnosis)
    text_only = found.pop("text-only")
    assert found == {kind: (len(rows), rows[:3]) for kind, rows in where.items()}
    of_scored_videos = {"missing-video", "bad-video"}  # `test_doctor_videos`
    assert set(where) | {"text-only", "eval-leak"} | of_scored_videos == set(KINDS)
    assert text_only[0] == sum(
        not r.images and not p for r, p in ((s, s.problem) for s in pool.samples(range(len(pool))))
    )
    errors = {row for kind, rows in where.items() if KINDS[kind][0] == "error" for row in rows}
    assert diagnosis.fails and diagnosis.lost == len(errors)


def test_details_of_findings(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    findings = {f.kind: f for f in diagnose(open_pool(file, tmp_path / "images")).findings}
    assert [e.detail for e in findings["missing-image"].examples] == [
        "gone.png",
        "ocr.jpg (there is ocr.gif)",
        "gone.png",
    ]
    assert findings["missing-image"].images == 2 and findings["unreadable"].images == 0
    assert "empty file" in findings["empty-image"].examples[0].detail
    assert "pixels" in findings["huge-image"].examples[0].detail
    assert findings["near-duplicate"].examples[0].detail == "nearly row 18"
    assert findings["animated-image"].examples[0].detail == "moves.gif: 2 frames"
    assert "symbolic link" in findings["unsafe-path"].examples[2].detail
    assert findings["image-extension"].examples[0].detail == "claims.jpg contains GIF"
    assert findings["duplicate-image"].examples[0].detail == "copy.png is good.png"
    assert findings["duplicate-row"].examples[0].detail == "same as row 0"
    assert findings["duplicate-id"].examples[0].detail == "same id as row 0"
    assert findings["placeholder-mismatch"].examples[0].detail == "1 <image> but 0 images"
    assert findings["video"].examples[0].detail


def test_errors_are_first_and_json_is_complete(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    diagnosis = diagnose(open_pool(file, tmp_path / "images"))
    order = [SEVERITIES.index(f.severity) for f in diagnosis.findings]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    content = json.loads(json.dumps(diagnosis.to_json()))
    assert content["fails"] is True and content["rows"] == len(open_pool(file, tmp_path / "images"))
    assert content["findings"][0]["examples"][0].keys() == {"row", "id", "detail"}


def test_lost_rows_match_those_of_a_run(tmp_path, make_row):
    """The doctor's promise, held against what the pool itself refuses."""
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    lost_rows = set(pool.problems)
    for row, sample in enumerate(pool.samples(range(len(pool)))):
        if any("\0" in turn.text for turn in sample.turns):
            lost_rows.add(row)
        for ref in sample.images:
            try:
                pool.load_image(ref)
            except Exception:  # noqa: BLE001 - any failure at all loses the row
                lost_rows.add(row)
    assert diagnose(pool).lost == len(lost_rows)


def test_progress_counts_every_image(tiny_pool):
    count = Count()
    diagnose(open_pool(tiny_pool, tiny_pool.parent / "images"), workers=1, progress=count)
    began = count.calls.index(("start", 4, 0))
    done = count.calls[began : count.calls.index("finish", began)]
    assert sum(c for c in done if isinstance(c, int)) == 4 and count.calls[-1] == "finish"


def test_same_for_any_number_of_workers(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    assert diagnose(pool, workers=1) == diagnose(pool, workers=5)


def test_every_problem_kind_of_the_parser_is_known_to_the_doctor():
    turn = {"from": "human", "value": "Q"}
    for record in (
        1,
        {"conversations": [1]},
        {"conversations": [{**turn, "from": "x"}]},
        {"conversations": [turn]},
    ):
        assert parse(record, "", "").problem.partition(":")[0] in KINDS


@pytest.mark.slow
def test_public_data_has_no_errors(shared):
    """No false alarm: NLVR is RGBA and has images twice, with the same statement; easy_vqa four
    pairs of images that look the same."""
    nlvr = diagnose(open_pool(shared / "data/nlvr/dev.json", shared / "data/nlvr/images"))
    assert not nlvr.fails and by_kind(nlvr).keys() == {
        "duplicate-row",
        "duplicate-image",
        "near-duplicate",
        "alpha-image",
    }
    easy = shared / "data" / "easy_vqa"
    test = open_pool(easy / "test.json", easy / "images")
    found = diagnose(open_pool(easy / "train.json", easy / "images"), evals=[("test.json", test)])
    assert not found.fails and {k: n for k, (n, _) in by_kind(found).items()} == {
        "near-duplicate": 6
    }


def test_the_first_copy_in_the_file_is_the_original(tmp_path, make_row):
    (tmp_path / "p.json").write_text(json.dumps([make_row(i, None, "Q", "A") for i in range(9)]))
    pool = open_pool(tmp_path / "p.json")
    assert int(pool.order[0]) != 0
    (copies,) = [f for f in diagnose(pool).findings if f.kind == "duplicate-row"]
    assert copies.rows == 8 and [e.detail for e in copies.examples] == ["same as row 0"] * 3


# ---------------------------------------------------------------------------------- what a run does


def test_select_counts_the_same_errors_and_uses_other_rows(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    diagnosis = diagnose(pool)

    def cannot_open(sample):
        """As a model does: a text that cannot be encoded, or the first image that cannot be read,
        is the row's error."""
        if any("\0" in turn.text for turn in sample.turns):
            return "a NUL"
        for ref in sample.images:
            try:
                pool.load_image(ref)
            except ImageError as error:
                return str(error)
        return ""

    store = Store(tmp_path / "store")
    with pytest.raises(TooManyFailures, match='on_missing="exclude"'):
        run.select(
            pool, HighestLoss(), Budget.parse("5"), store=store, model=Model(cannot_open).handle
        )
    out = run.select(
        pool,
        HighestLoss(),
        Budget.parse("100%"),
        store=store,
        model=Model(cannot_open).handle,
        on_missing="exclude",
    )
    assert len(out.failures) == diagnosis.lost and len(out.rows) == len(pool) - diagnosis.lost
    assert not {f.row for f in out.failures} & set(out.rows.tolist())
    kinds = {f.kind: f for f in diagnosis.findings if f.severity == "error"}
    lost_rows = set().union(*({e.row for e in f.examples} for f in kinds.values()))
    assert lost_rows <= {f.row for f in out.failures}


# ------------------------------------------------------------------------------------------ leakage


def test_evaluation_leaks_are_reported(tmp_path, make_row):
    file, _ = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    questions = [
        make_row("e0", "noise.jpg", "<image>\nQ", "Another answer"),
        make_row("e1", None, f"{LONG} first?", "A"),
        make_row("e2", "other.png", "<image>\nUnasked?", "A"),
        {**make_row("e3", None, "<audio>\nWho speaks?", "A"), "audio": "a.wav"},
    ]
    (tmp_path / "test.json").write_text(json.dumps(questions))
    found = diagnose(
        pool, evals=[("test.json", open_pool(tmp_path / "test.json", tmp_path / "images"))]
    )
    (leak,) = [f for f in found.findings if f.kind == "eval-leak"]
    details = [e.detail for e in leak.examples]
    assert leak.severity == "warning" and leak.rows == 4
    assert "re-encoded: row 0 of test.json" in details and "exact: row 0 of test.json" in details
    assert any("4 rows repeat questions of test.json (4 rows)" in str(note) for note in found.notes)
    unchecked = (
        "1 of 4 rows of test.json could not be compared, so a leak of them is not found: "
        "1 × it has audio"
    )
    assert any(str(note).startswith(unchecked) for note in found.notes)
    assert any("rows of the pool could not be compared" in str(note) for note in found.notes)


# -------------------------------------------------------------------------------- the repaired copy


def test_repaired_copy_loses_no_row(tmp_path, make_row):
    file, where = bad_pool(tmp_path, make_row)
    before = file.read_bytes()
    pool = open_pool(file, tmp_path / "images")
    found = find_problems(pool)
    for name in ("fixed.jsonl", "fixed.json"):
        repaired = repair(pool, found, tmp_path / name)
        copy = open_pool(tmp_path / name, tmp_path / "images")
        again = diagnose(copy)
        errors = {f.kind for f in again.findings if f.severity == "error"}
        assert errors == {"video", "audio"} and len(copy) == repaired.rows
        missing = {
            "starts-with-assistant",
            "ends-with-user",
            "user-twice",
            "assistant-twice",
            "nul-byte",
            "crlf",
        }
        assert not missing & {f.kind for f in again.findings}
        assert "placeholder-missing" not in {f.kind for f in again.findings}
    log = [json.loads(line) for line in repaired.log.read_text().splitlines()]
    assert repaired.rows + repaired.left_out == len(pool) and file.read_bytes() == before
    assert len({c["row"] for c in log if c["done"] == "left out"}) == repaired.left_out
    assert len({c["row"] for c in log if c["done"] == "repaired"}) == repaired.repaired
    ocr = where["missing-image"][1]
    assert [c for c in log if c["row"] == ocr] == [
        {
            "row": ocr,
            "id": str(ocr),
            "done": "repaired",
            "kind": "missing-image",
            "what": "ocr.jpg became ocr.gif",
        }
    ]
    # every unchanged row is in the copy exactly as in the pool
    changed = {c["row"] for c in log}
    kept = {
        json.dumps(r, sort_keys=True) for r in json.loads((tmp_path / "fixed.json").read_text())
    }
    for row in set(range(len(pool))) - changed:
        assert json.dumps(pool.record(row), sort_keys=True) in kept


def test_repairs_of_a_conversation():
    def turns(*text):
        record = {"conversations": [{"from": r, "value": v} for r, v in text]}
        done = _repair_turns(record)
        return [(t["from"], t["value"]) for t in record["conversations"]], [
            d.partition(":")[0] for d in done
        ]

    q, a, s = ("human", "Q"), ("gpt", "A"), ("system", "S")
    assert turns(q, a) == ([q, a], [])
    assert turns(a, q, a, q) == ([q, a], ["starts-with-assistant", "ends-with-user"])
    assert turns(s, q, q, a, a) == (
        [s, ("human", "Q\nQ"), ("gpt", "A\nA")],
        ["user-twice", "assistant-twice"],
    )
    assert turns(a, q) == ([a, q], [])  # no question has an answer: left as it is
    assert turns(q, a, ("human", "<image>")) == ([q, a, ("human", "<image>")], [])
    assert turns(q, ("bot", "A")) == ([q, ("bot", "A")], [])


def test_a_copy_never_overwrites_the_pool(tmp_path, tiny_pool):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    for name in (tiny_pool, tmp_path / "copy.parquet"):
        with pytest.raises(ConfigError):
            repair(pool, find_problems(pool), name)


def test_wrong_image_folder_is_a_finding(tmp_path, make_row):
    """What a user sees who forgets --images: no row is left to be compared."""
    pool = open_pool(
        write_pool(
            tmp_path / "p.json", [make_row(i, "x.png", f"<image>\nQ{i}", "A") for i in range(3)]
        )
    )
    found = find_problems(pool, evals=[("itself", pool)]).diagnosis()
    assert by_kind(found)["missing-image"] == (3, [0, 1, 2]) and found.lost == 3
    assert any(
        "1 of 1 images do not exist" in str(note) and "`images`" in str(note)
        for note in found.notes
    )


# -------------------------------------------------------------------------------------- the command


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *map(str, words)])
    return int(stop.value.code or 0)


def test_unwritable_copy_is_reported_before_reading_images(tiny_pool, tmp_path, capsys):
    assert (
        command(tiny_pool, "--images", tiny_pool.parent / "images", "--fix", tmp_path / "copy.txt")
        == 2
    )
    assert (
        "reading images" not in (stderr := capsys.readouterr().err)
        and "ends in .json or .jsonl" in stderr
    )
    assert command(tiny_pool, "--context", 0) == 2


def test_missing_images_of_the_evaluation_set_are_reported(tmp_path, make_row, capsys):
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "a.png")
    rows = [
        make_row(0, "a.png", "<image>\nWhat is it?", "Noise."),
        make_row(1, "gone.png", "<image>\nAnd this?", "No."),
    ]
    pool, asked = (
        write_pool(tmp_path / "p.json", rows[:1]),
        write_pool(tmp_path / "test" / "t.json", rows),
    )
    assert (
        command(
            pool,
            "--images",
            tmp_path / "images",
            "--eval",
            asked,
            "--json",
            "--store",
            tmp_path / "store",
        )
        == 0
    )
    captured = json.loads(capsys.readouterr().out)
    assert [(f["kind"], f["rows"]) for f in captured["findings"]] == [("eval-leak", 1)]
    assert "1 of 2 rows of" in captured["notes"][0] and "--eval-images" in captured["notes"][0]


def test_the_command(tmp_path, make_row, capsys):
    file, _ = bad_pool(tmp_path, make_row)
    common = (file, "--images", tmp_path / "images", "--store", tmp_path / "store")
    asked = write_pool(tmp_path / "test.json", [make_row("e", "noise.png", "<image>\nQ", "A")])
    eval_set = ("--eval", asked, "--eval-images", tmp_path / "images")
    assert command(*common, "--json", "--fix", tmp_path / "fixed.jsonl", *eval_set) == 1
    captured = json.loads(capsys.readouterr().out)
    assert captured["fails"] and captured["repaired"]["log"].endswith("fixed.jsonl.changes.jsonl")
    assert "eval-leak" in {f["kind"] for f in captured["findings"]}
    assert command(*common) == 1
    assert "would lose" in capsys.readouterr().out
    copy = (tmp_path / "fixed.jsonl", *common[1:])
    assert command(*copy) == 1  # its video
    assert "noise" not in (tmp_path / "fixed.jsonl").read_text()  # a question of the evaluation set


@pytest.mark.parametrize("content", [b"", b'{"a": 1}', b'[{"id": 1, "conversations": [', b"PAR1"])
def test_invalid_pool_file_is_reported_as_json(tmp_path, capsys, content):
    (tmp_path / "p.json").write_bytes(content)
    assert command(tmp_path / "p.json", "--json", "--store", tmp_path / "store") == 1
    captured = json.loads(capsys.readouterr().out)
    assert captured["fails"] and captured["findings"][0]["kind"] == "unreadable-pool"
    assert "p.json" in captured["findings"][0]["examples"][0]["detail"]


def test_embedded_images_are_checked(tmp_path, tiny_pool):
    """A tar with the pool's images, one of them damaged: found in the row that holds it."""
    from thresher.exporters import export

    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    whole = tiny_pool.parent / "images" / "one" / "red.png"
    whole.write_bytes(whole.read_bytes()[:-30])
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    export(pool, range(len(pool)), tmp_path / "tars", "webdataset")
    tar = open_pool(tmp_path / "tars")
    found = {f.kind: f for f in diagnose(tar).findings}
    red = [
        r
        for r in range(len(tar))
        if any(i.data == whole.read_bytes() for i in tar.sample(r).images)
    ]
    assert red and found["broken-image"].rows == len(red)
    assert [e.row for e in found["broken-image"].examples] == red[:3]
    assert found["broken-image"].examples[0].detail.startswith("embedded image")


@pytest.mark.slow
def test_real_model_loses_the_rows_that_doctor_reports(tmp_path, make_row):
    from thresher.backends import resolve
    from thresher.methods import load

    file, where = bad_pool(tmp_path, make_row)
    pool = open_pool(file, tmp_path / "images")
    out = run.select(
        pool,
        load("perplexity", {}),
        Budget.parse("100%"),
        store=Store(tmp_path / "store"),
        model=resolve("demo", device="cpu"),
        on_missing="exclude",
        unscorable="drop",  # its video, and the row that is too long
    )
    errors = np.flatnonzero(find_problems(pool).lost)
    assert {f.row for f in out.failures} == set(errors.tolist()) - set(where["video"]) - set(
        where["audio"]
    )
    assert len(out.rows) == len(pool) - len(errors) - len(where["long-row"])


def test_copy_to_unwritable_path_is_refused_before_reading_images(tmp_path, make_row):
    pool = open_pool(write_pool(tmp_path / "p.json", [make_row("a", "", "Q", "A")]))
    (tmp_path / "folder.json").mkdir()
    for name, why in (
        ("nowhere/fixed.json", "there is no folder"),
        ("folder.json", "it is a folder"),
    ):
        with pytest.raises(ConfigError, match=f"cannot be written: {why}"):
            check_target(pool, tmp_path / name)
