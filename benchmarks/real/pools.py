"""The four pools and the two halves of the questions, frozen by seed and hash.

- mixed: the 3,000 rows as they are: 13 sources, 250 machine captions that are often wrong.
- noisy: the same rows; 1,000 of them are the machine captions and rows whose answer was swapped
  with that of another row of the same source and kind.
- skewed: one source, the photographs of Flickr8k, makes up 70% of the rows.
- clean: the control. Kinds are equally frequent; captions by people, no receipts, charts, tables or
  mathematics; no swapped answers.

No picture of a question is in a pool (checked). The questions are split by picture: choices are
made on the development half, methods are judged on the evaluation half.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from thresher.storage.atomic import write_bytes

Record = dict[str, Any]
SEED = 16
WRONG = 1 / 3  # of the noisy pool
LARGE = 0.7  # share of the large source in the skewed pool
BALANCED = 80  # rows of each kind in the clean pool
MACHINE = "machine_caption"
READABLE = (
    "activity",
    "caption",
    "category",
    "choice",
    "colour",
    "existence",
    "garment",
    "match",
    "object",
    "place",
    "thumbnail",
)
HALVES = ("development", "evaluation")


def mixed(rows: Sequence[Record], rng: Random) -> list[Record]:
    return list(rows)


def noisy(rows: Sequence[Record], rng: Random) -> list[Record]:
    """Swapped rows have a field `wrong`, which is not written."""
    machine = {r["id"] for r in rows if r["data_source"] == MACHINE}
    answers: dict[tuple[str, str], list[str]] = {}
    for r in rows:
        answers.setdefault(_group(r), []).append(answer_of(r))
    people = [r for r in rows if r["id"] not in machine and len(set(answers[_group(r)])) > 1]
    count = max(round(WRONG * len(rows)) - len(machine), 0)
    swapped = {r["id"] for r in rng.sample(people, min(count, len(people)))}
    out = []
    for r in rows:
        if r["id"] in swapped:
            others = [a for a in answers[_group(r)] if a != answer_of(r)]
            r = {**with_answer(r, rng.choice(others)), "wrong": True}
        out.append(r)
    return out


def skewed(rows: Sequence[Record], rng: Random) -> list[Record]:
    """Flickr8k's three tasks as one source; as many of the other rows, at random, as its share
    allows."""
    large = [r for r in rows if r["data_source"].startswith("flickr")]
    others = [r for r in rows if not r["data_source"].startswith("flickr")]
    count = min(round(len(large) * (1 - LARGE) / LARGE), len(others))
    chosen = {r["id"] for r in [*large, *rng.sample(others, count)]}
    return [
        {**r, "data_source": "flickr8k"} if r["data_source"].startswith("flickr") else r
        for r in rows
        if r["id"] in chosen
    ]


def clean(rows: Sequence[Record], rng: Random) -> list[Record]:
    chosen = set()
    for kind in READABLE:
        of_kind = [r["id"] for r in rows if r["kind"] == kind and r["data_source"] != MACHINE]
        chosen.update(rng.sample(of_kind, min(BALANCED, len(of_kind))))
    return [r for r in rows if r["id"] in chosen]


POOLS: Mapping[str, Callable[[Sequence[Record], Random], list[Record]]] = {
    "mixed": mixed,
    "noisy": noisy,
    "skewed": skewed,
    "clean": clean,
}
FROZEN: Mapping[str, str] = {
    "mixed": "e370c09c572c3581",
    "noisy": "f75a367390e53db2",
    "skewed": "151463f3cf03a845",
    "clean": "fbb5c3591076ceaf",
    "development": "4e7e267eaef981bf",
    "evaluation": "6226938864966824",
}
"""Beginning of the SHA-256 of each file."""


@dataclass(frozen=True)
class World:
    """The written files. `pools`, `questions`: name -> file; `images`: their folder; `wrong`: pool
    -> ids of machine captions and swapped answers."""

    pools: Mapping[str, Path]
    questions: Mapping[str, Path]
    images: Path
    wrong: Mapping[str, frozenset[str]]


def make_world(data: Path, out: Path, rows: int | None = None) -> World:
    """Write pools and questions below `out`.

    Arguments:
        data: contains pool.json, test.json and images/.
        rows: only so many random rows of the pool, for a trial (not frozen); None: all.

    Exits with a message if a file differs from the frozen one.
    """
    given = json.loads((data / "pool.json").read_text("utf-8"))
    asked = json.loads((data / "test.json").read_text("utf-8"))
    shared = {r["image"] for r in given} & {r["image"] for r in asked}
    if shared:
        sys.exit(f"{len(shared)} pictures of {data} are in the pool and in the questions.")
    if rows is not None:
        given = Random(SEED).sample(given, rows)
    folder = out if rows is None else out / f"trial-{rows}"
    files, wrong = {}, {}
    for name, make in POOLS.items():
        made = make(given, Random(f"{name} {SEED}"))
        wrong[name] = frozenset(
            r["id"] for r in made if "wrong" in r or r["data_source"] == MACHINE
        )
        made = [{key: value for key, value in r.items() if key != "wrong"} for r in made]
        files[name] = _write(folder / f"{name}.json", made)
    for half in HALVES:
        part = [r for r in asked if half_of(r["image"]) == half]
        files[half] = _write(folder / f"{half}.json", part)
    if rows is None:
        _check(files)
    return World(
        {name: files[name] for name in POOLS},
        {half: files[half] for half in HALVES},
        data / "images",
        wrong,
    )


def half_of(image: str) -> str:
    """The half of the questions that a picture belongs to."""
    return HALVES[hashlib.sha256(f"half {image}".encode()).digest()[0] % 2]


def answer_of(record: Record) -> str:
    return record["conversations"][-1]["value"]


def with_answer(record: Record, answer: str) -> Record:
    """A copy of the row with another answer."""
    *before, last = record["conversations"]
    return {**record, "conversations": [*before, {**last, "value": answer}]}


def _group(record: Record) -> tuple[str, str]:
    return record["data_source"], record["kind"]


def _write(file: Path, rows: Sequence[Record]) -> Path:
    content = (json.dumps(rows, ensure_ascii=False, indent=0) + "\n").encode()
    if not file.exists() or file.read_bytes() != content:
        write_bytes(file, content)
    return file


def _check(files: Mapping[str, Path]) -> None:
    for name, file in files.items():
        found = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        if found != FROZEN.get(name):
            sys.exit(
                f"{file} differs from the frozen one (SHA-256 {found}, expected "
                f"{FROZEN.get(name)}): the given data or this code has changed."
            )
