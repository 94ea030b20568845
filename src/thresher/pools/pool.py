"""A pool: rows to choose from, read from a LLaVA JSON or JSONL file and its folder of images.

Opening reads the file once (or the cache of an earlier opening); records are read again from their bytes when they are
asked for. Safe to use from several threads. Touches the pool file, the image folder (reading) and the cache folder.
"""

from __future__ import annotations

import json
import os
import stat
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from thresher.errors import PoolError
from thresher.pools import cache as pool_cache
from thresher.pools import index as pool_index
from thresher.pools import llava
from thresher.pools.index import Index
from thresher.pools.paths import refusal, shown
from thresher.types import DIGEST, ImageRef, Sample, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

    from thresher.pools.index import Advance

FORMATS = {"json": "llava-json", "jsonl": "llava-jsonl"}


def open_pool(
    path: str | Path, images: str | Path | None = None, cache: Path | None = None, progress: Advance | None = None
) -> Pool:
    """Open a LLaVA JSON list or JSONL file.

    `images`: the folder that image paths are relative to; the folder of the file when not given.
    `cache`: a folder for the parsed pool, which makes the next opening instant; None keeps nothing.
    `progress(rows)`: called with the number of rows read since the last call, while the file is parsed.
    Raises PoolError: missing, a folder, empty, cut off, not a known format, no image folder.
    """
    path = Path(path)
    file, about = _open(path)
    name = str(path)
    try:
        folder = Path(images) if images is not None else path.parent
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise PoolError(
                f"The image folder {folder} {what}. Give the folder that the image paths in {name} start from (--images)."
            )
        root = os.path.realpath(folder)
        notes: list[str] = []
        real = os.path.realpath(path)
        stamp = {
            "path": real,
            "size": about.st_size,
            "mtime_ns": about.st_mtime_ns,
            "images": root,
            "version": llava.VERSION,
        }
        at = pool_cache.file_for(cache, real, root) if cache is not None else None
        found = _cached(at, stamp, notes) if at is not None else None
        if found is None:
            pool_index.settle_after(about.st_mtime_ns)
            found = pool_index.build(file, name, path.stem, root, progress)
            if _changed(os.fstat(file.fileno()), about):
                raise PoolError(f"{name} changed while it was being read. Open it again when nothing writes to it.")
            if at is not None:
                try:
                    pool_cache.save(found, stamp, at)
                except OSError as error:
                    notes.append(
                        f"The parsed pool could not be cached in {cache}: {error.strerror or error}. It is parsed anew next time."
                    )
        return Pool(path, folder, found, file, about, tuple(notes))
    except BaseException:
        file.close()
        raise


class Pool:
    """n rows. Arrays are in pool order (the file's) and read-only; make one with `open_pool`."""

    def __init__(
        self,
        path: Path,
        images_folder: Path,
        index: Index,
        file: BinaryIO,
        about: os.stat_result,
        notes: tuple[str, ...],
    ) -> None:
        self.path = path
        self.images_folder = images_folder
        self.format = FORMATS[index.kind]  # "llava-json" | "llava-jsonl"
        self.notes = notes  # what the user may want to know of the opening, in words
        self.index = index
        self.digest: np.ndarray = index.digest  # DIGEST [n]
        self.source: np.ndarray = index.source  # int32 [n], into source_names
        self.source_names: tuple[str, ...] = tuple(index.source_names)
        self.order: np.ndarray = index.order  # int64 [n]: by digest, then canonical record, then row
        self._root = os.path.realpath(images_folder)
        self._about = about
        self._file = os.dup(file.fileno())
        file.close()
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self.index.offset)

    @cached_property
    def facts(self) -> Mapping[str, np.ndarray]:
        """Known from reading: `answer_words`, `answer_chars` (of all answers together), `turns` (messages of any role),
        `images`: int32 [n]; `missing_images` (at least one has no file or a path that may not be read), `video`: bool [n].
        """
        i = self.index
        images = np.diff(i.image_end, prepend=0).astype(np.int32)
        missing = np.zeros(len(self), np.bool_)
        missing[self.rows_of_references()[i.image_size[i.image_ref] < 0]] = True
        facts = {
            "answer_words": i.answer_words,
            "answer_chars": i.answer_chars,
            "turns": i.turns,
            "images": images,
            "missing_images": missing,
            "video": i.video,
        }
        return facts

    @cached_property
    def problems(self) -> Mapping[int, str]:
        """Pool row -> "kind: words", why no model can score it. Rows without a problem are absent.

        Kinds: unreadable, bad-turn, unknown-role, bad-value, bad-image, video, placeholder-mismatch, no-answer, invalid-text.
        """
        texts = list(self.index.problem_texts)
        rows = np.flatnonzero(self.index.problem >= 0)
        return {row: texts[code] for row, code in zip(rows.tolist(), self.index.problem[rows].tolist(), strict=True)}

    @cached_property
    def unreadable(self) -> np.ndarray:
        """bool [n]: records that are no sample at all (broken JSON, not an object, no conversation): of no use to any method."""
        bad = np.array([t.startswith("unreadable") for t in self.index.problem_texts] + [False])  # -1: no problem
        rows: np.ndarray = bad[self.index.problem]
        return rows

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids as a reader knows them: text as it is, anything else as JSON (7, null), "" where a record has none."""
        return [_shown(self.index.ids[int(row)]) for row in rows]

    def sample(self, row: int) -> Sample:
        """One row, read from the file."""
        self._check()
        return self._sample(int(row))

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        """Many rows, in the order asked for; read in the order of the file."""
        self._check()
        wanted = np.asarray(rows, np.int64)
        out: list[Sample | None] = [None] * len(wanted)
        for i in np.argsort(wanted, kind="stable").tolist():
            out[i] = self._sample(int(wanted[i]))
        return [s for s in out if s is not None]

    def by_digest(self, digest: bytes) -> Sample:
        """A row with this digest; one without a problem where there is a choice. Raises KeyError."""
        key = np.frombuffer(digest.ljust(32, b"\0"), DIGEST)[0]
        at = int(np.searchsorted(self._sorted, key))
        first = -1
        while at < len(self) and self._sorted[at] == key:
            row = int(self.order[at])
            if self.index.problem[row] < 0:
                return self.sample(row)
            first = row if first < 0 else first
            at += 1
        if first < 0:
            raise KeyError(digest.hex())
        return self.sample(first)

    def raw(self, rows: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """The records' exact bytes as in the file, without the white space around them."""
        self._check()
        for row in rows:
            yield self._bytes(int(row))

    def load_image(self, ref: ImageRef) -> Image:
        """The image as RGB, EXIF-rotated. Raises ImageError."""
        from thresher.pools import images  # Pillow is slow to import and not needed to read a pool

        return images.load(self._root, ref)

    def missing_image(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """For each of `rows`, why its first missing image is missing: no such file, or a path that may not be read.

        "" where no image is missing (`facts["missing_images"]`).
        """
        i = self.index
        at = np.flatnonzero(i.image_size[i.image_ref] < 0)
        missing, first = np.unique(self.rows_of_references()[at], return_index=True)
        number = dict(zip(missing.tolist(), i.image_ref[at[first]].tolist(), strict=True))
        return [self._why_missing(i.image_path[number[row]]) if row in number else "" for row in map(int, rows)]

    def _why_missing(self, path: str) -> str:
        if reason := refusal(path):
            return f"{shown(path)}: {reason}"
        return f"no such image in {self.images_folder}: {shown(path)}"

    def rows_of_references(self) -> np.ndarray:
        """int64 [references]: the row that holds each entry of `index.image_ref`."""
        return np.repeat(np.arange(len(self)), np.diff(self.index.image_end, prepend=0))

    @cached_property
    def _sorted(self) -> np.ndarray:
        digest: np.ndarray = self.digest[self.order]
        return digest

    def _check(self) -> None:
        if _changed(os.fstat(self._file), self._about):
            raise PoolError(f"{self.path} changed since it was opened. Open it again.")

    def _bytes(self, row: int) -> bytes:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a pool of {len(self)}")
        return os.pread(self._file, int(self.index.length[row]), int(self.index.offset[row]))

    def _sample(self, row: int) -> Sample:
        i = self.index
        raw = self._bytes(row)
        code = int(i.problem[row])
        problem = i.problem_texts[code] if code >= 0 else ""
        broken = problem if problem.startswith("unreadable") else ""
        text = raw[: pool_index.RAW_KEPT].decode("utf-8", "surrogateescape") if broken else ""
        parsed = llava.parse(None if broken else llava.decode(raw), broken, text)
        stop = int(i.image_end[row])
        refs = i.image_ref[stop - len(parsed.images) : stop].tolist()
        return Sample(
            id=i.ids[row],
            turns=tuple(Turn(r, t) for r, t in zip(parsed.roles, parsed.texts, strict=True)),
            images=tuple(ImageRef(path=p, size=int(i.image_size[r])) for p, r in zip(parsed.images, refs, strict=True)),
            source=self.source_names[i.source[row]],
            problem=problem,
        )


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    try:
        if path.is_dir():
            inside = sorted(p.name for p in path.iterdir() if p.suffix in (".json", ".jsonl"))
            hint = f" It holds {', '.join(inside[:5])}." if inside else ""
            raise PoolError(f"{path} is a folder; expected a LLaVA JSON or JSONL file.{hint}")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise PoolError(f"{path} is not a plain file: a pool is read more than once. Save it to a file first.")
        file = open(path, "rb")  # noqa: SIM115 - the pool keeps it open
    except FileNotFoundError:
        raise PoolError(f"{path} does not exist. Give a LLaVA JSON or JSONL file.") from None
    except (OSError, ValueError) as error:
        raise PoolError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return file, os.fstat(file.fileno())


def _changed(now: os.stat_result, then: os.stat_result) -> bool:
    return (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns)


def _cached(at: Path, stamp: Mapping[str, Any], notes: list[str]) -> Index | None:
    try:
        found = pool_cache.load(at, stamp)
    except pool_cache.Damaged as error:
        notes.append(f"The cached parse {at.name} was damaged ({error}); the pool was parsed anew.")
        return None
    if found is None:
        return None
    if not pool_index.images_as_they_were(found, stamp["images"]):
        return None  # images were added, removed or overwritten: digests change with them
    return found


def _shown(identity: str) -> str:
    """JSON text of an id -> the id as people write it."""
    return str(json.loads(identity)) if identity.startswith('"') else identity
