"""Opening a pool: samples, facts, order, raw bytes, and changes of files and folders."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from thresher.errors import ConfigError, ImageError, PoolError
from thresher.pools import open_pool
from thresher.pools import pool as pool_module
from thresher.types import CHANGED, RowError, digests_to_bytes


def save(file: Path, rows: list, lines: bool = False) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return file


def test_small_pool(tiny_pool):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    rows = json.loads(tiny_pool.read_text(encoding="utf-8"))
    assert len(pool) == 10 and pool.format == "llava-json" and not pool.problems
    assert pool.ids(range(10)) == ["a0", "a1", "a2", "a3", "4", "5", "a0", "chat", "sys", "u"]
    assert pool.source_names == ("one", "text", "two")
    assert [pool.source_names[s] for s in pool.source] == ["one"] * 4 + [
        "two",
        "text",
        "two",
        "two",
        "one",
        "text",
    ]
    samples = pool.samples(range(10))
    for sample, row in zip(samples, rows, strict=True):
        assert [t.text for t in sample.turns] == [t["value"] for t in row["conversations"]]
    assert [i.path for i in samples[4].images] == ["one/red.png", "one/blue.png"]
    assert samples[4].images[0].size == (tiny_pool.parent / "images/one/red.png").stat().st_size
    assert [s.digest for s in samples] == digests_to_bytes(pool.digest)
    facts = {k: v.tolist() for k, v in pool.facts.items()}
    assert facts["images"] == [1, 1, 1, 1, 2, 0, 1, 1, 1, 0]
    assert facts["turns"] == [2, 2, 2, 2, 2, 2, 2, 4, 3, 2]
    assert facts["answer_words"] == [1, 1, 1, 1, 4, 1, 1, 10, 1, 1]
    assert facts["answer_chars"][7] == len("A grey square.") + len(
        "Yes, quite sure — größer geht’s nicht."
    )
    assert not any(facts["missing_images"]) and not any(facts["video"])
    assert all(
        pool.facts[k].dtype == np.int32 for k in ("answer_words", "answer_chars", "turns", "images")
    )


def test_samples_by_row_and_by_digest(tiny_pool):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    assert [s.id for s in pool.samples([7, 0, 7, 5])] == ['"chat"', '"a0"', '"chat"', "5"]
    for row, digest in enumerate(digests_to_bytes(pool.digest)):
        assert pool.by_digest(digest) == pool.sample(row)
    with pytest.raises(KeyError):
        pool.by_digest(b"\1" * 32)
    for bad in (-1, 10):
        with pytest.raises(IndexError):
            pool.sample(bad)


def test_raw_bytes_equal_the_file(tiny_pool):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    content = tiny_pool.read_bytes()
    rows = json.loads(content)
    for raw, row in zip(pool.raw(range(10)), rows, strict=True):
        assert raw in content and json.loads(raw) == row and raw[:1] + raw[-1:] == b"{}"


def test_image_folder_defaults_to_the_folder_of_the_file(tiny_pool):
    rows = json.loads(tiny_pool.read_text(encoding="utf-8"))[:1]
    rows[0]["image"] = "images/one/red.png"
    pool = open_pool(save(tiny_pool.parent / "beside.json", rows))
    assert pool.load_image(pool.sample(0).images[0]).getpixel((0, 0)) == (220, 30, 30)


def test_canonical_order_does_not_depend_on_file_order_and_layout(tmp_path, make_row):
    rows = [
        make_row(i, None, f"Q {i % 7}", f"A {i % 3}", source=f"s{i % 4}", note=i % 5)
        for i in range(200)
    ]
    assert (
        len({json.dumps(r) for r in rows}) == 200
        and len({r["conversations"][0]["value"] for r in rows}) == 7
    )
    shuffled = rows.copy()
    random.Random(3).shuffle(shuffled)
    a = open_pool(save(tmp_path / "a.json", rows))
    b = open_pool(
        save(tmp_path / "b.jsonl", [dict(reversed(r.items())) for r in shuffled], lines=True)
    )
    assert (
        digests_to_bytes(a.digest[a.order])
        == digests_to_bytes(b.digest[b.order])
        == sorted(digests_to_bytes(a.digest))
    )
    # equal digests have one order too, whatever the order of the file
    assert a.ids(a.order) == b.ids(b.order)
    assert a.ids(a.order) != sorted(a.ids(a.order))
    assert [a.source_names[s] for s in a.source[a.order]] == [
        b.source_names[s] for s in b.source[b.order]
    ]
    assert (
        a.source_names == b.source_names
        and a.source[a.order].tolist() == b.source[b.order].tolist()
    )


def test_identical_records_keep_the_files_order(tmp_path, make_row):
    pool = open_pool(save(tmp_path / "p.json", [make_row(1, None, "Q", "A")] * 5))
    assert pool.order.tolist() == [0, 1, 2, 3, 4]


def test_source_falls_back_to_the_files_name(tmp_path, make_row):
    pool = open_pool(
        save(
            tmp_path / "mine.json",
            [make_row(1, None, "Q", "A"), make_row(2, None, "Q", "A", source="s")],
        )
    )
    assert pool.source_names == ("mine", "s") and pool.source.tolist() == [0, 1]
    assert pool.sample(0).source == "mine"


def test_invalid_rows_are_kept_and_counted(tmp_path, make_row):
    lines = [
        json.dumps(make_row(0, None, "Q", "A")),
        '{"id": 1, "conversations": [',
        "17",
        json.dumps(
            {
                "id": 3,
                "video": "v.mp4",
                "conversations": make_row(0, None, "Q", "A")["conversations"],
            }
        ),
        json.dumps(make_row(4, "gone.png", "<image>", "A")),
        json.dumps(make_row(5, "../gone.png", "<image>", "A")),
        json.dumps({"id": 6}),
        '{"id": 7, "conversations": [',
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    pool = open_pool(tmp_path / "p.jsonl")
    assert len(pool) == 8 and pool.format == "llava-jsonl"
    assert {r: p.partition(":")[0] for r, p in pool.problems.items()} == {
        1: "unreadable",
        2: "unreadable",
        3: "video",
        6: "unreadable",
        7: "unreadable",
    }
    assert np.flatnonzero(pool.unreadable).tolist() == [1, 2, 6, 7]
    assert np.flatnonzero(pool.facts["missing_images"]).tolist() == [4, 5]
    assert np.flatnonzero(pool.facts["video"]).tolist() == [3]
    assert list(pool.raw(range(8))) == [line.encode() for line in lines]
    for row, sample in enumerate(pool.samples(range(8))):
        assert sample.problem == pool.problems.get(row, "")
        assert sample.digest == digests_to_bytes(pool.digest)[row]
    # its own digest, not that of row 0
    assert pool.by_digest(pool.sample(3).digest).problem.startswith("video")


def test_no_usable_row_is_an_error_that_names_the_keys(tmp_path):
    with pytest.raises(
        PoolError,
        match=r"only record is no LLaVA row \(no `conversations`\)\. Keys of the first record: "
        r"data\.",
    ):
        open_pool(save(tmp_path / "p.json", [{"data": []}]))
    with pytest.raises(PoolError, match=r"only record is no LLaVA row .*: data\. Expected a list"):
        open_pool(save(tmp_path / "o.json", [{"data": [1]}], lines=True))
    with pytest.raises(
        PoolError,
        match=r"none of its 3 records .*messages, images.*Formats considered: llava: "
        r".*swift: ",
    ):
        open_pool(save(tmp_path / "m.jsonl", [{"messages": [], "images": []}] * 3, lines=True))
    with pytest.raises(PoolError, match="holds no rows"):
        open_pool(save(tmp_path / "e.json", []))
    turns = {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}
    with pytest.raises(
        PoolError,
        match=r"none of its 2 records is a row when read as alpaca\. .*Omit format=.alpaca",
    ):
        open_pool(save(tmp_path / "f.json", [turns, turns]), format="alpaca")


@pytest.mark.parametrize("images", ["", " "])
def test_an_empty_image_folder_is_refused(tiny_pool: Path, images: str) -> None:
    with pytest.raises(ConfigError, match=r"images=.* is empty\. Give the folder"):
        open_pool(tiny_pool, images)


def test_invalid_pool_paths(tmp_path, tiny_pool):
    with pytest.raises(PoolError, match=r"nothing\.json does not exist"):
        open_pool(tmp_path / "nothing.json")
    (tmp_path / "void").mkdir()
    with pytest.raises(PoolError, match=r"is a folder with no file of a known format"):
        open_pool(tmp_path / "void")
    with pytest.raises(PoolError, match=r"image folder .* does not exist.*`images`"):
        open_pool(tiny_pool, tmp_path / "no-images")
    with pytest.raises(PoolError, match="is not a folder"):
        open_pool(tiny_pool, tiny_pool)
    with pytest.raises(PoolError, match="not a plain file"):
        open_pool("/dev/null")
    with pytest.raises(PoolError):
        open_pool("a\0b")


def test_a_file_that_changes_after_opening_is_noticed(tiny_pool):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    with open(tiny_pool, "ab") as f:
        f.write(b" ")
    for use in (lambda: pool.sample(0), lambda: pool.samples([0]), lambda: list(pool.raw([0]))):
        with pytest.raises(PoolError, match="changed since it was opened"):
            use()


def test_replaced_file_still_serves_the_opened_content(tiny_pool, tmp_path):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    before = pool.samples(range(10))
    other = save(tmp_path / "other.json", [{"x": 1}])
    other.replace(tiny_pool)
    assert pool.samples(range(10)) == before


def test_an_image_rewritten_in_place_is_noticed(tiny_pool):
    images = tiny_pool.parent / "images"
    pool = open_pool(tiny_pool, images)
    ref = pool.sample(0).images[0]
    assert pool.load_image(ref).size == (24, 16)
    with open(images / ref.path, "ab") as f:
        f.write(b"more")
    with pytest.raises(
        ImageError, match=re.escape(f"{ref.path} (it had {ref.size} bytes")
    ) as raised:
        pool.load_image(ref)
    assert RowError.parse(str(raised.value)).kind == CHANGED


def test_reading_reports_progress(tmp_path, make_row):
    file = save(tmp_path / "p.json", [make_row(i, None, "Q", "A") for i in range(25_000)])
    results: list[int] = []
    open_pool(file, progress=results.append)
    assert results == [10_000, 10_000, 5_000]


def test_memory_stays_below_the_file_size(tmp_path, make_row):
    """A 60 MB list is read with a peak (beyond the interpreter and its imports) of under half the
    file."""
    row = json.dumps(make_row("x" * 20, None, "Q" * 1500, "A" * 1500))
    file = tmp_path / "big.json"
    with open(file, "w") as f:
        f.write("[" + row)
        for _ in range(20_000):
            f.write(",\n" + row)
        f.write("]")
    assert file.stat().st_size > 60_000_000
    script = """
        import sys
        from thresher.console.peak_memory import peak_bytes
        from thresher.pools import open_pool
        before = peak_bytes()
        pool = open_pool(sys.argv[1])
        print(len(pool), peak_bytes() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows, extra = map(int, done.stdout.split())
    assert rows == 20_001
    assert extra < 30_000_000


def test_public_data(shared):
    data = shared / "data"
    for name, rows, n_images in (("easy_vqa/train", 38_575, 4_000), ("nlvr/dev", 5_934, 5_934)):
        pool = open_pool(data / f"{name}.json", data / name.split("/")[0] / "images")
        assert len(pool) == rows and not pool.problems and len(pool.index.image_path) == n_images
        assert not pool.facts["missing_images"].any()
        some = pool.samples(range(0, rows, 997))
        assert [s.digest for s in some] == digests_to_bytes(pool.digest[::997])
        assert pool.load_image(some[3].images[0]).mode == "RGB"


def test_digest_lookup_prefers_a_row_without_problems(tmp_path, make_row):
    # a number is not text
    rows = [make_row(i, None, 5, "A") for i in range(8)] + [make_row(8, None, "5", "A")]
    pool = open_pool(save(tmp_path / "p.json", rows))
    assert len(set(pool.digest.tolist())) == 1 and int(pool.order[0]) != 8
    assert pool.by_digest(pool.sample(0).digest).id == "8"


def test_ids_and_raw_records_of_any_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RAW_ROWS", 3)  # several blocks
    names = ["plain", 'q"uote', "back\\slash", "\ud800", "ä\n", 7, None, "", [1, "x"], "true"]
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    rows = [{"id": name, "conversations": turns} for name in names]
    save(tmp_path / "a.json", rows[:4])
    save(tmp_path / "b.jsonl", rows[4:], lines=True)
    pool = open_pool(f"{tmp_path / 'a.json'},{tmp_path / 'b.jsonl'}")
    shown = ["plain", 'q"uote', "back\\slash", "\ud800", "ä\n", "7", "null", "", '[1, "x"]', "true"]
    for asked in (range(10), [9, 0, 5, 5, 1], np.array([3, 8], np.int32), [], range(0)):
        assert pool.ids(asked) == [shown[r] for r in asked]
        assert [json.loads(raw) for raw in pool.raw(asked)] == [rows[r] for r in asked]
    for outside in (-1, 10):
        with pytest.raises(IndexError, match=f"row {outside} of a pool of 10"):
            list(pool.raw([0, outside]))
