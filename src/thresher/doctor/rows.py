"""Findings from the records: problems and oddities of conversations, copies, repeated ids; and from
their texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.pools import Pool, files, llava
from thresher.pools.token_estimate import ASSUMED, MediaTokens, estimate_tokens
from thresher.types import RowError

CONTEXT = 8192  # tokens
BATCH_ROWS = 4096  # rows at once
HEAD_BYTES = 1 << 16  # bytes of a file that are checked for line ends

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


def check_rows(pool: Pool, findings: Findings) -> None:
    """Findings from the pool's index; only the first bytes of each file are read.

    Arguments:
        pool: the pool.
        findings: where to add what is found.
    """
    index = pool.index
    kinds: dict[str, list[int]] = {}  # problem kind -> codes
    for code, text in enumerate(index.problem_texts):
        kinds.setdefault(RowError.parse(text).kind, []).append(code)
    for kind, codes in kinds.items():
        rows = np.flatnonzero(np.isin(index.problem, codes) & pool.has_problem)
        findings.add(kind, rows, lambda row: pool.problems[row].partition(": ")[2])
    for bit, kind in _FLAGS.items():
        findings.add(kind, np.flatnonzero(index.flags & bit))
    findings.add("text-only", np.flatnonzero((pool.facts["images"] == 0) & (index.problem < 0)))
    _duplicate_rows(pool, findings)
    _duplicate_ids(pool, findings)
    _files(pool, findings)


def check_texts(
    pool: Pool,
    findings: Findings,
    context: int,
    progress: Progress,
    media: MediaTokens = ASSUMED,
) -> None:
    """Findings from the texts; reads every row. Unreadable rows are reported by `check_rows`.

    Arguments:
        pool: the pool.
        findings: where to add what is found.
        context: rows with more estimated tokens than this are reported.
        progress: displays the rows done.
        media: tokens of images and videos.
    """
    nul, crlf = [], []
    tokens = np.zeros(len(pool))
    readable = np.flatnonzero(~pool.unreadable)
    progress.start("reading texts", len(readable), 0)
    try:
        for start in range(0, len(readable), BATCH_ROWS):
            rows = readable[start : start + BATCH_ROWS]
            words, chars = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
            samples = pool.samples(rows)
            for i, sample in enumerate(samples):
                text = "\n".join([t.text for t in sample.turns])
                if "\0" in text or "\ue000" in text:  # the encoders use these characters as marks
                    nul.append(int(rows[i]))
                if "\r\n" in text:
                    crlf.append(int(rows[i]))
                words[i], chars[i] = len(text.split()), len(text)
            tokens[rows] = media.of(samples) + estimate_tokens(words, chars)
            progress.advance(len(rows))
    finally:
        progress.finish()
    findings.add("nul-byte", np.array(nul, np.int64))
    findings.add("crlf", np.array(crlf, np.int64), lambda row: "in a text")
    long = np.flatnonzero(tokens > context)
    findings.add(
        "long-row", long, lambda row: f"about {int(tokens[row]):,} tokens, more than {context:,}"
    )


def _duplicate_rows(pool: Pool, findings: Findings) -> None:
    # rows with a problem may differ in a part that could not be read
    order = pool.order[pool.index.problem[pool.order] < 0]
    digest = pool.digest[order]
    first = np.r_[True, digest[1:] != digest[:-1]] if len(order) else np.zeros(0, np.bool_)
    # The first copy in the file is the original, not the first in canonical order.
    group = np.cumsum(first) - 1
    original = np.full(int(first.sum()), len(pool), np.int64)
    np.minimum.at(original, group, order)
    copies = order != original[group]
    original_of = dict(zip(order[copies].tolist(), original[group][copies].tolist(), strict=True))
    findings.add("duplicate-row", order[copies], lambda row: f"same as row {original_of[row]}")


def _duplicate_ids(pool: Pool, findings: Findings) -> None:
    seen: dict[str, int] = {}
    first_with_id: dict[int, int] = {}
    for row, text in enumerate(pool.index.ids):
        if text and (first := seen.setdefault(text, row)) != row:
            first_with_id[row] = first
    findings.add(
        "duplicate-id",
        np.fromiter(first_with_id, np.int64, len(first_with_id)),
        lambda row: f"same id as row {first_with_id[row]}",
    )


def _files(pool: Pool, findings: Findings) -> None:
    """Byte order marks and line ends of the pool's text files, reported for the first row of the
    file.
    """
    part = np.asarray(pool.index.part)
    for number, pool_file in enumerate(pool.pool_files):
        rows = np.flatnonzero(part == number)
        if (
            pool_file.container not in ("json", "jsonl")
            or files.is_remote(pool_file.uri)
            or not len(rows)
        ):
            continue
        with open(pool_file.uri, "rb") as file:
            head = file.read(HEAD_BYTES)
        name = os.path.basename(pool_file.uri)
        if head.startswith(b"\xef\xbb\xbf"):
            findings.add("byte-order-mark", rows[:1], _constant(f"{name} starts with one"))
        if b"\r\n" in head:
            findings.add("crlf", rows[:1], _constant(f"line ends of {name}"))


def _constant(text: str) -> Callable[[int], str]:
    return lambda row: text
