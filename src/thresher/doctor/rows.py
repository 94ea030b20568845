"""What reading the records tells: problems and oddities of conversations, copies, repeated ids; and
what their texts hold."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.mixture.tokens import TOKENS_PER_IMAGE, estimate_tokens
from thresher.pools import Pool, files, llava

CONTEXT = 8192  # tokens
READ = 4096  # rows at once
LOOKED_AT = 1 << 16  # bytes of a file, for its line ends

_FLAGS = {
    llava.PLACEHOLDER_ADDED: "placeholder-missing",
    llava.STARTS_WITH_ASSISTANT: "starts-with-assistant",
    llava.ENDS_WITH_USER: "ends-with-user",
    llava.USER_TWICE: "user-twice",
    llava.ASSISTANT_TWICE: "assistant-twice",
    llava.EMPTY_ANSWER: "empty-answer",
    llava.EMPTY_QUESTION: "empty-question",
    llava.LATE_SYSTEM: "late-system",
    llava.MARKERS_READ: "marker-read",
    llava.GROUNDING_FILLED: "grounding-filled",
    llava.GROUNDING_TAGS: "grounding-tags",
}


def look_at_rows(pool: Pool, found: Findings) -> None:
    """From the pool's index alone: nothing is read again but the first bytes of each file."""
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
    _files(pool, found)


def look_at_texts(pool: Pool, found: Findings, context: int, progress: Progress) -> None:
    """Reads every row again. A row that cannot be read at all has been told of already."""
    nul, crlf = [], []
    tokens = np.asarray(pool.facts["images"], np.float64) * TOKENS_PER_IMAGE
    readable = np.flatnonzero(~pool.unreadable)
    progress.start("reading texts", len(readable), 0)
    try:
        for start in range(0, len(readable), READ):
            rows = readable[start : start + READ]
            words, chars = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
            for i, sample in enumerate(pool.samples(rows)):
                text = "\n".join([t.text for t in sample.turns])
                if "\0" in text or "\ue000" in text:  # what no encoder here takes
                    nul.append(int(rows[i]))
                if "\r\n" in text:
                    crlf.append(int(rows[i]))
                words[i], chars[i] = len(text.split()), len(text)
            tokens[rows] += estimate_tokens(words, chars)
            progress.advance(len(rows))
    finally:
        progress.finish()
    found.add("nul-byte", np.array(nul, np.int64))
    found.add("crlf", np.array(crlf, np.int64), lambda row: "in a text")
    long = np.flatnonzero(tokens > context)
    found.add(
        "long-row", long, lambda row: f"about {int(tokens[row]):,} tokens, more than {context:,}"
    )


def _duplicate_rows(pool: Pool, found: Findings) -> None:
    # a problem row may lack what tells it from another
    order = pool.order[pool.index.problem[pool.order] < 0]
    digest = pool.digest[order]
    first = np.r_[True, digest[1:] != digest[:-1]] if len(order) else np.zeros(0, np.bool_)
    # The copy that stands first in the file is the original, whichever comes first in canonical
    # order.
    group = np.cumsum(first) - 1
    original = np.full(int(first.sum()), len(pool), np.int64)
    np.minimum.at(original, group, order)
    copies = order != original[group]
    of = dict(zip(order[copies].tolist(), original[group][copies].tolist(), strict=True))
    found.add("duplicate-row", order[copies], lambda row: f"same as row {of[row]}")


def _duplicate_ids(pool: Pool, found: Findings) -> None:
    seen: dict[str, int] = {}
    again: dict[int, int] = {}
    for row, text in enumerate(pool.index.ids):
        if text and (first := seen.setdefault(text, row)) != row:
            again[row] = first
    found.add(
        "duplicate-id",
        np.fromiter(again, np.int64, len(again)),
        lambda row: f"same id as row {again[row]}",
    )


def _files(pool: Pool, found: Findings) -> None:
    """Byte order marks and line ends of the pool's text files; the first row of a file stands for
    it."""
    part = np.asarray(pool.index.part)
    for number, told in enumerate(pool.pool_files):
        rows = np.flatnonzero(part == number)
        if told.container not in ("json", "jsonl") or files.is_remote(told.uri) or not len(rows):
            continue
        with open(told.uri, "rb") as file:
            head = file.read(LOOKED_AT)
        name = os.path.basename(told.uri)
        if head.startswith(b"\xef\xbb\xbf"):
            found.add("byte-order-mark", rows[:1], _said(f"{name} starts with one"))
        if b"\r\n" in head:
            found.add("crlf", rows[:1], _said(f"line ends of {name}"))


def _said(text: str) -> Callable[[int], str]:
    return lambda row: text
