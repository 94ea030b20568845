"""Benchmark of the viewer at a million rows: time to change the selection, ban a row, load a page,
search and plot.

The pool is synthetic (as in `million.py`), and synthetic columns for perplexity and CLIPPER are
written to a store, so no model runs. Each time is that of one request inside the process, the
median of several. The baseline is the same selection without caches in memory: `run.select` with
the columns in the store.

    python benchmarks/viewer.py [--quick] [--json FILE] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from million import generate
from thresher.backends import ModelHandle
from thresher.console.peak_memory import peak_bytes
from thresher.engine import RunContext, ScoredKeys, ScoringRequest, create_engine
from thresher.methods import load
from thresher.mixture import resolve_mixture
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.selection import select as run
from thresher.selection.prepare import prepare
from thresher.selection.task import SelectionTask
from thresher.storage.columns import Store
from thresher.types import Budget, ModelIdentity
from thresher.viewer import render
from thresher.viewer.browse import Browser, Query
from thresher.viewer.cards import items
from thresher.viewer.displayed import SelectionParams
from thresher.viewer.session import Session

BUDGETS = ("1%", "10%", "30%", "70%")
MODEL = ModelHandle(
    "planted", ModelIdentity("sha256:planted", "llava", "float32", "pil"), open=lambda: None
)


class Planted:
    """An `engine.Scorer` that stores random values instead of running a model."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        for request in requests:
            rng = np.random.default_rng(len(request.label))
            m, fields = len(request.keys), request.signal.fields
            drawn = {
                "nll": rng.gamma(2.0, 0.7, m),
                "tokens": rng.integers(1, 60, m),
                "greedy_match": rng.random(m) < 0.3,
            }
            values = {f.name: drawn[f.name].astype(f.dtype) for f in fields}
            self.store.append(request.fingerprint, fields, request.keys, values, [""] * m)
        return []


def selected(pool: Pool, name: str, store: Store, out: Path) -> Path:
    """A selection folder of this method, from synthetic columns."""
    method, budget = load(name), Budget.parse("10%")
    request = RunRequest(
        pool=str(pool.path), method=name, budget=budget.text, store=str(store.root), out=str(out)
    )
    task, context = SelectionTask(pool, method, budget, request), RunContext(store, MODEL)
    resolved = resolve_mixture(pool, budget, request, context)
    made = prepare(
        task, resolved, replace(context, new_engine=partial(create_engine, scorer=Planted(store)))
    )
    output.write(made.choose(method, budget, resolved), pool, request, out)
    return out


@dataclass(frozen=True)
class Taken:
    """Wall time, which other processes affect, and CPU time of this process, in seconds."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} ({self.cpu:.2f})"


def seconds(work: Callable[[], Any], times: int = 3) -> Taken:
    """The median over several runs."""
    wall, cpu = [], []
    for _ in range(times):
        began, spent = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    return Taken(statistics.median(wall), statistics.median(cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--keep", type=Path, help="make pool and store here, and find them again")
    parser.add_argument("--methods", default="length,perplexity,clipper")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (100_000 if arguments.quick else 1_000_000)
    results: list[dict[str, Any]] = []
    table = Table(
        title=f"thresher view, {rows:,} text-only rows: seconds by the clock (of the processor)"
    )
    for column in ("", *arguments.methods.split(",")):
        table.add_column(column, justify="left" if not column else "right")
    cells: dict[str, dict[str, Taken]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        if not (folder / "pool.json").exists():
            folder.mkdir(exist_ok=True)
            generate(folder / "pool.json", rows)
        store = Store(folder / "store")
        pool = open_pool(folder / "pool.json", cache=store.root / "pools")
        for name in arguments.methods.split(","):
            out = folder / name
            if not out.exists():
                selected(pool, name, store, out)
            for what, taken, peer in measure(name, out, pool, store):
                cells.setdefault(what, {})[name] = taken
                if peer is not None:
                    results.append(
                        {
                            "name": f"{name}: {what}",
                            "ours": taken.wall,
                            "peer": peer.wall,
                            "unit": "s",
                            "ratio": peer.wall / taken.wall,
                        }
                    )
    for what, by in cells.items():
        table.add_row(what, *(str(by.get(name, "")) for name in arguments.methods.split(",")))
    peak = (peak_bytes() or 0) / 1e9
    load_now = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    table.caption = (
        f"Peak memory {peak:.1f} GB. Load of the machine ({os.cpu_count()} cores) at the end: "
        f"{load_now}."
    )
    Console(width=110).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def measure(
    name: str, out: Path, pool: Pool, store: Store
) -> list[tuple[str, Taken, Taken | None]]:
    """(action, its time, time of the baseline)."""
    found: list[tuple[str, Taken, Taken | None]] = []

    def note(what: str, work: Callable[[], Any], times: int = 3, peer: Taken | None = None) -> None:
        found.append((what, seconds(work, times), peer))

    opened: list[Session] = []
    note("open the selection", lambda: opened.append(Session(out)), 1)
    session = opened[0]
    browser, first = Browser(session.pool, session.suspects), session.first

    def again(budget: str) -> Callable[[], Any]:
        return lambda: session.select(SelectionParams(name, first.settings, budget, 0))

    def page(query: Query) -> Callable[[], Any]:
        def work() -> None:
            got = browser.page(session.displayed, query)
            render.rows(got, items(session.displayed, got.rows, str), False, False)

        return work

    task = SelectionTask(pool, load(name), Budget.parse("10%"))
    peer = seconds(lambda: run.select(task, RunContext(store, MODEL)), 1)
    for budget in BUDGETS:
        note(f"choose again, {budget}", again(budget), peer=peer if budget == "10%" else None)
    note("counts, notes, command", lambda: render.changed(session, session.displayed, False))
    again("20%")()
    note("first page after a choice", page(Query()), 1)
    note("another page", page(Query(page=500)))
    note("page by source and rank", page(Query("kept", "=source_7", sort="rank")), 1)
    note("search for a word", page(Query(words="word77")), 1)
    note("search in vain, until its deadline", page(Query(words="no such words")), 1)
    looked = browser.page(session.displayed, Query(words="nor these")).looked
    print(f"{name}: a search in vain looks at {looked:,} rows a request")
    note("plots", lambda: render.plots(session.displayed), 1)
    dropped = np.flatnonzero(session.displayed.state == 1)
    note("pin a row", lambda: session.pin(dropped[5:6], "pinned"), 1)
    note("choose again, 10%, one pinned", again("10%"))
    note("ban a row", lambda: session.pin(dropped[9:10], "banned"), 1)
    note("choose again, 30%, one banned", again("30%"))
    session.pins.save(np.zeros(len(pool), bool), np.zeros(len(pool), bool))
    return found


if __name__ == "__main__":
    main()
