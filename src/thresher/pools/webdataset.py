"""Rows of a WebDataset tar: neighbouring members of one prefix (`000.jpg`, `000.json`, `000.txt`) are a sample.

The record is the sample's `.json`; image members are the row's images, in the order of the tar, in place of the paths
that the record names; a `.txt` without a conversation is a caption. A sample is found again by its byte range, which is
a small tar by itself. A gzip tar is unpacked before it comes here (`files.py`).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from thresher.errors import PoolError
from thresher.pools.columnar import shown
from thresher.pools.paths import shown as readable
from thresher.pools.records import Record, Span

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jfif", "jpe", "img")
TEXTS = ("txt", "caption", "text")
MAX_SAMPLE = 512 << 20  # bytes: more is surely not one sample
_BLOCK = tarfile.BLOCKSIZE


class _Member(NamedTuple):
    key: str
    extension: str
    start: int  # of its header
    data: int
    size: int


class TarRows:
    """See `readers.Rows`; `offset` and `length` are the bytes of a sample's members."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self._remarks: list[str] = []

    def records(self, span: Span | None = None) -> Iterator[Record]:
        sample: list[_Member] = []
        samples = 0
        for member in self._members():
            if sample and member.key != sample[0].key:
                yield self._record(sample)
                samples += 1
                sample = []
            sample.append(member)
        if sample:
            yield self._record(sample)

    def value(self, offset: int, length: int) -> Any:
        return self._parse(offset, length)[0]

    def raw(self, offset: int, length: int) -> bytes:
        value, problem = self._parse(offset, length)
        return shown(value if not problem else {"__key__": value, "problem": problem})

    def remarks(self) -> list[str]:
        return self._remarks

    def _members(self) -> Iterator[_Member]:
        size = os.fstat(self.file.fileno()).st_size
        self.file.seek(0)
        seen = 0
        try:
            with tarfile.open(fileobj=self.file, mode="r:") as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                    if not info.isreg():
                        continue
                    if info.offset_data + info.size > size:
                        raise tarfile.ReadError("unexpected end of data")
                    folder, _, base = info.name.rpartition("/")
                    if base.startswith("._"):
                        continue  # what macOS adds
                    stem, _, extension = base.partition(".")
                    seen += 1
                    yield _Member(
                        f"{folder}/{stem}" if folder else stem,
                        extension.lower(),
                        info.offset,
                        info.offset_data,
                        info.size,
                    )
                end = tar.offset
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise PoolError(
                f"{self.name} is cut off or damaged after {seen:,} members: {error}. Download or write the file again."
            ) from error
        after = os.pread(self.file.fileno(), _BLOCK, end)
        if after.strip(b"\0"):
            what = "cut off" if len(after) < _BLOCK else "damaged"
            raise PoolError(
                f"{self.name} is {what} at byte {end}, after {seen:,} members: expected a tar header. "
                "Download or write the file again."
            )
        if not after:
            self._remarks.append(f"{self.name} has no end-of-archive mark: it may be cut off after its last member.")

    def _record(self, sample: list[_Member]) -> Record:
        start = sample[0].start
        last = sample[-1]
        length = last.data + -(-last.size // _BLOCK) * _BLOCK - start
        if length > MAX_SAMPLE:
            problem = f"unreadable: sample {readable(sample[0].key)} is larger than {MAX_SAMPLE >> 20} MB"
            return Record(start, _BLOCK, None, problem)
        value, problem = self._parse(start, length)
        return Record(start, length, None if problem else value, problem)

    def _parse(self, offset: int, length: int) -> tuple[Any, str]:
        """(record, "") or (key, why there is none)."""
        content = os.pread(self.file.fileno(), length, offset)
        members: list[tuple[str, bytes]] = []
        key = ""
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                for info in tar:
                    base = info.name.rpartition("/")[2]
                    if not info.isreg() or base.startswith("._"):
                        continue
                    stem, _, extension = base.partition(".")
                    key = stem
                    members.append((extension.lower(), content[info.offset_data : info.offset_data + info.size]))
        except (tarfile.TarError, EOFError, ValueError) as error:
            return key, f"unreadable: {error}"
        return _sample(key, members)


def _sample(key: str, members: list[tuple[str, bytes]]) -> tuple[Any, str]:
    record: Any = None
    caption: str | None = None
    images: list[bytes] = []
    for extension, content in members:
        kind = extension.rpartition(".")[2]
        if kind == "json" and record is None:
            try:
                record = json.loads(content.decode("utf-8", "surrogateescape"))
            except (ValueError, RecursionError) as error:
                return key, f"unreadable: the json of sample {readable(key)} is not valid JSON: {error}"
            if not isinstance(record, dict):
                return key, f"unreadable: the json of sample {readable(key)} is no object"
        elif kind in TEXTS and caption is None:
            caption = content.decode("utf-8", "surrogateescape")
        elif kind in IMAGES:
            images.append(content)
    if record is None:
        record = {"id": key}
    if caption is not None and not any(k in record for k in ("conversations", "messages", "texts", "instruction")):
        question = "<image>" * len(images)
        record = {
            **record,
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": caption.strip()}],
        }
    if images:
        name = "images" if "images" in record else "image"
        record = {k: v for k, v in record.items() if k not in ("image", "images")} | {name: images}
    return record, ""
