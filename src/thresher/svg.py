"""Writes SVG: shapes, and linear scales with ticks.

The `look` of a shape is a CSS class (for charts in a page, whose style sheet sets the colours) or a
mapping of attributes (for standalone files). Coordinates are in SVG units, written with one
decimal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

Look = str | Mapping[str, str]
Point = tuple[float, float]


class Linear:
    """A linear scale: maps `low` … `high` to `start` … `stop`.

    Arguments:
        low, high: values of the data; they must differ.
        start, stop: coordinates in SVG units; `stop` < `start` on a vertical axis.
    """

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._start = float(low), start
        self._slope = (stop - start) / (float(high) - float(low))

    def __call__(self, value: float) -> float:
        return self._start + (float(value) - self._low) * self._slope


def ticks_between(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, about `most` of them.

    >>> ticks_between(0.3, 2.2, 5), ticks_between(0, 9, 5, whole=True)
    ([0.5, 1.0, 1.5, 2.0], [0.0, 2.0, 4.0, 6.0, 8.0])

    Arguments:
        low, high: range of the values; `low` < `high`.
        most: number of ticks to aim at, >= 1.
        whole: integers only.
    """
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


def _step(span: float, most: int) -> float:
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)


def line(x1: float, y1: float, x2: float, y2: float, look: Look) -> str:
    """A straight line.

    Arguments:
        x1, y1, x2, y2: its two ends.
        look: CSS class or attributes.
    """
    return _element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, look)


def path(points: Iterable[Point], look: Look) -> str:
    """An open line through all points.

    Arguments:
        points: at least one (x, y).
        look: CSS class or attributes.
    """
    return _element("path", {"d": "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)}, look)


def polygon(points: Iterable[Point], look: Look) -> str:
    """A closed line through all points.

    Arguments:
        points: (x, y) of its corners.
        look: CSS class or attributes.
    """
    return _element("polygon", {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points)}, look)


def circle(x: float, y: float, radius: float, look: Look) -> str:
    """A circle.

    Arguments:
        x, y: its centre.
        radius: in SVG units.
        look: CSS class or attributes.
    """
    return _element("circle", {"cx": x, "cy": y, "r": radius}, look)


def rect(x: float, y: float, width: float, height: float, look: Look, title: str = "") -> str:
    """A rectangle.

    Arguments:
        x, y: its upper left corner.
        width, height: in SVG units, >= 0.
        look: CSS class or attributes.
        title: text of its tooltip; "": none.
    """
    inner = f"<title>{escape(title)}</title>" if title else ""
    return _element("rect", {"x": x, "y": y, "width": width, "height": height}, look, inner)


def text(x: float, y: float, content: str, anchor: str = "start", look: Look = "") -> str:
    """A horizontal text.

    Arguments:
        x, y: its anchor, on the baseline.
        content: unescaped.
        anchor: whether the start, middle or end of the text is at `x`.
        look: CSS class or attributes.
    """
    return _element("text", {"x": x, "y": y, "text-anchor": anchor}, look, escape(content))


def text_upright(x: float, y: float, content: str, look: Look = "") -> str:
    """Vertical text from bottom to top.

    Arguments:
        x, y: the middle of its baseline.
        content: unescaped.
        look: CSS class or attributes.
    """
    turned = {"text-anchor": "middle", "transform": f"translate({x:.1f} {y:.1f}) rotate(-90)"}
    return _element("text", turned, look, escape(content))


def document(parts: Sequence[str], width: float, height: float, look: Look) -> Markup:
    """An SVG document.

    Arguments:
        parts: shapes, back to front.
        width, height: of the view box, in SVG units.
        look: CSS class or attributes.
    """
    return Markup(_element("svg", {"viewBox": f"0 0 {width:g} {height:g}"}, look, "".join(parts)))


def _element(tag: str, geometry: Mapping[str, str | float], look: Look, content: str = "") -> str:
    named = ({"class": look} if look else {}) if isinstance(look, str) else look
    attributes = "".join(
        f' {name}="{escape(value) if isinstance(value, str) else format(value, ".1f")}"'
        for name, value in {**named, **geometry}.items()
    )
    return f"<{tag}{attributes}>{content}</{tag}>" if content else f"<{tag}{attributes}/>"
