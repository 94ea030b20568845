"""`--fix`: a repaired copy of a pool, and a log of every change. The pool itself stays as it is.

    repaired   an image path whose file is there under another extension; NUL characters (removed),
               Windows line ends, lone
               surrogates (U+FFFD); a number where a text belongs; turns before the first question
               and after the last answer (removed); two turns of one role in a row (joined by a line
               break); <image> that stands nowhere (put before the first question)
    left out   rows that a run with a model would still lose, but for videos; rows that stand in an
               evaluation set
    untouched  all else: what is written, duplicates, repeated ids, empty answers among others, odd
               but readable images

The copy is LLaVA JSON or JSONL, by the name's ending, in pool order, with image paths from the
pool's image folder.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thresher.doctor.findings import Findings
from thresher.doctor.images import ERRORS, siblings
from thresher.errors import ConfigError, ImageError, StoreError
from thresher.exporters.rows import insert_placeholders
from thresher.pools import Pool, llava
from thresher.pools.images import decode, open_inside
from thresher.pools.paths import printable
from thresher.storage.atomic import atomic_write
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_file
from thresher.types import IMAGE_PLACEHOLDER, Sample

Change = dict[str, Any]  # row, id, done ("repaired" | "left out"), kind, what


@dataclass(frozen=True)
class Repaired:
    """What was written: `rows` to `path`, `changes` to `log`."""

    path: Path
    log: Path
    rows: int
    repaired: int  # rows that were changed
    left_out: int


def check(pool: Pool, path: Path) -> Path:
    """Where the log of a copy at `path` goes. Raises ConfigError where `repair` would, before
    anything is looked at."""
    if path.suffix not in (".json", ".jsonl"):
        raise ConfigError(
            f"--fix {path}: the copy is LLaVA JSON or JSONL; give a name that ends in .json or "
            ".jsonl."
        )
    if pool.index.embedded.any():
        raise ConfigError(
            f"--fix {path}: {pool.path} embeds images, which JSON cannot hold. Export it to "
            "webdataset or parquet instead."
        )
    if path.is_dir() or not path.parent.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigError(
            f"--fix {path} cannot be written: {why}. Give a file in a folder that exists."
        )
    log = path.with_name(path.name + ".changes.jsonl")
    check_file(path, "--fix", beside=(log.name,))
    for part in pool.pool_files:
        for file in (path, log):
            if file.exists() and os.path.exists(part.uri) and os.path.samefile(file, part.uri):
                raise ConfigError(f"--fix {path} would overwrite the pool. Give another name.")
    return log


def repair(pool: Pool, found: Findings, path: Path) -> Repaired:
    """Write the copy to `path` and the log beside it (`.changes.jsonl`). Both appear complete or
    not at all.

    Raises ConfigError (a file of the pool, no .json or .jsonl, embedded images) or StoreError (it
    cannot be written).
    """
    log = check(pool, path)
    rows = repaired = left_out = 0
    try:
        with (
            folder_lock(path.parent, "writes a repaired copy there"),
            atomic_write(path) as copy_aside,
            atomic_write(log) as log_aside,  # renamed first
            open(copy_aside, "x", encoding="utf-8") as out,
            open(log_aside, "x", encoding="utf-8") as told,
        ):
            whole = path.suffix == ".json"
            out.write("[\n" if whole else "")
            for record, changes in _records(pool, found):
                for change in changes:
                    told.write(json.dumps(change, ensure_ascii=True) + "\n")
                left_out += record is None
                if record is not None:
                    repaired += bool(changes)
                    out.write(
                        (",\n" if whole and rows else "")
                        + json.dumps(record, ensure_ascii=False, default=llava.json_default)
                    )
                    out.write("" if whole else "\n")
                    rows += 1
            out.write("\n]\n" if whole else "")
    except OSError as error:
        raise StoreError(f"--fix {path} cannot be written: {error.strerror or error}.") from error
    return Repaired(path, log, rows, repaired, left_out)


def _records(pool: Pool, found: Findings) -> Iterator[tuple[dict[str, Any] | None, list[Change]]]:
    """Each row's record for the copy (None: left out) and what was done about it."""
    leaks = (
        frozenset(found.rows["eval-leak"].tolist()) if "eval-leak" in found.rows else frozenset()
    )
    images = _Images(pool, found)
    ids = pool.ids(range(len(pool)))
    for row in range(len(pool)):
        record, sample = pool.record_and_sample(row)
        problem = sample.problem
        if record is None or problem.startswith("unreadable"):
            yield None, [_change(row, ids[row], "left out", problem)]
            continue
        fixed = copy.deepcopy(record)
        done = _markers(fixed, sample) if pool.index.flags[row] & llava.MARKERS_READ else []
        done += (
            _texts(fixed)
            + _turns(fixed)
            + images.repair(fixed, [ref.path for ref in sample.images])
        )
        parsed = llava.parse(fixed, "", "")
        why = "" if parsed.problem.startswith(("video", "audio")) else parsed.problem
        why = why or images.problem(parsed.images)
        if row in leaks:
            why = "eval-leak: a question of the evaluation set"
        if why:
            yield None, [_change(row, ids[row], "left out", why)]
            continue
        if parsed.flags & llava.PLACEHOLDER_ADDED:
            _placeholder(fixed, len(parsed.images))
            done.append(f"placeholder-missing: {IMAGE_PLACEHOLDER} put before the first question")
        # a surrogate elsewhere than in a text, which no JSON file in UTF-8 can hold
        if not _plain(fixed):
            yield (
                None,
                [
                    _change(
                        row,
                        ids[row],
                        "left out",
                        "invalid-text: a lone surrogate outside of the turns",
                    )
                ],
            )
            continue
        yield fixed, [_change(row, ids[row], "repaired", what) for what in done]


def _markers(record: dict[str, Any], sample: Sample) -> list[str]:
    """Put `<image>` where another tool's marker stands, and the images in that order, in place."""
    record["conversations"] = insert_placeholders(record["conversations"], sample)
    record.pop("images", None)
    paths = [ref.path for ref in sample.images]
    record["image"] = paths[0] if len(paths) == 1 else paths
    return [f"marker-read: the markers of {len(paths)} images became {IMAGE_PLACEHOLDER}"]


def _change(row: int, id_: str, done: str, why: str) -> Change:
    kind, _, what = why.partition(": ")
    return {"row": row, "id": id_, "done": done, "kind": kind, "what": what}


def _texts(record: dict[str, Any]) -> list[str]:
    """Repair what the turns say, in place."""
    done = []
    for turn in record["conversations"]:
        if not isinstance(turn, dict):
            continue
        text = turn.get("value")
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            turn["value"] = text = json.dumps(text, default=llava.json_default)
            done.append(f"bad-value: the number {text} became text")
        if not isinstance(text, str):
            continue
        for kind, fixed, what in (
            ("nul-byte", _without_nul(text), "NUL characters removed"),
            ("crlf", text.replace("\r\n", "\n"), "Windows line ends became line breaks"),
            ("invalid-text", _no_surrogates(text), "invalid characters became U+FFFD"),
        ):
            if fixed != text:
                done.append(f"{kind}: {what}")
        turn["value"] = _no_surrogates(_without_nul(text).replace("\r\n", "\n"))
    return list(dict.fromkeys(done))


def _turns(record: dict[str, Any]) -> list[str]:
    """Make user and assistant alternate, from a question to an answer, in place. Nothing where a
    role is not known."""
    turns = record["conversations"]
    if not all(isinstance(t, dict) and isinstance(t.get("value"), str) for t in turns):
        return []
    if not all(isinstance(t.get("from"), str) and t["from"] in llava.ROLES for t in turns):
        return []
    role = [llava.ROLES[t["from"]] for t in turns]
    asked = [i for i, r in enumerate(role) if r == "user"]
    answered = [i for i, r in enumerate(role) if r == "assistant"]
    if not asked or not answered or answered[-1] < asked[0]:
        return []  # no question with an answer: not to be repaired
    done = []
    kept = [t for i, t in enumerate(turns) if role[i] == "system" or asked[0] <= i <= answered[-1]]
    removed = [
        i for i in range(len(turns)) if role[i] != "system" and not asked[0] <= i <= answered[-1]
    ]
    if any(i < asked[0] for i in removed):
        done.append("starts-with-assistant: turns before the first question removed")
    if any(i > answered[-1] for i in removed):
        done.append("ends-with-user: turns after the last answer removed")
    if any(IMAGE_PLACEHOLDER in turns[i]["value"] for i in removed):
        return []  # the picture was shown there
    joined = kept[:1]
    for before, turn in itertools.pairwise(kept):
        a, b = llava.ROLES[before["from"]], llava.ROLES[turn["from"]]
        if a == b != "system":
            joined[-1] = {**joined[-1], "value": joined[-1]["value"] + "\n" + turn["value"]}
            done.append(f"{b}-twice: two turns of one role joined")
        else:
            joined.append(turn)
    record["conversations"] = joined
    return list(dict.fromkeys(done))


def _placeholder(record: dict[str, Any], images: int) -> None:
    for turn in record["conversations"]:
        if llava.ROLES[turn["from"]] == "user":
            turn["value"] = (IMAGE_PLACEHOLDER + "\n") * images + turn["value"]
            return


class _Images:
    """Paths of a record's images, repaired where another file is clearly meant."""

    def __init__(self, pool: Pool, found: Findings) -> None:
        self.pool, self.found = pool, found
        # missing path -> the file that is there, "" = none, or several
        self.instead: dict[str, str] = {}

    def repair(self, record: dict[str, Any], paths: list[str]) -> list[str]:
        """`paths`: those of the pool, from its image folder, in order; the record gets them, in
        place."""
        done, final = [], []
        for path in paths:
            other = self._other(path) if self.found.bad_images.get(path) == "missing-image" else ""
            if other:
                done.append(f"missing-image: {printable(path)} became {printable(other)}")
            final.append(other or path)
        key = "image" if record.get("image") is not None else "images"
        given = record.get(key)
        if final and isinstance(given, str):
            record[key] = final[0]
        elif final and isinstance(given, list) and len(given) == len(final):
            record[key] = final
        return done

    def problem(self, paths: list[str | bytes]) -> str:
        """Why a row with these images is lost, as "kind: words"; "" where it is not."""
        for path in paths:
            kind = self.found.bad_images.get(path) if isinstance(path, str) else None
            if kind in ERRORS:
                return f"{kind}: {printable(str(path))}"
        return ""

    def _other(self, path: str) -> str:
        if path not in self.instead:
            there = siblings(self.pool, path)
            self.instead[path] = there[0] if len(there) == 1 and self._decodes(there[0]) else ""
        return self.instead[path]

    def _decodes(self, path: str) -> bool:
        try:
            with open_inside(self.pool.image_root, path) as file:
                decode(file, path)
        except (ImageError, OSError):
            return False
        return True


def _without_nul(text: str) -> str:
    return text.replace("\0", "").replace("\ue000", "")


def _no_surrogates(text: str) -> str:
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _plain(record: dict[str, Any]) -> bool:
    try:
        json.dumps(record, ensure_ascii=False, default=llava.json_default).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
