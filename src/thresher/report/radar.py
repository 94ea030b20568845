"""A radar: one closed line a group over three or more spokes. Pure SVG text, in the manner of
`chart`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from thresher.console.formatting import tick_text
from thresher.report.chart import ceiling, svg, text_at


def radar(
    labels: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]], unit: str, alt: str
) -> Markup:
    """A closed line a group over three or more spokes, from 0 in the middle to the largest value at
    the rim."""
    width, height, radius = 480, 340, 108
    cx, cy = width / 2, height / 2 - 4
    top, ticks = ceiling(max((float(v) for _, values in groups for v in values), default=1.0))

    def at(i: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * i / len(labels) - math.pi / 2
        return cx + radius * value / top * math.cos(angle), cy + radius * value / top * math.sin(
            angle
        )

    def ring(values: Sequence[float]) -> str:
        points = (at(i, float(v)) for i, v in enumerate(values))
        return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)

    out = [f'<polygon class="grid" points="{ring([t] * len(labels))}"/>' for t in ticks if t > 0]
    for i, label in enumerate(labels):
        px, py = at(i, top)
        out.append(f'<line class="grid" x1="{cx:.1f}" y1="{cy:.1f}" x2="{px:.1f}" y2="{py:.1f}"/>')
        tx, ty = at(i, top * 1.09)
        anchor = "middle" if abs(tx - cx) < 12 else "start" if tx > cx else "end"
        for j, words in enumerate(lines := textwrap.wrap(label, 18, max_lines=3, placeholder="…")):
            up = (len(lines) - 1) * 12 * (1.0 if ty < cy - 60 else 0.0 if ty > cy + 60 else 0.5)
            out.append(
                text_at(
                    tx,
                    ty + (0 if ty < cy - 60 else 9 if ty > cy + 60 else 4) - up + 12 * j,
                    words,
                    anchor,
                )
            )
    for i, (css, values) in enumerate(groups):
        out.append(
            f'<polygon class="line {css}{" filled" if i == 0 else ""}" points="{ring(values)}"/>'
        )
    out.append(text_at(cx, height - 6, f"rim: {tick_text(top)} {unit}", "middle", "axis"))
    return svg(out, width, height, alt)
