"""report.html of a selection: summary, pool and subset, method section, sample rows, command.

Built from the selection's folder and its pool. Deterministic: the same folder gives the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from thresher.console.formatting import format_duration, format_percent, pluralize
from thresher.report import page
from thresher.report.breakdown import media_counts, panels
from thresher.report.folder import LoadedSelection, load
from thresher.report.gallery import ROWS, gallery
from thresher.report.health import Remark, remarks
from thresher.report.method_section import method_section
from thresher.report.suspects_section import suspects_section
from thresher.selection.saving import Saving, of_run, percent
from thresher.storage.opening import open_existing

if TYPE_CHECKING:
    from thresher.pools import Pool


@dataclass(frozen=True)
class Tile:
    """One number of the summary: name, value and a detail below it."""

    name: str
    value: str
    detail: str


def write(folder: str | Path, pool: Pool | None = None) -> Path:
    """Write report.html into a selection's folder; returns its path. Raises ConfigError, PoolError,
    StoreError.

    Arguments:
        folder: an output folder of `select`.
        pool: its pool; None: opened from the path in run.yaml.
    """
    selection = load(folder, pool)
    return page.write_page(Path(folder) / "report.html", build(selection))


def build(selection: LoadedSelection, rows: int = ROWS) -> str:
    """Render the page. Raises PoolError, StoreError.

    Arguments:
        selection: what the page shows.
        rows: number of kept rows, and of dropped rows, in the sample.
    """
    k, n = len(selection.kept_rows), len(selection.pool)
    every, found = panels(selection), remarks(selection)
    panels_with_bars = [p for p in every if len(p.parts) > 1]
    plain = [f"{p.title.lower()}: {p.parts[0].label}" for p in every if len(p.parts) == 1]
    return page.render(
        "select.html.jinja",
        {
            "title": f"{k:,} of {n:,} rows kept",
            "selection": selection,
            "share": format_percent(k, n),
            "pool_name": str(selection.run["config"].get("pool", selection.run["pool"]["path"])),
            "tiles": _tiles(selection, found),
            "remarks": found,
            "panels": panels_with_bars,
            "top": max((p.top for p in panels_with_bars), default=100.0),
            "plain": plain,
            "section": method_section(selection),
            "suspects": suspects_section(selection),
            "again": shlex.join(["thresher", "report", str(selection.folder)]),
            "gallery": gallery(selection, rows),
            "command": command(selection.run["config"]),
            "replay": shlex.join(
                [
                    "thresher",
                    "select",
                    "--config",
                    str(selection.folder / "run.yaml"),
                    "--out",
                    "again",
                ]
            ),
            "config": yaml.safe_dump(selection.run, sort_keys=False, allow_unicode=True, width=100),
        },
    )


def _tiles(selection: LoadedSelection, found: list[Remark]) -> list[Tile]:
    """The numbers of the summary.

    Arguments:
        selection: what they describe.
        found: remarks on its health.
    """
    facts, kept = selection.pool.facts, selection.kept_rows
    k, n = len(kept), len(selection.pool)
    words, all_words = int(facts["answer_words"][kept].sum()), int(facts["answer_words"].sum())
    out = [
        Tile("Rows kept", format_percent(k, n), f"{k:,} of {n:,}"),
        *_saving(selection),
        Tile("Answer words", format_percent(words, all_words), f"{words:,} of {all_words:,}"),
        *(Tile(*count) for count in media_counts(facts, kept)),
        _health(found),
    ]
    return [t for t in out if t.value != "-"]


def _saving(selection: LoadedSelection) -> list[Tile]:
    """Cost of the selection, savings per epoch, and when the cost is recovered."""
    store = open_existing(selection.run.get("store") or "")
    found = of_run(selection.run, store, len(selection.pool), len(selection.kept_rows))
    return [
        Tile("Saved per epoch", percent(found.share) if found.rows else "nothing", _time(found)),
        Tile("Selecting", found.selecting_words, found.pays_off_words),
    ]


def _time(found: Saving) -> str:
    if not found.rows:
        return "every row is kept"
    if found.per_epoch is None:
        return "of the rows; time not measured"
    return f"of the rows, ≈ {format_duration(found.per_epoch)} of training (estimated)"


def _health(found: list[Remark]) -> Tile:
    warnings = sum(r.level == "warning" for r in found)
    notes = len(found) - warnings
    value = pluralize(warnings, "warning") if warnings else "fine"
    return Tile("Health", value, f"{pluralize(notes, 'note')}, below" if notes else "no notes")


def command(config: Mapping[str, Any]) -> str:
    """The `thresher select` command that repeats the selection, with every setting."""
    lines = [["thresher", "select", str(config.get("pool", "POOL"))]]
    skip = {"pool", "settings", "out", "decided"}
    for key, value in config.items():
        flag = "--" + key.replace("_", "-")
        if key in skip or value is None or value is False or value == "auto":
            continue
        every = value if isinstance(value, (list, tuple)) else [value]
        for one in every:
            lines.append([flag] if one is True else [flag, str(one)])
    for key, value in (config.get("settings") or {}).items():
        text = str(value).lower() if isinstance(value, bool) else value
        lines.append(["--set", f"{key}={text}"])
    lines.append(["--out", str(config.get("out", "OUT"))])
    return " \\\n  ".join(map(shlex.join, lines))
