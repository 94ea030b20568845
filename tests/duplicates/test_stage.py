"""`--dedup`: groups of duplicates, their representatives, and what selections record."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from tests import runs as run
from tests.text_pools import FirstTies
from tests.tiny_videos import write_video
from thresher.duplicates.stage import Representatives, representatives
from thresher.engine import RunContext
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.storage.columns import Store
from thresher.types import Budget

ANSWER = (
    "The picture shows a quiet harbour in the early morning with three small fishing boats tied "
    "to a wooden pier, two men mending a green net, a dog asleep beside a coil of rope, and a row "
    "of white houses on the hill behind them."
)


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = int(rng.integers(0, size[0] - 20)), int(rng.integers(0, size[1] - 20))
        draw.rectangle((x, y, x + 18, y + 18), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


@pytest.fixture
def records(tmp_path: Path, make_row: Any) -> list[dict[str, Any]]:
    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    picture(0).save(tmp_path / "0.jpg", quality=80)
    picture(0).save(tmp_path / "0.bmp")
    return [
        make_row(0, "0.png", "<image>\nWhat is it?", "A box."),
        make_row(1, "0.bmp", "what is  IT? <image>", "a box."),  # exact: same pixels, same words
        make_row(2, "0.jpg", "<image>\nWhat is it?", "A box."),  # near: saved again
        make_row(3, "1.png", "<image>\nWhat is it?", "A box."),  # another image
        make_row(4, "0.png", "<image>\nWhat is it?", "A tree."),  # another answer
        make_row(5, "2.png", "<image>\nDescribe.", ANSWER),
        make_row(6, "2.png", "<image>\nDescribe.", ANSWER.replace("green net", "blue net")),  # near
        make_row(7, "2.png", "<image>\nDescribe.", ANSWER[:90]),  # much shorter
        make_row(8, None, "Hello there?", "Hi."),
        make_row(9, None, "Hello  there?", "HI."),  # exact
        make_row(10, ["0.png", "1.png"], "<image><image>\nSame?", "No."),
        make_row(11, ["0.jpg", "1.png"], "<image><image>\nSame?", "No."),  # near
        make_row(12, ["1.png", "0.png"], "<image><image>\nSame?", "No."),  # another order
        make_row(13, "gone.png", "<image>\nWhat is it?", "A box."),  # no copy of another row
        make_row(14, "3.png", "<image>\nWhat is it?", "A box."),
    ]


def pool_of(folder: Path, records: list[dict[str, Any]], name: str = "pool.json") -> Pool:
    (folder / name).write_text(json.dumps(records))
    return open_pool(folder / name, folder)


def found(pool: Pool, how: str, store: Store, keep: list[int] | None = None) -> Representatives:
    mask = np.zeros(len(pool), bool)
    mask[keep or []] = True
    request = RunRequest(dedup=how)  # type: ignore[arg-type]
    return representatives(pool, np.ones(len(pool), bool), mask, request, RunContext(store))


def together(result: Representatives) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(result.group.tolist()):
        groups.setdefault(group, []).append(row)
    return sorted(g for g in groups.values() if len(g) > 1)


def test_groups(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    pool, store = pool_of(tmp_path, records), Store(tmp_path / "store")
    exact = found(pool, "exact", store)
    assert together(exact) == [[0, 1], [8, 9]]
    near = found(pool, "near", store)
    assert together(near) == [[0, 1, 2], [5, 6], [8, 9], [10, 11]]
    assert near.kept.sum() == len(records) - 5
    assert near.copies.tolist() == [3, 3, 3, 1, 1, 2, 2, 1, 2, 2, 2, 2, 1, 1, 1]
    assert "5 rows left out as copies, in 4 groups" in near.note
    assert all(near.kept[near.group])


def test_representative_does_not_depend_on_order_and_kept_row_takes_precedence(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    store = Store(tmp_path / "store")
    stays = {
        records[r]["id"]
        for r in np.flatnonzero(found(pool_of(tmp_path, records), "near", store).kept)
    }
    mixed = random.Random(3).sample(records, len(records))
    again = found(pool_of(tmp_path, mixed, "mixed.json"), "near", store)
    assert {mixed[r]["id"] for r in np.flatnonzero(again.kept)} == stays
    for row in (0, 1, 2):
        kept = found(pool_of(tmp_path, records), "near", store, [row, 9])
        assert [r for r in (0, 1, 2) if kept.kept[r]] == [row] and kept.kept[9]
    both = found(pool_of(tmp_path, records), "near", store, [0, 1])
    assert [r for r in (0, 1, 2) if both.kept[r]] == [0, 1]


def test_signals_are_stored_and_reused(
    tmp_path: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, store = pool_of(tmp_path, records), Store(tmp_path / "store")
    first = found(pool, "near", store)
    monkeypatch.setattr(Pool, "load_image", lambda *a: pytest.fail("a picture was read again"))
    again = found(pool, "near", store)
    assert again.group.tolist() == first.group.tolist()
    found(pool, "exact", store)


@pytest.mark.parametrize("absent", ["rensa", "imagehash"])
def test_exact_duplicates_need_no_optional_package(
    tmp_path: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    pool = pool_of(tmp_path, records)
    expected = found(pool, "exact", Store(tmp_path / "with"))
    monkeypatch.setitem(sys.modules, absent, None)
    got = found(pool, "exact", Store(tmp_path / "without"))
    assert (
        got.group.tolist() == expected.group.tolist()
        and got.copies.tolist() == expected.copies.tolist()
    )
    assert (got.copies > 1).any()


def test_selection_has_no_duplicates_and_lists_representatives(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    pool, store = pool_of(tmp_path, records), Store(tmp_path / "store")
    out = run.select(pool, FirstTies(), Budget.parse("100%"), store=store, dedup="near")
    assert len(out.rows) == len(records) - 5
    copies = dict(zip(out.rows.tolist(), out.reason["copies"].tolist(), strict=True))
    group = dict(zip(out.rows.tolist(), out.reason["duplicate_group"].tolist(), strict=True))
    assert group == {r: r for r in copies} and sum(copies.values()) == len(records)
    output.write(out, pool, None, tmp_path / "out")
    missing = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    assert (
        len(missing) == 5
        and {g["row"] for g in missing} == set(range(len(records))) - copies.keys()
    )
    assert {g["duplicate_group"] for g in missing} <= copies.keys()
    again = run.select(pool, FirstTies(), Budget.parse("100%"), store=store)
    output.write(again, pool, None, tmp_path / "out", overwrite=True)
    # it would contradict the new selection
    assert not (tmp_path / "out" / "duplicates.parquet").exists()
    assert any("left out as copies" in note for note in map(str, out.notes))


def test_pool_without_readable_images_is_no_error(tmp_path: Path, make_row: Any) -> None:
    pool = pool_of(tmp_path, [make_row(i, "gone.png", "<image>\nQ", "A") for i in range(3)])
    assert found(pool, "near", Store(tmp_path / "store")).kept.all()


def test_near_threshold_applies_to_texts(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    pool, store = pool_of(tmp_path, records), Store(tmp_path / "store")
    everything = np.ones(len(pool), bool)
    strict = representatives(
        pool,
        everything,
        ~everything,
        RunRequest(dedup="near", dedup_threshold=1.0),
        RunContext(store),
    )
    # one word of a long answer is now too much
    assert together(strict) == [[0, 1, 2], [8, 9], [10, 11]]


@pytest.mark.slow
def test_near_duplicates_of_public_data(tmp_path: Path, shared: Path) -> None:
    data = shared / "data" / "easy_vqa"
    near = found(open_pool(data / "test.json", data / "images"), "near", Store(tmp_path / "store"))
    assert together(near) == []


@pytest.mark.parametrize("how", ["exact", "near"])
def test_rows_with_scored_videos_are_no_copies(
    tmp_path: Path, records: list[dict[str, Any]], how: str
) -> None:
    write_video(tmp_path / "a.mp4", 4)
    turns = records[0]["conversations"]
    records += [{"id": f"v{k}", "video": "a.mp4", "conversations": turns} for k in range(2)]
    pool = pool_of(tmp_path, records)
    pool.score_videos(2)
    groups = together(found(pool, how, Store(tmp_path / "store")))
    assert groups and all(row < len(records) - 2 for group in groups for row in group)
