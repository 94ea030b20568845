"""One or two processes, of one thread each, that train together.

A second process computes half of every step and exchanges gradients over gloo: on the two cores
that the benchmark is meant for, two one-thread processes are faster than two threads. Both counts
give the same weights, because a step is always the sum of the same two halves (`loop.py`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Team:
    """This process among `world` of them; rank 0 writes all files."""

    rank: int
    world: int

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            import torch.distributed

            torch.distributed.barrier()

    def add(self, vector: Any) -> None:
        """Replace `vector` by its sum over the processes."""
        if self.world > 1:
            import torch.distributed

            torch.distributed.all_reduce(vector)


@contextlib.contextmanager
def team(rank: int, world: int, meeting: Path | None, folder: Path) -> Iterator[Team]:
    """Connects the processes; rank 0 starts the others, with its own command line.

    meeting: a file that all ranks share; None: rank 0 makes one in `folder`, which it has locked.
    """
    if world == 1:
        yield Team(0, 1)
        return
    import torch.distributed

    if rank == 0:
        for old in folder.glob("meeting-*"):  # of a run that was killed
            old.unlink()
    meeting = meeting or folder / f"meeting-{uuid.uuid4().hex}"
    others = [_start(k, meeting) for k in range(1, world)] if rank == 0 else []
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting.resolve()}",
        rank=rank,
        world_size=world,
        timeout=timedelta(hours=3),  # a rank may wait while another one computes features
    )
    try:
        yield Team(rank, world)
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
        for process in others:
            process.terminate()
            process.wait()
        if rank == 0:
            meeting.unlink(missing_ok=True)


def _start(rank: int, meeting: Path) -> subprocess.Popen[bytes]:
    command: Sequence[str] = [sys.executable, "-m", "benchmarks.real.base", *sys.argv[1:]]
    command = [*command, "--rank", str(rank), "--meeting", str(meeting)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
