"""`thresher demo`: generates the built-in pool, selects from it with winnow and at random, shows
what was left out, and trains a model on each subset to compare them.

Reads the hidden labels of the built-in world for its report; no method has access to them. Writes
the pool to `OUT/pool`, questions to `OUT/questions`, scores and trained models to `OUT/store` and
the selection to OUT; prints to stdout.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends import resolve
from thresher.console import printing
from thresher.console.formatting import format_duration, format_percent
from thresher.console.progress import Progress
from thresher.demo.comparison import compare_with_random
from thresher.demo.left_out import LeftOut, left_out
from thresher.demo.pool import make_pool
from thresher.engine import RunContext
from thresher.extras import install_command, is_usable, require
from thresher.methods import load
from thresher.methods.winnow import TRUST_NOTE
from thresher.pools import Pool, open_pool
from thresher.report import try_to_write
from thresher.request import RunRequest
from thresher.request.run_request import DEFAULT_METHOD
from thresher.selection import folder as output
from thresher.selection import select as run
from thresher.selection.groups import by_source
from thresher.selection.task import SelectionTask
from thresher.storage.columns import Store
from thresher.storage.writable import check_folder
from thresher.text import split_lines
from thresher.types import Budget

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from thresher.selection.result import Outcome

BUDGET = "10%"
SHOWN = 6  # rows left out that are shown
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
    "thresher plan POOL --images DIR -b 10% --model MODEL",
    "thresher select POOL --images DIR -b 10% --model MODEL -o OUT",
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
    """Run the demo: generate the pool, select, compare with random rows, and print the result.

    Arguments:
        console: for the report.
        progress: for scoring and training.
        out: output folder.
        rows: number of rows of the pool.
        seed: of the pool, the selection and the trainings.

    Raises the same errors as a selection.
    """
    require("hf", "thresher demo asks the built-in model, which")
    began = time.monotonic()
    check_folder(out)
    say = partial(printing.say, console)
    say(
        f"[bold]1. A pool.[/] {rows:,} questions and answers about rendered images from nine "
        "sources, generated now. Many answers are wrong, as in pools from the web, and short ones "
        'have a style that the model has to learn ("Red colour").'
    )
    pool = open_pool(
        make_pool(out / "pool", rows=rows, seed=seed, house_style=True),
        cache=out / "store" / "pools",
    )
    store = Store(out / "store")
    model = resolve("demo", cache=store.root / "models")
    say(
        f"[bold]2. A selection.[/] winnow scores every row with the built-in model and keeps "
        f"{BUDGET}; a random sample of the same size is the baseline."
    )
    request = RunRequest(
        pool=str(pool.path),
        method=DEFAULT_METHOD,
        budget=BUDGET,
        settings={"guard": "off"},
        seed=seed,
        model="demo",
        store=str(store.root),
        out=str(out),
    )
    task = SelectionTask(
        pool, load(request.method, request.settings), Budget.parse(BUDGET), request
    )
    context = RunContext(store, model, progress=progress)
    chosen = run.select(task, context)
    random = run.select(replace(task, method=load("random")), RunContext(store))
    output.write(chosen, pool, request, out, overwrite=_is_a_demo(out))
    problem = try_to_write(out, pool)
    _list(console, in_words(chosen))
    console.print(_before_after(pool, chosen, random))

    say("[bold]3. Left out as probably wrong[/], by the losses alone:")
    wrong = wrong_answers(pool)
    suspects = left_out(chosen, pool, request, context, SHOWN)
    console.print(_suspects_table(suspects, wrong))
    if suspects:
        _list(console, [_found_wrong(suspects, wrong)])

    say("[bold]4. Does it help?[/] One model is trained on winnow's rows, one on the random rows.")
    if is_usable("train"):
        trial = compare_with_random(
            pool, chosen.rows, random.rows, model, store, out / "questions", seed, progress
        )
        _list(console, trial.sentences())
    else:
        say(f"Not tried: training is not installed ({install_command('train')}).", markup=False)
    _list(
        console,
        [
            "The guard, which makes such a comparison on held-out rows of the pool before it lets "
            "a selection pass, is off in this demo: this step takes its place."
        ],
    )
    console.print(
        "* Known only because this world is built in: no method sees it. One small world proves "
        "nothing about your data.",
        style="dim",
    )
    say(
        f"\nWritten to [bold]{out}[/]: subset.json, selection.parquet, run.yaml"
        + ("" if problem else ", and report.html, which shows what was kept and why")
    )
    if problem:
        say(problem, markup=False)
    say(
        f"The whole job took {format_duration(time.monotonic() - began)}. [bold]Next[/], with "
        "your own pool and model:"
    )
    for command in NEXT:
        console.print(f"   [cyan]{command}[/]", soft_wrap=True)


def _list(console: Console, lines: Sequence[str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 3)))


def _is_a_demo(out: Path) -> bool:
    """Whether the selection in `out` is from a demo's pool, so that another demo may replace it."""
    if not (out / output.RUN).exists():
        return False
    return Path(output.read(out)["pool"]["path"]).parent == (out / "pool").resolve()


def in_words(chosen: Outcome) -> list[str]:
    """Sentences about this run of winnow."""
    reason = chosen.evidence
    trusted, n = int(reason["trusted"].sum()), len(chosen.considered)
    needed = chosen.signals[0].needed
    scored = max(s.scored for s in chosen.signals)
    judged = [note.text for note in chosen.notes if note.kind == TRUST_NOTE]
    return [
        f"{needed:,} distinct rows passed through the model once ({scored:,} now, "
        f"{needed - scored:,} in an earlier run), and fall into "
        f"{len(np.unique(reason['skill'])):,} skills by its hidden states.",
        f"In each skill the half with the lower loss is trusted: {trusted:,} of {n:,} rows. Skills "
        "that the model does not know yet get more of the budget.",
        *judged,
    ]


def _before_after(pool: Pool, chosen: Outcome, random: Outcome) -> Table:
    """A table of pool, winnow and random sample: shares by source and answer style, wrong
    answers."""
    table = printing.table("", "pool", "winnow", "random")
    subsets = [np.arange(len(pool)), chosen.rows, random.rows]
    table.add_row("rows", *(f"{len(s):,}" for s in subsets))
    style = np.array([STYLES.index(answer_style(text)) for text in first_answers(pool)])
    groups: Sequence[tuple[str, list[tuple[str, np.ndarray]]]] = (
        ("source", by_source(pool.source, pool.source_names)),
        ("answer", [(name, style == i) for i, name in enumerate(STYLES) if (style == i).any()]),
    )
    for title, parts in groups:
        table.add_section()
        for name, mask in parts:
            table.add_row(
                f"{title}: {name}", *(format_percent(int(mask[s].sum()), len(s)) for s in subsets)
            )
    table.add_section()
    wrong = wrong_answers(pool)
    table.add_row(
        "wrong answers *", *(format_percent(int(wrong[s].sum()), len(s)) for s in subsets)
    )
    return table


def _suspects_table(suspects: Sequence[LeftOut], wrong: np.ndarray) -> Table:
    """The rows left out, with what is true of them. `wrong`: bool [n], by pool row."""
    from rich.text import Text

    table = printing.table("question", "answer given", "model's own", "given is *", numbers=False)
    for s in suspects:
        table.add_row(
            *(Text(text) for text in (s.question, s.given, s.own or "–")),
            "wrong" if wrong[s.row] else "right",
        )
    return table


def _found_wrong(suspects: Sequence[LeftOut], wrong: np.ndarray) -> str:
    """How many of the rows shown are wrong, as text."""
    count = sum(bool(wrong[s.row]) for s in suspects)
    return (
        f"{count} of these {len(suspects)} are wrong. `thresher suspects` lists such rows of a "
        "pool, with a confidence."
    )


def first_answers(pool: Pool) -> list[str]:
    """The first answer of every row; "" if there is none."""
    samples = pool.samples(np.arange(len(pool)))
    return [next((t.text for t in s.turns if t.role == "assistant"), "") for s in samples]


def wrong_answers(pool: Pool) -> np.ndarray:
    """bool [n]: rows with a wrong answer, from the world's hidden labels."""
    labels = Path(pool.path).with_name("hidden_labels.jsonl").read_text(encoding="utf-8")
    wrong = {label["id"]: label["noisy"] for label in map(json.loads, split_lines(labels))}
    return np.array([wrong[i] for i in pool.ids(np.arange(len(pool)))])
