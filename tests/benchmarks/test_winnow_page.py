"""The pages of winnow, VisNec and DICS and of the parts of winnow: tables from planted arms, and
which pages a run writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import suspects
from benchmarks.proof import pages, parts_page, setup, signals, winnow_page
from benchmarks.proof.collected import PoolResult
from benchmarks.proof.numbers import Arm, Questions
from benchmarks.proof.oracles import Labels

from thresher.demo.pool import make_pool
from thresher.pools import open_pool

N = 900
SIZES = setup.Sizes()
MEASURED = {
    "wrong": {"answer_loss": [0.7, 0.95], "entropy": [0.5, None]},
    "purity": {"hashed words": [0.97, 0.96]},
}


def arm(method: str, accuracy: float, budget: str = "10%", seeds: int = 3) -> Arm:
    rng = np.random.default_rng(len(method) + len(budget))
    difficulty = np.random.default_rng(0).random(N)
    noise = 0.02 * rng.standard_normal((seeds, N))
    scores = (difficulty + noise < accuracy).astype(float)
    share = np.full(seeds, 0.1)
    return Arm(method, budget, tuple(range(seeds)), scores, None, share, share, {}, 600, 3.0, 9.0)


def pool(name: str, **of_stage: list[Arm]) -> PoolResult:
    style = np.where(np.arange(N) % 3 == 0, "sentence", "word")
    questions = Questions(np.full(N, "colour"), style, np.full(N, "red"), np.full(N, 6))
    arms = {stage: {(a.method, a.budget): a for a in found} for stage, found in of_stage.items()}
    missing = dict.fromkeys(of_stage, 0) | {"dics": 6}
    return PoolResult(name, 6000, 0.28, questions, arms, missing, frozenset({date(2026, 1, 2)}))


@pytest.fixture
def found() -> list[PoolResult]:
    random = arm("random", 0.5)
    web = pool(
        "web",
        winnow=[arm("random", 0.5, seeds=5), arm("winnow", 0.6, seeds=5), arm("visnec", 0.4)],
        parts=[random, arm("winnow", 0.6), arm("keep=1", 0.5)],
        by_skill=[random, arm("clipper balance=skill", 0.6)],
        long=[random, arm("winnow", 0.6)],
        sizes=[arm("random", 0.7, "30%"), arm("winnow", 0.7, "30%")],
    )
    return [web, pool("own_mix", winnow=[random, arm("winnow", 0.5)])]


@pytest.fixture
def page(found: list[PoolResult], tmp_path: Path) -> str:
    return winnow_page.winnow_page(found, tmp_path, SIZES, "demo")


@pytest.fixture
def parts(found: list[PoolResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr(signals, "measured", lambda *_: MEASURED)
    return parts_page.parts_page(found, tmp_path, SIZES, "demo")


def line(page: str, section: str, start: str) -> list[str]:
    """The cells of the first line that begins so, after the heading of a section."""
    after = page[page.index(section) :].splitlines()
    found = next(x for x in after if x.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_gains_are_bold_and_losses_too(page: str) -> None:
    winnow, visnec = line(page, "## At a glance", "winnow, 10%"), line(page, "##", "visnec, 10%")
    assert winnow[1].startswith("**+1") and not winnow[2].startswith("**")
    assert visnec[1].startswith("**-") and visnec[2:] == [""]  # not run on own_mix
    assert "| web, 10% | winnow | 5 |" in page and "worse than random" in page


def test_it_says_where_random_is_better(page: str) -> None:
    glance = page[page.index("## At a glance") : page.index("## Accuracy")]
    assert "- visnec, 10%: random is better on web." in glance
    assert "- winnow, 10%: no difference on own_mix." in glance


def test_equal_steps_and_answer_styles(page: str) -> None:
    steps = page[page.index("## Equal steps") :]
    assert (
        "| web: 10%, 225 steps | winnow |" in steps and "| web: 30%, one pass | winnow |" in steps
    )
    assert line(page, "own_mix by answer style", "sentence")[1] == "300"


def test_parts_of_winnow(parts: str) -> None:
    part = line(parts, "## Parts of winnow", "keep=1")
    assert not part[1].startswith("**") and part[2].startswith("**-1") and part[3] == "10%"
    assert line(parts, "## CLIPPER", "web: clipper balance=skill")[4] == "**beats random**"
    assert line(parts, "## Which signal", "entropy")[1] == "0.50 / –"
    assert line(parts, "## Purity", "hashed words")[1] == "0.97 / 0.96"
    assert parts.count("\n## ") == 4 and "nan" not in parts
    assert "--stages by_skill,signals,parts\n" in parts


def test_it_says_when_it_was_computed_and_what_is_missing(page: str) -> None:
    assert "Trainings of 2026-01-02," in page
    assert "**Not finished**, missing cells: dics at 10% 12." in page
    assert page.count("\n## ") == 4 and "nan" not in page


def test_a_page_is_written_only_for_its_own_stages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def collect(out: Path, name: str, sizes: setup.Sizes, model: str, page: str) -> PoolResult:
        asked.append((page, name))
        return pool(name, winnow=[arm("random", 0.5)] if name == "web" else [])

    def text(found: Sequence[PoolResult], *_: Any) -> str:
        return " ".join(p.name for p in found)

    monkeypatch.setattr(pages, "collect", collect)
    monkeypatch.setattr(pages, "PAGES", {"proof": text, "winnow": text, "winnow_parts": text})
    (tmp_path / "proof.md").write_text("older")
    written = list(
        pages.write_pages(tmp_path, tmp_path, ("web", "own_mix"), ("long",), SIZES, "demo")
    )
    assert written == [tmp_path / "winnow.md"] and written[0].read_text() == "web"
    assert asked == [("winnow", "web"), ("winnow", "own_mix")]
    assert (tmp_path / "proof.md").read_text() == "older"
    none = pages.write_pages(tmp_path, tmp_path, ("control",), ("ten",), SIZES, "demo")
    assert list(none) == [] and (tmp_path / "proof.md").read_text() == "older"


def test_labels_have_the_answer_style(tmp_path: Path) -> None:
    made = open_pool(make_pool(tmp_path, 60, 2))
    labels = Labels.read(made)
    lines = (tmp_path / "hidden_labels.jsonl").read_text("utf-8").splitlines()
    hidden = {x["id"]: x for x in map(json.loads, lines)}
    assert labels.style.tolist() == [hidden[i]["style"] for i in made.ids(np.arange(60))]


@pytest.mark.slow
def test_signals_are_measured_and_kept(tmp_path: Path) -> None:
    sizes = setup.Sizes(rows=90, per_kind=1)
    setup.make_world(setup.world_folder(tmp_path, sizes), sizes, ("scarce",))
    assert signals.measured(tmp_path, "scarce") is None
    found = signals.measure(tmp_path, sizes, "demo", "scarce")
    assert len(found["purity"]) == 4
    assert all(0.2 < share <= 1 for pair in found["purity"].values() for share in pair)
    assert list(found["wrong"]) == list(suspects.SIGNALS) and found["wrong"]["loss"][0] > 0.5
    assert signals.measured(tmp_path, "scarce") == found
