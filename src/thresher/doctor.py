"""What is wrong with a pool, by kind, with examples and what a run does about each. Reads every image; changes nothing.

Not covered yet: near duplicates and leakage from an evaluation set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from thresher.errors import ImageError
from thresher.pools import Pool, llava
from thresher.pools.images import decode, open_inside
from thresher.pools.paths import refusal, shown
from thresher.progress import Progress, Silent

SEVERITIES = ("error", "warning", "info")  # error: a run that needs a model loses the row
EXAMPLES = 3

# kind -> severity, what it is, what a run does. The order here is the order of the findings within a severity.
KINDS: dict[str, tuple[str, str, str]] = {
    "unreadable": ("error", "records that are no LLaVA rows", "left out by every method, never exported"),
    "missing-image": ("error", "image file does not exist", "the row fails where a model is needed"),
    "broken-image": ("error", "image file cannot be decoded", "the row fails where a model is needed"),
    "unsafe-path": (
        "error",
        "image path leaves the image folder",
        "never opened; the row fails where a model is needed",
    ),
    "remote-url": ("error", "image is a URL", "never fetched; the row fails where a model is needed"),
    "bad-image": ("error", "`image` is neither a path nor a list of paths", "the row fails where a model is needed"),
    "placeholder-mismatch": (
        "error",
        "count of <image> differs from count of images",
        "the row fails where a model is needed",
    ),
    "no-answer": ("error", "no answer text at all", "the row fails where a model is needed"),
    "bad-turn": ("error", "a turn is not an object", "the row fails where a model is needed"),
    "unknown-role": ("error", "a turn's `from` is none of human, gpt, system", "the row fails where a model is needed"),
    "bad-value": ("error", "a turn's `value` is not text", "the row fails where a model is needed"),
    "invalid-text": ("error", "invalid UTF-8 or a lone surrogate in a text", "the row fails where a model is needed"),
    "video": ("error", "a video row", "scored by no model yet; kept by methods that need none"),
    "empty-answer": (
        "warning",
        "one of several answers is empty",
        "scored as it stands; the empty answer counts no token",
    ),
    "empty-question": ("warning", "a question is empty", "scored as it stands"),
    "starts-with-assistant": (
        "warning",
        "the conversation starts with gpt",
        "scored as it stands, where the chat template allows it",
    ),
    "ends-with-user": (
        "warning",
        "the conversation ends with human",
        "scored as it stands; the last turn has no answer",
    ),
    "user-twice": ("warning", "two human turns in a row", "scored as it stands, where the chat template allows it"),
    "assistant-twice": ("warning", "two gpt turns in a row", "scored as it stands, where the chat template allows it"),
    "late-system": (
        "warning",
        "a system turn that is not the first",
        "scored as it stands, where the chat template allows it",
    ),
    "image-extension": ("warning", "file name says another image format than its content", "read by its content"),
    "duplicate-row": ("warning", "exact copies of an earlier row", "scored once; every copy can be selected"),
    "duplicate-image": (
        "info",
        "same image content under another name",
        "nothing: these are different images to a run",
    ),
    "placeholder-missing": (
        "info",
        "images but no <image> in the text",
        "<image> is put before the first question; exported untouched",
    ),
    "duplicate-id": ("info", "id of an earlier row", "nothing: ids are only passed on"),
    "text-only": ("info", "rows without an image", "scored like any other row"),
}

_FLAGS = {
    llava.PLACEHOLDER_ADDED: "placeholder-missing",
    llava.STARTS_WITH_ASSISTANT: "starts-with-assistant",
    llava.ENDS_WITH_USER: "ends-with-user",
    llava.USER_TWICE: "user-twice",
    llava.ASSISTANT_TWICE: "assistant-twice",
    llava.EMPTY_ANSWER: "empty-answer",
    llava.EMPTY_QUESTION: "empty-question",
    llava.LATE_SYSTEM: "late-system",
}

_EXTENSIONS = {  # Pillow's format -> extensions that say the same
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
}


@dataclass(frozen=True)
class Example:
    row: int  # in the pool, from 0
    id: str  # JSON text
    detail: str  # what exactly, e.g. the image path and why it failed; may be ""


@dataclass(frozen=True)
class Finding:
    kind: str  # a key of KINDS
    severity: str  # "error" | "warning" | "info"
    rows: int  # rows of the pool that are concerned
    images: int  # different image paths that are concerned; 0 where the finding is not about images
    what: str
    action: str  # what a run does about it
    examples: tuple[Example, ...]  # up to three, first rows first


@dataclass(frozen=True)
class Diagnosis:
    """Everything found. `findings`: errors first, then warnings, then what is merely good to know."""

    path: str
    rows: int
    images: int  # different image paths
    findings: tuple[Finding, ...]
    lost: int  # rows that a run with a model would lose: those with at least one error

    @property
    def fails(self) -> bool:
        """True where a run with a model would lose rows."""
        return self.lost > 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fails": self.fails}


class _Seen(NamedTuple):
    """One image: kind of what is wrong ("" = nothing), detail, content hash (b"" = not read)."""

    kind: str
    detail: str
    content: bytes


def examine(pool: Pool, *, workers: int | None = None, progress: Progress | None = None) -> Diagnosis:
    """Look at every row and decode every image once. `workers`: threads (None: one a CPU, at most 16)."""
    found = _Findings(pool)
    _rows(pool, found)
    _images(pool, found, workers or min(os.cpu_count() or 1, 16), progress or Silent())
    return found.diagnosis()


class _Findings:
    """Collects rows by kind: a mask of rows each, examples as they are asked for at the end."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.findings: dict[str, Finding] = {}
        self.lost = np.zeros(len(pool), np.bool_)

    def add(self, kind: str, rows: np.ndarray, detail: Callable[[int], str] | None = None, images: int = 0) -> None:
        """`rows`: int64, may repeat. `detail(row)` is asked for the examples only."""
        if len(rows) == 0:
            return
        unique = np.unique(rows)
        severity, what, action = KINDS[kind]
        if severity == "error":
            self.lost[unique] = True
        first = unique[:EXAMPLES].tolist()
        examples = tuple(
            Example(r, i, detail(r) if detail else "") for r, i in zip(first, self.pool.ids(first), strict=True)
        )
        self.findings[kind] = Finding(kind, severity, len(unique), images, what, action, examples)

    def diagnosis(self) -> Diagnosis:
        order = {kind: (SEVERITIES.index(KINDS[kind][0]), i) for i, kind in enumerate(KINDS)}
        findings = tuple(self.findings[k] for k in sorted(self.findings, key=lambda k: order[k]))
        return Diagnosis(
            str(self.pool.path), len(self.pool), len(self.pool.index.image_path), findings, int(self.lost.sum())
        )


# ------------------------------------------------------------------------------------------------ rows


def _rows(pool: Pool, found: _Findings) -> None:
    index = pool.index
    kinds: dict[str, list[int]] = {}  # problem kind -> codes
    for code, text in enumerate(index.problem_texts):
        kinds.setdefault(text.partition(":")[0], []).append(code)
    for kind, codes in kinds.items():
        rows = np.flatnonzero(np.isin(index.problem, codes))
        found.add(kind, rows, lambda row: pool.problems[row].partition(": ")[2])
    for bit, kind in _FLAGS.items():
        found.add(kind, np.flatnonzero(index.flags & bit))
    found.add("text-only", np.flatnonzero((pool.facts["images"] == 0) & (index.problem < 0)))
    _duplicate_rows(pool, found)
    _duplicate_ids(pool, found)


def _duplicate_rows(pool: Pool, found: _Findings) -> None:
    order = pool.order[pool.index.problem[pool.order] < 0]  # a problem row may lack what tells it from another
    digest = pool.digest[order]
    first = np.r_[True, digest[1:] != digest[:-1]] if len(order) else np.zeros(0, np.bool_)
    # The copy that stands first in the file is the original, whichever comes first in canonical order.
    group = np.cumsum(first) - 1
    original = np.full(int(first.sum()), len(pool), np.int64)
    np.minimum.at(original, group, order)
    copies = order != original[group]
    of = dict(zip(order[copies].tolist(), original[group][copies].tolist(), strict=True))
    found.add("duplicate-row", order[copies], lambda row: f"same as row {of[row]}")


def _duplicate_ids(pool: Pool, found: _Findings) -> None:
    ids = pool.index.ids
    seen: dict[str, int] = {}
    again: dict[int, int] = {}
    for row, text in enumerate(ids):
        if text and (first := seen.setdefault(text, row)) != row:
            again[row] = first
    found.add("duplicate-id", np.fromiter(again, np.int64, len(again)), lambda row: f"same id as row {again[row]}")


# ------------------------------------------------------------------------------------------------ images


def _images(pool: Pool, found: _Findings, workers: int, progress: Progress) -> None:
    index = pool.index
    m = len(index.image_path)
    kind: list[str] = []
    detail: dict[int, str] = {}
    content = np.zeros((m, 16), np.uint8)
    read = np.zeros(m, np.bool_)
    root = os.path.realpath(pool.images_folder)
    progress.start("reading images", m, 0)
    try:
        with ThreadPoolExecutor(workers) as threads:
            for start in range(0, m, 1024):  # in slices: a million futures at once would cost more than the images
                paths = [index.image_path[i] for i in range(start, min(start + 1024, m))]
                sizes = index.image_size[start : start + 1024].tolist()
                for i, seen in enumerate(threads.map(lambda p, s: _look(root, p, s), paths, sizes), start):
                    kind.append(seen.kind)
                    if seen.detail:
                        detail[i] = seen.detail
                    if seen.content:
                        content[i] = np.frombuffer(seen.content, np.uint8)
                        read[i] = True
                    progress.advance(1)
    finally:
        progress.finish()

    rows_of_reference = pool.rows_of_references()
    kinds = np.array(kind, dtype=str)

    def report(name: str, bad: np.ndarray, details: dict[int, str]) -> None:
        hit = np.flatnonzero(bad[index.image_ref])
        if len(hit) == 0:
            return
        rows = rows_of_reference[hit]
        unique, at = np.unique(rows, return_index=True)
        image_of = dict(zip(unique[:EXAMPLES].tolist(), index.image_ref[hit[at[:EXAMPLES]]].tolist(), strict=True))
        found.add(name, rows, lambda row: details.get(image_of[row], ""), images=int(bad.sum()))

    for name in ("missing-image", "broken-image", "unsafe-path", "remote-url", "image-extension"):
        report(name, kinds == name, detail)
    known = np.flatnonzero(read)
    _, first, group = np.unique(content[known], axis=0, return_index=True, return_inverse=True)
    original = known[first[group.reshape(-1)]]
    copies = np.zeros(m, np.bool_)
    copies[known] = original != known
    same = {int(i): int(o) for i, o in zip(known, original, strict=True) if i != o}
    names = {i: f"{shown(index.image_path[i])} is {shown(index.image_path[o])}" for i, o in same.items()}
    report("duplicate-image", copies, names)


def _look(root: str, path: str, size: int) -> _Seen:
    """Open, hash and decode one image. Never raises for what a file holds."""
    reason = refusal(path)
    if reason:
        kind, _, words = reason.partition(": ")
        return _Seen(kind, f"{shown(path)}: {words}", b"")
    if size < 0:
        return _Seen("missing-image", shown(path) + _siblings(root, path), b"")
    try:
        with open_inside(root, path) as file:
            content = _content(file)
            file.seek(0)
            _, form = decode(file, shown(path))
    except ImageError as error:
        return _Seen("unsafe-path" if "unsafe-path" in str(error) else "broken-image", str(error), b"")
    except OSError as error:  # while hashing: a failing disk
        return _Seen("broken-image", f"{shown(path)}: cannot be read: {error.strerror or error}", b"")
    extension = PurePosixPath(path).suffix.lower()
    fits = _EXTENSIONS.get(form)
    if extension and fits and extension not in fits:
        return _Seen("image-extension", f"{shown(path)} holds {form}", content)
    return _Seen("", "", content)


def _content(file: BinaryIO) -> bytes:
    """16 bytes that tell two contents apart."""
    state = hashlib.blake2b(digest_size=16)
    while block := file.read(1 << 20):
        state.update(block)
    return state.digest()


def _siblings(root: str, path: str) -> str:
    """What to add where a file of the same name with another extension stands beside the missing one: " (there is x.gif)"."""
    stem = os.path.splitext(os.path.join(root, path))[0]
    for extension in (".jpg", ".jpeg", ".png", ".gif", ".webp", ".JPG", ".JPEG", ".PNG"):
        if os.path.isfile(stem + extension):
            return f" (there is {shown(os.path.basename(stem) + extension)})"
    return ""
