"""What a user may say of an export, beside its format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How images are named. `embed`: put their bytes into the records, where the format can (parquet, messages, webdataset)."""

    embed: bool = False
    absolute: bool = False  # absolute paths
    relative_to: str | None = None  # paths that start from this folder

    @property
    def plain(self) -> bool:
        """Whether records may be copied as they stand."""
        return not self.embed and not self.absolute and self.relative_to is None
