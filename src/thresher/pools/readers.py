"""Opens one file of a pool with the reader for its container, detected from its first bytes, never
from its name.

A reader yields decoded records with their position (two integers), and reads one again from its
position. What a record means is decided by its layout (`layouts.py`). Reads the given file.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from thresher.errors import ConfigError, PoolError, did_you_mean, opt
from thresher.pools.json_reader import JsonReader
from thresher.pools.layouts import LAYOUTS, common_layout, describe_layouts, recognise_layouts
from thresher.pools.paths import printable
from thresher.pools.records import Record, Span, sniff

CONTAINERS = ("json", "jsonl", "parquet", "arrow", "tar")
# value of --format -> (container, layout); "" = detected from the content
FORMATS: dict[str, tuple[str, str]] = {
    **{name: ("", name) for name in LAYOUTS if name != "llamafactory"},
    **{
        f"{name}-{kind}": (kind, name)
        for name in LAYOUTS
        if name != "llamafactory"
        for kind in ("json", "jsonl")
    },
    "parquet": ("parquet", ""),
    "datasets": ("arrow", ""),
    "webdataset": ("tar", ""),
    "mixture": ("", ""),
    "llamafactory": ("", ""),
}
LAYOUT_SAMPLE = 200  # records used to detect the layout


class RecordReader(Protocol):
    """The records of one file. Safe to use from several threads once `records` is done."""

    def records(self, span: Span | None = None) -> Iterator[Record]:
        """All records in order; an invalid one is a Record with a `problem`. Raises PoolError if
        the rest of the file cannot be read.
        """

    def value(self, offset: int, length: int) -> Any:
        """One record again; None if it cannot be decoded.

        Arguments:
            offset: of the record, as in `Record`.
            length: of the record, as in `Record`.
        """

    def raw(self, offset: int, length: int) -> bytes:
        """Its bytes as in the file, or as JSON if the file is not JSON.

        Arguments:
            offset: of the record, as in `Record`.
            length: of the record, as in `Record`.
        """

    def remarks(self) -> list[str]:
        """Notes on the file for the user, available after it was read."""


def check_format(name: str | None) -> None:
    """Raises ConfigError for an unknown --format."""
    if name is not None and name not in FORMATS:
        raise ConfigError(
            f"There is no format {name!r}. Known: "
            f"{', '.join(FORMATS)}.{did_you_mean(name, list(FORMATS))}"
        )


def detect_container(file: BinaryIO, name: str, format: str | None = None) -> str:
    """The file's container, one of CONTAINERS. Raises PoolError for an unknown one.

    Arguments:
        file: the open file.
        name: for messages.
        format: a name of FORMATS that the user gave; None: detected.
    """
    given = FORMATS[format][0] if format else ""
    if given and given not in ("json", "jsonl"):
        return given
    head = os.pread(file.fileno(), 1024, 0)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return "arrow"
    if _is_tar(head):
        return "tar"
    return given or sniff(file, name)


def open_reader(file: BinaryIO, name: str, container: str) -> RecordReader:
    """A reader for an open file. Raises PoolError (damaged).

    Arguments:
        file: the open file.
        name: for messages.
        container: one of CONTAINERS.
    """
    if container in ("json", "jsonl"):
        return JsonReader(file, name, container)
    if container == "tar":
        from thresher.pools.webdataset import TarReader

        return TarReader(file, name)
    from thresher.pools.columnar import ArrowReader, ParquetReader  # pyarrow is slow to import

    return ParquetReader(file, name) if container == "parquet" else ArrowReader(file, name)


def detect_layout(rows: RecordReader, name: str, container: str, format: str | None = None) -> str:
    """The layout of the first records; "llava" if none is recognised, whose parser then reports
    what is wrong.

    Arguments:
        rows: reads the file.
        name: for messages.
        container: of the file.
        format: a name of FORMATS that the user gave; None: detected.

    Raises PoolError if a record could have two layouts.
    """
    given = FORMATS[format][1] if format else ""
    if given:
        return given
    candidates: list[tuple[str, ...]] = []
    for number, record in enumerate(rows.records()):
        names = recognise_layouts(record.value, container)
        if len(names) > 1:
            raise PoolError(
                f"{name} is ambiguous: its records have the conversations of several formats "
                f"({', '.join(names)}); keys found: {describe_keys(record.value)}. Choose one with "
                f"{opt('format')}."
            )
        if names:
            candidates.append(names)
        if (
            len(candidates) >= LAYOUT_SAMPLE
            or number >= 20 * LAYOUT_SAMPLE
            or (number >= 20 and container in ("tar", "parquet"))
        ):
            break
    names = common_layout(candidates)
    if not names:
        return "llava"
    return _json_layout(names[0], container)


def format_names_layout(format: str | None) -> bool:
    """Whether a --format determines the layout of the records."""
    return bool(format and FORMATS[format][1])


def describe_keys(record: Any) -> str:
    """The keys of a record, for a message."""
    return (
        ", ".join(printable(str(key)) for key in list(record)[:12])
        if isinstance(record, dict) and record
        else "none"
    )


def describe_formats() -> str:
    """The supported formats, for the message about a file without usable records."""
    return (
        f"Formats considered: {describe_layouts()}. Give its name with {opt('format')} if it is "
        "one of them but was not recognised."
    )


def _json_layout(layout: str, container: str) -> str:
    return (
        "sharegpt"
        if layout == "swift" and container not in ("jsonl", "tar", "parquet", "arrow")
        else layout
    )


def _is_tar(head: bytes) -> bool:
    if len(head) < tarfile.BLOCKSIZE:
        return False
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return head[:1] not in (b"[", b"{", b"\0")
