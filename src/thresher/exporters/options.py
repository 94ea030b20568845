"""Export options besides the format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How images are named.

    `embed`: store their bytes in the records, if the format can (parquet, messages, webdataset).
    """

    embed: bool = False
    absolute: bool = False  # absolute paths
    relative_to: str | None = None  # paths relative to this folder

    @property
    def plain(self) -> bool:
        """Whether records may be copied unchanged."""
        return not self.embed and not self.absolute and self.relative_to is None
