"""A chart of means with intervals over budgets: one line a method. Pure SVG text, in the manner of
`chart`.

Budgets stand at even distances, labelled; methods stand a little beside each other so that
intervals do not hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from thresher.report import chart
from thresher.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH


@dataclass(frozen=True)
class Point:
    """One method at one budget. `at`: number of the budget. `low` and `high`: an interval; None
    where there is none."""

    at: int
    mean: float
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()  # single seeds


@dataclass(frozen=True)
class Curve:
    """One method. `css`: hue0 to hue7."""

    name: str
    css: str
    points: tuple[Point, ...]


def curves(
    curves: Sequence[Curve],
    budgets: Sequence[str],
    title: str,
    alt: str,
    level: float | None = None,
    zero: bool = False,
) -> Markup:
    """`title`: of the value axis, with its unit. `level`: a dashed line, such as the full pool.
    `zero`: mark the 0."""
    values = [
        v
        for c in curves
        for p in c.points
        for v in (p.mean, p.low, p.high, *p.dots)
        if v is not None
    ]
    values += [level] if level is not None else []
    values += [0.0] if zero else []
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(high - low, 1.0) * 0.08
    y = chart.Linear(low - room, high + room, HEIGHT - BOTTOM, TOP)
    ticks = [
        t for t in chart.ticks_between(low - room, high + room, 5) if low - room <= t <= high + room
    ]
    out = chart.frame(ticks, y, title)
    slot = (WIDTH - LEFT - RIGHT) / max(len(budgets), 1)
    for i, budget in enumerate(budgets):
        out.append(chart.text_at(LEFT + slot * (i + 0.5), HEIGHT - BOTTOM + 15, budget, "middle"))
    out.append(
        chart.text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "budget, rows kept", "middle", "axis")
    )
    if zero:
        out.append(
            f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
        )
    if level is not None:
        out.append(
            f'<line class="cut" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" '
            f'y2="{y(level):.1f}"/>'
        )
        out.append(chart.text_at(WIDTH - RIGHT, y(level) - 4, "full pool", "end", "cutlabel"))
    step = min(14.0, 0.7 * slot / max(len(curves), 1))
    for j, curve in enumerate(curves):
        shift = (j - (len(curves) - 1) / 2) * step

        def x(at: int, shift: float = shift) -> float:
            return LEFT + slot * (at + 0.5) + shift

        path = "L".join(f"{x(p.at):.1f},{y(p.mean):.1f}" for p in curve.points)
        out.append(f'<path class="path hue {curve.css}" d="M{path}"/>')
        for p in curve.points:
            if p.low is not None and p.high is not None:
                ends = (
                    f'x1="{x(p.at):.1f}" x2="{x(p.at):.1f}" y1="{y(p.low):.1f}" '
                    f'y2="{y(p.high):.1f}"'
                )
                out.append(f'<line class="whisker hue {curve.css}" {ends}/>')
            for dot in p.dots:
                out.append(
                    f'<circle class="dot hue {curve.css}" cx="{x(p.at):.1f}" cy="{y(dot):.1f}" '
                    'r="2.2"/>'
                )
            out.append(
                f'<circle class="mean hue {curve.css}" cx="{x(p.at):.1f}" cy="{y(p.mean):.1f}" '
                'r="4"/>'
            )
    return chart.svg(out, WIDTH, HEIGHT, alt)
