"""The pieces of a report: charts, counts, reasons as text, warnings."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tests.report.image_pools import picture_pool, record, selected
from thresher.methods.explanation import percentile
from thresher.report import breakdown, chart, figures
from thresher.report.chart import Series
from thresher.report.curves import Curve, Point, curves
from thresher.report.folder import LoadedSelection, load
from thresher.report.gallery import gallery
from thresher.report.health import remarks
from thresher.report.radar import radar
from thresher.report.words import explainer


def made(
    tmp_path: Path, name: str, rows: int = 120, budget: str = "30%", **settings: str
) -> LoadedSelection:
    pool = picture_pool(tmp_path / "pool", [record(i) for i in range(rows)])
    return load(selected(pool, name, tmp_path / "out", budget, **settings), pool)


# ------------------------------------------------------------------------------------------- charts


def test_small_multiples_share_one_scale() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(2, 1, 500), rng.normal(8, 3, 500)
    shared = chart.scale([[Series("a", "pool", near)], [Series("b", "pool", far)]])
    assert shared is not None and shared.low < 1 and shared.high > 12 and not shared.whole
    drawn = [
        chart.distribution([Series("x", "kept", v)], shared, "loss, nats", "alt")
        for v in (near, far)
    ]
    ticks = [
        re.findall(r'<text x="[\d.]+" y="[\d.]+" text-anchor="(?:end|middle)">([^<]+)</text>', svg)
        for svg in drawn
    ]
    assert ticks[0] == ticks[1] and len(ticks[0]) > 6


def test_histogram_contains_all_rows() -> None:
    values = np.r_[np.zeros(100), np.full(100, 10.0), np.nan, np.inf]
    shared = chart.scale([[Series("x", "pool", values)]])
    assert shared is not None and shared.whole and (shared.low, shared.high) == (0.0, 10.0)
    assert chart._shares(chart.finite(values), shared).tolist() == [50.0, *[0.0] * 9, 50.0]


def test_charts_are_xml_and_escape_labels() -> None:
    label = '<b>&"quoted"'
    svgs = [
        chart.columns([label, "b"], [("pool", [1, 2])], label, label, label),
        radar([label, "b", "c"], [("pool", [1, 2, 3]), ("kept", [0, 0, 0])], label, label),
        curves(
            [Curve("m", "hue1", (Point(0, 50.0, 45.0, 55.0, (49.0, 51.0)),))],
            [label],
            label,
            label,
            60.0,
            True,
        ),
    ]
    for svg in svgs:
        root = ET.fromstring(svg)
        assert root.attrib["aria-label"] == label and "style" not in root.attrib
        assert any((t.text or "").startswith("<b>") for t in root.iter("text"))


def test_gap_chart_shows_the_ks_distance() -> None:
    pool, kept = np.arange(100.0), np.arange(0.0, 80.0)  # at 79: all of the kept, 80% of the pool
    panel = [Series("pool", "pool", pool), Series("kept", "kept", kept)]
    shared = chart.scale([panel], clip=0)
    assert shared is not None
    root = ET.fromstring(chart.gaps(panel, shared, "axis", "alt"))
    (line,) = [p.attrib["d"] for p in root.iter("path")]
    heights = [float(xy.split(",")[1]) for xy in line[1:].split("L")]
    labels = {
        t.text: float(t.attrib["y"]) - 4 for t in root.iter("text") if t.get("text-anchor") == "end"
    }
    assert min(heights) == pytest.approx(labels["20"], abs=1.5) and "−20" in labels


@pytest.mark.parametrize("values", [[], [np.nan], [3.0, 3.0], [1e9, -1e9], [1e-12, 2e-12]])
def test_unusual_values_are_plotted_or_omitted(values: list[float]) -> None:
    shared = chart.scale([[Series("x", "pool", np.array(values))]])
    if shared is None:
        assert not np.isfinite(values).any()
    else:
        ET.fromstring(
            chart.distribution([Series("x", "pool", np.array(values))], shared, "axis", "alt")
        )


# ---------------------------------------------------------------------------------- counts and cuts


def test_cut_off_is_shown_only_if_kept_rows_form_one_interval() -> None:
    values = np.arange(10.0)
    assert figures.cuts(values, values >= 7) == [7.0]
    assert figures.cuts(values, (values >= 3) & (values <= 5)) == [3.0, 5.0]
    assert figures.cuts(values, values % 2 == 0) == []
    assert figures.cuts(values, np.ones(10, bool)) == []


def test_shares_of_a_panel(tmp_path: Path) -> None:
    selection = made(tmp_path, "length")
    panel = next(p for p in breakdown.panels(selection) if p.title == "Source")
    assert sum(p.pool for p in panel.parts) == 120 and sum(p.kept for p in panel.parts) == 36
    assert sum(panel.kept_share(p) for p in panel.parts) == pytest.approx(100)
    assert panel.rate(panel.parts[0]) == pytest.approx(
        100 * panel.parts[0].kept / panel.parts[0].pool
    )


def test_styles_of_a_large_pool_are_estimated_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakdown, "STYLE_ROWS", 20)
    panel = breakdown.styles(made(tmp_path, "random"))
    assert (panel.of_pool, panel.of_kept) == (20, 20) and "Estimated from 20 rows" in panel.note
    assert panel.rate(panel.parts[0]) is None


def test_random_sample_has_the_size_of_the_selection(tmp_path: Path) -> None:
    selection = made(tmp_path, "clipper")
    draw = figures.random_sample(selection)
    assert len(draw) == len(set(draw.tolist())) == 36
    assert draw.tolist() == figures.random_sample(selection).tolist()


# -------------------------------------------------------------------------------------------- words


def test_percentiles() -> None:
    assert percentile(np.array([1.0, 2.0, 2.0, np.nan, 9.0])).tolist()[:3] == [0.0, 25.0, 25.0]
    assert np.isnan(percentile(np.array([1.0, np.nan]))[1])


def test_clipper_explanations_match_its_columns(tmp_path: Path) -> None:
    selection = made(tmp_path, "clipper")
    why = explainer(selection)
    for i in range(len(selection.rows)):
        text = why(i)
        assert f"bin {selection.reasons['bin'][i]} of the answers" in text.text
        assert f"({selection.reasons['knowledge'][i]})" in text.text
        assert ("lowers" in text.text) == (round(float(selection.reasons["effect"][i]), 2) > 0)
        expected = "enough similar rows kept"
        if selection.kept[i]:
            expected = (
                "preferred in its bin"
                if selection.reasons["critical"][i]
                else "random sample of its bin"
            )
        assert text.kind == expected
    assert (
        "among the most helped"
        in why(int(np.flatnonzero(selection.kept & selection.reasons["critical"])[0])).text
    )


def test_clipper_explanations_with_prefer_least_helped(tmp_path: Path) -> None:
    selection = made(tmp_path, "clipper", prefer="least_helped")
    taken = np.flatnonzero(selection.kept & selection.reasons["critical"])
    assert len(taken) and all(
        re.search(
            "among the (least helped|most harmed)|few rows", explainer(selection)(int(i)).text
        )
        for i in taken
    )


def test_ties_at_the_cut_off_are_distinguished(tmp_path: Path) -> None:
    selection = made(tmp_path, "length")
    why, length = explainer(selection), selection.reasons["length"]
    edge = length[selection.kept].min()
    tied = edge == length[~selection.kept].max()
    assert tied, "the planted answers tie at the cut"
    kinds = {why(i).kind for i in np.flatnonzero(length == edge).tolist()}
    assert kinds == {"tied at the cut"}
    assert {why(i).kind for i in np.flatnonzero(length > edge).tolist()} == {"inside the cut"}
    assert {why(i).kind for i in np.flatnonzero(length < edge).tolist()} == {"outside the cut"}


def test_mllm_selector_explanations(tmp_path: Path) -> None:
    selection = made(tmp_path, "mllm_selector")
    why = explainer(selection)
    kinds = [why(i).kind for i in range(len(selection.rows))]
    seeds = np.flatnonzero(selection.reasons["seed_row"])
    assert {kinds[i] for i in seeds.tolist()} == {"seed row"}
    assert {"random sample of its group", "enough rows of its group kept"} <= set(kinds)


def test_a_known_name_with_other_columns_falls_back(tmp_path: Path) -> None:
    selection = made(tmp_path, "perplexity")
    stripped = LoadedSelection(**{**vars(selection), "reasons": {}})
    assert explainer(stripped)(0).text


# ----------------------------------------------------------------------------------------- warnings


def test_duplicates_and_sources_without_rows_are_reported(tmp_path: Path) -> None:
    records = [record(i % 30) for i in range(80)] + [{**record(201), "data_source": "rare"}]
    records[-1]["conversations"][1]["value"] = "x"
    pool = picture_pool(tmp_path / "pool", records)
    selection = load(selected(pool, "length", tmp_path / "out", "20"), pool)
    values = {r.text: r.level for r in remarks(selection)}
    (copies,) = [t for t in values if "exact copies" in t]
    assert copies.startswith("50 rows of the pool") and values[copies] == "note"
    assert any("No row was kept of one source: rare" in t for t in values)


def test_long_source_names_are_truncated(tmp_path: Path) -> None:
    names = ["kept" + "k" * 300, "lost" + "l" * 300]
    records = [{**record(i), "data_source": names[i % 2]} for i in range(12)]
    for i, one in enumerate(records):
        one["conversations"][1]["value"] = "short" if i % 2 else "a much longer answer"
    pool = picture_pool(tmp_path / "pool", records)
    selection = load(selected(pool, "length", tmp_path / "out", "6"), pool)
    (source,) = [p for p in breakdown.panels(selection) if p.title == "Source"]
    assert [len(part.label) for part in source.parts] == [60, 60]
    (lost_rows,) = [r.text for r in remarks(selection) if "No row was kept" in r.text]
    assert names[1][:59] + "… (6 rows)" in lost_rows
    displayed = gallery(selection, 48)
    assert (displayed.kept_caption, displayed.dropped_caption) == (
        "All 6, best rank first.",
        "All 6.",
    )
    few = gallery(selection, 4)
    assert few.kept_caption == "4 of 6 rows: the best by rank and a random sample of the others."
    assert few.dropped_caption == "A random sample of 4 of 6 rows."


def test_notes_of_the_method_are_shown(tmp_path: Path) -> None:
    texts = [r for r in remarks(made(tmp_path, "clipper")) if r.level == "note"]
    assert any("KS" in r.text for r in texts)
