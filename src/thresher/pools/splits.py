"""Training, validation and test splits, as file names declare them; notes on what was read or left
out.

Pure functions over names.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from thresher.pools.paths import printable
from thresher.pools.source_names import SUFFIXES

_TRAIN = ("train", "training")
HELD_OUT = {
    "validation": ("validation", "valid", "val", "dev", "minival", "valdev"),
    "test": (
        "test",
        "testing",
        "testdev",
        "testmini",
        "testa",
        "testb",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
    ),
}
_LETTERS = re.compile(r"[a-z]+")


def split_of(path: str) -> str:
    """The split that a path below a folder names: "train", "validation", "test" or "".

    >>> (split_of("data/test-00000-of-00001.parquet"), split_of("val2017/a.json"),
    ...     split_of("latest.json"))
    ('test', 'validation', '')
    """
    path = path.replace("\\", "/").lower()
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.endswith(s)), "")
    for part in reversed(path.removesuffix(suffix).split("/")):
        words = _LETTERS.findall(part)
        if any(word in _TRAIN for word in words):
            return "train"
        for split, names in HELD_OUT.items():
            if words and (words[0] in names or words[-1] in names):
                return split
    return ""


def training_files(
    files: Sequence[str], declared: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """(files to read, files of test and validation splits). If there is nothing else, the latter
    are read.

    Arguments:
        files: paths.
        declared: splits that the folder's metadata declares.
    """
    splits = {f: (declared or {}).get(f) or split_of(f) for f in files}
    rest = [f for f in files if splits[f] not in HELD_OUT]
    return (rest, [f for f in files if splits[f] in HELD_OUT]) if rest else (list(files), [])


def mixed_splits_note(paths: Sequence[str]) -> str:
    """A note if a pattern matches both training and held-out splits; "" otherwise."""
    common = (
        os.path.commonpath(paths) if len(paths) > 1 and not any("://" in p for p in paths) else ""
    )
    names = [p[len(common) :].lstrip("/") if common else p for p in paths]
    held_out = [n for n in names if split_of(n) in HELD_OUT]
    if not held_out or len(held_out) == len(names):
        return ""
    return (
        f"Test or validation splits are in the pool, because the pattern matches them: "
        f"{summarize_names(held_out)}."
    )


def held_out_entries_note(names: Sequence[str]) -> str:
    """A note if some, but not all, entries of a list of data sets look like held-out splits."""
    held_out = [n for n in names if split_of(n) in HELD_OUT]
    if not held_out or len(held_out) == len(names):
        return ""
    return (
        f"The entries {summarize_names(held_out)} look like test or validation splits and are in "
        f"the "
        f"pool; "
        "#NAME takes one entry."
    )


def summarize_names(files: Sequence[str]) -> str:
    """Up to four files by name; more by their suffixes (`.csv (12), .zst (3)`) or as the first and
    a count.
    """
    if len(files) <= 4:
        return ", ".join(map(printable, files))
    suffixes = Counter(
        "." + f.rpartition(".")[2].lower() for f in files if "." in f.rpartition("/")[2]
    )
    if len(suffixes) > 1 and suffixes.total() == len(files):
        return ", ".join(f"{printable(s)} ({n:,})" for s, n in suffixes.most_common(8))
    return f"{printable(files[0])} and {len(files) - 1:,} more"
