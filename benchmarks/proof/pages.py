"""Writes the pages of the proof. Each has stages of its own and needs no cell of another's, so one
can be written where the cells of the other are not at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.proof import setup
from benchmarks.proof.collected import PoolResult, collect
from benchmarks.proof.parts_page import parts_page
from benchmarks.proof.report import proof_page
from benchmarks.proof.stages import Page, of_page, pools_of
from benchmarks.proof.winnow_page import winnow_page

PAGES: dict[Page, Callable[[Sequence[PoolResult], Path, setup.Sizes, str], str]] = {
    "proof": proof_page,
    "winnow": winnow_page,
    "winnow_parts": parts_page,
}


def write_pages(
    folder: Path,
    out: Path,
    pools: Sequence[str],
    chosen: Sequence[str],
    sizes: setup.Sizes,
    model: str,
) -> Iterator[Path]:
    """Write the pages of the chosen stages from the finished cells, and yield their files.

    A pool without a finished cell is left out, and a page without any is not written.
    """
    for page, text in PAGES.items():
        if {*chosen} & {*of_page(page)}:
            found = [collect(out, p, sizes, model, page) for p in pools_of(page, pools)]
            if found := [p for p in found if any(p.stages.values())]:
                file = folder / f"{page}.md"
                file.write_text(text(found, out, sizes, model), "utf-8")
                yield file
