"""An SVG radar chart: one closed line per group over three or more spokes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from thresher import svg
from thresher.console.formatting import tick_text
from thresher.report.chart import finish


def radar(
    labels: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]], unit: str, alt: str
) -> Markup:
    """Draw a radar chart from 0 in the centre to the largest value at the rim.

    Arguments:
        labels: of the spokes, three or more.
        groups: (css class, one value per spoke).
        unit: of the values.
        alt: text alternative.
    """
    width, height, radius = 480, 340, 108
    cx, cy = width / 2, height / 2 - 4
    top, ticks = svg.ceiling(max((float(v) for _, values in groups for v in values), default=1.0))

    def at(i: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * i / len(labels) - math.pi / 2
        return cx + radius * value / top * math.cos(angle), cy + radius * value / top * math.sin(
            angle
        )

    def ring(values: Sequence[float], css: str) -> str:
        return svg.polygon([at(i, float(v)) for i, v in enumerate(values)], css)

    out = [ring([t] * len(labels), "grid") for t in ticks if t > 0]
    for i, label in enumerate(labels):
        out.append(svg.line(cx, cy, *at(i, top), "grid"))
        tx, ty = at(i, top * 1.09)
        anchor = "middle" if abs(tx - cx) < 12 else "start" if tx > cx else "end"
        for j, words in enumerate(lines := textwrap.wrap(label, 18, max_lines=3, placeholder="…")):
            up = (len(lines) - 1) * 12 * (1.0 if ty < cy - 60 else 0.0 if ty > cy + 60 else 0.5)
            down = (0 if ty < cy - 60 else 9 if ty > cy + 60 else 4) - up + 12 * j
            out.append(svg.text(tx, ty + down, words, anchor))
    for i, (css, values) in enumerate(groups):
        out.append(ring(values, f"line {css}{' filled' if i == 0 else ''}"))
    out.append(svg.text(cx, height - 6, f"rim: {tick_text(top)} {unit}", "middle", "axis"))
    return finish(out, alt, width, height)
