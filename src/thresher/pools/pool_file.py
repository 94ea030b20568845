"""`PoolFile`: one file of an open pool with its container (JSON, parquet, tar) and the layout of
its records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from thresher.pools.readers import RecordReader, open_reader


@dataclass(frozen=True)
class PoolFile:
    """One file of an open pool. Its container and layout are detected by `index.build_index`."""

    uri: str
    container: str  # of readers.CONTAINERS
    layout: str  # of layouts.LAYOUTS
    chosen: bool = False  # the user named the layout (--format)
    columns: str = ""  # JSON of the entry of a dataset_info.json, for the layout "llamafactory"

    def reader(self, file: BinaryIO) -> RecordReader:
        """A reader over the open file. Raises PoolError (damaged)."""
        return open_reader(file, self.uri, self.container)

    @property
    def format(self) -> str:
        """The name of the format for users: llava-json, swift-jsonl, parquet, datasets,
        webdataset."""
        if self.container in ("json", "jsonl"):
            return (
                "llamafactory"
                if self.layout == "llamafactory"
                else f"{self.layout}-{self.container}"
            )
        return {"parquet": "parquet", "arrow": "datasets", "tar": "webdataset"}[self.container]
