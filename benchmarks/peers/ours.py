"""thresher's side of several comparisons. Runs in the project's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def deduplicate(
    pool: Path, scratch: Path, how: Literal["exact", "near"], images: Path | None = None
) -> list[int]:
    """Rows of the pool that are kept: opening it, comparing, with an empty store.

    Arguments:
        pool: the pool's file.
        scratch: a new folder for the store.
        how: as `--dedup`.
        images: the folder of its images.
    """
    import thresher

    chosen = thresher.select(
        str(pool),
        images=str(images) if images else None,
        method="random",
        budget="100%",
        dedup=how,
        store=str(scratch / "store"),
    )
    rows: Any = sorted(chosen.rows.tolist())
    kept: list[int] = rows
    return kept
