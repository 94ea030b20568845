"""The picture of a comparison as one SVG file: accuracy by budget above, the difference from random
below.

Written by hand, 100 lines, no plotting library: it opens in any browser and in a README. Dots are
means over seeds, bars 95% intervals; what crosses the zero line below is no gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thresher.compare.table import Line

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#7A5195",
    "#8C564B",
)  # told apart by all eyes
GREY, INK = "#888888", "#222222"
WIDTH, LEFT, RIGHT, TOP = 760, 62, 190, 34
UPPER, LOWER, GAP = 250, 150, 46


def plot(lines: Sequence[Line]) -> str:
    """The SVG text. `lines`: of a `Comparison`, with `random` among the methods."""
    budgets = list(dict.fromkeys(x.budget for x in lines if x.method != "full"))
    methods = list(dict.fromkeys(x.method for x in lines if x.method != "full"))
    colour = {"random": GREY} | {
        m: COLOURS[i % len(COLOURS)] for i, m in enumerate(m for m in methods if m != "random")
    }
    full = next((x for x in lines if x.method == "full"), None)
    judged = [x for x in lines if x.verdict is not None]
    slot = (WIDTH - LEFT - RIGHT) / len(budgets)

    def x_of(line: Line) -> float:
        shift = (methods.index(line.method) - (len(methods) - 1) / 2) * min(
            22.0, 0.8 * slot / len(methods)
        )
        return LEFT + slot * (budgets.index(line.budget) + 0.5) + shift

    height = TOP + UPPER + (GAP + LOWER if judged else 0) + 34
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 '
        f'{WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    bounds = [v for x in lines for v in (x.mean.low, x.mean.high)]
    upper = _Axis(min(bounds), max(bounds), TOP, UPPER)
    out += upper.draw("accuracy, %")
    if full is not None:
        y = upper(full.mean.mean)
        out.append(_line(LEFT, y, WIDTH - RIGHT, y, INK, 'stroke-dasharray="5 4"'))
    for x in (x for x in lines if x.method != "full"):
        out += _bar(
            x_of(x), upper(x.mean.low), upper(x.mean.mean), upper(x.mean.high), colour[x.method]
        )
    bottom = TOP + UPPER
    if judged:
        values = [
            v
            for x in judged
            if x.verdict
            for v in (x.verdict.difference.low, x.verdict.difference.high)
        ]
        lower = _Axis(min(values + [0.0]), max(values + [0.0]), TOP + UPPER + GAP, LOWER)
        out += lower.draw("method − random, points")
        out.append(_line(LEFT, lower(0), WIDTH - RIGHT, lower(0), GREY, 'stroke-width="1.5"'))
        for x in judged:
            assert x.verdict is not None
            gap = x.verdict.difference
            out += _bar(x_of(x), lower(gap.low), lower(gap.mean), lower(gap.high), colour[x.method])
        bottom += GAP + LOWER
    for i, budget in enumerate(budgets):
        rows = next(x.rows for x in lines if x.budget == budget and x.method == "random")
        label = budget if not budget.endswith("%") else f"{budget} ({rows:,} rows)"
        out.append(_text(LEFT + slot * (i + 0.5), bottom + 22, label, INK, "middle"))
    for i, method in enumerate(methods):
        y = TOP + 8 + 18 * i
        out.append(
            f'<circle cx="{WIDTH - RIGHT + 14}" cy="{y:.1f}" r="4.5" fill="{colour[method]}"/>'
        )
        out.append(_text(WIDTH - RIGHT + 26, y + 4, method, INK))
    if full is not None:
        y = TOP + 8 + 18 * len(methods)
        out.append(
            _line(WIDTH - RIGHT + 7, y, WIDTH - RIGHT + 21, y, INK, 'stroke-dasharray="5 4"')
        )
        out.append(_text(WIDTH - RIGHT + 26, y + 4, f"full pool, {full.mean.mean:.1f}", INK))
    return "\n".join([*out, "</svg>", ""])


class _Axis:
    """A vertical axis: values to pixels, with round ticks."""

    def __init__(self, low: float, high: float, top: float, height: float) -> None:
        room = max(high - low, 1.0) * 0.08
        self.low, self.high, self.top, self.height = low - room, high + room, top, height

    def __call__(self, value: float) -> float:
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def draw(self, title: str) -> list[str]:
        out = [_text(LEFT, self.top - 12, title, INK)]
        step = next(
            s
            for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
            if (self.high - self.low) / s <= 7 or s == 50
        )
        tick = -(-self.low // step) * step
        while tick <= self.high:
            y = self(tick)
            out.append(_line(LEFT, y, WIDTH - RIGHT, y, "#e5e5e5"))
            out.append(
                _text(
                    LEFT - 8,
                    y + 4,
                    f"{tick + 0.0:g}" if step >= 1 else f"{tick:.1f}",
                    "#555555",
                    "end",
                )
            )
            tick += step
        return out


def _bar(x: float, low: float, mean: float, high: float, colour: str) -> list[str]:
    return [
        _line(x, low, x, high, colour, 'stroke-width="2"'),
        _line(x - 4, low, x + 4, low, colour, 'stroke-width="2"'),
        _line(x - 4, high, x + 4, high, colour, 'stroke-width="2"'),
        f'<circle cx="{x:.1f}" cy="{mean:.1f}" r="4.5" fill="{colour}"/>',
    ]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'
    )


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
