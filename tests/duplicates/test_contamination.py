"""`find_contamination`: rows of a training pool that repeat an evaluation set, in any variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.tiny_videos import write_video
from thresher.duplicates import (
    Contamination,
    check_contamination,
    contamination,
    find_contamination,
    unchecked_note,
)
from thresher.duplicates.contamination import questions
from thresher.pools import Pool, open_pool
from thresher.types import ImageRef, Sample, Turn

LONG = (
    "Which of the two boats in the picture is nearer to the small white lighthouse on the left "
    "side of the bay, and why?"
)


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A few coloured boxes on a background; another seed gives another image."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = int(rng.integers(0, size[0] - 20)), int(rng.integers(0, size[1] - 20))
        draw.rectangle((x, y, x + 18, y + 18), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def pool(folder: Path, rows: list[dict[str, Any]]) -> Pool:
    folder.mkdir(exist_ok=True)
    (folder / "pool.json").write_text(json.dumps(rows))
    return open_pool(folder / "pool.json", folder)


@pytest.fixture
def test_set(tmp_path: Path, make_row: Any) -> Pool:
    folder = tmp_path / "eval"
    folder.mkdir()
    for i in range(6):
        picture(i).save(folder / f"{i}.png")
    rows = [make_row(i, f"{i}.png", f"<image>\nWhat is box {i}?", "Red.") for i in range(3)]
    rows.append(make_row(3, "3.png", f"<image>\n{LONG}", "The left one."))
    rows.append(
        make_row(
            4,
            None,
            "Who wrote the first book about the art of sailing in small boats?",
            "Nobody.",
        )
    )
    rows.append(make_row(5, ["4.png", "5.png"], "<image><image>\nSame?", "No."))
    return pool(folder, rows)


def test_all_variants_of_a_leak_are_found_and_nothing_else(
    tmp_path: Path, test_set: Pool, make_row: Any
) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for i in range(6):
        picture(i).save(folder / f"{i}.png")
    picture(0).save(folder / "again.jpg", quality=75)
    picture(1).resize((144, 96)).save(folder / "larger.png")
    for i in range(10, 16):
        picture(i).save(folder / f"{i}.png")
    rows = [
        # another answer gives the question away, too
        make_row("a", "0.png", "<image>\nWhat is box 0?", "Blue!"),
        make_row("b", "1.png", "  what is   BOX 1? <image>", "Red."),
        make_row(
            "c",
            "2.png",
            "<image>\nWhat is box 2?\nAnswer the question using a single word or phrase.",
            "Red",
        ),
        make_row("d", "again.jpg", "<image>\nWhat is box 0?", "Red."),
        make_row("e", "larger.png", "<image>\nWhat is box 1?", "Red."),
        make_row("f", "3.png", "<image>\n" + LONG.replace("small white", "white"), "Left."),
        make_row(
            "g",
            None,
            "Who wrote the first book about the art of sailing in small boats ?",
            "Nobody.",
        ),
        make_row("h", ["4.png", "5.png"], "<image><image>\nSame?", "No."),
        # not a copy: another image, another question, the images in another order, part of the
        # images
        make_row("i", "10.png", "<image>\nWhat is box 0?", "Red."),
        make_row("j", "0.png", "<image>\nHow many boxes are red?", "Two."),
        make_row("k", ["5.png", "4.png"], "<image><image>\nSame?", "No."),
        make_row("l", "4.png", "<image>\nSame?", "No."),
        make_row("m", None, "Who wrote the last song about it?", "Nobody."),
        make_row("n", None, "What is box 0?", "Red."),
    ]
    train = pool(folder, rows)
    expected = [
        Contamination(0, 0, "exact"),
        Contamination(1, 1, "exact"),
        Contamination(2, 2, "exact"),
        Contamination(3, 0, "re-encoded"),
        Contamination(4, 1, "re-encoded"),
        Contamination(5, 3, "near"),
        Contamination(6, 4, "near"),
        Contamination(7, 5, "exact"),
    ]
    assert find_contamination(train, test_set) == expected
    assert find_contamination(train, test_set, near=False) == [
        leak for leak in expected if leak.kind == "exact"
    ]


def test_any_question_of_a_conversation_leaks(
    tmp_path: Path, test_set: Pool, make_row: Any
) -> None:
    picture(2).save(tmp_path / "2.png")
    chat = make_row("chat", "2.png", "<image>\nWhere is it?", "Here.")
    chat["conversations"] += [
        {"from": "human", "value": "What is box 2?"},
        {"from": "gpt", "value": "Red."},
    ]
    assert find_contamination(pool(tmp_path, [chat]), test_set) == [Contamination(0, 2, "exact")]


def test_unreadable_images_match_nothing(tmp_path: Path, test_set: Pool, make_row: Any) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    rows = [
        make_row("x", "0.png", "<image>\nWhat is box 0?", "Red."),
        make_row("y", "gone.png", "<image>\nSame?", "No."),
    ]
    assert find_contamination(pool(tmp_path, rows), test_set) == []


def video_row(name: Any, question: str, **media: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "It turns red."}]
    return {"id": str(name), **media, "conversations": turns}


@pytest.mark.parametrize("scored", [False, True])
def test_rows_with_videos_are_compared_by_their_files(
    tmp_path: Path, make_row: Any, scored: bool
) -> None:
    write_video(tmp_path / "eval" / "a.mp4", 4, seed=1)
    write_video(tmp_path / "eval" / "b.mp4", 4, seed=2)
    picture(1).save(tmp_path / "eval" / "1.png")
    test = pool(
        tmp_path / "eval",
        [
            video_row("a", "<video>\nWhat happens?", video="a.mp4"),
            video_row("b", f"<video>\n{LONG}", video="b.mp4"),
            video_row("both", "<video><image>\nSame?", videos=["a.mp4"], image="1.png"),
        ],
    )
    folder = tmp_path / "train"
    for name, source in (("copy.mp4", "a.mp4"), ("b.mp4", "b.mp4"), ("1.png", "1.png")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes((tmp_path / "eval" / source).read_bytes())
    (folder / "text.mp4").write_text("not a video, and never decoded")
    rows = [
        video_row(0, "What happens?", video="copy.mp4"),  # another name and place
        video_row(1, "<image>\nWhat happens?", videos=["copy.mp4"]),  # as LLaVA-Video writes it
        video_row(2, f"<video>\n{LONG.replace('boats', 'ships')}", video="b.mp4"),
        video_row(3, "<video>\nWhat happens?", video="b.mp4"),  # another video
        video_row(4, "<video>\nWhat happens?", video="text.mp4"),
        video_row(5, "<image><video>\nSame?", videos=["copy.mp4"], image="1.png"),
        video_row(6, "<video>\nSame?", video="copy.mp4"),
        make_row(7, None, "What happens?", "Nothing."),
    ]
    train = pool(folder, rows)
    if scored:
        train.score_videos(2)
        test.score_videos(2)
    checked = check_contamination(train, test)
    assert checked.found == [
        Contamination(0, 0, "exact"),
        Contamination(1, 0, "exact"),
        Contamination(2, 1, "near"),
        Contamination(5, 2, "exact"),
    ]
    assert not checked.unchecked and not checked.other_unchecked


def test_rows_that_cannot_be_compared_are_counted(tmp_path: Path, make_row: Any) -> None:
    picture(1).save(tmp_path / "1.png")
    rows = [
        make_row(0, "1.png", "<image>\nWhat is it?", "Red."),
        make_row(1, "gone.png", "<image>\nWhat is it?", "Red."),
        video_row(2, "<video>\nWhat?", video="gone.mp4"),
        video_row(3, "<video>\nWhat?", video=["1.mp4", ["a.jpg", "b.jpg"]]),
        video_row(4, "<audio>\nWhat?", audio="a.wav"),
        {"id": "5", "conversations": None},
        video_row(6, "<video>\nWhat?", video="gone.mp4"),
    ]
    ours = pool(tmp_path, rows)
    checked = check_contamination(ours, ours)
    assert checked.found == [Contamination(0, 0, "exact")]
    assert checked.unchecked == checked.other_unchecked
    assert sorted(checked.unchecked) == [1, 2, 3, 4, 5, 6]
    expected = {
        1: "missing-image: gone.png: no such image in ",
        2: "missing-video: gone.mp4: no such video in ",
        3: "missing-video: 1.mp4: no such video in ",
        4: "it has audio",
        5: "unreadable: ",
    }
    for row, beginning in expected.items():
        assert checked.unchecked[row].startswith(beginning), checked.unchecked[row]
    note = unchecked_note(checked.unchecked, len(ours), "the pool")
    assert note.startswith("6 of 7 rows of the pool could not be compared, so a leak of them is")
    assert "3 × missing-video" in note
    assert unchecked_note({}, 7, "the pool") == ""


def test_every_image_is_read_once_however_far_apart_its_rows_are(
    tmp_path: Path, test_set: Pool, make_row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for i in (20, 21):
        picture(i).save(folder / f"{i}.png")
    rows = [make_row(i, f"{20 + i % 2}.png", f"<image>\nBox {i}?", "Red.") for i in range(10)]
    train = pool(folder, rows)
    monkeypatch.setattr(contamination, "BATCH_ROWS", 3)
    read: list[str] = []
    load_image = Pool.load_image

    def counted(self: Pool, ref: ImageRef) -> Image.Image:
        read.append(ref.path)
        return load_image(self, ref)

    monkeypatch.setattr(Pool, "load_image", counted)
    assert find_contamination(train, test_set) == []
    assert sorted(read) == sorted(["20.png", "21.png", *(f"{i}.png" for i in range(6))])


def test_later_text_question_is_compared_with_its_context() -> None:
    turns = (
        Turn("user", "Who was Ada?"),
        Turn("assistant", "A."),
        Turn("user", "Why?"),
        Turn("assistant", "B."),
    )
    assert questions(Sample("1", turns)) == ["who was ada?", "who was ada? why?"]
    assert questions(Sample("1", turns, (ImageRef("x.png"),))) == ["who was ada?", "why?"]


@pytest.mark.slow
def test_public_data_has_no_leak_and_all_reencoded_images_are_found(
    tmp_path: Path, shared: Path
) -> None:
    data = shared / "data" / "easy_vqa"
    test = open_pool(data / "test.json", data / "images")
    records = json.loads((data / "test.json").read_text())[:400]
    for record in records:
        target = (tmp_path / record["image"]).with_suffix(".jpg")
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            Image.open(data / "images" / record["image"]).convert("RGB").save(target, quality=75)
        record["image"] = str(target.relative_to(tmp_path))
    found = find_contamination(pool(tmp_path, records), test)
    assert [(leak.row, leak.other_row, leak.kind) for leak in found] == [
        (i, i, "re-encoded") for i in range(400)
    ]
    train = open_pool(data / "train.json", data / "images")
    assert find_contamination(train, test) == []
