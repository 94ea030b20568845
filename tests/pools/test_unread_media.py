"""Media in unread fields: a row problem, part of its identity, and never a duplicate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thresher.duplicates.stage import representatives
from thresher.engine import RunContext
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.storage.columns import Store

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
TURNS = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "The same words."}]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("audio_path", "a{i}.wav", "audio"),
        ("speech", "speech/{i}.flac", "audio"),
        ("video_url", "https://host/v{i}.mp4?token=1", "video"),
        ("clip", "v{i}.WEBM", "video"),
        ("image_path", "{i}.png", "image"),
        ("frames", ["{i}/0.jpg", "{i}/1.jpg"], "image"),
        ("picture", {"path": "{i}.jpeg"}, "image"),
    ],
)
def test_medium_in_another_field_is_a_row_problem(
    tmp_path: Path, field: str, value: Any, kind: str
) -> None:
    rows = [
        {
            "id": i,
            field: json.loads(json.dumps(value).replace("{i}", str(i))),
            "conversations": TURNS,
        }
        for i in range(4)
    ]
    pool = open_pool(written(tmp_path / "p.jsonl", rows))
    assert len(pool.problems) == 4
    assert all(p.startswith("unread-media: ") and f"`{kind}`" in p for p in pool.problems.values())
    assert len({pool.sample(i).digest for i in range(4)}) == 4


def test_bytes_in_an_unread_column(tmp_path: Path) -> None:
    rows = [
        {"photo": {"bytes": PNG + bytes([i]), "path": None}, "conversations": TURNS}
        for i in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    pool = open_pool(tmp_path / "p.parquet")
    assert [p.partition(":")[0] for p in pool.problems.values()] == ["unread-media"] * 3
    assert len({pool.sample(i).digest for i in range(3)}) == 3


def test_medium_in_a_turn_is_a_row_problem(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Q?", "images": ["a.png"]},
        {"role": "assistant", "content": "A"},
    ]
    pool = open_pool(written(tmp_path / "p.jsonl", [{"messages": turns}]))
    assert pool.problems[0].startswith("unread-media: an image in the field 'images'")


def test_other_fields_are_not_media(tmp_path: Path) -> None:
    rows = [
        {
            "id": "x.png",
            "note": "It costs 3.14",
            "url": "https://host/page.html",
            "conversations": TURNS,
        },
        {"image": "a.png", "mask": "a-mask.png", "conversations": TURNS},
        {
            "source": "cat.jpg",
            "score": 0.5,
            "tags": ["a", "b"],
            "meta": {"path": "x.json"},
            "conversations": TURNS,
        },
    ]
    assert open_pool(written(tmp_path / "p.jsonl", rows)).problems == {}


def test_rows_with_a_problem_are_never_duplicates(tmp_path: Path) -> None:
    asked = [{"from": "human", "value": "<image>\nWhat?"}, TURNS[1]]
    rows = [{"id": i, "file": f"other/{i}", "conversations": asked} for i in range(3)]
    rows += [{"id": 3 + i, "conversations": TURNS} for i in range(2)]
    pool = open_pool(written(tmp_path / "p.jsonl", rows))
    assert set(pool.problems) == {0, 1, 2}
    import numpy as np

    every = np.ones(5, bool)
    found = representatives(
        pool, every, ~every, RunRequest(dedup="exact"), RunContext(Store(tmp_path / "store"))
    )
    assert found.kept.sum() == 4 and found.kept[:3].all()


@pytest.mark.parametrize(
    "text",
    ["<audio>a/b.mp3</audio>What?", "Audio 1: <audio>x.wav</audio>\nQ", "<video>v.mp4</video>Q"],
)
def test_media_named_in_the_text_are_a_row_problem(tmp_path: Path, text: str) -> None:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "A"}]
    pool = open_pool(written(tmp_path / "p.jsonl", [{"messages": turns}]))
    assert pool.problems[0].startswith("media-marker: ")


def test_part_of_another_type_is_reported(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "assistant", "content": "A"},
    ]
    pool = open_pool(written(tmp_path / "p.jsonl", [{"messages": turns}]))
    assert "a part of type 'file', which is not read" in pool.problems[0]


def test_videos_of_parts_are_part_of_the_digest(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "video", name: f"v{i}"}]},
                {"role": "assistant", "content": "A"},
            ]
        }
        for name in ("url", "file", "video")
        for i in range(2)
    ]
    pool = open_pool(written(tmp_path / "p.jsonl", rows))
    assert len({pool.sample(i).digest for i in range(4)}) == 4


@pytest.mark.parametrize("before", ["conversations", "messages", "instruction"])
def test_records_with_two_conversations_do_not_depend_on_other_rows(
    tmp_path: Path, before: str
) -> None:
    texts = [{"role": "user", "content": "Other?"}, {"role": "assistant", "content": "Other."}]
    plain: dict[str, dict[str, Any]] = {
        "conversations": {"conversations": TURNS},
        "messages": {"messages": texts},
        "instruction": {"instruction": "Do", "input": "", "output": "Done"},
    }
    rows = [{"id": i, **plain[before]} for i in range(300)]
    both = {"id": "both", "conversations": TURNS, "messages": texts}
    path = written(tmp_path / "p.jsonl", [*rows, both])
    pool = open_pool(path)
    assert list(pool.problems) == [300]
    assert (
        "a conversation in each of `conversations` and `messages`; say which with --format"
        in pool.problems[300]
    )
    if before != "instruction":
        assert open_pool(path, format="swift" if before == "messages" else "llava").problems == {}
