"""Samples the rows of one file of a mixture: `first:N`, `end:N` or `random:N`, N rows or N percent
(rounded up).

`random` keeps the file's order. The sample depends on the mixture's `seed`, the entry's number and
the file's name and rows, not on the other entries. Pure arithmetic on blocks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from thresher.pools.block import Block
from thresher.pools.file_spec import FileSpec
from thresher.types import RowError


def sample_indices(strategy: str, n: int, seed: int, salt: str = "") -> np.ndarray:
    """int64 [k], ascending: which of n rows a strategy keeps.

    Arguments:
        strategy: "all", "first:N", "end:N" or "random:N"; N rows, or N% rounded up.
        n: rows of the file.
        seed: seed of `random`.
        salt: distinguishes files that share the seed.

    >>> sample_indices("first:25%", 10, 0).tolist(), sample_indices("end:2", 10, 0).tolist()
    ([0, 1, 2], [8, 9])
    """
    kind, _, amount = strategy.partition(":")
    if kind == "all":
        return np.arange(n)
    k = int(amount) if not amount.endswith("%") else -int(-Fraction(amount[:-1]) * n // 100)
    k = min(k, n)
    if kind == "first":
        return np.arange(k)
    if kind == "end":
        return np.arange(n - k, n)
    key = hashlib.sha256(f"{seed}\0{salt}".encode("utf-8", "surrogatepass")).digest()
    sampled = np.random.default_rng(int.from_bytes(key[:16], "little")).permutation(n)[:k]
    return np.sort(sampled)


def sample_rows(blocks: Sequence[Block], source: FileSpec) -> Block:
    """The rows of a file's blocks that `source.sampling` keeps, as one block with the images of
    these rows only.

    Arguments:
        blocks: all rows of the file.
        source: the file, with its sampling strategy.
    """
    n = sum(len(b) for b in blocks)
    rows = sample_indices(
        source.sampling, n, source.seed, f"{source.entry}\0{os.path.basename(source.uri)}"
    )
    out = Block(
        remarks=[r for b in blocks for r in b.remarks],
        first_problem=next((b.first_problem for b in blocks if b.first_problem), ""),
        first_keys=blocks[0].first_keys,
    )
    sources: dict[str, int] = {}
    problems: dict[str, int] = {}
    images: dict[str, int] = {}
    start = 0
    for b in blocks:
        texts = b.ids.build()
        for i in (rows[(rows >= start) & (rows < start + len(b))] - start).tolist():
            for name in (
                "offset",
                "length",
                "flags",
                "answer_words",
                "answer_chars",
                "turns",
                "video",
                "audio",
            ):
                getattr(out, name).append(getattr(b, name)[i])
            out.text_digest += b.text_digest[32 * i : 32 * i + 32]
            out.ids.append(texts[i])
            out.source.append(sources.setdefault(b.sources[b.source[i]], len(sources)))
            code = b.problem[i]
            out.problem.append(
                -1 if code < 0 else problems.setdefault(b.problems[code], len(problems))
            )
            for r in b.image_ref[b.image_end[i - 1] if i else 0 : b.image_end[i]]:
                number = images.setdefault(b.image_path[r], len(images))
                if number == len(out.image_size):
                    out.image_path.append(b.image_path[r])
                    out.image_size.append(b.image_size[r])
                    out.embedded.append(b.embedded[r])
                out.image_ref.append(number)
            out.image_end.append(len(out.image_ref))
        start += len(b)
    out.sources, out.problems = list(sources), list(problems)
    unreadable = {i for i, t in enumerate(out.problems) if RowError.parse(t).kind == "unreadable"}
    out.usable = sum(code not in unreadable for code in out.problem)
    return out
