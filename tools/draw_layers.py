"""Generates docs/images/layers.svg, a diagram of the package's layers, from the code.

    python tools/draw_layers.py           # write the diagram (`make docs`)
    python tools/draw_layers.py --check   # exit status 1 if the committed diagram is out of date

One row per package, in the order of the `layers` contract in pyproject.toml, with its lines of
code. The matrix counts import statements from the row's package to the column's. A package imports
only lower ones, so every number is right of the diagonal. Reads source files only; imports nothing
of the package.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
import tomllib
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

from import_graph import imports, modules, package_of

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "layers.svg"

ROW = 24  # height of a row and width of a column, px
BAR_LEFT, BAR_WIDTH = 190, 110  # where the bars of lines of code begin; the length of the longest
LEFT, TOP, MARGIN = 370, 150, 16  # the matrix's upper left corner; white space at the edges
SLANT = 24  # what the last slanted label needs to the right of the matrix
LAYOUT = {"encoding", "comment", "nl", "newline", "indent", "dedent", "endmarker"}

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #616e7c }
  .number { text-anchor: end }
  .cell { text-anchor: middle; font-size: 10px }
  .dark { fill: #ffffff }
"""


def layers(pyproject: Path = ROOT / "pyproject.toml") -> list[list[str]]:
    """The layers from the top down, each with its packages, from import-linter's `layers`
    contract."""
    contracts = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers")
    return [[name.strip() for name in line.split("|")] for line in contract["layers"]]


def code_lines(source: str) -> int:
    """Number of lines of code, without blank lines, comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type].lower() not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def measure() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Lines of code per package, and numbers of import statements between packages."""
    known = modules()
    lines: Counter[str] = Counter()
    for name, path in known.items():
        lines[package_of(name)] += code_lines(path.read_text("utf-8"))
    statements = {(i.importer, i.line, package_of(i.imported)) for i in imports(known)}
    edges = Counter((package_of(importer), imported) for importer, _, imported in statements)
    return lines, Counter({pair: n for pair, n in edges.items() if pair[0] != pair[1]})


def rounded(lines: int) -> int:
    """Round to the nearest hundred, or ten below one hundred, so that small edits do not change the
    diagram."""
    return round(lines, -2) if lines >= 100 else max(round(lines, -1), 10)


def shade(count: int, most: int) -> tuple[str, bool]:
    """A blue that is darker for larger counts (square root), and whether it needs white text."""
    share = (count / most) ** 0.5
    low, high = (222, 235, 247), (8, 81, 156)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}", share > 0.5


def draw(groups: list[list[str]], lines: Counter[str], edges: Counter[tuple[str, str]]) -> str:
    """The diagram as SVG text."""
    names = [name for group in groups for name in group]
    column = {name: LEFT + i * ROW for i, name in enumerate(names)}
    most_lines, most_imports = max(rounded(lines[n]) for n in names), max(edges.values(), default=1)
    width, height = LEFT + len(names) * ROW + MARGIN + SLANT, TOP + len(names) * ROW + MARGIN
    title = "The layers of thresher"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}: packages from the top layer down, their lines of code, '
        "and how often each imports which</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="{MARGIN}" y="32">{title}</text>',
        f'<text class="quiet" x="{MARGIN}" y="52">A package imports lower layers only:</text>',
        f'<text class="quiet" x="{MARGIN}" y="68">no number left of the diagonal.</text>',
        f'<text class="quiet" x="{MARGIN}" y="{TOP - 10}">layer, package</text>',
        f'<text class="quiet" x="{BAR_LEFT}" y="{TOP - 10}">lines of code</text>',
    ]
    for name, x in column.items():
        out.append(
            f'<text transform="translate({x + ROW - 8},{TOP - 8}) '
            f'rotate(-55)">{escape(name)}</text>'
        )
    y = TOP
    for depth, group in enumerate(groups):
        if depth % 2 == 0:
            out.append(
                f'<rect y="{y}" width="{width}" height="{len(group) * ROW}" fill="#f3f5f7"/>'
            )
        level = len(groups) - depth
        out.append(f'<text class="quiet number" x="{MARGIN + 16}" y="{y + 16}">{level}</text>')
        for name in group:
            bar = max(round(BAR_WIDTH * rounded(lines[name]) / most_lines), 1)
            out.append(f'<text x="{MARGIN + 30}" y="{y + 16}">{escape(name)}</text>')
            out.append(
                f'<rect x="{BAR_LEFT}" y="{y + 6}" width="{bar}" height="12" fill="#9fb3c8"/>'
            )
            out.append(
                f'<text class="quiet" x="{BAR_LEFT + bar + 6}" '
                f'y="{y + 16}">{rounded(lines[name]):,}</text>'
            )
            out.append(
                f'<rect x="{column[name]}" y="{y}" width="{ROW}" height="{ROW}" fill="#cbd2d9"/>'
            )
            for other in names:
                if count := edges[name, other]:
                    fill, dark = shade(count, most_imports)
                    x, text = column[other], "cell dark" if dark else "cell"
                    out.append(
                        f'<rect x="{x + 1}" y="{y + 1}" width="{ROW - 2}" height="{ROW - 2}" '
                        f'fill="{fill}"/>'
                    )
                    out.append(
                        f'<text class="{text}" x="{x + ROW // 2}" y="{y + 16}">{count}</text>'
                    )
            y += ROW
    return "\n".join([*out, "</svg>", ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 when out of date"
    )
    options = parser.parse_args(arguments)
    picture = draw(layers(), *measure())
    if options.check:
        current = PICTURE.is_file() and PICTURE.read_text("utf-8") == picture
        if not current:
            print(f"{PICTURE.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        return 0 if current else 1
    PICTURE.write_text(picture, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
