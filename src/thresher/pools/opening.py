"""Opening a pool: its files are found, looked at, read (or taken from the cache of an earlier
opening) and put together.

Touches the pool's files and the image folder (reading), the cache folder, and the temporary folder
for files that are packed or far away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import PoolError
from thresher.pools import cache as pool_cache
from thresher.pools import files, image_table, llava
from thresher.pools import index as pool_index
from thresher.pools.file_spec import Source
from thresher.pools.files import Kept
from thresher.pools.image_table import Hashing, Table
from thresher.pools.index import Index
from thresher.pools.locate import absolute, locate
from thresher.pools.pool import Pool
from thresher.pools.pool_file import Part
from thresher.pools.readers import check_format
from thresher.storage.hashing import HashCache

if TYPE_CHECKING:
    from thresher.pools.index import Advance

MOST_REMARKS = 8


def open_pool(
    path: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    cache: Path | None = None,
    progress: Advance | None = None,
    format: str | None = None,
    trust_paths: bool = False,
    hashing: Hashing | None = None,
) -> Pool:
    """Open a file, folder, pattern, address, mixture, or several of these (`locate.py` says how
    each is written).

    `images`: the folder that image paths are relative to; where not given, the folder of each file.
    `cache`: a folder for the parsed pool, which makes the next opening instant; None keeps nothing.
    `progress(rows)`: called with the number of rows read since the last call, while files are
    parsed. `hashing(done, todo)`: called while images are read; each is read once, and again where
    it changed.
    `trust_paths`: path and size of an image stand for its content, so that no image is read; rows
    get other digests.
    `format`: a name of `readers.FORMATS` where the content does not tell; None: told from the
    content. Raises PoolError: missing, empty, cut off, not a known format, no image folder;
    ConfigError: no such format.
    """
    check_format(format)
    specs = [str(path)] if isinstance(path, (str, Path)) else [str(p) for p in path]
    spec = ",".join(specs)
    folder = _image_folder(images, spec)
    given = str(images) if folder is not None and files.is_remote(folder) else folder
    sources = locate(specs, given, format)
    if not sources:
        raise PoolError(f"{spec} names no file of a pool.")
    root, prefixes = _roots(sources)
    notes = list(dict.fromkeys(s.note for s in sources if s.note))
    told = [
        [s.uri, s.source, s.named, p, s.format, s.columns, s.keep, s.seed, s.number]
        for s, p in zip(sources, prefixes, strict=True)
    ]
    stamp = {"version": llava.VERSION, "images": root, "sources": told, "trust_paths": trust_paths}
    at = (
        pool_cache.file_for(cache, json.dumps([told, trust_paths]), root)
        if cache is not None
        else None
    )
    known = _cached(at, stamp, sources, notes) if at is not None else None
    found, kept, save = _read(sources, root, prefixes, progress) if known is None else known
    hash_cache = HashCache(None if cache is None else cache / "contents", root)
    table, said = image_table.look(
        root,
        found.image_path,
        found.embedded,
        found.table,
        hash_cache,
        trust=trust_paths,
        first=known is None,
        hashing=hashing,
    )
    notes += said
    if known is None or not _alike(table, found.table, trust_paths):
        parts = [
            Part(s.uri, columns=s.columns, **json.loads(told))
            for s, told in zip(sources, found.parts, strict=True)
        ]
        found, save = pool_index.with_images(found, parts, table, trust_paths), True
    if at is not None and save:
        try:
            pool_cache.save(found, stamp, kept, at)
        except OSError as error:
            notes.append(
                f"The parsed pool could not be cached in {cache}: {error.strerror or error}. It "
                "is parsed anew next time."
            )
    notes += _few(list(dict.fromkeys(found.remarks)))
    shown_folder = Path(images) if images is not None else Path(root)
    pool = Pool(
        ",".join(absolute(one) for one in specs),
        shown_folder,
        root,
        found,
        sources,
        kept,
        tuple(notes),
        trust_paths,
    )
    pool.path = Path(spec)
    pool.images = None if any(prefixes) else root
    pool.read_as = format
    return pool


def _few(remarks: list[str]) -> list[str]:
    """Remarks on files, of thousands of which the first are enough."""
    more = len(remarks) - MOST_REMARKS
    return (
        remarks
        if more <= 0
        else [
            *remarks[:MOST_REMARKS],
            (f"There are {more:,} more notes like these on other files."),
        ]
    )


def _image_folder(images: str | Path | None, name: str) -> str | None:
    """The folder given with --images, resolved. Raises PoolError where it is none."""
    if images is None:
        return None
    if files.is_remote(str(images)):
        return str(images).rstrip("/")
    folder = Path(images)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise PoolError(
            f"The image folder {folder} {what}. Give the folder that the image paths in {name} "
            "start from (--images)."
        )
    return os.path.realpath(folder)


def _roots(sources: Sequence[Source]) -> tuple[str, list[str]]:
    """The pool's image folder, and what goes before each file's image paths: "" where its folder is
    the pool's."""
    folders = list(dict.fromkeys(s.folder for s in sources))
    if len(folders) == 1:
        return folders[0], [""] * len(sources)
    if any(files.is_remote(f) for f in folders):
        raise PoolError(
            f"The files' images are in {len(folders)} places, some of them remote. Give one "
            "folder with --images."
        )
    root = os.path.commonpath(folders)
    if root == os.path.sep:
        raise PoolError(
            "The files' images are in folders that have nothing in common "
            f"({', '.join(folders[:3])}). Give one folder with --images; or write each file with "
            "`thresher export --absolute-paths` and open those with --images /."
        )
    return root, ["" if s.folder == root else os.path.relpath(s.folder, root) for s in sources]


def _read(
    sources: Sequence[Source], root: str, prefixes: Sequence[str], progress: Advance | None
) -> tuple[Index, list[Kept], bool]:
    """The rows of all files, and the files as they were while they were read."""
    kept = [files.keep(s.uri) for s in sources]
    found = pool_index.build(sources, root, prefixes, progress)
    for source, then in zip(sources, kept, strict=True):
        now = files.stamp(source.uri)
        if (now != then.stamp and then.still(source.uri) is None) or now[:2] != then.stamp[:2]:
            raise PoolError(
                f"{source.uri} changed while it was being read. Open it again when nothing writes "
                "to it."
            )
    return found, kept, True


def _cached(
    at: Path, stamp: Mapping[str, Any], sources: Sequence[Source], notes: list[str]
) -> tuple[Index, list[Kept], bool] | None:
    """(index, its files as they are now, whether the entry is to be written again); None where a
    file changed."""
    try:
        found = pool_cache.load(at, stamp)
    except pool_cache.Damaged as error:
        notes.append(f"The cached parse {at.name} was damaged ({error}); the pool was parsed anew.")
        return None
    if found is None:
        return None
    index, kept = found
    now = [k.still(s.uri) for s, k in zip(sources, kept, strict=True)]
    same = [k for k in now if k is not None]
    return (index, same, same != kept) if len(same) == len(kept) else None


def _alike(a: Table, b: Table, trust: bool) -> bool:
    """Whether two looks at the images saw the same."""
    if trust:
        return np.array_equal(a.size, b.size)
    return np.array_equal(a.stamps, b.stamps) and np.array_equal(a.digest, b.digest)
