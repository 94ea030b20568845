"""Packaging metadata: links in the published README, and consistent files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import thresher

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LINK = re.compile(r"\]\(([^)]+)\)")


def published(text: str) -> str:
    """A page as the package index gets it."""
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_every_link_of_the_published_page_is_absolute_and_its_target_exists() -> None:
    page = published((ROOT / "README.md").read_text("utf-8"))
    links = LINK.findall(page)
    assert len(links) > 20
    for link in links:
        assert link.startswith(("https://", "#")), link
        where = re.match(
            r"https://(?:github|raw\.githubusercontent)\.com/thresher-ai/thresher/(?:blob/)?main/(.+)",
            link,
        )
        if where:
            assert (ROOT / where[1].partition("#")[0]).exists(), f"{link} leads nowhere"
        if link.startswith("#"):
            title = link[1:].replace("-", " ")
            assert re.search(rf"^#+ {title}$", page, re.MULTILINE | re.IGNORECASE), link


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "![a `b`](docs/x.svg)",
            ("![a `b`](https://raw.githubusercontent.com/thresher-ai/thresher/main/docs/x.svg)"),
        ),
        (
            "[m](docs/m.md#part)",
            "[m](https://github.com/thresher-ai/thresher/blob/main/docs/m.md#part)",
        ),
        ("[p](https://arxiv.org/abs/1)", "[p](https://arxiv.org/abs/1)"),
        ("![p](https://x.org/a.png)", "![p](https://x.org/a.png)"),
        ("[s](#what-was-run)", "[s](#what-was-run)"),
    ],
)
def test_links_become_absolute(before: str, after: str) -> None:
    assert published(before) == after


def test_the_citation_names_the_release() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == thresher.__version__
    assert cited["license"] == PROJECT["project"]["license"]
    assert cited["repository-code"] == PROJECT["project"]["urls"]["Homepage"]


def test_workflows_run_what_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    found = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [f.name for f in found] == ["newest.yml", "publish.yml", "tests.yml"]
    for file in found:
        for job in yaml.safe_load(file.read_text("utf-8"))["jobs"].values():
            for step in job["steps"]:
                command = step.get("run", "")
                if target := re.match(r"make (\S+)", command):
                    assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), command
                if command.startswith(".ci/"):
                    assert (ROOT / command).is_file(), command


def test_tested_python_versions_match_the_metadata() -> None:
    stated = {
        c.rpartition(" ")[2]
        for c in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", c)
    }
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    assert set(tests["jobs"]["test"]["strategy"]["matrix"]["python"]) == stated


def test_the_bounds_script_names_tests_that_exist() -> None:
    words = (ROOT / ".ci/bounds").read_text("utf-8").split()
    named = [w.strip("\"'()").removeprefix("--ignore=") for w in words]
    paths = [n for n in named if n.startswith("tests/")]
    assert paths and [p for p in paths if not (ROOT / p.partition("::")[0]).exists()] == []
