"""report.html of a comparison: verdicts, accuracy by budget with intervals, table, cost and
savings.

Built from compare.json alone and written beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from thresher.console.formatting import format_duration
from thresher.errors import ConfigError
from thresher.report import chart, page
from thresher.report.chart import Figure
from thresher.report.curves import Curve, Point, curves
from thresher.selection.saving import pays_off
from thresher.stats.verdict import describe_random_rows
from thresher.text import parse_json

FULL, RANDOM = "full", "random"
HUES = 8


@dataclass(frozen=True)
class Row:
    """One method at one budget: a line of the table."""

    method: str
    budget: str
    rows: int
    accuracy: str
    of_full: str
    difference: str
    kind: str  # of verdict: "beats", "no gain", "worse" or ""
    verdict: str
    selecting: str
    training: str
    saved: str


def write(folder: str | Path) -> Path:
    """Write report.html into a folder with compare.json. Raises ConfigError (no such file,
    damaged), StoreError."""
    folder = Path(folder)
    return page.write_page(folder / "report.html", build(read(folder)))


def read(folder: Path) -> dict[str, Any]:
    """The content of compare.json. Raises ConfigError."""
    path = folder / "compare.json"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} contains no compare.json. Give an output folder of `thresher compare`."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not content.get("cells") or "verdicts" not in content:
        raise ConfigError(f"{path} is not a compare.json of thresher: it lacks cells or verdicts.")
    return content


def build(content: dict[str, Any]) -> str:
    """Render the page.

    Arguments:
        content: the parsed compare.json.
    """
    cells, verdicts = content["cells"], content["verdicts"]
    budgets = list(dict.fromkeys(c["budget"] for c in cells if c["method"] != FULL))
    won = [v for v in verdicts if v["kind"] == "beats"]
    if not verdicts:
        title = "Nothing was compared with random"
    elif won:
        names = list(dict.fromkeys(v["method"] for v in won))
        title = f"{' and '.join(names)} beat{'s' if len(names) == 1 else ''} random"
        if len(won) < len(verdicts):
            title += f" in {len(won)} of {len(verdicts)} comparisons"
    else:
        title = "No gain over random was found"
    seeds = len({c["seed"] for c in cells})
    about = {
        k: v
        for k, v in content.items()
        if k not in ("cells", "verdicts", "notes", "selection_notes", "units")
    }
    return page.render(
        "compare.html.jinja",
        {
            "title": title,
            "content": content,
            "seeds": seeds,
            "verdicts": [
                # compare.json of an earlier version lacks the seeds
                v | {"rows": describe_random_rows(v.get("seeds_with_random_rows") or [], seeds)}
                for v in verdicts
            ],
            "figures": _figures(cells, verdicts, budgets),
            "rows": _rows(cells, verdicts, budgets),
            "notes": content.get("notes") or [],
            "selection_notes": content.get("selection_notes") or [],
            "config": yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=100),
        },
    )


def _figures(
    cells: list[dict[str, Any]], verdicts: list[dict[str, Any]], budgets: list[str]
) -> list[Figure]:
    """Charts of accuracy by budget, difference from random, and cost against savings.

    Arguments:
        cells: of compare.json, one per method, budget and seed.
        verdicts: of compare.json, one per method and budget.
        budgets: as the user wrote them, in the order of the horizontal axis.
    """
    methods = [
        RANDOM,
        *dict.fromkeys(c["method"] for c in cells if c["method"] not in (RANDOM, FULL)),
    ]
    hue = {name: f"hue{i % HUES}" for i, name in enumerate(methods)}
    judged = {(v["method"], v["budget"]): v for v in verdicts}
    accuracy, difference = [], []
    for method in methods:
        points, gaps = [], []
        for i, budget in enumerate(budgets):
            dots = tuple(
                100 * c["accuracy"] for c in cells if (c["method"], c["budget"]) == (method, budget)
            )
            v = judged.get((method, budget))
            if dots:
                low, high = v["mean_interval"] if v else (None, None)
                points.append(Point(i, float(np.mean(dots)), low, high, dots))
            if v:
                gaps.append(Point(i, v["difference"], *v["interval"]))
        accuracy.append(Curve(method, hue[method], tuple(points)))
        if gaps:
            difference.append(Curve(method, hue[method], tuple(gaps)))
    full = [100 * c["accuracy"] for c in cells if c["method"] == FULL]
    legend = tuple((f"hue {hue[m]}", m) for m in methods)
    labels = [_budget_label(cells, b) for b in budgets]
    out = [
        Figure(
            "Accuracy by budget",
            curves(
                accuracy,
                labels,
                "accuracy, %",
                "Accuracy of every method by budget.",
                float(np.mean(full)) if full else None,
            ),
            "Filled: mean over seeds, with its 95% interval if there is a verdict. Open: single "
            "seeds.",
            legend,
        )
    ]
    if difference:
        out.append(
            Figure(
                "Difference from random",
                curves(
                    difference,
                    labels,
                    "method − random, points",
                    "Difference of every method from random by budget.",
                    None,
                    True,
                ),
                "Paired by evaluation row and seed, with 95% intervals. An interval that contains "
                "zero is no gain.",
                tuple((f"hue {c.css}", c.name) for c in difference),
            )
        )
    return [*out, *_cost(verdicts)]


def _budget_label(cells: list[dict[str, Any]], budget: str) -> str:
    kept = next(c["rows"] for c in cells if c["budget"] == budget and c["method"] != FULL)
    return f"{budget} ({kept:,})" if budget.endswith("%") else budget


def _cost(verdicts: list[dict[str, Any]]) -> list[Figure]:
    timed = [v for v in verdicts if v.get("seconds_saved") is not None]
    if not timed:
        return []
    unit, seconds = (
        ("hours", 3600) if max(v["seconds_saved"] for v in timed) > 7200 else ("minutes", 60)
    )
    labels = [f"{v['method']} {v['budget']}" for v in timed]
    short = (
        [label if len(label) <= 14 else label[:13] + "…" for label in labels]
        if len(labels) <= 4
        else [str(i + 1) for i in range(len(labels))]
    )
    paid = [v["seconds_selection"] / seconds for v in timed]
    saved = [max(v["seconds_saved"], 0.0) / seconds for v in timed]
    table: list[tuple[str, ...]] = [("", "selecting", "training saved", "pays off")]
    for i, (label, v) in enumerate(zip(labels, timed, strict=True)):
        pays = (
            pays_off(v["seconds_selection"], v["seconds_saved"])
            if v["seconds_saved"] > 0
            else "never pays off"
        )
        name = label if len(labels) <= 4 else f"{i + 1}: {label}"
        table.append(
            (name, format_duration(v["seconds_selection"]), _signed(v["seconds_saved"]), pays)
        )
    svg = chart.columns(
        short,
        [("random", paid), ("kept", saved)],
        "method and budget",
        unit,
        "Time spent on selecting and training time saved.",
    )
    legend = (("b", "spent on selecting"), ("kept", "training saved, against the full pool"))
    caption = (
        "Selecting counts in full, even if scores were reused. Averages over seeds; one training "
        "each."
    )
    return [Figure("Cost against saving", svg, caption, legend, tuple(table))]


def _rows(
    cells: list[dict[str, Any]], verdicts: list[dict[str, Any]], budgets: list[str]
) -> list[Row]:
    """The rows of the table, by budget, with the full pool last.

    Arguments:
        cells, verdicts, budgets: as for `_figures`.
    """
    judged = {(v["method"], v["budget"]): v for v in verdicts}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["method"], cell["budget"]), []).append(cell)
    full = groups.get((FULL, "100%"), [])
    whole = float(np.mean([c["accuracy"] for c in full])) if full else 0.0
    full_time = float(np.mean([c["seconds_training"] for c in full])) if full else None
    order = sorted(
        groups, key=lambda key: budgets.index(key[1]) if key[0] != FULL else len(budgets)
    )
    out = []
    for method, budget in order:
        arm, v = groups[method, budget], judged.get((method, budget))
        values = [100 * c["accuracy"] for c in arm]
        mean, training = (
            float(np.mean(values)),
            float(np.mean([c["seconds_training"] for c in arm])),
        )
        accuracy = f"{mean:.1f}"
        if v:
            accuracy += f" ({v['mean_interval'][0]:.1f} to {v['mean_interval'][1]:.1f})"
        elif len(values) > 1:
            accuracy += f" (seeds {min(values):.1f} to {max(values):.1f})"
        out.append(
            Row(
                method,
                budget,
                round(float(np.mean([c["rows"] for c in arm]))),
                accuracy,
                f"{100 * mean / 100 / whole:.1f}%" if whole else "",
                f"{v['difference']:+.1f} ({v['interval'][0]:+.1f} to {v['interval'][1]:+.1f})"
                if v
                else "",
                v["kind"].replace(" ", "-") if v else "",
                {"beats": "beats random", "worse": "worse than random"}.get(v["kind"], v["kind"])
                if v
                else "",
                format_duration(float(np.mean([c["seconds_selection"] for c in arm]))),
                format_duration(training),
                _signed(full_time - training) if full_time is not None and method != FULL else "",
            )
        )
    return out


def _signed(seconds: float) -> str:
    return format_duration(seconds) if seconds >= 0 else f"−{format_duration(-seconds)}"
