"""Every method has a page that lists its settings."""

import re
from pathlib import Path

import pytest

from thresher.methods import METHODS, method_class
from thresher.methods.settings import settings_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", METHODS)
def test_the_page_lists_every_setting_with_its_default(name):
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, flags=re.M))
    assert listed == {s.name: s.default for s in settings_of(method_class(name))}
    assert "random wins" in page or name == "random"


def test_papers_has_a_row_for_every_method():
    table = (DOCS / "papers.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == list(METHODS)
    for name in METHODS:
        for arxiv in re.findall(r"arXiv:\d+\.\d+", method_class(name).paper):
            assert arxiv in table
