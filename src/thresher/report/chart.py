"""Small SVG charts: histograms, differences of distributions, bar charts. `radar` and `curves` are
separate files.

Every chart has axis titles with units and a text alternative (`alt`). Shapes have CSS classes
(`pool`, `kept`, `random`) instead of colours, so that one chart works in the light and dark themes
and in print. Sizes are in SVG units; the page scales charts to 300-520 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from thresher import svg
from thresher.console.formatting import tick_text
from thresher.svg import Linear, ceiling

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 14, 44
BINS = 36


@dataclass(frozen=True)
class Series:
    """Values [m] of one group of rows; NaN and infinite values are ignored. `css`: pool, kept,
    random or dropped."""

    name: str
    css: str
    values: np.ndarray


@dataclass(frozen=True)
class Figure:
    """A chart with title, caption, legend and table."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()  # (css, name)
    numbers: tuple[tuple[str, ...], ...] = ()  # a table, header first; () = none


@dataclass(frozen=True)
class Scale:
    """The common scale of small multiples: range of values, and largest share of rows in a bin
    (percent)."""

    low: float
    high: float
    top: float
    whole: bool  # values are integers with a bin each


def scale(groups: Sequence[Sequence[Series]], clip: float = 0.5) -> Scale | None:
    """The common scale of several panels; None if there is nothing to plot.

    Arguments:
        groups: the series of each panel.
        clip: percentile, 0 to 50; the range is from the `clip`-th to the (100 - clip)-th percentile
            of all values, and the tails are counted in the outermost bins.
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
        low = 0.0  # start non-negative values at 0 if that takes little space
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
    """Overlaid histograms: share of each series' rows (percent) by value; the first is filled.

    Arguments:
        panel: the series.
        scale: common scale.
        axis: title of the value axis, with its unit.
        alt: text alternative.
        cuts: (value, label) of dashed vertical lines.
    """
    edges = _edges(scale)
    top, ticks_y = ceiling(scale.top)
    x = Linear(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = Linear(0.0, top, HEIGHT - BOTTOM, TOP)
    out = frame(ticks_y, y, "share of rows, %", axis)
    out += _values_below_axis(edges[0], edges[-1], x, scale.whole)
    for i, series in enumerate(panel):
        values = finite(series.values)
        if not len(values):
            continue
        heights = np.repeat([0.0, *_shares(values, scale), 0.0], 2)[1:-1]
        points = [(x(a), y(b)) for a, b in zip(np.repeat(edges, 2), heights, strict=True)]
        fill = " filled" if i == 0 and len(panel) > 1 else ""
        out.append(svg.path(points, f"line {series.css}{fill}"))
    words = []
    for value, label in cuts:
        if edges[0] <= value <= edges[-1]:
            at = x(value)
            anchor, shift = ("end", -4) if at > WIDTH * 0.6 else ("start", 4)
            out.append(svg.line(at, TOP, at, HEIGHT - BOTTOM, "cut"))
            if label:
                words.append(svg.text(at + shift, TOP + 10, label, anchor, "cutlabel"))
    out += words  # on top of the lines
    return finish(out, alt)


def gaps(panel: Sequence[Series], scale: Scale, axis: str, alt: str) -> Markup:
    """Difference between the cumulative distribution of each series and that of the first, in
    percentage points; its maximum is the KS distance.

    Arguments:
        panel: the series.
        scale: common scale.
        axis: title of the value axis, with its unit.
        alt: text alternative.
    """
    values = finite(panel[0].values)
    # evaluate densely where there are many rows, and at even distances everywhere
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
    ticks = sorted({t * sign + 0.0 for t in ticks_y[::every] for sign in (-1, 1)})
    out = frame(ticks, y, "difference, points", axis)
    out += _values_below_axis(scale.low, scale.high, x, scale.whole)
    out.append(across(y(0), "zero"))
    for series, gap in lines:
        points = [(x(a), y(b)) for a, b in zip(at, gap, strict=True)]
        out.append(svg.path(points, f"line {series.css}"))
    return finish(out, alt)


def columns(
    labels: Sequence[str],
    groups: Sequence[tuple[str, Sequence[float]]],
    axis: str,
    measure: str,
    alt: str,
) -> Markup:
    """A grouped bar chart.

    Arguments:
        labels: of the groups of bars.
        groups: (css class, one height per label).
        axis: title of the horizontal axis.
        measure: title of the value axis.
        alt: text alternative.
    """
    height = max((float(v) for _, values in groups for v in values), default=0.0)
    top, ticks_y = ceiling(height)
    y = Linear(0.0, top, HEIGHT - BOTTOM, TOP)
    out = frame(ticks_y, y, measure, axis)
    slot = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    bar = min(0.8 * slot / max(len(groups), 1), 26.0)
    every = max(math.ceil(len(labels) / 12), 1)
    for i, label in enumerate(labels):
        middle = LEFT + slot * (i + 0.5)
        for j, (css, values) in enumerate(groups):
            at = y(values[i])
            left = middle + bar * (j - len(groups) / 2)
            title = f"{label}: {values[i]:,.4g}"
            out.append(svg.rect(left, at, bar, HEIGHT - BOTTOM - at, f"bar {css}", title))
        if i % every == 0:
            out.append(below_axis(middle, label))
    return finish(out, alt)


def finite(values: np.ndarray) -> np.ndarray:
    """The finite values, float64."""
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


def frame(ticks: Sequence[float], y: Linear, measure: str, axis: str) -> list[str]:
    """Horizontal grid lines with tick labels, and the titles of both axes.

    Arguments:
        ticks: values of the vertical axis.
        y: scale of the vertical axis.
        measure: title of the vertical axis, with its unit.
        axis: title of the horizontal axis, with its unit.
    """
    out = []
    for tick in ticks:
        out.append(svg.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        out.append(svg.text(LEFT - 6, y(tick) + 4, tick_text(tick), "end"))
    out.append(svg.text_upright(10, (TOP + HEIGHT - BOTTOM) / 2, measure, "axis"))
    out.append(svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle", "axis"))
    return out


def below_axis(x: float, label: str) -> str:
    """A tick label of the horizontal axis.

    Arguments:
        x: its middle, in SVG units.
        label: the text.
    """
    return svg.text(x, HEIGHT - BOTTOM + 15, label, "middle")


def across(y: float, css: str) -> str:
    """A horizontal line across the chart.

    Arguments:
        y: in SVG units.
        css: class of the line.
    """
    return svg.line(LEFT, y, WIDTH - RIGHT, y, css)


def finish(parts: Sequence[str], alt: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """The SVG document of the chart.

    Arguments:
        parts: shapes, back to front.
        alt: text alternative.
        width, height: in SVG units.
    """
    return svg.document(parts, width, height, {"class": "chart", "role": "img", "aria-label": alt})


def _values_below_axis(low: float, high: float, x: Linear, whole: bool) -> list[str]:
    ticks = svg.ticks_between(low, high, 5, whole=whole)
    return [below_axis(x(tick), tick_text(tick)) for tick in ticks]
