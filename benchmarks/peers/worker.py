"""One run of one tool in this process; writes seconds, CPU seconds and the result to a file.

Standard library only: it runs in the peers' environments.

    python -m benchmarks.peers.worker COMPARISON TOOL INPUTS FEW SCRATCH OUT
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path


def cpu_seconds() -> float:
    """Of this process and its ended children."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def main(comparison: str, name: str, inputs: str, few: str, scratch: str, out: str) -> None:
    """Run a tool on a few rows, then, timed, on all of them.

    Arguments:
        comparison: name of a module in this package.
        name: of a tool in it.
        inputs: folder of the inputs.
        few: the same with a few rows.
        scratch: an empty folder.
        out: the file to write.
    """
    given = importlib.import_module(f"benchmarks.peers.{comparison}").COMPARISON
    (tool,) = (t for t in (given.thresher, *given.peers) if t.name == name)
    version = importlib.metadata.version(tool.package) if tool.package else ""
    for folder in ("few", "all"):
        (Path(scratch) / folder).mkdir()
    tool.prepare(Path(few), Path(scratch) / "few")()
    run = tool.prepare(Path(inputs), Path(scratch) / "all")
    used, began = cpu_seconds(), time.perf_counter()
    result = run()
    seconds, used = time.perf_counter() - began, cpu_seconds() - used
    measured = {"seconds": seconds, "cpu": used, "version": version, "result": result}
    Path(out).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
