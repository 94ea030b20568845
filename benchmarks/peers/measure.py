"""Measures the tools of a comparison in turn, each run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Tool
from benchmarks.peers.environments import missing, python_of
from benchmarks.reading import Watch

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600  # of one run
# one thread each, and no attempt to reach a hub
ENVIRONMENT = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    ),
    **dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
}


@dataclass(frozen=True)
class Measured:
    """A tool's runs of one comparison.

    tool: its name. cpu: seconds of the fastest run. memory: peak of the process and its children,
    in bytes, of the smallest run. text: what it found, or why there is nothing. good: whether the
    result is as good as thresher's; None: no result.
    """

    tool: str
    version: str = ""
    cpu: float = 0.0
    memory: float = 0.0
    text: str = ""
    good: bool | None = None


def measure(
    name: str,
    comparison: Comparison,
    rows: int,
    repeats: int,
    environments: Path,
    report: Callable[[str], None],
) -> list[Measured]:
    """thresher's runs, then those of each peer.

    Arguments:
        name: the comparison's module.
        comparison: what to measure.
        rows: size of the inputs.
        repeats: runs of each tool; the tools take turns.
        environments: folder of the peers' environments.
        report: called with a line after each run.
    """
    tools = (comparison.thresher, *comparison.peers)
    runs: dict[str, list[dict[str, Any]]] = {tool.name: [] for tool in tools}
    failed: dict[str, str] = {}
    for tool in comparison.peers:
        if tool.environment and (why := missing(tool.environment, environments)):
            failed[tool.name] = f"not installed: {why}"
    with tempfile.TemporaryDirectory() as folder:
        inputs, few = Path(folder) / "inputs", Path(folder) / "few"
        for path, size in ((inputs, rows), (few, comparison.few)):
            path.mkdir()
            comparison.make(path, size)
        for _ in range(repeats):
            for tool in tools:
                if tool.name in failed:
                    continue
                try:
                    runs[tool.name].append(run(name, tool, inputs, few, environments))
                except RunFailed as failure:
                    failed[tool.name] = f"failed: {failure}"
                last = failed.get(tool.name) or f"{runs[tool.name][-1]['cpu']:.2f} s of CPU"
                report(f"{name}: {tool.name}: {last}")
        if comparison.thresher.name in failed:
            raise SystemExit(f"{name}: thresher {failed[comparison.thresher.name]}")
        ours = runs[comparison.thresher.name][0]["result"]
        return [
            Measured(tool.name, text=failed[tool.name])
            if tool.name in failed
            else _summary(tool, runs[tool.name], *comparison.judge(inputs, ours, result))
            for tool in tools
            for result in [runs[tool.name][0]["result"] if tool.name not in failed else None]
        ]


def _summary(tool: Tool, runs: list[dict[str, Any]], text: str, good: bool) -> Measured:
    return Measured(
        tool.name,
        version=runs[0]["version"],
        cpu=min(run["cpu"] for run in runs),
        memory=min(run["memory"] for run in runs),
        text=text,
        good=good,
    )


class RunFailed(Exception):
    """The last line that a run wrote to standard error."""


def run(name: str, tool: Tool, inputs: Path, few: Path, environments: Path) -> dict[str, Any]:
    """What the worker writes, and `memory`: the peak of it and its children together, in bytes.

    Arguments:
        name: the comparison's module.
        tool: one of its tools.
        inputs: folder of the inputs.
        few: the same with a few rows.
        environments: folder of the peers' environments.
    """
    own = tool.environment
    python = str(python_of(environments / own)) if own else sys.executable
    with tempfile.TemporaryDirectory() as scratch:
        out, errors = Path(scratch) / "out.json", Path(scratch) / "errors.txt"
        arguments = [name, tool.name, *map(str, (inputs, few, scratch, out))]
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", *arguments],
                env={**os.environ, **ENVIRONMENT, "THRESHER_STORE": f"{scratch}/default_store"},
                cwd=scratch,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
            watch = Watch(process.pid)
            watch.start()
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise RunFailed(f"not done after {SECONDS} s") from None
            finally:
                watch.done.set()
                watch.join()
        if status != 0:
            lines = errors.read_text(errors="replace").strip().splitlines()
            raise RunFailed(lines[-1] if lines else f"exit status {status}")
        measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**measured, "memory": watch.most}
