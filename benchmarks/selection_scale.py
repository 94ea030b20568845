"""CPU time and memory of every method's selection from columns, by number of rows.

Columns are synthetic: no model runs, no pool is read. Each measurement has a process of its own:
it makes the columns that the method asks for, then measures `Method.select` of 10% of the rows. The
exponent is the slope of log(CPU time) over log(rows) by least squares. Clustering into skills is
not part of it (`benchmarks/skills.py`), nor are reading the store and writing files
(`benchmarks/million.py`).

    python -m benchmarks.selection_scale [--rows 100000 1000000 …] [--methods A B …]
        [--results FILE] [--write]
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.methods.planted_columns import columns_of, target_columns
from thresher.methods import METHODS, load
from thresher.methods.needs import models_of
from thresher.signals.vectors import as_bytes, from_bytes
from thresher.types import Columns, MethodContext, ModelIdentity, OfTarget, seeded_ties

PAGE = Path(__file__).parent.parent / "docs" / "results" / "selection_scale.md"
ROWS = (100_000, 1_000_000, 2_600_000, 10_000_000)
BLOCK = 12_000  # rows with values of their own; larger pools repeat them with small changes
SKILL_ROWS = 30  # rows per skill
REPEATS = 3  # the fastest of so many counts, below a million rows
SECONDS, GIGABYTES, EXPONENT = 3.0, 1.5, 1.15  # limits, the first two at 2.6 million rows
LIMIT_ROWS = 2_600_000
ABOUT = (  # what the numbers do not say
    "–: not measured. `dics` compares its candidates, twice as many as it takes, with the rows",
    "that it takes, exactly. Half of these pairs are compared (here all vectors differ; equal ones",
    "are compared once), since a row is compared at least with those taken before it: its time",
    "grows with the square of the rows. `error_driven` counts",
    "words once for each distinct text; here few texts are distinct ([a million, half of them",
    "distinct](mistakes.md)). The exponent compares the fastest of three runs at 100,000 rows",
    "with single runs above.",
)
_MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


def make_columns(names: Mapping[str, Sequence[str]], rows: int) -> Columns:
    """Columns of `rows` rows with the fields of `names`."""
    rng = np.random.default_rng(0)
    block = min(BLOCK, rows)
    nll = rng.gamma(2.0, 0.7, block)
    length = np.arange(block) // SKILL_ROWS
    made = columns_of(nll, nll * rng.uniform(0.5, 1.5, block), rng.random(block) < 0.5,
                      source=rng.integers(0, 3, block), length=rng.permutation(length))  # fmt: skip
    digest = np.sort(np.frombuffer(rng.bytes(32 * rows), "S32"))
    values = {
        name: {f: _grown(made[name][f], f, rows, rng) for f in fields if f in made[name]}
        for name, fields in names.items()
        if name != "row"
    }
    source = np.resize(made.source, rows)
    return Columns(digest, seeded_ties(digest, 0), source, made.source_names, values)


def _grown(block: np.ndarray, field: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    """The block repeated to `rows`; numbers and vectors differ a little, and each block has its own
    skills."""
    out = np.resize(block, rows)
    if field == "vector" and block.dtype.kind == "S":
        for start in range(0, rows, len(block)):
            part = slice(start, start + len(block))
            vectors = from_bytes(out[part]).astype(np.float32)
            out[part] = as_bytes(vectors + rng.normal(0, 0.1, vectors.shape))
    if block.dtype.kind == "f":
        out *= rng.uniform(0.99, 1.01, rows).astype(block.dtype)
    if field == "leaf":
        out += (np.arange(rows) // len(block) * (int(block.max()) + 1)).astype(out.dtype)
    return out


def measure_one(name: str, rows: int) -> dict[str, float]:
    """CPU seconds and memory of one selection in this process."""
    method = load(name, {})
    context = MethodContext(
        _MODEL, dict.fromkeys(models_of(method), _MODEL), seed=0, budget=rows // 10
    )
    signals = method.signals(context)
    asked = {
        name: [f.name for f in signal.fields]
        for name, signal in signals.items()
        if not isinstance(signal, OfTarget)
    }
    target = target_columns(500) if any(isinstance(s, OfTarget) for s in signals.values()) else None
    columns = make_columns(asked, rows)
    seconds = []
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at the present size
    before = memory("VmRSS")
    for _ in range(REPEATS if rows < 1_000_000 else 1):
        start = time.process_time()
        chosen = method.select(columns, rows // 10, target)
        seconds.append(time.process_time() - start)
    assert 0 < len(chosen.rows) <= rows // 10
    return {"seconds": min(seconds), "columns": before, "peak": memory("VmHWM")}


def memory(what: str) -> float:
    """A size of this process, in GB: VmRSS (now) or VmHWM (its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError(f"no {what} in /proc/self/status")


def measure(name: str, rows: int) -> dict[str, float]:
    """`measure_one` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.selection_scale", "--one", name, str(rows)]
    found: dict[str, float] = json.loads(subprocess.check_output(command))
    return found


def exponent(rows: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log(seconds) over log(rows)."""
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def random_access(rows: int) -> float:
    """Nanoseconds per row of reading float32 [rows] in random order; the best of three runs."""
    values, order = np.zeros(rows, np.float32), np.random.default_rng(0).permutation(rows)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        values.take(order)
        seconds.append(time.process_time() - start)
    return min(seconds) / rows * 1e9


def about_caches(rows: Sequence[int]) -> list[str]:
    """How much of a growth beyond linear is due to the processor's caches.

    Arguments:
        rows: the measured numbers of rows.
    """
    least, most = min(rows), max(rows)
    before, after = random_access(least), random_access(most)
    power = 1 + np.log(after / before) / np.log(most / least)
    return [
        "All methods but `dics` sort, count, and read columns in the order of another one. Sorting",
        "takes n log n steps. Much of the rest is the processor's caches and other work: reading a",
        f"float32 column in random order takes {before:.1f} ns a row at {least:,} rows and "
        f"{after:.1f} ns at",
        f"{most:,}, an exponent of {power:.2f}.",
    ]


def page(found: Mapping[str, Mapping[int, Mapping[str, float]]], command: str) -> str:
    """docs/results/selection_scale.md."""
    rows = sorted({r for by_rows in found.values() for r in by_rows})
    heads = [f"{r:,} rows" for r in rows]
    lines = [
        "# Selecting from millions of rows",
        "",
        f"{datetime.date.today()}, {platform.machine()}, 2 CPU cores shared with other work. "
        "Written by",
        "",
        f"    {command}",
        "",
        "For every method with its default settings: CPU seconds of `Method.select` on synthetic",
        "columns, for 10% of the rows, and in parentheses the GB that it adds to the process. The",
        "last column is the process before it, with the columns that the method reads, for the",
        "largest number of rows. No model runs, and reading the store, clustering into skills",
        "([million](million.md)) and writing files are not included. Other work on the machine",
        "lengthens CPU times.",
        f"Limits: an exponent of {EXPONENT}; at {LIMIT_ROWS:,} rows {SECONDS:g} s and "
        f"{GIGABYTES} GB; what exceeds them is bold.",
        "",
        f"| method | {' | '.join(heads)} | exponent | GB before |",
        f"|---|{'---:|' * (len(rows) + 2)}",
    ]
    for name, by_rows in sorted(found.items()):
        measured = sorted(by_rows)
        slope = "–"
        if len(measured) > 1:
            power = exponent(measured, [by_rows[r]["seconds"] for r in measured])
            slope = _marked(f"{power:.2f}", power > EXPONENT)
        cells = [_cell(r, by_rows[r]) if r in by_rows else "–" for r in rows]
        last = by_rows[measured[-1]]["columns"]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {slope} | {last:.2f} |")
    return "\n".join([*lines, "", *ABOUT, "", *about_caches(rows)]) + "\n"


def _cell(rows: int, found: Mapping[str, float]) -> str:
    """Seconds and added GB; marked where the limits are exceeded."""
    added = max(found["peak"] - found["columns"], 0)
    over = rows == LIMIT_ROWS and (found["seconds"] > SECONDS or added > GIGABYTES)
    digits = 2 if found["seconds"] >= 0.1 else 4
    return _marked(f"{found['seconds']:.{digits}f} ({added:.2f})", over)


def _marked(text: str, over: bool) -> str:
    return f"**{text}**" if over else text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    parser.add_argument("--methods", nargs="*", default=sorted(METHODS))
    parser.add_argument("--results", type=Path, help="keep measurements in this file")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure_one(a.one[0], int(a.one[1]))))
        return
    found: dict[str, dict[int, Any]] = {}
    lines = a.results.read_text().splitlines() if a.results and a.results.exists() else []
    for name, rows, measured in map(json.loads, lines):
        found.setdefault(name, {})[rows] = measured
    for name in a.methods:
        for rows in a.rows:
            if rows in found.get(name, {}):
                continue
            found.setdefault(name, {})[rows] = measure(name, rows)
            line = json.dumps([name, rows, found[name][rows]])
            print(line, file=sys.stderr, flush=True)
            if a.results:
                with a.results.open("a") as file:
                    file.write(f"{line}\n")
    rows = " ".join(str(r) for r in a.rows)
    text = page(found, f"python -m benchmarks.selection_scale --rows {rows}")
    print(text)
    if a.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
