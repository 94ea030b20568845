"""Small SVG charts: distributions, gaps between them, paired columns; `radar` and `curves` have a
file each.

Text in, SVG text out; colours come from the page's style.
Every chart has axis titles with units and a sentence for those who cannot see it (`alt`). Shapes
carry classes (`pool`, `kept`, `random`), never colours, so that one chart serves light, dark and
print. Sizes are in SVG units; the page scales charts to 300-520 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from thresher.console.formatting import tick_text

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 14, 44
BINS = 36


@dataclass(frozen=True)
class Series:
    """Values [m] of one group of rows. `css`: pool, kept, random or dropped. NaN and infinite
    values are not drawn."""

    name: str
    css: str
    values: np.ndarray


@dataclass(frozen=True)
class Figure:
    """A chart with what belongs around it."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()  # (css, name)
    numbers: tuple[tuple[str, ...], ...] = ()  # a table, its head first; () = none


@dataclass(frozen=True)
class Scale:
    """What small multiples share: the range of values, and the highest share of rows in a bin
    (percent)."""

    low: float
    high: float
    top: float
    whole: bool  # values are whole numbers, a bin each


def scale(groups: Sequence[Sequence[Series]], clip: float = 0.5) -> Scale | None:
    """A scale for panels of several series each; None where there is nothing to draw.

    Long tails are put into the end bins: the range is from the `clip`-th to the (100 - clip)-th
    percentile of all.
    """
    every = [finite(s.values) for panel in groups for s in panel]
    joined = np.concatenate(every) if every else np.zeros(0)
    if not len(joined):
        return None
    whole = bool(np.all(joined == np.round(joined)) and np.ptp(joined) <= 60)
    if whole:
        low, high = float(joined.min()), float(joined.max())
    else:
        low, high = (float(v) for v in np.percentile(joined, [clip, 100 - clip]))
    if 0 < low < 0.15 * high and joined.min() >= 0:
        low = 0.0  # what cannot be negative starts at 0, where that costs little room
    if high <= low:
        low, high = low - 0.5, high + 0.5
    scale_ = Scale(low, high, 1.0, whole)
    top = max((float(_shares(v, scale_).max(initial=0.0)) for v in every if len(v)), default=1.0)
    return Scale(low, high, max(top, 0.1), whole)


def distribution(
    panel: Sequence[Series],
    scale: Scale,
    axis: str,
    alt: str,
    cuts: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Outlines of histograms over each other: share of each group's rows (percent) by value.

    The first series is filled. `axis`: title of the value axis, with its unit. `cuts`: (value,
    label), drawn dashed.
    """
    edges = _edges(scale)
    top, ticks_y = ceiling(scale.top)
    x = Linear(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = Linear(0.0, top, HEIGHT - BOTTOM, TOP)
    out = frame(ticks_y, y, "share of rows, %")
    for tick in ticks_between(edges[0], edges[-1], 5, whole=scale.whole):
        out.append(text_at(x(tick), HEIGHT - BOTTOM + 15, tick_text(tick), "middle"))
    out.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle", "axis"))
    for i, series in enumerate(panel):
        values = finite(series.values)
        if not len(values):
            continue
        points = [f"M{x(edges[0]):.1f},{y(0):.1f}"]
        for share, a, b in zip(_shares(values, scale), edges[:-1], edges[1:], strict=True):
            points.append(f"L{x(a):.1f},{y(share):.1f}L{x(b):.1f},{y(share):.1f}")
        points.append(f"L{x(edges[-1]):.1f},{y(0):.1f}")
        fill = " filled" if i == 0 and len(panel) > 1 else ""
        out.append(f'<path class="line {series.css}{fill}" d="{"".join(points)}"/>')
    words = []
    for value, label in cuts:
        if edges[0] <= value <= edges[-1]:
            at = x(value)
            anchor, shift = ("end", -4) if at > WIDTH * 0.6 else ("start", 4)
            out.append(
                f'<line class="cut" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            )
            if label:
                words.append(text_at(at + shift, TOP + 10, label, anchor, "cutlabel"))
    out += words  # last, so that no line crosses them
    return svg(out, WIDTH, HEIGHT, alt)


def gaps(panel: Sequence[Series], scale: Scale, axis: str, alt: str) -> Markup:
    """How far each series is from the first: difference of the shares of rows at or below a value,
    in points.

    The largest distance from the zero line is the KS distance, in percent.
    """
    values = finite(panel[0].values)
    # many places where many rows are, and some everywhere
    at = np.r_[
        np.linspace(scale.low, scale.high, 91), np.percentile(values, np.arange(0, 100.1, 0.5))
    ]
    at = np.unique(at[(at >= scale.low) & (at <= scale.high)])
    base = _below(values, at)
    lines = [(s, _below(finite(s.values), at) - base) for s in panel[1:] if len(finite(s.values))]
    most = max((float(np.abs(gap).max()) for _, gap in lines), default=0.0)
    top, ticks_y = ceiling(most)
    x = Linear(scale.low, scale.high, LEFT, WIDTH - RIGHT)
    y = Linear(-top, top, HEIGHT - BOTTOM, TOP)
    every = math.ceil(len(ticks_y) / 3)
    out = frame(
        sorted({t * sign + 0.0 for t in ticks_y[::every] for sign in (-1, 1)}),
        y,
        "difference, points",
    )
    for tick in ticks_between(scale.low, scale.high, 5, whole=scale.whole):
        out.append(text_at(x(tick), HEIGHT - BOTTOM + 15, tick_text(tick), "middle"))
    out.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle", "axis"))
    out.append(
        f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
    )
    for series, gap in lines:
        points = "L".join(
            f"{x(a):.1f},{y(b):.1f}" for a, b in zip(at.tolist(), gap.tolist(), strict=True)
        )
        out.append(f'<path class="line {series.css}" d="M{points}"/>')
    return svg(out, WIDTH, HEIGHT, alt)


def columns(
    labels: Sequence[str],
    groups: Sequence[tuple[str, Sequence[float]]],
    axis: str,
    measure: str,
    alt: str,
) -> Markup:
    """Upright bars side by side. `groups`: (css, one height a label); `axis` and `measure` title
    the two axes."""
    height = max((float(v) for _, values in groups for v in values), default=0.0)
    top, ticks_y = ceiling(height)
    y = Linear(0.0, top, HEIGHT - BOTTOM, TOP)
    out = frame(ticks_y, y, measure)
    slot = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    bar = min(0.8 * slot / max(len(groups), 1), 26.0)
    every = max(math.ceil(len(labels) / 12), 1)
    for i, label in enumerate(labels):
        middle = LEFT + slot * (i + 0.5)
        for j, (css, values) in enumerate(groups):
            at = y(float(values[i]))
            left = middle + bar * (j - len(groups) / 2)
            box = (
                f'x="{left:.1f}" y="{at:.1f}" width="{bar:.1f}" height="{HEIGHT - BOTTOM - at:.1f}"'
            )
            out.append(
                f'<rect class="bar {css}" '
                f"{box}><title>{escape(f'{label}: {values[i]:,.4g}')}</title></rect>"
            )
        if i % every == 0:
            out.append(text_at(middle, HEIGHT - BOTTOM + 15, label, "middle"))
    out.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle", "axis"))
    return svg(out, WIDTH, HEIGHT, alt)


def finite(values: np.ndarray) -> np.ndarray:
    """The finite ones, float64."""
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


# -------------------------------------------------------------------------------------------- parts


def _edges(scale: Scale) -> np.ndarray:
    if scale.whole:
        return np.arange(scale.low - 0.5, scale.high + 1.0)
    return np.linspace(scale.low, scale.high, BINS + 1)


def _shares(values: np.ndarray, scale: Scale) -> np.ndarray:
    counts, _ = np.histogram(np.clip(values, scale.low, scale.high), _edges(scale))
    return np.asarray(100 * counts / len(values))


def _below(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Percent of the values at or below each of `at`."""
    return 100 * np.searchsorted(np.sort(values), at, side="right") / max(len(values), 1)


class Linear:
    """A straight map of values to places."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._start = float(low), start
        self._slope = (stop - start) / (float(high) - float(low))

    def __call__(self, value: float) -> float:
        return self._start + (float(value) - self._low) * self._slope


def _step(span: float, most: int) -> float:
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)


def ticks_between(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    step = _step(high - low, most)
    if whole:
        step = max(round(step), 1)
    first = math.ceil(low / step - 1e-9)
    return [i * step + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def ceiling(top: float) -> tuple[float, list[float]]:
    """A round number at or above `top`, and the ticks from 0 up to it."""
    if top <= 0:
        return 1.0, [0.0, 1.0]
    step = _step(top, 4)
    n = math.ceil(top / step - 1e-9)
    return n * step, [i * step for i in range(n + 1)]


def frame(ticks: Sequence[float], y: Linear, title: str) -> list[str]:
    out = []
    for tick in ticks:
        at = y(tick)
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        out.append(text_at(LEFT - 6, at + 4, tick_text(tick), "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(
        f'<text class="axis" text-anchor="middle" transform="translate(10 {middle:.1f}) '
        f'rotate(-90)">{escape(title)}</text>'
    )
    return out


def text_at(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    named = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'


def svg(parts: Sequence[str], width: int, height: int, alt: str) -> Markup:
    head = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">'
    )
    return Markup(head + "".join(parts) + "</svg>")  # all text in it went through `escape`
