"""The default source of a file's rows: its name without folder and suffix; shards of one data set
share theirs.

A number at the end of a name is a shard number if it looks like one (`-00000-of-00004`, `part-3`,
`shard_12`), is padded with zeros, or the files are numbered consecutively from 0; any other
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
_SHARDED = (".parquet", ".arrow", ".tar", ".tar.gz", ".tgz")  # usually several files per data set
# x.snappy.parquet
_COMPRESSION = re.compile(r"(?:\.(?:snappy|gz|gzip|zstd|lz4|lzo|brotli))+$", re.IGNORECASE)
_HASH = r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{7,64})"
_WORD = r"(?:part|shard|chunk|file|batch|block|piece|slice|bucket|rank|worker|fragment|partition)s?"
# -00000-of-00004[-HASH]
_N_OF_M = re.compile(rf"[-_.]?\d+[-_.]?of[-_.]?\d+(?:[-_.]{_HASH})?$", re.IGNORECASE)
# part-0-UUID-c000
_WORD_AND_NUMBER = re.compile(
    rf"(?:^|[-_.])({_WORD})[-_.]?\d+(?:[-_.]{_HASH})?(?:[-_.]c\d+)?$", re.IGNORECASE
)
_HASHED = re.compile(rf"[-_.](0\d+|\d{{5,}})[-_.]{_HASH}$", re.IGNORECASE)
_NUMBERS = re.compile(r"0\d+(?:[-_.]\d+)+$")  # 000000_0, as Hive writes
# a folder that is itself a shard
_SHARD_FOLDER = re.compile(rf"(?:{_WORD}[-_.]?)?\d+(?:[-_.]?of[-_.]?\d+)?", re.IGNORECASE)
_AFTER_WORD = re.compile(rf"(?:^|[-_.]){_WORD}$", re.IGNORECASE)
_NUMBER = re.compile(r"([-_.]?)(\d+)$")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_MONTH = re.compile(r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])$")
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_VERSION = re.compile(r"(?:^|[-_. ])v(?:er|ersion)?$|\d\.$", re.IGNORECASE)
_GENERIC_FOLDERS = (
    "data",
    "train",
    "training",
    "default",
    "shards",
    "parquet",
    "",
)  # folder names that identify no data set
# file names that may occur in the folder of every data set
_GENERIC_NAME = re.compile(rf"train(?:ing)?|data|default|{_WORD}", re.IGNORECASE)
MIN_SHARDS_FROM_ONE = 10  # files numbered from 1 without gaps: this many are shards


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
    files = [_parse_uri(uri) for uri in uris]
    # (folder, prefix, separator) -> numbers
    numbers: dict[tuple[str, str, str], set[str]] = {}
    for file in files:
        if found := _NUMBER.search(file.stem):
            numbers.setdefault(_series_key(file, found), set()).add(found[2])
    names = [_source_name(file, numbers) for file in files]
    folders_of_name: dict[str, set[tuple[str, ...]]] = {}
    for file, name in zip(files, names, strict=True):
        folders_of_name.setdefault(name, set()).add(tuple(file.folders))
    return [
        _folder_name(file) or name
        if len(folders_of_name[name]) > 1 and _GENERIC_NAME.fullmatch(name)
        else name
        for file, name in zip(files, names, strict=True)
    ]


def _parse_uri(uri: str) -> _File:
    *folders, base = uri.replace("\\", "/").rstrip("/").split("/")
    stem, sharded = base.rpartition(".")[0] or base, False
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if base.lower().endswith(suffix) and len(base) > len(suffix):
            stem, sharded = base[: -len(suffix)], suffix in _SHARDED
            break
    return _File(folders, _COMPRESSION.sub("", stem), sharded)


def _series_key(file: _File, match: re.Match[str]) -> tuple[str, str, str]:
    return "/".join(file.folders), file.stem[: match.start()], match[1]


def _source_name(file: _File, numbers: dict[tuple[str, str, str], set[str]]) -> str:
    for folder in reversed(file.folders):  # as Hive partitions: source=coco/part-0.parquet
        key, equals, value = folder.partition("=")
        if equals and value and key in SOURCE_KEYS:
            return unquote(value)
    stem = file.stem
    number = _NUMBER.search(stem)
    numbers_in_series = numbers[_series_key(file, number)] if number else set()
    years = bool(numbers_in_series) and all(_YEAR.fullmatch(n) for n in numbers_in_series)
    if (match := _WORD_AND_NUMBER.search(stem)) and not (
        years and number and number.end() == match.end()
    ):
        return stem[: match.start()] or match[1]
    if match := _N_OF_M.search(stem) or _HASHED.search(stem):
        return _strip_shard_word(stem[: match.start()]) or _folder_name(file) or stem
    if _NUMBERS.match(stem):
        return _folder_name(file) or stem
    if number and _is_shard_number(file, number, numbers_in_series):
        return _strip_shard_word(stem[: number.start()]) or _folder_name(file) or stem
    return stem


def _strip_shard_word(name: str) -> str:
    """The prefix of a shard number, without a trailing word for a shard unless nothing else
    remains.
    """
    return _AFTER_WORD.sub("", name) or name


def _is_shard_number(file: _File, match: re.Match[str], others: set[str]) -> bool:
    """Whether the number at the end of a name is a shard number. `others`: the numbers of all files
    of the series.
    """
    prefix, separator, digits = file.stem[: match.start()], match[1], match[2]
    if (separator == "." and prefix[-1:].isdigit()) or _VERSION.search(
        prefix + (separator if separator == "." else "")
    ):
        return False
    padded = [len(n) for n in others if len(n) > 1 and n[0] == "0"]
    values = sorted({int(n) for n in others})
    if padded and len(digits) >= min(padded):
        dated = (_YEAR.search(prefix) and values[0] >= 1 and values[-1] <= 12) or (
            _MONTH.search(prefix) and values[0] >= 1 and values[-1] <= 31
        )
        return not (dated and set(padded) == {2})
    consecutive = values == list(range(values[0], values[0] + len(values)))
    if consecutive and (
        (values[0] == 0 and (separator or len(values) > 1))
        or (values[0] == 1 and len(values) >= MIN_SHARDS_FROM_ONE)
    ):
        return True
    if prefix or _DATE.fullmatch(digits) or (_YEAR.match(digits) and len(digits) == 4):
        return False
    return file.sharded  # 7.tar has no other name


def _folder_name(file: _File) -> str:
    """The nearest folder whose name is specific; "" if there is none."""
    folders = [f for f in reversed(file.folders) if "=" not in f and not f.endswith(":")]
    named = next(
        (
            f
            for f in folders
            if f.lower() not in _GENERIC_FOLDERS
            and (_YEAR.fullmatch(f) or not _SHARD_FOLDER.fullmatch(f))
        ),
        "",
    )
    first = next((f for f in folders if f), "")
    return first if first.lower() == "shards" or not named else named
