"""Writes how many bytes a row takes in the store, for every method, into docs/outputs.md.

    python tools/bytes_per_row.py           # write the table
    python tools/bytes_per_row.py --check   # exit status 1 if the committed table is out of date

For each method with its default settings, its signals and their inputs are written into a temporary
store as a run writes them, with random values, and the sizes of the files are divided by the number
of rows. Random values compress least, so real columns are smaller. The length of a text that a
model writes is not known: the columns with texts are listed, with texts of six characters.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from thresher.engine.graph import memo_key, walk
from thresher.methods import METHODS, load
from thresher.methods.needs import models_of
from thresher.storage.columns import Store
from thresher.testing import planted_columns
from thresher.types import (
    MethodContext,
    ModelIdentity,
    OfTarget,
    RowSignal,
    Signal,
    StoredPoolSignal,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "outputs.md"
BEGIN, END = "<!-- bytes per row: written by tools/bytes_per_row.py -->", "<!-- end of bytes -->"
ROWS = 20_000
TEXTS = ("str", "text")
_MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


def stored_signals(name: str) -> Iterator[Signal]:
    """The signals of a method that the store keeps for each row of the pool, each once."""
    method = load(name, {})
    context = MethodContext(
        _MODEL, dict.fromkeys(models_of(method), _MODEL), seed=0, budget=ROWS // 10
    )
    named = method.signals(context)
    seen: set[str] = set()
    for signal in walk({n: s for n, s in named.items() if not isinstance(s, OfTarget)}):
        key = memo_key(signal)
        if key not in seen and isinstance(signal, (RowSignal, StoredPoolSignal)):
            seen.add(key)
            yield signal


def bytes_per_row(signal: Signal, rows: int = ROWS) -> float:
    """Size of a signal's column on disk, divided by its rows.

    Arguments:
        signal: its fields are filled with random values.
        rows: number of rows.
    """
    made = planted_columns({"it": signal}, rows)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.append("it", signal.fields, made.digest, made["it"], [""] * rows)
        return sum(part.stat().st_size for part in store.parts("it")) / rows


def table() -> list[tuple[str, float, str]]:
    """(method, bytes per row, what they consist of) of every method."""
    out = []
    for name in sorted(METHODS):
        sizes: dict[str, list[float]] = {}
        for signal in stored_signals(name):
            kind = f"{signal.kind} (text)" if has_text(signal) else signal.kind
            sizes.setdefault(kind, []).append(bytes_per_row(signal))
        parts = [
            f"{kind}{f' ×{len(each)}' if len(each) > 1 else ''} {round(sum(each)):,}"
            for kind, each in sizes.items()
        ]
        total = sum(sum(each) for each in sizes.values())
        out.append((name, total, ", ".join(parts) or "nothing is stored"))
    return out


def has_text(signal: Signal) -> bool:
    """Whether a signal stores texts of unknown length."""
    return any(f.dtype in TEXTS for f in signal.fields)


def section() -> str:
    """The table as it is in the page, markers included."""
    lines = [BEGIN, "", "| method | bytes per row | of which |", "|---|---:|---|"]
    lines += [f"| `{name}` | {round(total):,} | {parts} |" for name, total, parts in table()]
    return "\n".join([*lines, "", END])


def written(page: str) -> str:
    """The section that a page contains."""
    return page[page.index(BEGIN) : page.index(END) + len(END)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page, new = PAGE.read_text("utf-8"), section()
    if check:
        return int(written(page) != new)
    PAGE.write_text(page.replace(written(page), new), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
