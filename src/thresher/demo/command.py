"""`thresher demo`: generates the built-in pool, selects from it with CLIPPER and at random, and
reports the difference.

Reads the hidden labels of the built-in world for its report; no method has access to them. Writes
the pool to `OUT/pool`, scores to `OUT/store` and the selection to OUT; prints to stdout.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends import resolve
from thresher.console.formatting import format_duration, format_percent
from thresher.console.progress import Progress
from thresher.demo.pool import make_pool
from thresher.engine import RunContext
from thresher.extras import require
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.report import try_to_write
from thresher.request import RunRequest
from thresher.samplers import ks_distance, median_random_ks
from thresher.selection import folder as output
from thresher.selection import select as run
from thresher.selection import summary
from thresher.selection.task import SelectionTask
from thresher.storage.columns import Store
from thresher.storage.writable import check_folder
from thresher.text import split_lines
from thresher.types import Budget

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from thresher.selection.result import Outcome

BUDGET = "30%"
STYLES = (
    "yes/no",
    "letter of a choice",
    "number",
    "word or short phrase",
    "sentence",
    "several sentences",
)

NEXT = (
    "thresher doctor POOL --images DIR",
    "thresher plan POOL --images DIR -m clipper -b 30% --model MODEL",
    "thresher select POOL --images DIR -m clipper -b 30% --model MODEL -o OUT",
)


def answer_style(answer: str) -> str:
    """Classify an answer by its text; returns one of STYLES.

    >>> [answer_style(a) for a in ("Yes.", "B", "12", "dark red", "The cube is red.",
    ...     "It is red. So: yes.")]
    ['yes/no', 'letter of a choice', 'number', 'word or short phrase', 'sentence',
     'several sentences']
    """
    text = answer.strip()
    bare = text.rstrip(".!").lower()
    if bare in ("yes", "no"):
        return STYLES[0]
    if re.fullmatch(r"\(?[a-h]\)?", bare):
        return STYLES[1]
    if re.fullmatch(r"-?\d+([.,]\d+)?", bare):
        return STYLES[2]
    if len(re.findall(r"[.!?](?=\s+\S)", text)) >= 1:
        return STYLES[5]
    return STYLES[3] if len(bare.split()) <= 3 else STYLES[4]


def demo(console: Console, progress: Progress, *, out: Path, rows: int, seed: int) -> None:
    """Run the demo: generate the pool, select, and print the result.

    console: for the report.
    progress: for scoring.
    out: output folder.
    rows: number of rows of the pool.
    seed: of the pool and the selection.

    Raises the same errors as a selection.
    """
    from rich.padding import Padding

    require("hf", "thresher demo asks the built-in model, which")
    began = time.monotonic()
    check_folder(out)
    summary.say(
        console,
        f"[bold]1. A pool.[/] {rows:,} questions and answers about rendered images from nine "
        "sources, generated now.",
    )
    pool = open_pool(make_pool(out / "pool", rows=rows, seed=seed), cache=out / "store" / "pools")
    store = Store(out / "store")
    model = resolve("demo", cache=store.root / "models")
    budget = Budget.parse(BUDGET)
    summary.say(
        console,
        "[bold]2. A selection.[/] CLIPPER scores every row with the built-in model and keeps "
        f"{BUDGET}; a random sample of the same size is the baseline.",
    )
    request = RunRequest(
        pool=str(pool.path),
        method="clipper",
        budget=BUDGET,
        seed=seed,
        model="demo",
        store=str(store.root),
        out=str(out),
    )
    task = SelectionTask(pool, load("clipper"), budget, request)
    clipper = run.select(task, RunContext(store, model, progress=progress))
    random = run.select(replace(task, method=load("random")), RunContext(store))
    output.write(clipper, pool, request, out, overwrite=_is_a_demo(out))
    problem = try_to_write(out, pool)

    console.print("[bold]3. The result.[/]")
    for line in in_words(clipper, random):
        console.print(Padding(line, (0, 0, 0, 3)))
    console.print(before_after(pool, clipper, random))
    console.print(
        "* Known only because this world is built in: no method sees it. One small world proves "
        "nothing about your data.",
        style="dim",
    )
    summary.say(
        console,
        f"\nWritten to [bold]{out}[/]: subset.json, selection.parquet, run.yaml"
        + ("" if problem else ", and report.html, which shows what was kept and why"),
    )
    if problem:
        summary.say(console, problem, markup=False)
    summary.say(
        console,
        f"The whole job took {format_duration(time.monotonic() - began)}. [bold]Next[/], with "
        "your own pool and model:",
    )
    for command in NEXT:
        console.print(f"   [cyan]{command}[/]", soft_wrap=True)


def _is_a_demo(out: Path) -> bool:
    """Whether the selection in `out` is from a demo's pool, so that another demo may replace it."""
    if not (out / output.RUN).exists():
        return False
    return Path(output.read(out)["pool"]["path"]).parent == (out / "pool").resolve()


def in_words(clipper: Outcome, random: Outcome) -> list[str]:
    """Sentences about this run of CLIPPER."""
    reason = clipper.evidence
    known = float((reason["knowledge"] == "P").mean())
    helped = float((reason["effect"] > 0).mean())
    critical = int(clipper.reason["critical"].sum())
    wanted = clipper.signals[0].wanted
    scored = sum(s.scored for s in clipper.signals)
    reused = sum(s.reused for s in clipper.signals)
    n, k = len(clipper.considered), len(clipper.rows)
    return [
        f"{wanted:,} distinct rows were scored three times, alone and after two other rows as "
        f"demonstrations: {scored:,} scores now, {reused:,} from an earlier run.",
        f"The model knows {known:.0%} of the answers already (P); the others the data must teach "
        "it (W).",
        f"A demonstration made the answer more likely in {helped:.0%} of the rows; {critical:,} of "
        f"the {k:,} rows kept are there because it helped them most.",
        "The kept rows have the pool's distribution of perplexity: their distance from it (KS) is "
        f"{_ks(clipper, clipper):.4f}; this random sample has {_ks(clipper, random):.4f}, random "
        f"samples usually about {median_random_ks(n, k):.4f}.",
    ]


def before_after(pool: Pool, clipper: Outcome, random: Outcome) -> Table:
    """A table of pool, CLIPPER and random sample: shares by source and answer style, KS distance of
    the perplexity, wrong answers."""
    table = summary.table("", "pool", "clipper", "random")
    subsets = [np.arange(len(pool)), clipper.rows, random.rows]
    table.add_row("rows", *(f"{len(s):,}" for s in subsets))
    style = np.array([STYLES.index(answer_style(text)) for text in first_answers(pool)])
    groups: Sequence[tuple[str, list[tuple[str, np.ndarray]]]] = (
        ("source", summary.by_source(pool.source, pool.source_names)),
        ("answer", [(name, style == i) for i, name in enumerate(STYLES) if (style == i).any()]),
    )
    for title, parts in groups:
        table.add_section()
        for name, mask in parts:
            table.add_row(
                f"{title}: {name}", *(format_percent(int(mask[s].sum()), len(s)) for s in subsets)
            )
    table.add_section()
    table.add_row(
        "log-perplexity, KS distance to the pool",
        "0",
        *(f"{_ks(clipper, o):.4f}" for o in (clipper, random)),
    )
    wrong = wrong_answers(pool)
    table.add_row(
        "wrong answers *", *(format_percent(int(wrong[s].sum()), len(s)) for s in subsets)
    )
    dropped = [np.setdiff1d(subsets[0], s) for s in subsets[1:]]
    table.add_row(
        "wrong answers among the dropped *",
        "",
        *(format_percent(int(wrong[s].sum()), len(s)) for s in dropped),
    )
    return table


def _ks(scored: Outcome, chosen: Outcome) -> float:
    """KS distance between the zero-shot log-perplexity of `chosen`'s rows and of all rows of
    `scored`."""
    nll = scored.evidence["nll"]
    return ks_distance(nll, nll[np.isin(scored.considered, chosen.rows)])


def first_answers(pool: Pool) -> list[str]:
    """The first answer of every row; "" if there is none."""
    samples = pool.samples(np.arange(len(pool)))
    return [next((t.text for t in s.turns if t.role == "assistant"), "") for s in samples]


def wrong_answers(pool: Pool) -> np.ndarray:
    """bool [n]: rows with a wrong answer, from the world's hidden labels."""
    labels = Path(pool.path).with_name("hidden_labels.jsonl").read_text(encoding="utf-8")
    wrong = {label["id"]: label["noisy"] for label in map(json.loads, split_lines(labels))}
    return np.array([wrong[i] for i in pool.ids(np.arange(len(pool)))])
