"""The table of families in docs/models.md and its summary in README.md are those of the tiny
models. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import models_page as page

from tests.backends.hf.conformance import Conformance


def test_the_page_lists_exactly_the_families_of_the_table() -> None:
    rows = page.rows_of(page.PAGE.read_text("utf-8"))
    assert list(rows) == list(page.families()), "run `make models`"


def test_readme_shows_the_summary_of_the_page() -> None:
    rows = page.rows_of(page.PAGE.read_text("utf-8"))
    assert page.between(page.README.read_text("utf-8")) == page.summary(list(rows.values()))


def test_a_row_is_read_back_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Conformance("llava", "Llava", 1e-7, 2e-7, 3e-6, 0.0, (4, 4), (12, 12), False, "packed")
    assert good.passes
    rows = {
        "llava": page.measured_row(good, ""),
        "mllama": page.refused_row("mllama", "its code | is odd", "torchvision"),
    }
    for name in ("PAGE", "README"):
        monkeypatch.setattr(page, name, tmp_path / name)
        (tmp_path / name).write_text(f"before {page.BEGIN}old{page.END} after", "utf-8")
    page.write(rows)
    text = (tmp_path / "PAGE").read_text("utf-8")
    assert page.rows_of(text) == rows
    assert text.startswith("before ") and text.endswith(" after") and "old" not in text
    assert "losses 1e-07" in (tmp_path / "README").read_text("utf-8")


@pytest.mark.parametrize(
    "wrong", [{"loss": float("inf")}, {"judge": float("nan")}, {"learned": (11, 12)}]
)
def test_a_difference_fails(wrong: dict) -> None:
    fine = {"loss": 0.0, "one_shot": 0.0, "judge": 0.0, "training": 0.0, "generated": (1, 1)}
    values = {"learned": (12, 12), "reuses_prefix": True, "query_mode": "packed"} | fine
    assert Conformance("a", "A", **values).passes
    assert not Conformance("a", "A", **(values | wrong)).passes


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(SystemExit, match="expected once"):
        page.replaced("no table here", "new")
