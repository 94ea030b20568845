"""Measures every family of tiny models against the slow reference, and writes the table in
docs/models.md and the summary in README.md.

    python -m tools.models_page                   # all families, a minute each on a busy machine
    python -m tools.models_page llava gemma3      # these; the page keeps the rows of the others

The table is printed as it grows. A family that needs a package that is not installed keeps its row,
too. The exit status is 1 if a family differs from the reference.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.backends.hf.conformance import Conformance

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "models.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- families: written by `make models` -->", "<!-- end of families -->"

COLUMNS = (
    *("family", "class", "loads", "losses", "one-shot", "reuse", "judge", "questions"),
    *("generation", "training", "learns", "video", "needs"),
)
MODES = {"packed": "packed", "batched": "from a copy of the state", "full": "full passes"}
_DIFFERENCES = ("losses", "one-shot", "judge", "training")


def families() -> dict[str, str]:
    """Name of each family of the table -> the packages that it needs beside the extra `hf`."""
    from tests.tiny_families import FAMILIES
    from tests.tiny_models import MODELS

    return {name: m.needs for name, m in {**MODELS, **FAMILIES}.items() if m.images}


def measured_row(result: Conformance, needs: str) -> tuple[str, ...]:
    """The cells of a family that loads."""
    return (
        *(result.family, f"`{result.model_class}`", "yes"),
        *(_number(result.loss), _number(result.one_shot)),
        "yes" if result.reuses_prefix else "no",
        *(_number(result.judge), MODES.get(result.query_mode or "", "none")),
        "{} of {}".format(*result.generated),
        _number(result.training),
        "{} of {}".format(*result.learned),
        *("no" if result.video is None else _number(result.video), needs or "–"),
    )


def refused_row(family: str, reason: str, needs: str) -> tuple[str, ...]:
    """The cells of a family that does not load."""
    empty = ("–",) * (len(COLUMNS) - 4)
    return (family, "–", f"no: {reason}".replace("|", "/"), *empty, needs or "–")


def table(rows: list[tuple[str, ...]]) -> str:
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def rows_of(page: str) -> dict[str, tuple[str, ...]]:
    """Family -> the cells of its row in the page."""
    found: dict[str, tuple[str, ...]] = {}
    for line in between(page).splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0] and set(cells[0]) != {"-"}:
            found[cells[0]] = cells
    return found


def summary(rows: list[tuple[str, ...]]) -> str:
    """One sentence for the README."""
    loaded = [dict(zip(COLUMNS, row, strict=True)) for row in rows if row[2] == "yes"]
    worst = {name: max(float(row[name]) for row in loaded) for name in _DIFFERENCES}
    videos = sum(row["video"] != "no" for row in loaded)
    return (
        f"tiny models with random weights of {len(loaded)} families, each compared with its own "
        "processor and plain transformers. Largest differences, in nats per token: losses "
        f"{worst['losses']:.0e}, one-shot {worst['one-shot']:.0e}, a judge's answers "
        f"{worst['judge']:.0e}, training loss {worst['training']:.0e}; generated texts are equal"
        f"{f'; {videos} score videos' if videos else ''} ([table](docs/models.md))"
    )


def between(text: str) -> str:
    return text.split(BEGIN)[1].split(END)[0]


def replaced(text: str, new: str) -> str:
    """`text` with `new` between the two markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{BEGIN!r} and {END!r} are expected once in the page.")
    return re.sub(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + new + END, text, flags=re.S
    )


def write(rows: dict[str, tuple[str, ...]]) -> None:
    """Write the page and the README's summary; rows in the order of the table of families."""
    ordered = [rows[name] for name in families() if name in rows]
    PAGE.write_text(
        replaced(PAGE.read_text("utf-8"), "\n\n" + table(ordered) + "\n"), encoding="utf-8"
    )
    README.write_text(replaced(README.read_text("utf-8"), summary(ordered)), encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:.0e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", help="default: all")
    chosen = parser.parse_args().family
    needs = families()
    if unknown := sorted(set(chosen) - set(needs)):
        raise SystemExit(f"No family {', '.join(unknown)}. There are: {', '.join(needs)}.")

    from tests.backends.hf.conformance import measure
    from tests.tiny_models import NotBuilt
    from thresher.errors import ThresherError

    rows, failed = rows_of(PAGE.read_text("utf-8")), []
    print(table([]), end="", flush=True)
    for name in chosen or needs:
        try:
            with tempfile.TemporaryDirectory() as folder:
                result = measure(name, Path(folder))
        except NotBuilt as e:
            print(f"{name} is left out: {e}", file=sys.stderr)
            continue
        except ThresherError as e:
            failed.append(name)
            rows[name] = refused_row(name, str(e).splitlines()[0], needs[name])
        else:
            failed += [] if result.passes else [name]
            rows[name] = measured_row(result, needs[name])
        print(table([rows[name]]).splitlines()[-1], flush=True)
    write(rows)
    if failed:
        print(f"Differ from the reference: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
