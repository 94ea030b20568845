"""The cache of parsed pools: same pool, changes noticed, damage repaired, atomic writes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from thresher.errors import PoolError
from thresher.pools import index, llava, open_pool, opening
from thresher.pools.text_column import TextColumn


@pytest.fixture
def parses(monkeypatch):
    """How often a file was parsed."""
    count: list[str] = []
    build = index.build_index
    monkeypatch.setattr(
        opening.pool_index, "build_index", lambda *a: count.append("parsed") or build(*a)
    )
    return count


def same(a, b) -> bool:
    for f in dataclasses.fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, TextColumn):
            if list(x) != list(y):
                return False
        elif isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.tobytes() != y.tobytes():
                return False
        elif x != y:
            return False
    return True


def test_second_opening_uses_the_cache(tiny_pool, tmp_path, parses):
    rows = json.loads(tiny_pool.read_text(encoding="utf-8"))
    rows += [
        {"id": "\ud800", "conversations": []},
        {"id": 1, "image": "no/such.png", "conversations": rows[0]["conversations"]},
    ]
    tiny_pool.write_text(json.dumps(rows))
    images = tiny_pool.parent / "images"
    a = open_pool(tiny_pool, images, cache=tmp_path / "cache")
    b = open_pool(tiny_pool, images, cache=tmp_path / "cache")
    assert parses == ["parsed"]
    assert same(a.index, b.index) and same(a.index, open_pool(tiny_pool, images).index)
    assert (
        a.samples(range(12)) == b.samples(range(12)) and a.problems == b.problems and b.notes == ()
    )
    assert [f.suffix for f in (tmp_path / "cache").glob("*.pool")] == [".pool"]


def test_pool_without_images_or_problems_survives_the_cache(tmp_path, make_row):
    (tmp_path / "p.json").write_text(json.dumps([make_row(1, None, "Q", "A")]))
    for _ in range(2):
        pool = open_pool(tmp_path / "p.json", cache=tmp_path / "cache")
        assert (
            pool.facts["images"].tolist() == [0]
            and not pool.problems
            and len(pool.sample(0).images) == 0
        )
        assert not pool.unreadable.any() and not pool.facts["missing_images"].any()


def test_changed_file_replaces_its_entry(tiny_pool, tmp_path, parses):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    open_pool(tiny_pool, images, cache=cache)
    rows = json.loads(tiny_pool.read_text(encoding="utf-8"))
    tiny_pool.write_text(json.dumps(rows[:3]))
    assert len(open_pool(tiny_pool, images, cache=cache)) == 3
    stamp = tiny_pool.stat()
    tiny_pool.write_text(json.dumps(rows[1:3] + rows[:1]))  # as long
    os.utime(tiny_pool, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert open_pool(tiny_pool, images, cache=cache).ids([0]) == ["a1"]
    assert len(parses) == 3 and len(list(cache.glob("*.pool"))) == 1


def test_added_removed_and_restored_images_are_noticed(tiny_pool, tmp_path, parses):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    whole = open_pool(tiny_pool, images, cache=cache)
    (images / "one/red.png").rename(tmp_path / "red.png")
    without = open_pool(tiny_pool, images, cache=cache)
    assert np.flatnonzero(without.facts["missing_images"]).tolist() == [0, 4]
    assert without.sample(0).images[0].size == -1 and without.digest[0] != whole.digest[0]
    (tmp_path / "red.png").rename(images / "one/red.png")
    again = open_pool(tiny_pool, images, cache=cache)
    # the texts are known
    assert again.digest.tobytes() == whole.digest.tobytes() and len(parses) == 1


def test_an_image_overwritten_in_place_is_noticed(tiny_pool, tmp_path, parses):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    before = open_pool(tiny_pool, images, cache=cache)
    folder = (images / "one").stat().st_mtime_ns
    with open(images / "one/red.png", "ab") as f:
        f.write(b"more")
    assert (images / "one").stat().st_mtime_ns == folder  # only the file itself can tell
    after = open_pool(tiny_pool, images, cache=cache)
    assert after.sample(0).images[0].size == before.sample(0).images[0].size + 4
    assert np.flatnonzero(after.digest != before.digest).tolist() == [0, 4]
    assert len(parses) == 1 and same(open_pool(tiny_pool, images, cache=cache).index, after.index)
    assert len(parses) == 1


def test_unreferenced_files_do_not_matter(tiny_pool, tmp_path, parses):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    open_pool(tiny_pool, images, cache=cache)
    (images / "one" / "other.txt").write_text("x")
    open_pool(tiny_pool, images, cache=cache)
    assert len(parses) == 1


def test_unusual_image_paths_are_checked_at_every_opening(tmp_path, make_row, parses):
    paths = [
        "größe/日本.png",
        "../up.png",
        "/etc/hostname",
        "\ud800.png",
        "no/such.png",
        "a\0b.png",
    ]
    (tmp_path / "größe").mkdir()
    (tmp_path / "größe/日本.png").write_bytes(b"xyz")
    (tmp_path / "p.json").write_text(
        json.dumps([make_row(i, p, "<image>", "A") for i, p in enumerate(paths)])
    )
    for _ in range(2):
        pool = open_pool(tmp_path / "p.json", cache=tmp_path / "cache")
        assert pool.index.image_size.tolist() == [3, -1, -1, -1, -1, -1]
    assert len(parses) == 1


def test_new_folder_is_noticed(tmp_path, make_row, parses):
    (tmp_path / "p.json").write_text(json.dumps([make_row(1, "later/a.png", "<image>", "A")]))
    cache = tmp_path / "cache"
    images = tmp_path / "images"
    images.mkdir()
    assert open_pool(tmp_path / "p.json", images, cache=cache).facts["missing_images"].all()
    (images / "later").mkdir()
    Image.new("RGB", (2, 2)).save(images / "later/a.png")
    assert not open_pool(tmp_path / "p.json", images, cache=cache).facts["missing_images"].any()
    assert len(parses) == 1


def test_another_image_folder_is_another_entry(tiny_pool, tmp_path, parses):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    shutil.copytree(images, tmp_path / "copy")
    (tmp_path / "copy/one/red.png").unlink()
    a, b = (
        open_pool(tiny_pool, images, cache=cache),
        open_pool(tiny_pool, tmp_path / "copy", cache=cache),
    )
    assert a.digest[0] != b.digest[0] and len(parses) == 2
    open_pool(tiny_pool, images, cache=cache)
    assert len(parses) == 2


def test_new_parser_version_invalidates_the_cache(tiny_pool, tmp_path, parses, monkeypatch):
    open_pool(tiny_pool, tiny_pool.parent / "images", cache=tmp_path / "cache")
    monkeypatch.setattr(llava, "VERSION", llava.VERSION + 1)
    open_pool(tiny_pool, tiny_pool.parent / "images", cache=tmp_path / "cache")
    assert len(parses) == 2


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "empty": lambda c: b"",
    "cut off": lambda c: c[: len(c) // 2],
    "one bit in the arrays": lambda c: flip(c, len(c) - 40),
    "one bit in the header": lambda c: flip(c, 60),
    "other content": lambda c: b"something else entirely, and long enough to look at",
    "extended": lambda c: c + b"x",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_entry_is_rebuilt_with_a_note(tiny_pool, tmp_path, parses, damage):
    cache, images = tmp_path / "cache", tiny_pool.parent / "images"
    whole = open_pool(tiny_pool, images, cache=cache)
    (entry,) = cache.glob("*.pool")
    content = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](content))
    again = open_pool(tiny_pool, images, cache=cache)
    assert same(again.index, whole.index) and len(again.notes) == 1 and "damaged" in again.notes[0]
    assert entry.read_bytes() == content and len(parses) == 2


def test_unwritable_cache_gives_a_note(tiny_pool, tmp_path, parses):
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    pool = open_pool(tiny_pool, tiny_pool.parent / "images", cache=tmp_path / "cache")
    assert len(pool) == 10 and len(pool.notes) == 1 and "could not be cached" in pool.notes[0]


def test_full_disk_leaves_no_file(tiny_pool, tmp_path, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    pool = open_pool(tiny_pool, tiny_pool.parent / "images", cache=tmp_path / "cache")
    assert "No space left on device" in pool.notes[0]
    assert list((tmp_path / "cache").glob("*.pool")) == []


def test_pool_that_changes_during_reading_is_refused(tiny_pool, monkeypatch):
    build = index.build_index

    def slow(*args):
        found = build(*args)
        with open(tiny_pool, "ab") as f:
            f.write(b"\n")
        return found

    monkeypatch.setattr(opening.pool_index, "build_index", slow)
    with pytest.raises(PoolError, match="changed while it was being read"):
        open_pool(tiny_pool, tiny_pool.parent / "images")
