"""report.html of a comparison, from compare.json alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.report.comparisons import compare_json
from thresher import report
from thresher.errors import ConfigError
from thresher.report import compare_report


def test_comparison_report(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(json.dumps(compare_json()))
    page = report.write(tmp_path).read_text()  # recognised by compare.json
    assert "No gain over random was found" in page and "1,234 questions" in page
    assert page.count('<svg class="chart"') == 3
    assert "&lt;i&gt;" in page and "<i>" not in page and "a &lt;note&gt;" in page
    assert "52.0" not in page.split("<h2")[0]
    row = re.search(r'<th scope="row">clipper</th><td>5%</td><td>100</td>(.*?)</tr>', page)
    assert (
        row
        and "49.0 to 53.0" in row[1]
        and "+0.4 (-1.6 to +2.4)" in row[1]
        and "31 min 40 s" in row[1]
    )
    assert "pays off from the first training" in page  # 1900 seconds saved for 60 spent
    # minutes saved, spent
    assert "<title>clipper 5%: 31.67</title>" in page and "<title>clipper 5%: 1</title>" in page
    assert "5% (100)" in page and "full pool" in page


def test_gain_is_in_the_title(tmp_path: Path) -> None:
    page = compare_report.build(compare_json("beats", 6.0))
    assert '<h1 id="h-verdict">clipper beats random</h1>' in page
    mixed = compare_json("beats", 6.0)
    mixed["verdicts"][0]["kind"] = "no gain"
    assert "clipper beats random in 1 of 2 comparisons" in compare_report.build(mixed)


def test_no_savings_without_the_full_pool() -> None:
    page = compare_report.build(compare_json(full=False))
    assert "Cost against saving" not in page and "full pool, " not in page
    assert page.count('<svg class="chart"') == 2


def test_folder_without_comparison_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no compare"):
        compare_report.write(tmp_path)
    (tmp_path / "compare.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        compare_report.write(tmp_path)
    (tmp_path / "compare.json").write_text('{"cells": []}')
    with pytest.raises(ConfigError, match="lacks cells"):
        compare_report.write(tmp_path)


@pytest.mark.parametrize("methods", [1, 5, 9])
def test_many_methods(methods: int) -> None:
    many = compare_json()
    cells = [c for c in many["cells"] if c["method"] == "clipper"]
    verdicts = many["verdicts"]
    for i in range(1, methods):
        many["cells"] = many["cells"] + [{**c, "method": f"m{i}"} for c in cells]
        many["verdicts"] = many["verdicts"] + [{**v, "method": f"m{i}"} for v in verdicts]
    page = compare_report.build(many)
    assert page.count('class="path hue') == (methods + 1) + methods
