"""`--fix`: a repaired copy of a pool, and a log of every change. The pool itself is not changed.

    repaired   an image path whose file exists with another extension; NUL characters (removed),
               Windows line ends, lone surrogates (U+FFFD); a number instead of text; turns
                   before the
               first question and after the last answer (removed); two consecutive turns of one role
               (joined by a line break); missing <image> placeholders (put before the first
                   question)
    left out   rows that a run with a model would still lose, except rows with audio, and with
               videos: of these, where videos are scored, only rows whose videos cannot be used or
               that have another problem; rows that occur in an evaluation set
    untouched  everything else: the wording, duplicates, repeated ids, an empty answer beside
        others,
               unusual but readable images

The copy is LLaVA JSON or JSONL, by the suffix of its name, in pool order, with image paths relative
to the pool's image folder.
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
from thresher.doctor.images import ERRORS, find_alternatives
from thresher.errors import ConfigError, ImageError, StoreError
from thresher.exporters.rows import insert_placeholders
from thresher.pools import Pool, llava
from thresher.pools.images import decode, open_inside
from thresher.pools.paths import printable
from thresher.pools.video_rows import problem_beside
from thresher.storage.atomic import atomic_write
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_file
from thresher.types import IMAGE_PLACEHOLDER, RowError, Sample

VIDEO_ERRORS = ("missing-video", "bad-video", "placeholder-mismatch")  # that no repair changes
Change = dict[str, Any]  # row, id, done ("repaired" | "left out"), kind, what


@dataclass(frozen=True)
class RepairResult:
    """What was written: `rows` rows to `path`, all changes to `log`."""

    path: Path
    log: Path
    rows: int
    repaired: int  # rows that were changed
    left_out: int


def check_target(pool: Pool, path: Path) -> Path:
    """The path of the log for a copy at `path`. Raises ConfigError if `repair` would, before the
    pool is read.

    Arguments:
        pool: the pool.
        path: of the copy.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise ConfigError(
            ": the copy is LLaVA JSON or JSONL; give a name that ends in .json or .jsonl.",
            option="fix",
            value=path,
        )
    if pool.index.embedded.any():
        raise ConfigError(
            f": {pool.path} embeds images, which JSON cannot contain. Export it to "
            "webdataset or parquet instead.",
            option="fix",
            value=path,
        )
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigError(
            f" cannot be written: {reason}. Give a file in a folder that exists.",
            option="fix",
            value=path,
        )
    log = path.with_name(path.name + ".changes.jsonl")
    check_file(path, "fix", beside=(log.name,))
    for part in pool.pool_files:
        for file in (path, log):
            if file.exists() and os.path.exists(part.uri) and os.path.samefile(file, part.uri):
                raise ConfigError(
                    " would overwrite the pool. Give another name.", option="fix", value=path
                )
    return log


def repair(pool: Pool, findings: Findings, path: Path) -> RepairResult:
    """Write the copy to `path` and the log beside it (`.changes.jsonl`). Both appear complete or
    not at all.

    Arguments:
        pool: the pool.
        findings: of `find_problems`.
        path: of the copy, .json or .jsonl.

    Raises ConfigError (a file of the pool, no .json or .jsonl, embedded images) or StoreError (not
    writable).
    """
    log = check_target(pool, path)
    rows = repaired = left_out = 0
    try:
        with (
            folder_lock(path.parent, "writes a repaired copy there"),
            atomic_write(path) as copy_temporary,
            atomic_write(log) as log_temporary,  # renamed first
            open(copy_temporary, "x", encoding="utf-8") as copy_file,
            open(log_temporary, "x", encoding="utf-8") as log_file,
        ):
            as_list = path.suffix == ".json"
            copy_file.write("[\n" if as_list else "")
            for record, changes in _records(pool, findings):
                for change in changes:
                    log_file.write(json.dumps(change, ensure_ascii=True) + "\n")
                left_out += record is None
                if record is not None:
                    repaired += bool(changes)
                    copy_file.write(
                        (",\n" if as_list and rows else "")
                        + json.dumps(record, ensure_ascii=False, default=llava.json_default)
                    )
                    copy_file.write("" if as_list else "\n")
                    rows += 1
            copy_file.write("\n]\n" if as_list else "")
    except OSError as error:
        raise StoreError(
            f" cannot be written: {error.strerror or error}.", option="fix", value=path
        ) from error
    return RepairResult(path, log, rows, repaired, left_out)


def _records(
    pool: Pool, findings: Findings
) -> Iterator[tuple[dict[str, Any] | None, list[Change]]]:
    """Each row's record for the copy (None: left out) and its changes."""
    leaks = (
        frozenset(findings.rows["eval-leak"].tolist())
        if "eval-leak" in findings.rows
        else frozenset()
    )
    images = _ImagePaths(pool, findings)
    ids = pool.ids(range(len(pool)))
    for row in range(len(pool)):
        record, sample = pool.record_and_sample(row)
        problem = sample.problem
        if record is None or RowError.parse(problem).kind == "unreadable":
            yield None, [_change(row, ids[row], "left out", problem)]
            continue
        fixed = copy.deepcopy(record)
        repairs = (
            _replace_markers(fixed, sample) if pool.index.flags[row] & llava.MARKERS_READ else []
        )
        repairs += (
            _repair_texts(fixed)
            + _repair_turns(fixed)
            + images.repair(fixed, [ref.path for ref in sample.images])
        )
        parsed = llava.parse(fixed, "", "")
        media = RowError.parse(parsed.problem).kind in ("video", "audio")
        reason = "" if media else parsed.problem
        if pool.video_frames is not None and RowError.parse(parsed.problem).kind == "video":
            reason = _video_problem(findings, row, fixed)
        reason = reason or images.problem(parsed.images)
        if row in leaks:
            reason = "eval-leak: a question of the evaluation set"
        if reason:
            yield None, [_change(row, ids[row], "left out", reason)]
            continue
        if parsed.flags & llava.PLACEHOLDER_ADDED:
            _insert_placeholders(fixed, len(parsed.images))
            repairs.append(
                f"placeholder-missing: {IMAGE_PLACEHOLDER} put before the first question"
            )
        # a surrogate outside of texts: it cannot be written as UTF-8
        if not _is_encodable(fixed):
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
        yield fixed, [_change(row, ids[row], "repaired", repair) for repair in repairs]


def _video_problem(findings: Findings, row: int, record: dict[str, Any]) -> str:
    """Why a repaired row with scored videos is lost, as a row's error; "" if it is not, or only
    for its audio."""
    problem = problem_beside(record)
    if problem:
        return "" if RowError.parse(problem).kind == "audio" else problem
    problem = findings.bad_videos.get(row, "")
    return problem if RowError.parse(problem).kind in VIDEO_ERRORS else ""


def _replace_markers(record: dict[str, Any], sample: Sample) -> list[str]:
    """Replace markers of other tools with `<image>`, and put the images in that order, in place."""
    record["conversations"] = insert_placeholders(record["conversations"], sample)
    record.pop("images", None)
    paths = [ref.path for ref in sample.images]
    record["image"] = paths[0] if len(paths) == 1 else paths
    return [f"marker-read: the markers of {len(paths)} images became {IMAGE_PLACEHOLDER}"]


def _change(row: int, id_: str, action: str, reason: str) -> Change:
    kind, _, detail = reason.partition(": ")
    return {"row": row, "id": id_, "done": action, "kind": kind, "what": detail}


def _repair_texts(record: dict[str, Any]) -> list[str]:
    """Repair the texts of the turns, in place."""
    repairs = []
    for turn in record["conversations"]:
        if not isinstance(turn, dict):
            continue
        text = turn.get("value")
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            turn["value"] = text = json.dumps(text, default=llava.json_default)
            repairs.append(f"bad-value: the number {text} became text")
        if not isinstance(text, str):
            continue
        for kind, fixed, description in (
            ("nul-byte", _without_nul(text), "NUL characters removed"),
            ("crlf", text.replace("\r\n", "\n"), "Windows line ends became line breaks"),
            ("invalid-text", _replace_surrogates(text), "invalid characters became U+FFFD"),
        ):
            if fixed != text:
                repairs.append(f"{kind}: {description}")
        turn["value"] = _replace_surrogates(_without_nul(text).replace("\r\n", "\n"))
    return list(dict.fromkeys(repairs))


def _repair_turns(record: dict[str, Any]) -> list[str]:
    """Make user and assistant alternate, from a question to an answer, in place. Does nothing if a
    role is unknown.
    """
    turns = record["conversations"]
    if not all(isinstance(t, dict) and isinstance(t.get("value"), str) for t in turns):
        return []
    if not all(isinstance(t.get("from"), str) and t["from"] in llava.ROLES for t in turns):
        return []
    role = [llava.ROLES[t["from"]] for t in turns]
    questions = [i for i, r in enumerate(role) if r == "user"]
    answers = [i for i, r in enumerate(role) if r == "assistant"]
    if not questions or not answers or answers[-1] < questions[0]:
        return []  # no question with an answer: cannot be repaired
    repairs = []
    kept = [
        t for i, t in enumerate(turns) if role[i] == "system" or questions[0] <= i <= answers[-1]
    ]
    removed = [
        i for i in range(len(turns)) if role[i] != "system" and not questions[0] <= i <= answers[-1]
    ]
    if any(i < questions[0] for i in removed):
        repairs.append("starts-with-assistant: turns before the first question removed")
    if any(i > answers[-1] for i in removed):
        repairs.append("ends-with-user: turns after the last answer removed")
    if any(IMAGE_PLACEHOLDER in turns[i]["value"] for i in removed):
        return []  # its image belongs there
    joined = kept[:1]
    for before, turn in itertools.pairwise(kept):
        a, b = llava.ROLES[before["from"]], llava.ROLES[turn["from"]]
        if a == b != "system":
            joined[-1] = {**joined[-1], "value": joined[-1]["value"] + "\n" + turn["value"]}
            repairs.append(f"{b}-twice: two turns of one role joined")
        else:
            joined.append(turn)
    record["conversations"] = joined
    return list(dict.fromkeys(repairs))


def _insert_placeholders(record: dict[str, Any], images: int) -> None:
    for turn in record["conversations"]:
        if llava.ROLES[turn["from"]] == "user":
            turn["value"] = (IMAGE_PLACEHOLDER + "\n") * images + turn["value"]
            return


class _ImagePaths:
    """Repairs paths of images for which exactly one other file exists."""

    def __init__(self, pool: Pool, findings: Findings) -> None:
        self.pool, self.findings = pool, findings
        # missing path -> the existing file; "" = none, or several
        self.replacements: dict[str, str] = {}

    def repair(self, record: dict[str, Any], paths: list[str]) -> list[str]:
        """Repair the record's paths in place. `paths`: the row's paths relative to the pool's image
        folder, in order.
        """
        repairs, new_paths = [], []
        for path in paths:
            replacement = (
                self._replacement(path)
                if self.findings.bad_images.get(path) == "missing-image"
                else ""
            )
            if replacement:
                repairs.append(f"missing-image: {printable(path)} became {printable(replacement)}")
            new_paths.append(replacement or path)
        key = "image" if record.get("image") is not None else "images"
        given = record.get(key)
        if new_paths and isinstance(given, str):
            record[key] = new_paths[0]
        elif new_paths and isinstance(given, list) and len(given) == len(new_paths):
            record[key] = new_paths
        return repairs

    def problem(self, paths: list[str | bytes]) -> str:
        """Why a row with these images is lost, as "kind: explanation"; "" if it is not."""
        for path in paths:
            kind = self.findings.bad_images.get(path) if isinstance(path, str) else None
            if kind in ERRORS:
                return f"{kind}: {printable(str(path))}"
        return ""

    def _replacement(self, path: str) -> str:
        if path not in self.replacements:
            alternatives = find_alternatives(self.pool, path)
            self.replacements[path] = (
                alternatives[0] if len(alternatives) == 1 and self._decodes(alternatives[0]) else ""
            )
        return self.replacements[path]

    def _decodes(self, path: str) -> bool:
        try:
            with open_inside(self.pool.image_root, path) as file:
                decode(file, path)
        except (ImageError, OSError):
            return False
        return True


def _without_nul(text: str) -> str:
    return text.replace("\0", "").replace("\ue000", "")


def _replace_surrogates(text: str) -> str:
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _is_encodable(record: dict[str, Any]) -> bool:
    try:
        json.dumps(record, ensure_ascii=False, default=llava.json_default).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
