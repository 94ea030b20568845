"""report.html of a selection: what was kept, what changed, how the method chose, the rows, how to
repeat it.

Made from the selection's folder and its pool; the same folder gives the same bytes, whenever and by
whichever command.
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
from thresher.report.breakdown import panels
from thresher.report.folder import LoadedSelection, load
from thresher.report.gallery import ROWS, gallery
from thresher.report.health import Remark, remarks
from thresher.report.method_section import method_section
from thresher.selection.saving import Saving, of_run, percent
from thresher.storage.columns import Store

if TYPE_CHECKING:
    from thresher.pools import Pool


@dataclass(frozen=True)
class Tile:
    """One figure of the headline."""

    name: str
    value: str
    detail: str


def write(folder: str | Path, pool: Pool | None = None) -> Path:
    """Write report.html into the selection `folder`. Raises ConfigError, PoolError, StoreError."""
    made = load(folder, pool)
    return page.publish(Path(folder) / "report.html", build(made))


def build(made: LoadedSelection, rows: int = ROWS) -> str:
    """The page. `rows`: shown of the kept, and of the dropped."""
    k, n = len(made.kept_rows), len(made.pool)
    every, found = panels(made), remarks(made)
    told = [p for p in every if len(p.parts) > 1]
    plain = [f"{p.title.lower()}: {p.parts[0].label}" for p in every if len(p.parts) == 1]
    return page.render(
        "select.html.jinja",
        {
            "title": f"{k:,} of {n:,} rows kept",
            "made": made,
            "share": format_percent(k, n),
            "pool_name": str(made.run["config"].get("pool", made.run["pool"]["path"])),
            "tiles": tiles(made, found),
            "remarks": found,
            "panels": told,
            "top": max((p.top for p in told), default=100.0),
            "plain": plain,
            "section": method_section(made),
            "gallery": gallery(made, rows),
            "command": command(made.run["config"]),
            "replay": shlex.join(
                ["thresher", "select", "--config", str(made.folder / "run.yaml"), "--out", "again"]
            ),
            "config": yaml.safe_dump(made.run, sort_keys=False, allow_unicode=True, width=100),
        },
    )


def tiles(made: LoadedSelection, found: list[Remark]) -> list[Tile]:
    """The headline's figures."""
    facts, kept = made.pool.facts, made.kept_rows
    k, n = len(kept), len(made.pool)
    words, all_words = int(facts["answer_words"][kept].sum()), int(facts["answer_words"].sum())
    images, all_images = int(facts["images"][kept].sum()), int(facts["images"].sum())
    out = [
        Tile("Rows kept", format_percent(k, n), f"{k:,} of {n:,}"),
        *_saving(made),
        Tile("Answer words", format_percent(words, all_words), f"{words:,} of {all_words:,}"),
        Tile("Images shown", format_percent(images, all_images), f"{images:,} of {all_images:,}"),
        _health(found),
    ]
    return [t for t in out if t.value != "-"]


def _saving(made: LoadedSelection) -> list[Tile]:
    """What selecting cost, what it saves in each epoch, and when that pays off."""
    root = Path(str(made.run.get("store", "")))
    store = Store(root) if made.run.get("store") and root.is_dir() else None
    found = of_run(made.run, store, len(made.pool), len(made.kept_rows))
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
    """The `thresher select` that does it again, every setting spelled out."""
    words = ["thresher", "select"]
    pool = config.get("pool", "POOL")
    words += [str(p) for p in pool] if isinstance(pool, list) else [str(pool)]
    skip = {"pool", "settings", "out"}
    for key, value in config.items():
        flag = "--" + key.replace("_", "-")
        if key in skip or value is None or value is False or value == "auto":
            continue
        every = value if isinstance(value, (list, tuple)) else [value]
        for one in every:
            words += [flag] if one is True else [flag, str(one)]
    for key, value in (config.get("settings") or {}).items():
        words += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
    words += ["--out", str(config.get("out", "OUT"))]
    lines = [shlex.join(words[:3])]
    at = 3
    while at < len(words):
        step = 2 if at + 1 < len(words) and not words[at + 1].startswith("--") else 1
        lines.append("  " + shlex.join(words[at : at + step]))
        at += step
    return " \\\n".join(lines)
