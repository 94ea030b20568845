"""Reading a file in several processes equals reading it in one, for any split and any failure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from thresher.errors import PoolError
from thresher.pools import Pool, open_pool, records, workers
from thresher.pools.text_column import TextColumn


def turns(question: str) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": question},
        {"from": "gpt", "value": f"It is {question}, größer 🎈"},
    ]


ROWS = [
    {
        "id": i,
        "source": f"s{i % 3}",
        **({"image": f"{i % 7}.png"} if i % 2 else {}),
        "conversations": turns(str(i % 11)),
    }
    for i in range(60)
]
BORDERS = [  # texts and fields full of what looks like the border of two records
    {"id": 0, "conversations": turns('x"}, {"y": "}, {" ' * 40), "meta": [{}] * 90}
    for _ in range(8)
]


def together(
    monkeypatch: pytest.MonkeyPatch, file: Path, processes: int, images: Path | None = None
) -> Pool:
    monkeypatch.setattr(workers, "MIN_PARALLEL_BYTES", 1)
    monkeypatch.setattr(workers, "usable_cores", lambda: processes)
    started: list[object] = []
    start = workers._start
    monkeypatch.setattr(workers, "_start", lambda *a: started.append(a) or start(*a))
    pool = open_pool(file, images)
    assert len(started) >= 1
    monkeypatch.undo()
    return pool


def same(a: Pool, b: Pool) -> bool:
    for f in dataclasses.fields(a.index):
        x, y = getattr(a.index, f.name), getattr(b.index, f.name)
        if list(x) != list(y) if isinstance(x, TextColumn) else not np.array_equal(x, y):
            return False
    return a.samples(range(len(a))) == b.samples(range(len(b)))


def saved(tmp_path: Path, records: list, lines: bool, indent: int | None = None) -> Path:
    file = tmp_path / ("p.jsonl" if lines else "p.json")
    file.write_text(
        "\n".join(map(json.dumps, records)) if lines else json.dumps(records, indent=indent)
    )
    return file


@pytest.mark.parametrize(
    ("layout", "processes"),
    [
        ("lines", 3),
        ("list", 2),
        ("indented", 3),
        ("messages", 2),
        ("false borders", 2),
        ("false borders", 3),
    ],
)
def test_parallel_reading_gives_the_same_pool(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    layout: str,
    processes: int,
) -> None:
    records: list = ROWS
    if layout == "messages":
        values = {"human": "user", "gpt": "assistant"}
        records = [
            {
                "id": r["id"],
                "messages": [
                    {"role": values[t["from"]], "content": t["value"]} for t in r["conversations"]
                ],
            }
            for r in ROWS
        ]
    elif layout == "false borders":
        records = BORDERS
    file = saved(
        tmp_path, records, layout in ("lines", "messages"), 1 if layout == "indented" else None
    )
    (tmp_path / "1.png").write_bytes(b"xyz")
    assert same(together(monkeypatch, file, processes), open_pool(file))
    assert "Traceback" not in capfd.readouterr().err  # of a process that could do nothing


def test_problems_have_correct_line_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps(r) for r in ROWS]
    lines[50] = '{"broken'
    lines[5] = "17"
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(lines))
    pool = together(monkeypatch, file, 2)
    assert same(pool, open_pool(file)) and pool.problems[50].startswith("unreadable: line 51 ")


def test_truncated_file_is_refused_as_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path, ROWS, lines=False)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(PoolError) as alone:
        open_pool(file)
    with pytest.raises(PoolError) as several:
        together(monkeypatch, file, 2)
    assert str(several.value) == str(alone.value) and "59 complete records" in str(alone.value)


@pytest.mark.parametrize("failure", ["cannot start", "dies", "speaks nonsense"])
def test_failed_process_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    file = saved(tmp_path, ROWS, lines=False)
    alone = open_pool(file)
    if failure == "cannot start":
        monkeypatch.setattr(workers.sys, "executable", "/no/such/python")
    else:
        what = (
            "raise SystemExit(3)"
            if failure == "dies"
            else "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(7))"
        )
        monkeypatch.setattr(workers, "_RUN", what + " # {path}")
    assert same(together(monkeypatch, file, 2), alone)


@pytest.mark.parametrize("indent", [None, 1])
def test_parts_are_split_between_records(tmp_path: Path, indent: int | None) -> None:
    file = saved(tmp_path, ROWS, lines=False, indent=indent)
    starts = set(open_pool(file).index.offset.tolist())
    with file.open("rb") as opened:
        found = {
            records.find_record_start(opened, "json", at) for at in range(1, file.stat().st_size)
        }
    assert found - {-1} == starts - {min(starts)}
