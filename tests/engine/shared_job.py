"""Processes that share one job: started by a test, released by `go`, and the rows they scored."""

from __future__ import annotations

from pathlib import Path

from tests.warm_process import WarmProcess, WarmServer


def started(warm: WarmServer, code: str, folder: Path, number: int, speed: float) -> WarmProcess:
    """A process that has printed "ready" and waits for `go`."""
    process = warm.start(code, folder, number, speed)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: WarmProcess) -> WarmProcess:
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def asked(folder: Path, *numbers: int) -> list[str]:
    """The rows that processes scored, in the order in which each scored them."""
    logs = [folder / f"asked-{n}" for n in numbers]
    return [line for log in logs if log.exists() for line in log.read_text().splitlines()]
