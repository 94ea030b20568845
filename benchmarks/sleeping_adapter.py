"""A model that sleeps instead of computing, for benchmarks and tests of several processes: any
number of them run on one CPU. Its losses are a fixed function of the row.

The model's `config.json` says how it behaves: `write_model` explains it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from thresher.backends.adapted import Adapter, Encoded, Message

END = 256  # after the 256 bytes
OPEN_SECONDS = 600.0  # for all processes to start


class SleepingAdapter(Adapter):
    """Sleeps for every row, and writes a line about it into `log`."""

    version = 1
    stop_ids = frozenset({END})
    context = 1 << 20

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.log = folder / "log"
        self.log.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(END + 1, END + 1, generator=generator)  # [previous, next]
        self._wait_for_others()

    def _wait_for_others(self) -> None:
        """Wait until as many processes as `together` have opened the model."""
        (self.log / f"open-{os.getpid()}").touch()
        end = time.monotonic() + OPEN_SECONDS
        while len(list(self.log.glob("open-*"))) < self.config["together"]:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.config['together']} processes did not start")
            time.sleep(0.05)

    def encode(self, messages: Sequence[Message], images: Sequence[Any], prompt: bool) -> Encoded:
        ids: list[int] = [END]
        answers = []
        for message in messages:
            start = len(ids)
            for part in message.parts:
                ids += [0] if part is None else part.encode()
            if message.role == "assistant":
                answers.append((start, len(ids)))
        return Encoded(ids, answers, {})

    def logits(self, row: Encoded) -> torch.Tensor:
        began = time.time()
        time.sleep(self.config["seconds"])
        name = hashlib.sha256(repr(row.ids).encode()).hexdigest()
        line = json.dumps({"row": name, "began": began, "ended": time.time()}) + "\n"
        with open(self.log / f"rows-{os.getpid()}", "ab", buffering=0) as f:
            f.write(line.encode())
        return self.table[torch.tensor(row.ids)]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < END).decode("utf-8", "replace")


def write_model(folder: Path, seconds: float, together: int = 1) -> None:
    """A model folder.

    Arguments:
        folder: to create.
        seconds: that a row takes.
        together: number of processes that open the model before any of them scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "sleeping", "auto_map": {"AutoModel": "absent.Absent"}}
    config |= {"seconds": seconds, "together": together}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({}, folder / "model.pt")


def scored_rows(folder: Path) -> list[dict[str, Any]]:
    """What the processes wrote about every row that the model in `folder` was asked about: `row`,
    `began` and `ended` (seconds)."""
    lines = [
        line
        for log in sorted((folder / "log").glob("rows-*"))
        for line in log.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def processes(folder: Path) -> list[int]:
    """The processes that have opened the model in `folder`."""
    return sorted(int(path.name.partition("-")[2]) for path in (folder / "log").glob("open-*"))
