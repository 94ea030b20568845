"""Planted copies, and how many of them a tool leaves out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LEAST = 0.01  # of the recall: a smaller difference is none


@dataclass(frozen=True)
class Planted:
    """`copies`: (row, its original) of copies that must be found. `related`: rows that are a copy
    or have one, however similar."""

    rows: int
    copies: Sequence[Sequence[int]]
    related: Sequence[int]

    def write(self, folder: Path) -> None:
        (folder / "planted.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Planted:
        return cls(**json.loads((folder / "planted.json").read_text()))

    def found(self, kept: Sequence[int]) -> tuple[int, int, int]:
        """(copies left out, copies to find, other rows left out). One row of a family stays."""
        stays = set(kept)
        families: dict[int, list[int]] = {}
        for copy, original in self.copies:
            families.setdefault(original, [original]).append(copy)
        found = sum(len(f) - max(sum(r in stays for r in f), 1) for f in families.values())
        most = sum(len(f) - 1 for f in families.values())
        related = set(self.related)
        wrong = sum(r not in stays and r not in related for r in range(self.rows))
        return found, most, wrong


def judge_copies(folder: Path, ours: Sequence[int], theirs: Sequence[int]) -> tuple[str, bool]:
    """What a tool found, and whether that is as good as thresher's.

    Arguments:
        folder: where the planted copies were written.
        ours: rows that thresher keeps.
        theirs: rows that the tool keeps.
    """
    planted = Planted.read(folder)
    found, most, wrong = planted.found(theirs)
    our_found, _, our_wrong = planted.found(ours)
    text = f"{found:,} of {most:,} copies left out, {wrong:,} other rows"
    return text, found >= our_found - LEAST * most and wrong <= our_wrong + LEAST * most
