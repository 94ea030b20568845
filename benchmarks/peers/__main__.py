"""Runs the comparisons and prints their tables: docs/results/peers.md.

    python -m benchmarks.peers --install               # once: the peers, into environments
    python -m benchmarks.peers [--only texts images] [--scale 10] [--repeats 5] [--write]

About ten minutes on one core at the default sizes. A peer that is not installed, or fails, has a
line that says why.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers.comparison import Comparison
from benchmarks.peers.environments import install, names
from benchmarks.peers.measure import Measured, measure
from benchmarks.peers.page import page, unexplained

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results" / "peers.md"
COMPARISONS = (
    "reading",
    "texts",
    "images",
    "broken",
    "vectors",
    "diverse",
    "sampler",
    "losses",
)
ENVIRONMENTS = Path(tempfile.gettempdir()) / "thresher-peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--install", action="store_true", help="install the peers, and end")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where they are")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="comparisons, or peers to install"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of rows")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each tool (default: 2)")
    parser.add_argument("--results", type=Path, help="keep measurements in this file, and resume")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    a = parser.parse_args()
    known = names() if a.install else COMPARISONS
    chosen = a.only or known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--only: no {', '.join(unknown)}; there are {', '.join(known)}")
    if a.repeats < 1 or a.scale <= 0:
        parser.error("--repeats must be at least 1, --scale above 0")
    if a.install:
        for name in chosen:
            print(f"{name}: {install(name, a.environments) or 'installed'}", flush=True)
        return
    found = {}
    stored = json.loads(a.results.read_text()) if a.results and a.results.exists() else {}
    for name in chosen:
        comparison: Comparison = importlib.import_module(f"benchmarks.peers.{name}").COMPARISON
        rows = max(int(a.scale * comparison.rows), comparison.few)
        key = f"{name}, {rows} rows, {a.repeats} runs"
        if key not in stored:
            measured = measure(name, comparison, rows, a.repeats, a.environments, _report)
            stored[key] = [asdict(each) for each in measured]
            if a.results:
                a.results.write_text(json.dumps(stored, indent=1))
        measured = [Measured(**values) for values in stored[key]]
        found[name] = (comparison, rows, measured)
        for peer in unexplained(comparison, measured):
            _report(f"{name}: {peer} is faster, and nothing says why")
    command = "python -m benchmarks.peers"
    command += f" --only {' '.join(a.only)}" if a.only else ""
    command += f" --scale {a.scale:g}" if a.scale != 1 else ""
    command += f" --repeats {a.repeats}" if a.repeats != 2 else ""
    text = page(found, command, a.repeats)
    print(text)
    if a.write:
        PAGE.write_text(text, encoding="utf-8")


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
