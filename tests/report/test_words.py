"""Explanations match the numbers: every sign, zero, ties and unknown values."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.image_pools import picture_pool, record
from thresher.methods import METHODS
from thresher.methods.explanation import Counts, Evidence, Explanation, by_one_number
from thresher.pools import Pool
from thresher.report.folder import LoadedSelection
from thresher.report.gallery import Gallery
from thresher.report.health import remarks
from thresher.report.method_section import method_section
from thresher.report.words import explainer

EFFECTS = (-3.0, -0.25, -0.0049, -1e-9, 0.0, 1e-9, 0.0049, 0.25, 3.0, np.nan)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return picture_pool(tmp_path_factory.mktemp("words"), [record(i) for i in range(200)])


def made(
    pool: Pool,
    method: str,
    reasons: dict[str, Any],
    kept: np.ndarray,
    settings: dict[str, Any] | None = None,
) -> LoadedSelection:
    n = len(kept)
    rank = np.where(kept, np.cumsum(kept) - 1, -1)
    run = {"method": {"name": method, "seed": 0, "settings": settings or {}}, "notes": []}
    arrays = {name: np.asarray(values) for name, values in reasons.items()}
    sample = np.arange(len(pool), dtype=np.uint64)
    return LoadedSelection(Path(), run, pool, np.arange(n), rank, arrays, [], sample)


@pytest.mark.parametrize("prefer", ["most_helped", "least_helped", "none"])
def test_clipper_explanations_follow_the_sign_of_the_effect(pool: Pool, prefer: str) -> None:
    cases = list(itertools.product(EFFECTS, (True, False), (True, False), "PW"))
    effect = np.array([c[0] for c in cases])
    kept = np.array([c[1] for c in cases])
    reasons = {
        "effect": effect,
        "critical": np.array([c[2] for c in cases]),
        "knowledge": np.array([c[3] for c in cases], object),
        "bin": np.arange(len(cases)) % 7,
    }
    why = explainer(made(pool, "clipper", reasons, kept, {"prefer": prefer}))
    for i, (value, is_kept, critical, knowledge) in enumerate(cases):
        text = why(i).text
        falls, rises = value >= 0.005, value <= -0.005
        assert ("lowers its loss" in text) == falls and ("raises its loss" in text) == rises, text
        assert "by 0.00" not in text and "nan" not in text and "-" not in text
        assert f"({knowledge})" in text
        if "helped of its bin" in text:
            assert falls, text
        if "harmed of its bin" in text:
            assert rises, text
        if is_kept and critical and falls:
            assert ("least helped" if prefer == "least_helped" else "most helped") in text
        if is_kept and critical and rises:
            assert ("most harmed" if prefer == "least_helped" else "least harmed") in text
        if not is_kept:
            assert "of its bin" not in text and "already kept" in text


NUMBERS = [-2.5, -0.0, 0.0, 0.0, 1.0, 1.0, 7.0, np.nan]


@pytest.mark.parametrize("method", ["perplexity", "length", "unheard", "mllm_selector", "mmssr"])
@pytest.mark.parametrize(
    "values", [NUMBERS, [1.0] * 8, [np.nan] * 8, list(range(-4, 4)), [float(i) for i in range(150)]]
)
def test_percentiles_in_explanations(pool: Pool, method: str, values: list[float]) -> None:
    """`above X% of the rows`: at least X% have a smaller value; `no row is lower`: none has."""
    v = np.array(values, np.float64)
    n = len(v)
    kept = np.arange(n) % 2 == 0
    reasons: dict[str, Any] = {
        "perplexity": {"nll": v},
        "length": {"length": v},
        "unheard": {"anything": v},
        "mllm_selector": {
            "necessity": v,
            "group": np.arange(n) % 4 - 1,
            "seed_row": np.zeros(n, bool),
            "held": np.arange(n) % 3 == 0,
        },
        "mmssr": {
            "score": v,
            "capability": np.full(n, "counting", object),
            "round": np.arange(n) - 1,
            "style": np.full(n, "", object),
        },
    }[method]
    why = explainer(made(pool, method, reasons, kept))
    for i in range(n):
        text = why(i).text
        below = int((v < v[i]).sum())
        known = int((~np.isnan(v)).sum())
        for found in re.findall(r"above (\d+)% of the rows", text):
            assert int(found) >= 1 and 100 * below / known >= int(found), text
        if "no row is lower" in text:
            assert below == 0, text
        if "less than 1%" in text:
            assert 0 < 100 * below / known < 1, text
        assert "nan" not in text and "above 0%" not in text and "an unknown part" not in text, text
        assert (
            "group 0 " not in text and "(  )" not in text and "()" not in text and "; ;" not in text
        ), text
        assert not re.search(r"(?<!−)\b1 (rows|words|points|characters)\b", text), text


@pytest.mark.parametrize(
    ("kept", "of", "text"),
    [(1, 1, "1 of 1 row was"), (1, 3, "1 of 3 rows was"), (2, 3, "2 of 3 rows were")],
)
def test_random_explanations_have_counts(pool: Pool, kept: int, of: int, text: str) -> None:
    why = explainer(made(pool, "random", {}, np.arange(of) < kept))
    assert text in why(0).text


def test_error_driven_explanations_name_the_rank(pool: Pool) -> None:
    kept = np.array([True, True, True, False])
    reasons = {
        "validation_row": np.array([3, 4, -1, -1]),
        "search_rank": np.array([0, -1, -1, -1]),
        "search_score": np.array([-0.5, np.nan, np.nan, np.nan]),
        "missing_skill": np.array(["counting", "", "", ""], object),
    }
    why = explainer(made(pool, "error_driven", reasons, kept))
    texts = [why(i).text for i in range(4)]
    assert texts[0] == (
        "retrieved for validation row 3: result 1 of the search for “counting”, score −0.5"
    )
    assert "result 0" not in texts[1] and "random" in texts[2] and "no search" in texts[3]


@pytest.mark.parametrize("failed", [1, 2])
def test_remarks_use_singular_and_plural(pool: Pool, failed: int) -> None:
    from thresher.selection.result import Failure

    some = made(pool, "random", {}, np.arange(100) < 30)
    failures = [Failure(i, "", "", "pool", "no such image") for i in range(failed)]
    text = remarks(LoadedSelection(**{**vars(some), "failures": failures}))[0].text
    assert text.startswith(
        "1 of 200 rows could not be used and was"
        if failed == 1
        else ("2 of 200 rows could not be used and were")
    )


@pytest.mark.parametrize(("best", "kept"), [(1, 5), (2, 5), (5, 5), (1, 1), (0, 0)])
def test_gallery_captions(best: int, kept: int) -> None:
    text = Gallery((), (), kept, 0, best).kept_caption
    assert "the 1 best" not in text and "All 1," not in text and "All 0" not in text


class Plugin:
    """Explains itself; anything but `explain` is not looked at."""

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        words = by_one_number(
            evidence, "surprise", "surprise", "", f"above {evidence.settings['least']} is kept"
        )
        counts = Counts("topic", "By topic")
        return Explanation(
            words, "What a plug-in says.", (counts,), hidden=frozenset({"topic", "secret"})
        )


def test_plug_in_with_explain(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "plug_in", f"{__name__}:Plugin")
    kept = np.arange(30) >= 20
    reasons = {
        "surprise": np.arange(30.0),
        "topic": np.array(["a", "b"], object)[np.arange(30) % 2],
        "secret": np.arange(30.0),
    }
    selection = made(pool, "plug_in", reasons, kept, {"least": 19.5})
    assert explainer(selection)(29).text == "surprise 29, above 96% of the rows; above 19.5 is kept"
    assert explainer(selection)(3).kind == "outside the cut"
    drawn = method_section(selection)
    assert drawn.lead == "What a plug-in says." and [p.title for p in drawn.panels] == ["By topic"]
    # not drawn by the plug-in, so by its kind
    assert [f.title for f in drawn.figures] == ["Surprise"]


def test_missing_plug_in_is_explained_by_its_numbers(pool: Pool) -> None:
    selection = made(
        pool, "no_longer_installed", {"surprise": np.arange(30.0)}, np.arange(30) >= 20
    )
    assert explainer(selection)(29).text.startswith("rank 10 of 10; surprise 29")
    assert [f.title for f in method_section(selection).figures] == ["Surprise"]
