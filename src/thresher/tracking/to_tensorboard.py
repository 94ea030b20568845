"""`--track tensorboard`: event files below $TENSORBOARD_LOGGING_DIR, else `runs`.

Uses the package tensorboard alone, without torch or TensorFlow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from thresher.tracking.tracker import Table, Value


class TensorboardTracker:
    """A run in a folder of event files.

    Arguments:
        run: name of the run, used as the name of its folder.
    """

    def __init__(self, run: str) -> None:
        root = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or "runs")
        started = time.strftime("%Y%m%d-%H%M%S")
        folder = root / f"{run}-{started}-{os.getpid()}"
        self._writer = EventFileWriter(str(folder))

    def settings(self, values: Mapping[str, Value]) -> None:
        self.table("settings", Table(("option", "value"), tuple(values.items())))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._write(
            [Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step
        )

    def summary(self, values: Mapping[str, float]) -> None:
        self.log(values, 0)

    def table(self, name: str, table: Table) -> None:
        self.text(name, table.to_markdown())

    def text(self, name: str, text: str) -> None:
        content = TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode("utf-8", "replace")],
            tensor_shape=TensorShapeProto(),
        )
        metadata = create_summary_metadata(name, "")
        self._write([Summary.Value(tag=name, metadata=metadata, tensor=content)], 0)

    def close(self, failed: bool) -> None:
        self.text("state", "failed" if failed else "finished")
        self._writer.close()

    def _write(self, values: list[Summary.Value], step: int) -> None:
        self._writer.add_event(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        )
        self._writer.flush()  # a killed run keeps what it has logged
