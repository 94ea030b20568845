"""Unread media (videos, audio, unreadable images) are part of a row's identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thresher.doctor import diagnose
from thresher.duplicates.stage import representatives
from thresher.engine import RunContext
from thresher.pools import llava, open_pool
from thresher.request import RunRequest
from thresher.storage.columns import Store
from thresher.types import digests_to_bytes

CASE = Path(__file__).resolve().parents[2] / "../shared/cases/01-dedup-forgets-video-audio"
TURNS = [{"from": "human", "value": "Is it red?"}, {"from": "gpt", "value": "Yes."}]


def parts(kind: str, name: str) -> list[dict[str, Any]]:
    content = [{"type": kind, kind: name}, {"type": "text", "text": "Is it red?"}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]


ROWS = {
    "video": lambda i: {"video": f"v{i}.mp4", "conversations": TURNS},
    "videos": lambda i: {"videos": ["a.mp4", f"v{i}.mp4"], "conversations": TURNS},
    "video struct": lambda i: {"videos": [{"path": f"v{i}.mp4", "fps": 2}], "conversations": TURNS},
    "audio": lambda i: {"audio": f"a{i}.wav", "conversations": TURNS},
    "audios": lambda i: {"audios": [f"a{i}.wav"], "conversations": TURNS},
    "audio samples": lambda i: {
        "audio": {"array": [0.0, 0.5, i], "sampling_rate": 16000},
        "conversations": TURNS,
    },
    "video part": lambda i: {"messages": parts("video", f"v{i}.mp4")},
    "audio part": lambda i: {"messages": parts("audio", f"a{i}.wav")},
    "input_audio part": lambda i: {"messages": parts("input_audio", f"data{i}")},
    "bad base64": lambda i: {"image": f"data:image/png;base64,@@{i}", "conversations": TURNS},
    "nested list": lambda i: {"images": [[f"{i}.png"]], "conversations": TURNS},
    "image number": lambda i: {"image": [i + 1], "conversations": TURNS},
    "image object": lambda i: {"image": {"frame": i + 1}, "conversations": TURNS},
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_differ_only_in_media_are_no_duplicates(tmp_path: Path, kind: str) -> None:
    pool = open_pool(write(tmp_path / "p.jsonl", [ROWS[kind](i) for i in (0, 1, 2)]))
    assert len(set(digests_to_bytes(pool.digest))) == 3
    assert [s.digest for s in pool.samples(range(3))] == digests_to_bytes(pool.digest)
    assert {p.partition(":")[0] for p in pool.problems.values()} <= {"video", "audio", "bad-image"}
    assert len(pool.problems) == 3


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("how", ["exact", "near"])
def test_row_with_unread_media_is_never_a_duplicate(tmp_path: Path, kind: str, how: str) -> None:
    # the last two are copies
    rows = [ROWS[kind](i) for i in (0, 1, 1)] + [{"conversations": TURNS}] * 2
    pool = open_pool(write(tmp_path / "p.jsonl", rows))
    everything, nothing = np.ones(5, bool), np.zeros(5, bool)
    result = representatives(
        pool, everything, nothing, RunRequest(dedup=how), RunContext(Store(tmp_path / "store"))
    )
    assert result.kept.tolist()[:3] == [True] * 3 and result.kept[3:].sum() == 1
    assert "duplicate-row" not in {f.kind for f in diagnose(pool).findings if f.rows != 1}


def test_media_are_part_of_the_digest(tmp_path: Path) -> None:
    pool = open_pool(
        write(tmp_path / "p.jsonl", [ROWS["video"](1), ROWS["video"](1), {"conversations": TURNS}])
    )
    a, b, plain = digests_to_bytes(pool.digest)
    assert a == b != plain
    assert plain == llava.text_digest(["user", "assistant"], ["Is it red?", "Yes."])


def test_audio_is_counted_like_video(tmp_path: Path) -> None:
    pool = open_pool(
        write(tmp_path / "p.jsonl", [ROWS["audios"](1), ROWS["video"](1), {"conversations": TURNS}])
    )
    assert pool.facts["audio"].tolist() == [True, False, False]
    assert pool.problems[0] == "audio: kept and counted, scored by no model yet"
    assert {f.kind: f.rows for f in diagnose(pool).findings if f.severity == "error"} == {
        "audio": 1,
        "video": 1,
    }


@pytest.mark.parametrize("name", ["vid.json", "aud.jsonl", "badb64_same.json", "nest_same.jsonl"])
def test_reported_case(tmp_path: Path, name: str) -> None:
    if not CASE.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    pool = open_pool(CASE / name)
    result = representatives(
        pool,
        np.ones(8, bool),
        np.zeros(8, bool),
        RunRequest(dedup="exact"),
        RunContext(Store(tmp_path / "store")),
    )
    assert result.kept.all() and len(set(digests_to_bytes(pool.digest))) == 8
