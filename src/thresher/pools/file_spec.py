"""`FileSpec`: one file of a pool and how to read it. Locating a pool's files returns these; opening
a pool starts from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thresher.pools import files
from thresher.pools.paths import printable


@dataclass(frozen=True)
class FileSpec:
    """One file of a pool and how to read it."""

    uri: str  # absolute local path, or an address
    # the source of rows that name none; of all rows where `named`; "": by the names of all files
    source: str
    folder: str  # folder of its relative image paths: a resolved local folder, or an address
    format: str | None = None  # a name of readers.FORMATS; None: detected
    columns: str = ""  # JSON of the entry of a dataset_info.json
    sampling: str = ""  # a sampling strategy of a mixture ("" = all)
    seed: int = 0  # of its random sampling
    entry: int = 0  # among the entries of the mixture: two random ones draw differently
    # whether the user gave the source's name, which overrides the records
    source_given: bool = False
    note: str = ""  # what was left out when the file was located, for the user


Locate = Callable[[str, str | None, str | None], list[FileSpec]]
"""`locate(spec, images, format)`: the files of a path that a folder or a list names; passed to
their readers."""


def local_folder(path: str) -> str:
    """The folder that relative image paths of this file start from by default."""
    if files.is_remote(path):
        return path.rpartition("/")[0]
    return os.path.realpath(os.path.dirname(os.path.abspath(path)))


def describe_files(sources: Sequence[FileSpec]) -> str:
    """The files as text for messages: the first one and the number of others."""
    first = printable(sources[0].uri)
    return first if len(sources) == 1 else f"{first} and {len(sources) - 1:,} more"
