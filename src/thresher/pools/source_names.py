"""The source that rows have by the name of their file: without folder and suffix; shards of one
data set share theirs.

A number at the end of a name is a shard's where it says so (`-00000-of-00004`, `part-3`,
`shard_12`), where it is padded with zeros, or where the files count on from 0; any other
(`coco2014`, `v1.5`, `gpt-4`, `2024-05`) belongs to the name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from thresher.pools.llava import SOURCE_KEYS

SUFFIXES = (
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".arrow",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".json.gz",
    ".jsonl.gz",
    ".ndjson.gz",
)
_SHARDED = (".parquet", ".arrow", ".tar", ".tar.gz", ".tgz")  # rarely one file a data set
# x.snappy.parquet
_PACKED = re.compile(r"(?:\.(?:snappy|gz|gzip|zstd|lz4|lzo|brotli))+$", re.IGNORECASE)
_HASH = r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{7,64})"
_WORD = r"(?:part|shard|chunk|file|batch|block|piece|slice|bucket|rank|worker|fragment|partition)s?"
# -00000-of-00004[-HASH]
_OF = re.compile(rf"[-_.]?\d+[-_.]?of[-_.]?\d+(?:[-_.]{_HASH})?$", re.IGNORECASE)
# part-0-UUID-c000
_PART = re.compile(rf"(?:^|[-_.])({_WORD})[-_.]?\d+(?:[-_.]{_HASH})?(?:[-_.]c\d+)?$", re.IGNORECASE)
_HASHED = re.compile(rf"[-_.](0\d+|\d{{5,}})[-_.]{_HASH}$", re.IGNORECASE)
_NUMBERS = re.compile(r"0\d+(?:[-_.]\d+)+$")  # 000000_0, as Hive writes
# a folder that is a shard itself
_COUNTED = re.compile(rf"(?:{_WORD}[-_.]?)?\d+(?:[-_.]?of[-_.]?\d+)?", re.IGNORECASE)
_AFTER_WORD = re.compile(rf"(?:^|[-_.]){_WORD}$", re.IGNORECASE)
_NUMBER = re.compile(r"([-_.]?)(\d+)$")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_MONTH = re.compile(r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])$")
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_VERSION = re.compile(r"(?:^|[-_. ])v(?:er|ersion)?$|\d\.$", re.IGNORECASE)
_GENERAL = (
    "data",
    "train",
    "training",
    "default",
    "shards",
    "parquet",
    "",
)  # folders that name no data set by themselves
# in the folder of each data set
_SAME_IN_ALL = re.compile(rf"train(?:ing)?|data|default|{_WORD}", re.IGNORECASE)
MANY = 10  # files that count from 1 without a gap: so many are shards


class _File(NamedTuple):
    folders: list[str]
    stem: str
    sharded: bool


def source_names(uris: Sequence[str]) -> list[str]:
    """The source of each file of a pool, by the names of all of them.

    >>> source_names(["x/coco2014.parquet", "x/coco2017.parquet", "x/ocr.json"])
    ['coco2014', 'coco2017', 'ocr']
    >>> source_names(["a/train-00000-of-00002-2ce340398c113b79.parquet", "shards/000.tar",
    ...     "v/source=vqa/part-0.parquet"])
    ['train', 'shards', 'vqa']
    """
    files = [_file(uri) for uri in uris]
    # folder, what stands before the number -> numbers
    numbers: dict[tuple[str, str, str], set[str]] = {}
    for file in files:
        if found := _NUMBER.search(file.stem):
            numbers.setdefault(_series(file, found), set()).add(found[2])
    names = [_name(file, numbers) for file in files]
    where: dict[str, set[tuple[str, ...]]] = {}
    for file, name in zip(files, names, strict=True):
        where.setdefault(name, set()).add(tuple(file.folders))
    return [
        _of_folder(file) or name if len(where[name]) > 1 and _SAME_IN_ALL.fullmatch(name) else name
        for file, name in zip(files, names, strict=True)
    ]


def _file(uri: str) -> _File:
    *folders, base = uri.replace("\\", "/").rstrip("/").split("/")
    stem, sharded = base.rpartition(".")[0] or base, False
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if base.lower().endswith(suffix) and len(base) > len(suffix):
            stem, sharded = base[: -len(suffix)], suffix in _SHARDED
            break
    return _File(folders, _PACKED.sub("", stem), sharded)


def _series(file: _File, found: re.Match[str]) -> tuple[str, str, str]:
    return "/".join(file.folders), file.stem[: found.start()], found[1]


def _name(file: _File, numbers: dict[tuple[str, str, str], set[str]]) -> str:
    for folder in reversed(file.folders):  # as Hive partitions: source=coco/part-0.parquet
        key, equals, value = folder.partition("=")
        if equals and value and key in SOURCE_KEYS:
            return unquote(value)
    stem = file.stem
    number = _NUMBER.search(stem)
    others = numbers[_series(file, number)] if number else set()
    years = bool(others) and all(_YEAR.fullmatch(n) for n in others)
    if (found := _PART.search(stem)) and not (years and number and number.end() == found.end()):
        return stem[: found.start()] or found[1]
    if found := _OF.search(stem) or _HASHED.search(stem):
        return _before(stem[: found.start()]) or _of_folder(file) or stem
    if _NUMBERS.match(stem):
        return _of_folder(file) or stem
    if number and _counts(file, number, others):
        return _before(stem[: number.start()]) or _of_folder(file) or stem
    return stem


def _before(name: str) -> str:
    """What stands before a shard's number, without the word for a shard where there is more than
    that."""
    return _AFTER_WORD.sub("", name) or name


def _counts(file: _File, found: re.Match[str], others: set[str]) -> bool:
    """Whether the number at the end of a name is that of a shard. `others`: those of all files of
    this series."""
    before, between, digits = file.stem[: found.start()], found[1], found[2]
    if (between == "." and before[-1:].isdigit()) or _VERSION.search(
        before + (between if between == "." else "")
    ):
        return False
    padded = [len(n) for n in others if len(n) > 1 and n[0] == "0"]
    values = sorted({int(n) for n in others})
    if padded and len(digits) >= min(padded):
        dated = (_YEAR.search(before) and values[0] >= 1 and values[-1] <= 12) or (
            _MONTH.search(before) and values[0] >= 1 and values[-1] <= 31
        )
        return not (dated and set(padded) == {2})
    run = values == list(range(values[0], values[0] + len(values)))
    if run and (
        (values[0] == 0 and (between or len(values) > 1))
        or (values[0] == 1 and len(values) >= MANY)
    ):
        return True
    if before or _DATE.fullmatch(digits) or (_YEAR.match(digits) and len(digits) == 4):
        return False
    return file.sharded  # 7.tar has no other name


def _of_folder(file: _File) -> str:
    """The nearest folder with a name of its own; "" where there is none."""
    folders = [f for f in reversed(file.folders) if "=" not in f and not f.endswith(":")]
    named = next(
        (
            f
            for f in folders
            if f.lower() not in _GENERAL and (_YEAR.fullmatch(f) or not _COUNTED.fullmatch(f))
        ),
        "",
    )
    first = next((f for f in folders if f), "")
    return first if first.lower() == "shards" or not named else named
