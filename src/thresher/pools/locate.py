"""Resolves what the user typed to the files of a pool: a file, an address, a folder, a pattern, a
mixture, or several of these.

    pool.json · s3://bucket/pool.jsonl · folder · "shards/*.tar" · "base/{a,b}.json" · mixture.yaml
    data/dataset_info.json · data/dataset_info.json#entry · hub:org/name or hub:org/name@split
    "vqa=a.json,ocr=shards/*.parquet"   several, each with the source of all its rows

Reads folders and listing files; opens no pool file.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from thresher.errors import PoolError
from thresher.pools import files, hub, listings
from thresher.pools.file_spec import FileSpec
from thresher.pools.folders import resolve_file
from thresher.pools.paths import printable
from thresher.pools.source_names import SUFFIXES, source_names
from thresher.pools.splits import mixed_splits_note
from thresher.storage.addresses import without_file_scheme

MAX_PATH_LENGTH = 4096  # characters: Linux's limit
_NAMED_PATH = re.compile(r"(\w[\w. -]*)=(.+)", re.DOTALL)
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def locate(specs: str | Sequence[str], images: str | None, format: str | None) -> list[FileSpec]:
    """The files of a pool, in order.

    Arguments:
        specs: what the user typed.
        images: the image folder of all files; None: each file's own folder.
        format: a name of `readers.FORMATS`; None: detected.

    Raises PoolError if nothing is found.
    """
    each = [specs] if isinstance(specs, str) else specs
    found = [s for spec in each for s in _locate_spec(spec, images, format)]
    unnamed = [i for i, s in enumerate(found) if not s.source]
    for i, name in zip(unnamed, source_names([found[i].uri for i in unnamed]), strict=True):
        found[i] = replace(found[i], source=name)
    return found


def _locate_spec(spec: str, images: str | None, format: str | None) -> list[FileSpec]:
    if not spec or "\0" in spec:
        raise PoolError(
            f"{spec!r} is not a path. Give a file, a folder or a pattern such as 'shards/*.tar'."
        )
    if len(spec) > MAX_PATH_LENGTH and "," not in spec:
        raise PoolError(f"{printable(spec)} is not a path: it has {len(spec):,} characters.")
    spec = without_file_scheme(spec)
    is_single = _exists(spec) or _is_one_named_path(spec)
    if not is_single and "," in spec:
        parts = _split_commas(spec)
        if len(parts) > 1 and all(_NAMED_PATH.fullmatch(p) or _may_be_path(p) for p in parts):
            return [s for p in parts for s in _locate_named(p, images, format)]
    if not _exists(spec) and _NAMED_PATH.fullmatch(spec) and not _matches_files(spec):
        return _locate_named(spec, images, format)
    return _locate_unnamed(spec, images, format)


def absolute_spec(spec: str) -> str:
    """`spec` with absolute paths, so that it means the same from any folder; symbolic links in an
    existing path are resolved.
    """
    return map_paths(
        spec,
        lambda path: os.path.realpath(path) if os.path.lexists(path) else os.path.abspath(path),
    )


def map_paths(spec: str, change: Callable[[str], str]) -> str:
    """`spec` with each local path or pattern in it replaced by `change(path)`; addresses and hub
    ids stay.

    Arguments:
        spec: what the user typed.
        change: path -> path.
    """
    spec = without_file_scheme(spec)
    if os.path.lexists(spec):
        return change(spec)
    if files.is_remote(spec) and "," not in spec:
        return spec
    parts = _split_commas(spec)
    if len(parts) > 1 and not _is_one_named_path(spec):
        return ",".join(map_paths(p, change) for p in parts)
    if named := _NAMED_PATH.fullmatch(spec):
        return f"{named[1]}={map_paths(named[2], change)}"
    return (
        spec
        if files.is_remote(spec) or spec.startswith("hub:") or _is_hub_id(spec)
        else change(spec)
    )


def expand_braces(pattern: str) -> list[str]:
    """`base/{a,b}.json` -> both; `{000..003}` -> four.

    >>> expand_braces("x/{a,b}{1..2}.json")
    ['x/a1.json', 'x/a2.json', 'x/b1.json', 'x/b2.json']
    """
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    choices = found[1].split(",")
    if span := _RANGE.fullmatch(found[1]):
        first, last = int(span[1]), int(span[2])
        if last - first > 1_000_000:
            raise PoolError(f"{pattern} names more than a million files.")
        width = len(span[1]) if span[1].startswith("0") else 0
        choices = [str(n).zfill(width) for n in range(first, last + 1)]
    elif len(choices) == 1:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [whole for choice in choices for whole in expand_braces(before + choice.strip() + after)]


def expand_pattern(pattern: str) -> list[str]:
    """The files that a pattern with braces and wildcards matches, sorted; plain names unchanged.
    Raises PoolError if nothing matches.
    """
    out: list[str] = []
    for expanded in expand_braces(pattern):
        if files.is_remote(expanded):
            if not glob.has_magic(expanded):
                out.append(expanded)
                continue
            fs, inner = files.open_filesystem(expanded)
            try:
                found = sorted(fs.unstrip_protocol(p) for p in fs.glob(inner))
            except Exception as error:  # each remote file system raises its own exceptions
                raise PoolError(f"{expanded} cannot be listed: {error}.") from error
        else:
            found = (
                sorted(glob.glob(expanded, recursive=True))
                if glob.has_magic(expanded) and not os.path.exists(expanded)
                else [expanded]
            )
        if not found:
            raise PoolError(
                f"No file matches {expanded}. Quote the pattern, and give it from the folder you "
                f"are in."
            )
        out += found
    return out


def _locate_unnamed(spec: str, images: str | None, format: str | None) -> list[FileSpec]:
    if spec.startswith("hub:"):
        return hub.download_dataset(spec[4:], images)
    path, _, entry = spec.partition("#")
    if entry and not _exists(spec) and _exists(path):
        with listings.guard_recursion(path):
            return listings.read_dataset_info(path, images, locate, entry)
    if (
        not _exists(spec)
        and not glob.has_magic(spec)
        and expand_braces(spec) == [spec]
        and _is_hub_id(spec)
    ):
        return hub.download_dataset(spec, images)
    names = expand_pattern(spec)
    several = [s for name in names for s in resolve_file(name, images, format, locate)]
    if len(names) > 1 and several:
        several[0] = replace(
            several[0], note=" ".join([mixed_splits_note(names), several[0].note]).strip()
        )
    return several


def _locate_named(part: str, images: str | None, format: str | None) -> list[FileSpec]:
    named = _NAMED_PATH.fullmatch(part)
    if named is None or _exists(part):
        return _locate_unnamed(part, images, format)
    return [
        replace(s, source=named[1], source_given=True)
        for s in _locate_unnamed(named[2], images, format)
    ]


def _exists(path: str) -> bool:
    try:
        return (
            files.is_remote(path) and not glob.has_magic(path) and "," not in path
        ) or os.path.lexists(path)
    except (OSError, ValueError):
        return False


def _matches_files(spec: str) -> bool:
    """Whether a spec with = in it (`source=*/part-0.parquet`) is a pattern that matches files, not
    `name=path`.
    """
    return (
        not files.is_remote(spec) and glob.has_magic(spec) and bool(glob.glob(spec, recursive=True))
    )


def _is_one_named_path(spec: str) -> bool:
    """Whether the spec is `name=path` of one existing file, whose path may contain commas."""
    named = _NAMED_PATH.fullmatch(spec)
    return named is not None and os.path.lexists(named[2])


def _may_be_path(part: str) -> bool:
    return _exists(part) or glob.has_magic(part) or files.is_remote(part) or part.startswith("hub:")


def _split_commas(spec: str) -> list[str]:
    """Split at the commas outside braces."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(spec):
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            parts.append(spec[start:i].strip())
            start = i + 1
    return [p for p in (*parts, spec[start:].strip()) if p]


def _is_hub_id(spec: str) -> bool:
    """Whether the spec looks like `org/name`, and neither it nor its parent folder exists
    locally."""
    plain = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?", spec) is not None
    return (
        plain
        and not spec.lower().endswith(SUFFIXES + (".yaml", ".yml"))
        and not Path(spec).parent.exists()
    )
