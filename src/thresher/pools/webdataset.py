"""Rows of a WebDataset tar: consecutive members with one key (`000.jpg`, `000.json`, `000.txt`) are
a sample.

The headers of the tar are read first, so that incomplete samples are noticed before any row is
used. `tar_samples.py` interprets the members of a sample. A sample is read again from its byte
range, which is itself a small tar. A gzip tar is decompressed before it gets here (`files.py`).
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from thresher.errors import PoolError
from thresher.pools.columnar import row_as_json
from thresher.pools.image_formats import HEAD
from thresher.pools.paths import printable as readable
from thresher.pools.records import Record, Span
from thresher.pools.tar_samples import (
    Member,
    TarSample,
    member_kind,
    parse_sample,
    split_member_name,
)

MAX_SAMPLE = 512 << 20  # bytes: anything larger is not a single sample
_BLOCK = tarfile.BLOCKSIZE
_SORT = "Sort it: mkdir x && tar -xf IN.tar -C x && tar --sort=name -cf OUT.tar -C x ."


class _Header(NamedTuple):
    name: str
    start: int
    data: int
    size: int


class _Group(NamedTuple):
    """Consecutive members with one key: a sample, complete unless `scattered`."""

    key: str
    start: int
    length: int
    scattered: bool = False


class TarReader:
    """See `readers.RecordReader`; `offset` and `length` are the bytes of a sample's members."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self._groups: list[_Group] | None = None
        # members away from their sample that are ignored anyway
        self._stray: Counter[str] = Counter()
        self._about: list[str] = []  # remarks on the tar itself
        self._seen: list[str] = []  # remarks on the samples read last

    def records(self, span: Span | None = None) -> Iterator[Record]:
        if self._groups is None:
            self._groups = self._scan()
        passed = self._stray.copy()
        unordered: list[tuple[str, ...]] = []
        samples = with_images = without = 0
        for group in self._groups:
            if group.scattered:
                problem = (
                    f"unreadable: the members of sample {readable(group.key)} are not neighbours "
                    "in the tar"
                )
                yield Record(group.start, _BLOCK, None, problem)
                samples += 1
                continue
            if group.length > MAX_SAMPLE:
                problem = (
                    f"unreadable: sample {readable(group.key)} is larger than {MAX_SAMPLE >> 20} MB"
                )
                yield Record(group.start, _BLOCK, None, problem)
                samples += 1
                continue
            found = self._parse(group.start, group.length)
            passed.update(found.passed_over)
            if found.value is None and not found.problem:
                continue
            samples += 1
            if found.unordered:
                unordered.append(found.unordered)
            images = (found.value or {}).get("image") or (found.value or {}).get("images")
            with_images += bool(images)
            without += not images and not found.problem
            yield Record(group.start, group.length, found.value, found.problem)
        if not samples:
            raise PoolError(
                f"{self.name} holds no "
                f"sample{f' (its members: {_format_counts(passed)})' if passed else ''}. Expected "
                "images with a .json or .txt of the same name, such as 000.jpg and 000.json."
            )
        self._seen = list(self._remarked(passed, unordered, with_images, without))

    def value(self, offset: int, length: int) -> Any:
        found = self._parse(offset, length)
        return found.key if found.value is None else found.value

    def raw(self, offset: int, length: int) -> bytes:
        found = self._parse(offset, length)
        return row_as_json(
            {"__key__": found.key, "problem": found.problem} if found.problem else found.value
        )

    def remarks(self) -> list[str]:
        return [*self._about, *self._seen]

    def _remarked(
        self, passed: Counter[str], unordered: list[tuple[str, ...]], with_images: int, without: int
    ) -> Iterator[str]:
        if passed:
            yield (
                f"{self.name}: {passed.total():,} members were ignored: {_format_counts(passed)}."
            )
        if unordered:
            names = ", ".join(map(readable, unordered[0][:4]))
            yield (
                f"{self.name}: the images of {len(unordered):,} samples are in the order of the "
                f"tar ({names}), because their names give none. List them in the json (`images`) "
                "to set another."
            )
        if with_images and without:
            yield (
                f"{self.name}: {without:,} of {with_images + without:,} samples have no image and "
                "are text-only rows."
            )

    # ---------------------------------------------------------------------------- the tar's headers

    def _headers(self) -> Iterator[_Header]:
        size = os.fstat(self.file.fileno()).st_size
        self.file.seek(0)
        members = 0
        try:
            with tarfile.open(fileobj=self.file, mode="r:") as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # otherwise all are kept
                    if not _is_sample_member(info):
                        continue
                    length = info.size if info.isreg() else 0
                    if info.offset_data + length > size:
                        raise tarfile.ReadError("unexpected end of data")
                    members += 1
                    yield _Header(info.name, info.offset, info.offset_data, length)
                end = tar.offset
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise PoolError(
                f"{self.name} is cut off or damaged after {members:,} members: {error}. Download "
                "or write the file again."
            ) from error
        self._check_end(end, members)

    def _check_end(self, end: int, members: int) -> None:
        """Raises PoolError if the end of the tar, at byte `end`, is invalid."""
        after = os.pread(self.file.fileno(), _BLOCK, end)
        if after.strip(b"\0"):
            problem = "cut off" if len(after) < _BLOCK else "damaged"
            raise PoolError(
                f"{self.name} is {problem} at byte {end}, after {members:,} members: expected a "
                "tar header. Download or write the file again."
            )
        if not after:
            self._about = [
                (
                    f"{self.name} has no end-of-archive mark: it may be cut off after its last "
                    "member."
                )
            ]
            return
        position = end
        while block := os.pread(self.file.fileno(), 1 << 20, position):
            if block.strip(b"\0"):
                position += len(block) - len(block.lstrip(b"\0"))
                header = os.pread(self.file.fileno(), _BLOCK, position // _BLOCK * _BLOCK)
                if header[257:262] == b"ustar":
                    raise PoolError(
                        f"{self.name} continues after its end-of-archive mark, at byte "
                        f"{position // _BLOCK * _BLOCK}: tars were joined with cat. Give the "
                        f"single "
                        "tars, or join them with `tar --concatenate`."
                    )
                self._about = [
                    (
                        f"{self.name} holds bytes after its end-of-archive mark, at byte "
                        f"{position}: not "
                        "read."
                    )
                ]
                return
            position += len(block)

    def _scan(self) -> list[_Group]:
        """The samples, in order. Raises PoolError: cut off, damaged, or most samples are
        incomplete.
        """
        groups: list[_Group] = []
        # key -> its first group, the extensions of all its groups
        first: dict[str, tuple[int, frozenset[str]]] = {}
        repeated = 0
        scattered: set[int] = set()
        for members in self._neighbours():
            for key, part, consecutive in self._samples(members):
                extensions = frozenset(m.name.rpartition("/")[2].partition(".")[2] for m in part)
                known = first.get(key)
                # the rest of an earlier sample
                if known is not None and _complement(known[1], extensions):
                    if not any(map(self._kind, part)):
                        self._stray.update(f".{split_member_name(m.name)[3]}" for m in part)
                        continue
                    scattered.add(known[0])
                    first[key] = (known[0], known[1] | extensions)
                    continue
                repeated += known is not None
                if not consecutive:
                    scattered.add(len(groups))
                first[key] = (len(groups), extensions if known is None else known[1] | extensions)
                last = part[-1]
                end = last.data + -(-last.size // _BLOCK) * _BLOCK
                groups.append(_Group(key, part[0].start, end - part[0].start))
        if scattered and 2 * len(scattered) >= len(groups):
            key = readable(groups[min(scattered)].key)
            raise PoolError(
                f"{self.name}: the members of {len(scattered):,} of {len(groups):,} samples are "
                f"not neighbours (the first is {key}), as WebDataset requires. {_SORT}"
            )
        if scattered:
            self._about.append(
                f"{self.name}: the members of {len(scattered):,} of {len(groups):,} samples are "
                f"not neighbours; these samples cannot be read. {_SORT}"
            )
        if repeated:
            subject = (
                "1 sample has the key" if repeated == 1 else (f"{repeated:,} samples have the keys")
            )
            self._about.append(
                f"{self.name}: {subject} of an earlier one; each becomes a row of its own."
            )
        self._check_folders({key: extensions for key, (_, extensions) in first.items()})
        return [g._replace(scattered=True) if i in scattered else g for i, g in enumerate(groups)]

    def _check_folders(self, keys: dict[str, frozenset[str]]) -> None:
        """Raises PoolError if most samples have their members in several folders, such as
        images/0.png and texts/0.txt.
        """
        of_stem: dict[str, list[str]] = {}
        for key in keys:
            of_stem.setdefault(key.rpartition("/")[2], []).append(key)
        split_keys = [
            k
            for k in of_stem.values()
            if len(k) > 1 and _split_across_folders([keys[one] for one in k])
        ]
        if 2 * len(split_keys) >= len(of_stem) and split_keys:
            one, other = (f"{key}.{min(keys[key])}" for key in split_keys[0][:2])
            raise PoolError(
                f"{self.name}: the members of {len(split_keys):,} of {len(of_stem):,} samples are "
                f"in "
                f"different folders ({readable(one)}, {readable(other)}). WebDataset wants them "
                "side by side under one name: 0.png, 0.txt."
            )

    def _neighbours(self) -> Iterator[list[_Header]]:
        """Runs of consecutive members with one stem."""
        run: list[_Header] = []
        before = ("", "")
        for header in self._headers():
            stem = split_member_name(header.name)[:2]
            if run and stem != before:
                yield run
                run = []
            before = stem
            run.append(header)
        if run:
            yield run

    def _samples(self, members: list[_Header]) -> Iterator[tuple[str, list[_Header], bool]]:
        """The samples of a run with one stem: one, unless the keys contain dots (`v1.5_a.jpg`,
        `v1.5_a.json`, `v1.5_b.jpg`, …), which WebDataset's rule would merge. Each with whether its
        members are consecutive.
        """
        folder, stem, _, _ = split_member_name(members[0].name)
        key = f"{folder}/{stem}" if folder else stem
        numbers: dict[str, list[int]] = {}
        for i, member in enumerate(members):
            numbers.setdefault(split_member_name(member.name)[2], []).append(i)
        if len(numbers) < 2 or "" in numbers or not self._dotted(members, numbers):
            yield key, members, True
            return
        for middle, positions in numbers.items():
            yield (
                f"{key}.{middle}",
                [members[i] for i in positions],
                positions[-1] - positions[0] == len(positions) - 1,
            )

    def _dotted(self, members: list[_Header], numbers: dict[str, list[int]]) -> bool:
        """Whether the parts of a run are samples by themselves: most have a record or text, and an
        image if any has one.
        """
        kinds = [{self._kind(members[i]) for i in positions} for positions in numbers.values()]
        images = any("image" in part_kinds for part_kinds in kinds)
        texts = "record" if any("record" in part_kinds for part_kinds in kinds) else "text"
        complete = sum(
            texts in part_kinds and ("image" in part_kinds or not images) for part_kinds in kinds
        )
        return complete >= 2 and 2 * complete >= len(kinds)

    def _kind(self, member: _Header) -> str:
        suffix = split_member_name(member.name)[3]
        return member_kind(suffix, b"") or member_kind(
            suffix, os.pread(self.file.fileno(), min(HEAD, member.size), member.data)
        )

    # ----------------------------------------------------------------------------------- one sample

    def _parse(self, offset: int, length: int) -> TarSample:
        content = os.pread(self.file.fileno(), length, offset)
        members: list[Member] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                for info in tar:
                    if not _is_sample_member(info):
                        continue
                    data = (
                        content[info.offset_data : info.offset_data + info.size]
                        if info.isreg()
                        else None
                    )
                    members.append(Member(info.name.removeprefix("./"), data))
        except (tarfile.TarError, EOFError, ValueError) as error:
            return TarSample("", None, f"unreadable: {error}")
        return parse_sample(members)


def _complement(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether two groups with one key, by their extensions, are parts of one sample: they share no
    extension, and not both have a record or text.
    """
    return not first & second and not (_has_text(first) and _has_text(second))


def _split_across_folders(groups: list[frozenset[str]]) -> bool:
    """Whether groups in several folders form a sample only together: none is complete, all together
    are.
    """
    complete = any(_has_text(group) and _has_image(group) for group in groups)
    return not complete and any(map(_has_text, groups)) and any(map(_has_image, groups))


def _has_text(extensions: frozenset[str]) -> bool:
    """Whether a record or a text is among the members."""
    return any(
        member_kind(e.rpartition(".")[2].lower(), b"") in ("record", "text") for e in extensions
    )


def _has_image(extensions: frozenset[str]) -> bool:
    """Whether an image is among the members, by their suffixes."""
    return any(member_kind(e.rpartition(".")[2].lower(), b"") == "image" for e in extensions)


def _is_sample_member(info: tarfile.TarInfo) -> bool:
    """Whether a member may be part of a sample: no folder, no hidden file, nothing that macOS or a
    tool adds.
    """
    base = info.name.rpartition("/")[2]
    stem = base.partition(".")[0]
    special = stem.startswith("__") and stem.endswith("__")  # WebDataset's own, such as __meta__
    return (
        (info.isreg() or info.islnk() or info.issym()) and not base.startswith(".") and not special
    )


def _format_counts(passed: Counter[str]) -> str:
    """`.npy (12), .cls (3)`, most frequent first."""
    ordered = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(ordered) - 8} other kinds" if len(ordered) > 8 else ""
    return ", ".join(f"{readable(name)} ({n:,})" for name, n in ordered[:8]) + more
