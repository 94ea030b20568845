"""The demonstration for each row: CLIPPER's four subsets and their banks of demonstrations
(docs/methods/clipper.md).

P and W rows are each split into two halves. In the first pass, half 0 gives the demonstrations and
half 1 the queries; in the second, the roles are swapped. So every row is a query once, its
demonstration is always from the other half, and no row (nor an exact copy) demonstrates itself.

Everything is decided by seeded hashes of digests, and nothing by position or a random generator, so
that the result does not depend on the pool's order and changes little when the pool grows: every
changed (row, demonstration) pair costs a forward pass.
- half: one bit of a hash. No row changes its half when rows are added; exact duplicates are in the
  same half, and so never demonstrate each other.
- bank of a (kind, half): the rows with the smallest hashes among those whose answers are short
  (`most_tokens`), because a demonstration is read before every one of its queries and must leave
  room for them. If too few are short, the shortest others fill the bank. A pool that grows by a
  tenth replaces about a tenth of a bank.
- a query's demonstration: the bank row with the highest hash of the pair (rendezvous hashing), so
  that when a bank row is replaced, only its queries and the few that now hash to the new one
  change. Each bank row gets about equally many queries.
A small bank makes it worthwhile to cache a demonstration: it serves n / (2 * bank) queries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.signals.knowledge import Knowledge
from thresher.types import DIGEST, Columns, Field, Signal

CHUNK = 1 << 16  # queries at a time: 65,536 x 32 hashes are 16 MB


@dataclass(frozen=True)
class Demonstrations:
    """Each row's demonstration of one kind."""

    knowledge: Knowledge
    """Field `parametric`: True = P, False = W. Its loss says how long each row's answers are."""
    teaches: Literal["P", "W"]
    """The kind of the demonstrations: parametric or world knowledge. The queries are all rows."""
    seed: int
    bank: int = 32
    """Most demonstrations per kind and half."""
    most_tokens: int = 512
    """Rows whose answers have more tokens in total are demonstrations only if there are too few
    shorter ones."""

    kind: ClassVar[str] = "demonstrations"
    version: ClassVar[int] = 2  # 2: short answers first
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "digest",
            "S32",
            "digest of this row's demonstration; b'' if the other half has no row of the kind",
        ),
        Field(
            "half",
            "int32",
            "0: demonstration in the first pass; 1: query in it; the same for both kinds",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"knowledge": self.knowledge, "loss": self.knowledge.loss}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        """`inputs["knowledge"]["parametric"]`: bool [n]; `inputs["loss"]["tokens"]`: int32 [n]."""
        digest = inputs.digest
        half = halves(digest, self.seed)
        of_kind = np.asarray(inputs["knowledge"]["parametric"], bool) == (self.teaches == "P")
        tokens = np.asarray(inputs["loss"]["tokens"])
        demonstration = np.zeros(len(digest), DIGEST)
        for query_half in (0, 1):
            eligible = np.flatnonzero(of_kind & (half != query_half))
            candidates, first = np.unique(digest[eligible], return_index=True)
            bank = self._bank(candidates, tokens[eligible[first]])
            rows = np.flatnonzero(half == query_half)
            if len(bank):
                demonstration[rows] = bank[self._choose(digest[rows], bank)]
        return {"digest": demonstration, "half": half}

    def _bank(self, candidates: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The digests of the demonstrations, [min(m, bank)].

        Arguments:
            candidates: distinct digests [m].
            tokens: int [m], of their answers.
        """
        # short answers are equal here: the hash decides among them
        too_long = np.maximum(tokens, self.most_tokens)
        order = np.lexsort((_hash(candidates, f"bank {self.seed}"), too_long))
        return candidates[order[: self.bank]]

    def _choose(self, queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
        """Index into `bank` for each query, int64 [m]."""
        query_hash = _hash(queries, f"query {self.seed}")
        bank_hash = _hash(bank, f"shown {self.seed}")
        out = np.empty(len(queries), np.int64)
        for start in range(0, len(queries), CHUNK):
            pair = query_hash[start : start + CHUNK, None] ^ bank_hash[None, :]
            out[start : start + CHUNK] = np.argmax(_mix(pair), axis=1)
        return out


def halves(digest: np.ndarray, seed: int) -> np.ndarray:
    """0 or 1 for each DIGEST, int32 [n]: the same for equal digests, whatever else is in the
    pool.

    Arguments:
        digest: DIGEST [n].
        seed: other seeds give other halves.
    """
    return (_hash(digest, f"half {seed}") >> np.uint64(63)).astype(np.int32)


def _hash(digest: np.ndarray, purpose: str) -> np.ndarray:
    """uint64 [n]. A digest is uniform already, so one round over its first 8 bytes is enough."""
    head = np.ascontiguousarray(digest, DIGEST).view(np.uint64).reshape(len(digest), 4)[:, 0]
    key = int.from_bytes(
        hashlib.sha256(f"demonstrations {purpose}".encode()).digest()[:8], "little"
    )
    return _mix(head ^ np.uint64(key))


def _mix(z: np.ndarray) -> np.ndarray:
    """splitmix64's finish: every input bit changes every output bit with probability a half."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
