"""`Pool`: the rows of files in any format, and their folder of images.

Only an index is kept in memory; records are read from the files when they are needed. Safe to use
from several threads. Reads the pool's files and the image folder; `opening.py` creates pools.

Longer than 400 lines because the rows, their images and the notes on both share one index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from thresher.errors import PoolError
from thresher.pools import index as pool_index
from thresher.pools import layouts, llava
from thresher.pools.file_spec import FileSpec
from thresher.pools.files import FileState, is_remote
from thresher.pools.index import Index
from thresher.pools.open_files import OpenFiles, changed_error
from thresher.pools.paths import printable, unsafe_path_reason
from thresher.pools.pool_file import PoolFile
from thresher.pools.readers import RecordReader
from thresher.pools.spellings import SpellingFinder
from thresher.samplers.ordering import inverse_permutation
from thresher.types import DIGEST, ImageRef, RowError, Sample, Turn, VideoRef

RAW_ROWS = 10_000  # that `raw` looks up at a time


class Pool:
    """n rows. Arrays are in pool order (that of the files) and read-only; use `open_pool` to create
    one.

    Arguments:
        spec: what the user typed, with absolute paths.
        images_folder: of the image paths.
        root: where image paths start: a resolved local folder, or an address.
        index: of records and images.
        sources: the files.
        states: of the files when they were read.
        notes: messages about the opening, for the user.
        trust_paths: whether images are identified by path and size.
    """

    def __init__(
        self,
        spec: str,
        images_folder: Path,
        root: str,
        index: Index,
        sources: Sequence[FileSpec],
        states: Sequence[FileState],
        notes: tuple[str, ...],
        trust_paths: bool = False,
    ) -> None:
        self.spec = spec  # opens the same pool again, from any folder
        self.path = Path(spec)  # what the user typed
        # `images` for opening it again; None: each file's own folder
        self.images: str | None = root
        self.given_format: str | None = None  # `format` for opening it again
        self.images_folder = images_folder
        self.file_specs = tuple(sources)  # its files
        self.stamps = [k.stamp for k in states]  # change when the files do
        self.trust_paths = trust_paths  # images are identified by path and size
        self.pool_files = tuple(
            PoolFile(s.uri, columns=s.columns, **json.loads(container_and_layout))
            for s, container_and_layout in zip(sources, index.parts, strict=True)
        )
        self.format = _common_format(
            [p.format for p in self.pool_files]
        )  # "llava-json", "parquet", …, "mixed"
        self.notes = notes  # messages about the opening, for the user
        # most frames of a video that are scored; None: rows with videos are not scored
        self.video_frames: int | None = None
        self.index = index
        self.digest: np.ndarray = index.digest  # DIGEST [n]
        self.source: np.ndarray = index.source  # int32 [n], into source_names
        self.source_names: tuple[str, ...] = tuple(index.source_names)
        # int64 [n]: by digest, then canonical record, then row
        self.order: np.ndarray = index.order
        # where image paths start: a resolved local folder, or an address
        self._root = self.image_root = root
        self._open_files = OpenFiles(self.pool_files, states)
        self._converters = [
            layouts.make_converter(p.layout, p.columns, p.chosen) for p in self.pool_files
        ]
        if len(self.pool_files) == 1 and self.pool_files[0].container in ("json", "jsonl"):
            # open it now: if the file is replaced later, the old content is still read
            self._open_files.reader(0)

    def __len__(self) -> int:
        return len(self.index.offset)

    def __repr__(self) -> str:
        problem_count = int((self.has_problem | self.facts["missing_images"]).sum())
        counts = (
            f"{len(self):,} rows, {len(self.source_names):,} sources, "
            f"{len(self.index.image_path):,} images"
        )
        return (
            f"<Pool {printable(self.spec)} ({self.format}): "
            f"{counts}{f', {problem_count:,} rows with a problem' if problem_count else ''}>"
        )

    def _repr_html_(self) -> str:
        from thresher.html import render_notebook_view
        from thresher.pools.notebook import pool_view

        return render_notebook_view(lambda: pool_view(self), self)

    @property
    def total_bytes(self) -> int:
        """Size of all files together, as stored (compressed files count compressed)."""
        first = [s[0] for s in self.stamps]
        return sum(f if isinstance(f, int) else int(str(f).rpartition("=")[2]) for f in first)

    @cached_property
    def rank(self) -> np.ndarray:
        """The position of each row in canonical order, int64 [n]: the inverse of `order`."""
        return inverse_permutation(self.order)

    @cached_property
    def facts(self) -> Mapping[str, np.ndarray]:
        """What is known from parsing: name -> array [n], one value per row.

        answer_words, answer_chars: int32, of all answers together.
        turns: int32, messages of any role.
        images: int32, number of images.
        missing_images: bool, at least one has no file or a path that may not be read.
        video, audio: bool, the row has such a medium.
        visual: bool, a model that scores the row is given an image, or (after `score_videos`)
            frames of a video.
        """
        i = self.index
        images = np.diff(i.image_end, prepend=0).astype(np.int32)
        missing = np.zeros(len(self), np.bool_)
        missing[self.image_ref_rows()[i.image_size[i.image_ref] < 0]] = True
        facts = {
            "answer_words": i.answer_words,
            "answer_chars": i.answer_chars,
            "turns": i.turns,
            "images": images,
            "missing_images": missing,
            "video": i.video,
            "audio": i.audio,
            "visual": (images > 0) | (i.video & (self.video_frames is not None)),
        }
        return facts

    @cached_property
    def problems(self) -> Mapping[int, str]:
        """Pool row -> "kind: explanation" for rows that no model can score; other rows are absent.

        Kinds: unreadable, bad-turn, unknown-role, bad-value, bad-image, unread-media, video, audio,
        media-marker, placeholder-mismatch, no-answer, invalid-text.
        """
        texts = list(self.index.problem_texts)
        rows = np.flatnonzero(self.has_problem)
        codes = self.index.problem[rows].tolist()
        return {row: texts[code] for row, code in zip(rows.tolist(), codes, strict=True)}

    @cached_property
    def has_problem(self) -> np.ndarray:
        """bool [n]: the rows of `problems`."""
        scored = "video" if self.video_frames is not None else None
        kinds = [RowError.parse(text).kind for text in self.index.problem_texts]
        # -1: no problem
        is_problem = np.array([kind != scored for kind in kinds] + [False])
        rows: np.ndarray = is_problem[self.index.problem]
        return rows

    @cached_property
    def unreadable(self) -> np.ndarray:
        """bool [n]: records that are not a sample (invalid JSON, not an object, no conversation).
        No method can use them.
        """
        # -1: no problem
        is_unreadable = np.array(
            [RowError.parse(t).kind == "unreadable" for t in self.index.problem_texts] + [False]
        )
        rows: np.ndarray = is_unreadable[self.index.problem]
        return rows

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids of `rows` for display: strings as they are, other values as JSON (7, null), "" if
        a record has none.
        """
        return [_readable_id(identity) for identity in self.index.ids.take(_row_numbers(rows))]

    def sample(self, row: int) -> Sample:
        """One row, read from its file."""
        self._check_unchanged()
        return self._sample(int(row))

    def score_videos(self, frames: int) -> None:
        """Let models score rows with videos, `frames` frames of each at most: `samples` gives these
        rows with a `VideoRef` in the place of each video, `problems` does not list them, and
        `facts["visual"]` includes them.

        Reading a video raises MissingExtra without PyAV.
        """
        self.video_frames = frames
        for name in ("facts", "problems", "has_problem"):
            self.__dict__.pop(name, None)

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        """Several rows, in the order of `rows`; read in the order of the files."""
        self._check_unchanged()
        requested = np.asarray(rows, np.int64)
        out: list[Sample | None] = [None] * len(requested)
        for i in np.argsort(requested, kind="stable").tolist():
            out[i] = self._scored_sample(int(requested[i]))
        return [s for s in out if s is not None]

    def sample_and_videos(self, row: int) -> tuple[Sample, Sequence[VideoRef]]:
        """One row as it is in its file, and its videos, whether they are scored or not."""
        from thresher.pools.video_rows import video_refs

        record, sample = self.record_and_sample(row)
        videos = () if record is None else video_refs(record, self.video_frames or 1)
        return sample, videos

    def by_digest(self, digest: bytes) -> Sample:
        """A row with this digest, preferably one without a problem. Raises KeyError."""
        key = np.frombuffer(digest.ljust(32, b"\0"), DIGEST)[0]
        position = int(np.searchsorted(self._sorted_digests, key))
        first = -1
        while position < len(self) and self._sorted_digests[position] == key:
            row = int(self.order[position])
            if self.index.problem[row] < 0:
                return self.sample(row)
            first = row if first < 0 else first
            position += 1
        if first < 0:
            raise KeyError(digest.hex())
        self._check_unchanged()
        return self._scored_sample(first)

    def raw(self, rows: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """The records' exact bytes as in the file, without surrounding white space.

        A record of a file that is not JSON is written as JSON, with hashes in place of bytes.
        """
        self._check_unchanged()
        requested = _row_numbers(rows)
        for start in range(0, len(requested), RAW_ROWS):
            for reader, offset, length in self._locate_all(requested[start : start + RAW_ROWS]):
                yield reader.raw(offset, length)

    def load_image(self, ref: ImageRef) -> Any:
        """The image as RGB, with its EXIF orientation applied; of a `VideoRef`, its `Video`. Raises
        ImageError."""
        from thresher.pools import images  # Pillow is slow to import and not needed to read a pool

        if isinstance(ref, VideoRef):
            from thresher.pools import videos

            return videos.load(self._root, ref)
        return images.load_rgb(self._root, ref)

    def video_key(self, ref: VideoRef) -> bytes:
        """Equal for video files of the same content (`videos.content_key`). Raises ImageError."""
        from thresher.pools import videos

        return videos.content_key(self._root, ref)

    def image_bytes(self, ref: ImageRef) -> bytes:
        """The unmodified bytes of the image's file. Raises ImageError: outside the image folder,
        missing, changed.
        """
        from thresher.pools import images

        return images.read_bytes(self._root, ref)

    def image(self, number: int) -> ImageRef:
        """Entry `number` of the image table (`index.image_path`); the bytes of an embedded image
        are read.
        """
        if not self.index.embedded[number]:
            return self._image_ref(number)
        reference = int(np.flatnonzero(self.index.image_ref == number)[0])
        row = int(np.searchsorted(self.index.image_end, reference, side="right"))
        index_in_row = reference - (int(self.index.image_end[row - 1]) if row else 0)
        return self.sample(row).images[index_in_row]

    def first_images(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """For each of `rows`, the identity of its first image (`ImageRef.identity`); "" if it has
        none.

        Known from the index: no record is read.
        """
        i = self.index
        requested = np.asarray(rows, np.int64)  # [r]
        start = np.where(requested > 0, i.image_end[requested - 1], 0)  # [r], into image_ref
        return [
            self._image_identity(int(i.image_ref[reference])) if reference < end else ""
            for reference, end in zip(start.tolist(), i.image_end[requested].tolist(), strict=True)
        ]

    def _image_identity(self, number: int) -> str:
        path = self.index.image_path[number]
        if self.index.embedded[number]:
            return "sha256:" + path.removeprefix("bytes:")
        return self._image_ref(number).identity

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """For each of `rows`, why its first missing image is missing, as a `RowError`: no such
        file, or a path that may not be read. "" if no image is missing (`facts["missing_images"]`).
        """
        i = self.index
        references = np.flatnonzero(i.image_size[i.image_ref] < 0)
        missing, first = np.unique(self.image_ref_rows()[references], return_index=True)
        number = dict(zip(missing.tolist(), i.image_ref[references[first]].tolist(), strict=True))
        return [
            self._why_missing(i.image_path[number[row]]) if row in number else ""
            for row in map(int, rows)
        ]

    def _why_missing(self, path: str) -> str:
        if reason := unsafe_path_reason(path):
            error = RowError.parse(reason)
            return str(RowError(error.kind, f"{printable(path)}: {error.detail}"))
        spelling = self.spellings.describe(path)
        detail = f"{printable(path)}: no such image in {self.images_named}"
        return str(RowError("missing-image", f"{detail} ({spelling})" if spelling else detail))

    @property
    def images_named(self) -> str:
        """The image folder for messages: as it was given, or its address."""
        return self._root if is_remote(self._root) else str(self.images_folder)

    @cached_property
    def spellings(self) -> SpellingFinder:
        """Finds missing images under another spelling of their path."""
        return SpellingFinder(self._root)

    def image_ref_rows(self) -> np.ndarray:
        """int64 [references]: the row of each entry of `index.image_ref`."""
        return np.repeat(np.arange(len(self)), np.diff(self.index.image_end, prepend=0))

    @cached_property
    def _sorted_digests(self) -> np.ndarray:
        digest: np.ndarray = self.digest[self.order]
        return digest

    def _check_unchanged(self) -> None:
        self._open_files.check()

    def _locate(self, row: int) -> tuple[RecordReader, int, int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a pool of {len(self)}")
        i = self.index
        part = int(i.part[row])
        return self._open_files.reader(part), int(i.offset[row]), int(i.length[row]), part

    def _locate_all(self, rows: np.ndarray) -> Iterator[tuple[RecordReader, int, int]]:
        """As `_locate`, for many rows (int64 [r]); the reader of a file is fetched once for rows
        that follow each other."""
        i = self.index
        if len(outside := rows[(rows < 0) | (rows >= len(self))]):
            raise IndexError(f"row {outside[0]} of a pool of {len(self)}")
        columns = (i.part[rows].tolist(), i.offset[rows].tolist(), i.length[rows].tolist())
        number = -1
        for part, offset, length in zip(*columns, strict=True):
            if part != number:
                number, reader = part, self._open_files.reader(part)
            yield reader, offset, length

    def record(self, row: int) -> dict[str, Any]:
        """The row as a record in the LLaVA layout, whatever its format: `conversations`, `image` (a
        path, bytes, or a list of them, as in the file) and its other fields.

        Raises PoolError for an unreadable row.
        """
        record, _ = self.record_and_sample(row)
        if record is None:
            raise PoolError(
                f"Row {row} of {self.path} is not a record "
                f"({self.problems.get(row, 'unreadable')})."
            )
        return record

    def record_and_sample(self, row: int) -> tuple[dict[str, Any] | None, Sample]:
        """The record of a row in the LLaVA layout (None if it cannot be read) and its sample."""
        self._check_unchanged()
        return self._record_and_sample(int(row))

    def _record_and_sample(self, row: int) -> tuple[dict[str, Any] | None, Sample]:
        i = self.index
        rows, offset, length, part = self._locate(row)
        code = int(i.problem[row])
        problem = i.problem_texts[code] if code >= 0 else ""
        broken = problem if RowError.parse(problem).kind == "unreadable" else ""
        record, text = None, ""
        if broken:
            text = pool_index.fallback_text(rows, offset, length)
        else:
            value, convert = rows.value(offset, length), self._converters[part]
            if type(value) is not dict:
                raise changed_error(self.pool_files[part].uri)
            record = layouts.restore_extra_fields(value) if convert is None else convert(value)
        parsed = llava.parse(record, broken, text)
        start, stop = int(i.image_end[row - 1]) if row else 0, int(i.image_end[row])
        if stop - start != len(parsed.images):
            raise changed_error(self.pool_files[part].uri)
        refs = i.image_ref[start:stop].tolist()
        sample = Sample(
            id=i.ids[row],
            turns=tuple(Turn(r, t) for r, t in zip(parsed.roles, parsed.texts, strict=True)),
            images=tuple(
                self._make_image_ref(r, image) for image, r in zip(parsed.images, refs, strict=True)
            ),
            source=self.source_names[i.source[row]],
            problem=problem,
            media=parsed.media,
        )
        # never score a changed text under the old digest
        if sample.digest != i.digest[row : row + 1].tobytes():
            raise changed_error(self.pool_files[part].uri)
        return record, sample

    def _sample(self, row: int) -> Sample:
        return self._record_and_sample(row)[1]

    def _scored_sample(self, row: int) -> Sample:
        """`_sample`, with its videos where they are scored."""
        record, sample = self._record_and_sample(row)
        if (
            self.video_frames is None
            or record is None
            or RowError.parse(sample.problem).kind != "video"
        ):
            return sample
        from thresher.pools.video_rows import with_videos

        return with_videos(sample, record, self.video_frames)

    def _make_image_ref(self, number: int, given: str | bytes) -> ImageRef:
        if isinstance(given, bytes):
            return ImageRef(data=given, size=len(given))
        return self._image_ref(number)

    def _image_ref(self, number: int) -> ImageRef:
        i = self.index
        digest = i.image_digest[number : number + 1].tobytes()
        content = digest.hex() if any(digest) else ""
        return ImageRef(
            i.image_path[number], None, int(i.image_size[number]), content, self.trust_paths
        )


def _common_format(formats: Sequence[str]) -> str:
    return formats[0] if len(set(formats)) == 1 else "mixed"


def _readable_id(identity: str) -> str:
    """JSON text of an id -> the id as people write it."""
    if not identity.startswith('"'):
        return identity
    return str(json.loads(identity)) if "\\" in identity else identity[1:-1]


def _row_numbers(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [r]."""
    return np.asarray(rows, np.int64)
