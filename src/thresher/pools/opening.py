"""Opens a pool: locates its files, reads them (or the cache of an earlier opening) and checks the
images.

Reads the pool's files and the image folder; writes the cache folder, and the temporary folder for
compressed and remote files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, PoolError, opt
from thresher.pools import cache as pool_cache
from thresher.pools import files, image_table, llava
from thresher.pools import index as pool_index
from thresher.pools.file_spec import FileSpec
from thresher.pools.files import FileState
from thresher.pools.image_table import Hashing, ImageTable
from thresher.pools.index import Index
from thresher.pools.locate import absolute_spec, locate
from thresher.pools.pool import Pool
from thresher.pools.pool_file import PoolFile
from thresher.pools.readers import check_format
from thresher.storage.addresses import without_file_scheme
from thresher.storage.hashing import HashCache

if TYPE_CHECKING:
    from thresher.pools.index import Advance

MAX_REMARKS = 8


def open_pool(
    path: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    cache: Path | None = None,
    progress: Advance | None = None,
    format: str | None = None,
    trust_paths: bool = False,
    hashing: Hashing | None = None,
) -> Pool:
    """Open a file, folder, pattern, address, mixture, or several of these (`locate.py` documents
    the syntax).

    Arguments:
        path: one or several of the above.
        images: the folder that image paths are relative to; None: the folder of each file.
        cache: a folder for the parsed pool, which makes the next opening instant; None: no cache.
        progress: called with the number of rows read since the last call, while files are parsed.
        format: a name of `readers.FORMATS`, if the content is ambiguous; None: detected.
        trust_paths: identify images by path and size, without reading them; rows get other digests.
        hashing: called with (images hashed, images to hash). Each image is read once, and again
            after it changed.

    Raises PoolError: missing, empty, cut off, not a known format, no image folder; ConfigError: no
    such format.
    """
    check_format(format)
    specs = [str(path)] if isinstance(path, (str, Path)) else [str(p) for p in path]
    spec = ",".join(specs)
    images = None if images is None else without_file_scheme(str(images))
    folder = _image_folder(images, spec)
    given_images = images if folder is not None and files.is_remote(folder) else folder
    sources = locate(specs, given_images, format)
    if not sources:
        raise PoolError(f"{spec} contains no pool file.")
    root, prefixes = _common_root(sources)
    notes = list(dict.fromkeys(s.note for s in sources if s.note))
    spec_fields = [
        [s.uri, s.source, s.source_given, p, s.format, s.columns, s.sampling, s.seed, s.entry]
        for s, p in zip(sources, prefixes, strict=True)
    ]
    stamp = {
        "version": llava.VERSION,
        "images": root,
        "sources": spec_fields,
        "trust_paths": trust_paths,
    }
    cache_path = (
        pool_cache.cache_file(cache, json.dumps([spec_fields, trust_paths]), root)
        if cache is not None
        else None
    )
    known = _load_cached(cache_path, stamp, sources, notes) if cache_path is not None else None
    index, states, save = _read_files(sources, root, prefixes, progress) if known is None else known
    hash_cache = HashCache(None if cache is None else cache / "contents", root)
    table, image_notes = image_table.scan_images(
        root,
        index.image_path,
        index.embedded,
        index.image_table,
        hash_cache,
        trust=trust_paths,
        first=known is None,
        hashing=hashing,
    )
    notes += image_notes
    if known is None or not _same_images(table, index.image_table, trust_paths):
        parts = [
            PoolFile(s.uri, columns=s.columns, **json.loads(spec_fields))
            for s, spec_fields in zip(sources, index.parts, strict=True)
        ]
        index, save = pool_index.add_images(index, parts, table, trust_paths), True
    if cache_path is not None and save:
        try:
            pool_cache.save_index(index, stamp, states, cache_path)
        except OSError as error:
            notes.append(
                f"The parsed pool could not be cached in {cache}: {error.strerror or error}. It "
                "will be parsed again next time."
            )
    notes += _limit_remarks(list(dict.fromkeys(index.remarks)))
    shown_folder = Path(images) if images is not None else Path(root)
    pool = Pool(
        ",".join(absolute_spec(one) for one in specs),
        shown_folder,
        root,
        index,
        sources,
        states,
        tuple(notes),
        trust_paths,
    )
    pool.path = Path(spec)
    pool.images = None if any(prefixes) else root
    pool.given_format = format
    return pool


def _limit_remarks(remarks: list[str]) -> list[str]:
    """The first MAX_REMARKS remarks on files, and the number of others."""
    more = len(remarks) - MAX_REMARKS
    return (
        remarks
        if more <= 0
        else [
            *remarks[:MAX_REMARKS],
            f"There are {more:,} more notes on other files.",
        ]
    )


def _image_folder(images: str | Path | None, name: str) -> str | None:
    """The folder given with --images, resolved. Raises PoolError if it is not a folder, ConfigError
    if the text is empty."""
    if images is None:
        return None
    if not str(images).strip():
        raise ConfigError(
            " is empty. Give the folder that image paths start from, or leave it out.",
            option="images",
            value=images,
        )
    if files.is_remote(str(images)):
        return str(images).rstrip("/")
    folder = Path(images)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise PoolError(
            f"The image folder {folder} {problem}. Give the folder that the image paths in {name} "
            f"are relative to ({opt('images')})."
        )
    return os.path.realpath(folder)


def _common_root(sources: Sequence[FileSpec]) -> tuple[str, list[str]]:
    """The pool's image folder, and the prefix of each file's image paths: "" if its folder is the
    pool's.
    """
    folders = list(dict.fromkeys(s.folder for s in sources))
    if len(folders) == 1:
        return folders[0], [""] * len(sources)
    if any(files.is_remote(f) for f in folders):
        raise PoolError(
            f"The files' images are in {len(folders)} places, some of them remote. Give one "
            f"folder with {opt('images')}."
        )
    root = os.path.commonpath(folders)
    if root == os.path.sep:
        raise PoolError(
            "The files' images are in folders that have nothing in common "
            f"({', '.join(folders[:3])}). Give one folder with {opt('images')}; or write each file "
            f"with `thresher export --absolute-paths` and open those with {opt('images', '/')}."
        )
    return root, ["" if s.folder == root else os.path.relpath(s.folder, root) for s in sources]


def _read_files(
    sources: Sequence[FileSpec], root: str, prefixes: Sequence[str], progress: Advance | None
) -> tuple[Index, list[FileState], bool]:
    """The index of all files, their states while they were read, and True: the cache must be
    written.
    """
    states = [files.read_state(s.uri) for s in sources]
    index = pool_index.build_index(sources, root, prefixes, progress)
    for source, state in zip(sources, states, strict=True):
        stamp = files.file_stamp(source.uri)
        if (stamp != state.stamp and state.if_unchanged(source.uri) is None) or stamp[
            :2
        ] != state.stamp[:2]:
            raise PoolError(
                f"{source.uri} changed while it was being read. Open it again when nothing writes "
                "to it."
            )
    return index, states, True


def _load_cached(
    cache_path: Path, stamp: Mapping[str, Any], sources: Sequence[FileSpec], notes: list[str]
) -> tuple[Index, list[FileState], bool] | None:
    """(index, current states of its files, whether the entry must be written again); None if a file
    changed.
    """
    try:
        found = pool_cache.load_index(cache_path, stamp)
    except pool_cache.CacheDamaged as error:
        notes.append(
            f"The cached parse {cache_path.name} was damaged ({error}); the pool was parsed again."
        )
        return None
    if found is None:
        return None
    index, states = found
    current = [k.if_unchanged(s.uri) for s, k in zip(sources, states, strict=True)]
    unchanged = [k for k in current if k is not None]
    return (index, unchanged, unchanged != states) if len(unchanged) == len(states) else None


def _same_images(a: ImageTable, b: ImageTable, trust: bool) -> bool:
    """Whether two scans of the images found the same."""
    if trust:
        return np.array_equal(a.size, b.size)
    return np.array_equal(a.stamps, b.stamps) and np.array_equal(a.digest, b.digest)
