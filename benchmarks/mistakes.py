"""Benchmark of mistake identification: 300 rationales of the built-in world with one falsified step
that makes the answer wrong.

Runs the complete pipeline: a scripted student writes the rationales, the teacher is asked for the
answer switch, the rule decides. The teacher is rule-based and reads every step correctly (an
oracle); compared with a random step, the last step, and the built-in model as teacher. Also counts
the tokens that the built-in model processes for rationales of growing length, incrementally and
from scratch.

    python -m benchmarks.mistakes [--cases N] [--no-model] [--json FILE] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tools.demo_model.rationales import FACT_KINDS, Rationale, false_rationale
from tools.demo_model.teacher import Known, handle

from thresher.backends import ModelHandle, resolve
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.questions import sample_question
from thresher.demo.styles import phrase
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.engine.graph import target_signals_of
from thresher.methods.error_driven import ErrorDriven
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.signals.mistake import Mistake
from thresher.signals.query import Query
from thresher.storage.columns import Store
from thresher.types import ModelIdentity, RowSignal, Sample, SampleSource, Scored, Turn


class Scripted:
    """A student that returns given rationales, by row id."""

    def __init__(self, rationales: Mapping[str, str]) -> None:
        self._rationales = rationales

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        texts = [self._rationales[json.loads(s.id)] for s in samples]
        values = {
            "text": np.array(texts, object),
            "tokens": np.array([len(t.split()) for t in texts], np.int32),
            "finished": np.ones(len(texts), bool),
        }
        yield Scored(np.arange(len(samples)), values, [""] * len(samples))


def plant(folder: Path, cases: int, seed: int) -> tuple[Path, list[Rationale], dict[str, Known]]:
    rng = Random(f"mistakes {seed}")
    rows, planted, known = [], [], {}
    while len(rows) < cases:
        kind = FACT_KINDS[len(rows) % len(FACT_KINDS)]
        question = sample_question(rng, kind, "evaluation")
        false = None if question.scene.large else false_rationale(rng, question)
        if false is None:
            continue
        turn = phrase(rng, question, "word", "pool", instruct=False, lowercase=True)
        known[f"case-{len(rows):06d}"] = Known((kind,), (question.scene,))
        rows.append(Row(kind, (question.scene,), (turn,)))
        planted.append(false)
    return write_rows(folder, "cases", "cases_labels.jsonl", "case", rows), planted, known


def find(
    file: Path,
    planted: Sequence[Rationale],
    teacher: ModelHandle,
    how: str,
    store: Store,
    seed: int,
) -> dict[str, np.ndarray]:
    """The columns of `Mistake` for each case, in file order."""
    rationales = {f"case-{i:06d}": r.text for i, r in enumerate(planted)}
    student = ModelHandle(
        "scripted",
        ModelIdentity("scripted:1", "scripted", "float32", "none"),
        lambda: Scripted(rationales),
    )
    method = ErrorDriven(teacher="given", identify=how, query="step")  # type: ignore[arg-type]
    context = RunContext(store, student, {"teacher": teacher})
    signals = target_signals_of(method, context, seed)
    pool = open_pool(file, file.parent)
    columns = compute_all(signals, pool, RunRequest(seed=seed, on_missing="refuse"), context)
    assert isinstance(signals["mistake"], Mistake) and isinstance(signals["rationale"], RowSignal)
    assert not columns["rationale"].values["right"].any(), "every planted rationale is wrong"
    return columns["mistake"].values


def growth(steps: Sequence[int]) -> list[dict[str, int]]:
    """Tokens processed by the built-in model for a rationale of `steps` equal steps: incrementally,
    and from scratch after each step."""
    backend: Any = resolve("demo").open()
    row = Sample("0", (Turn("user", "What colour is the cross?\n(A) red\n(B) blue"),))
    query = Query("\nWhich one? Answer with its letter.", ("A", "B"))
    out = []
    for n in steps:
        pieces = [f"\n{k}. There is a red circle at the top left." for k in range(10, 10 + n)]
        before = backend.forward.tokens
        list(backend.ask_incrementally([row], [pieces], query, None))
        grown = backend.forward.tokens - before
        longer = [
            Sample(str(t), (Turn("user", row.turns[0].text + "".join(pieces[:t])),))
            for t in range(n + 1)
        ]
        before = backend.forward.tokens
        list(backend.ask(longer, [query], None))
        out.append({"steps": n, "read_on": grown, "anew": backend.forward.tokens - before})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument(
        "--no-model", action="store_true", help="without the built-in model as a teacher"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as scratch:
        file, planted, known = plant(Path(scratch), arguments.cases, arguments.seed)
        false = np.array([r.false_step for r in planted])
        steps = np.array([len(r.steps) for r in planted])
        oracle = handle(known)
        ways: list[tuple[str, ModelHandle, str]] = [
            ("answer switch, teacher by rules", oracle, "switch"),
            ("random step", oracle, "random"),
            ("last step", oracle, "last"),
        ]
        if not arguments.no_model:
            ways.insert(1, ("answer switch, built-in model", resolve("demo"), "switch"))
        table = Table(
            title=f"{len(planted)} rationales with one false step ({steps.mean():.1f} steps on "
            "average)"
        )
        for column in ("how", "found", "switched at all"):
            table.add_column(column, justify="left" if column == "how" else "right")
        for name, teacher, how in ways:
            got = find(file, planted, teacher, how, Store(Path(scratch) / "store"), arguments.seed)
            hit = got["step"] == false
            switched = f"{got['switched'].mean():.1%}" if how == "switch" else "-"
            table.add_row(name, f"{hit.mean():.1%}", switched)
            results.append(
                {
                    "name": name,
                    "found": float(hit.mean()),
                    "switched": float(got["switched"].mean()),
                }
            )
        console.print(table)
        console.print(
            f"A step drawn at random is expected to be the false one in {np.mean(1 / steps):.1%} "
            "of the cases."
        )
    if not arguments.no_model:
        grown = growth((0, 2, 4, 8, 16, 32))
        table = Table(title="Tokens through the built-in model")
        for column in ("steps", "read on", "asked anew", "ratio"):
            table.add_column(column, justify="right")
        for line in grown:
            ratio = line["anew"] / line["read_on"]
            table.add_row(
                str(line["steps"]), f"{line['read_on']:,}", f"{line['anew']:,}", f"{ratio:.1f}x"
            )
        console.print(table)
        results += [{"name": "growth", **line} for line in grown]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
