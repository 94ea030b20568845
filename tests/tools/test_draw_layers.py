"""The diagram of the layers in docs/ matches the code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def draw_layers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        import draw_layers

        yield draw_layers


@pytest.fixture(scope="module")
def measured(draw_layers: ModuleType) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Lines of each package, and how often each imports which: reading all code takes seconds."""
    found: tuple[Counter[str], Counter[tuple[str, str]]] = draw_layers.measure()
    return found


def test_committed_diagram_is_current(
    draw_layers: ModuleType, measured: tuple[Counter[str], Counter[tuple[str, str]]]
) -> None:
    drawn = draw_layers.draw(draw_layers.layers(), *measured)
    ElementTree.fromstring(drawn)  # well-formed
    assert draw_layers.PICTURE.read_text("utf-8") == drawn, (
        "docs/images/layers.svg is out of date: run `make docs`"
    )


def test_every_package_of_the_code_is_in_a_layer_and_imports_lower_layers_only(
    draw_layers: ModuleType, measured: tuple[Counter[str], Counter[tuple[str, str]]]
) -> None:
    groups = draw_layers.layers()
    depth = {name: i for i, group in enumerate(groups) for name in group}
    lines, edges = measured
    assert set(lines) - {"__init__"} == set(depth)
    assert [(a, b) for a, b in edges if a in depth and depth[a] >= depth[b]] == []
    assert edges["cli", "selection"] > 0


def test_new_import_changes_the_diagram(draw_layers: ModuleType) -> None:
    groups = [["top"], ["left", "right"]]
    lines = Counter(top=120, left=30, right=4000)
    before = draw_layers.draw(groups, lines, Counter({("top", "left"): 1}))
    after = draw_layers.draw(groups, lines, Counter({("top", "left"): 1, ("top", "right"): 1}))
    assert before != after


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ('"""A docstring\nof two lines."""\n\n# a comment\nx = 1  # counted\n', 1),
        ('def f():\n    """Summary."""\n    return """two\nlines"""\n', 3),
    ],
)
def test_lines_of_code_leave_out_comments_and_docstrings(
    draw_layers: ModuleType, source: str, lines: int
) -> None:
    assert draw_layers.code_lines(source) == lines
