"""Changing a selection in memory equals `run.select`, or reports missing columns; pins apply,
persist and can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import runs as run
from tests.report.image_pools import record, selected
from tests.viewer.sessions import by_run, pool_of, session_of
from thresher.errors import ConfigError, PoolError, ThresherError
from thresher.methods import load
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.types import Budget
from thresher.viewer.cards import items
from thresher.viewer.displayed import SelectionParams
from thresher.viewer.recall import NeedsModel, NotStored
from thresher.viewer.session import Session

ASKED = {
    "clipper": [
        ("10%", {}),
        ("55", {"prefer": "least_helped"}),
        ("30%", {"mirror": "one_shot", "balance": "source"}),
    ],
    "mllm_selector": [("30%", {}), ("30%", {"alpha": "0"})],
    "perplexity": [("20%", {}), ("7", {"where": "top"}), ("20%", {"where": "bottom"})],
    "length": [("20%", {}), ("100%", {"unit": "chars"}), ("300tok", {})],
    "stratified": [("20%", {}), ("33", {"by": "equal"})],
    "random": [("20%", {}), ("1", {})],
}


def same(a: Outcome, b: Outcome) -> None:
    assert a.rows.tolist() == b.rows.tolist()
    assert a.considered.tolist() == b.considered.tolist()
    assert a.evidence.keys() == b.evidence.keys()
    for name, values in a.evidence.items():
        np.testing.assert_array_equal(values, b.evidence[name])
    assert (a.notes, a.failures, a.budget, a.excluded, a.unasked) == (
        b.notes,
        b.failures,
        b.budget,
        b.excluded,
        b.unasked,
    )
    assert [(s.label, s.fingerprint) for s in a.signals] == [
        (s.label, s.fingerprint) for s in b.signals
    ]


@pytest.mark.parametrize("method", ASKED)
def test_every_selection_equals_that_of_a_run(tmp_path: Path, method: str) -> None:
    session = session_of(tmp_path, method)
    assert not session.fixed
    for budget, settings in ASKED[method]:
        displayed = session.select(SelectionParams(method, settings, budget, 0))
        assert displayed.outcome is not None and displayed.kept == len(displayed.outcome.rows)
        same(displayed.outcome, by_run(session, method, budget, settings))


@pytest.mark.parametrize("method", ["clipper", "length", "perplexity"])
def test_pins_and_bans_equal_keep_and_drop(tmp_path: Path, method: str) -> None:
    session = session_of(tmp_path, method)
    displayed = session.displayed
    pinned, banned = np.flatnonzero(displayed.state == 1)[:3], spare_rows(session)[:2]
    session.pin(pinned, "pinned")
    displayed = session.pin(banned, "banned")
    assert (displayed.state[pinned] == 2).all() and (displayed.state[banned] == 0).all()
    mixture = {name: str(session.folder / "view" / f"{name}.jsonl") for name in ("keep", "drop")}
    for budget in ("30%", "12%"):
        displayed = session.select(SelectionParams(method, {}, budget, 0))
        assert displayed.outcome is not None
        same(displayed.outcome, by_run(session, method, budget, {}, **mixture))


def spare_rows(session: Session) -> np.ndarray:
    """Kept rows that no other row is shown as a demonstration."""
    columns = session.prepared[1].columns
    displayed = [
        columns[name]["digest"]
        for name in ("demonstration_p", "demonstration_w")
        if name in columns.values
    ]
    used = np.isin(session.pool.digest, np.concatenate([*displayed, np.zeros(0, "S32")]))
    return np.flatnonzero((session.displayed.state == 2) & ~used & ~session.displayed.keep)


def test_ban_that_needs_the_model_is_refused(tmp_path: Path) -> None:
    session = session_of(tmp_path, "clipper")
    before = session.displayed
    displayed = session.prepared[1].columns["demonstration_w"]["digest"]
    row = int(np.flatnonzero(session.pool.digest == displayed[0])[0])
    with pytest.raises(NotStored, match=r"one_shot_w is not stored for \d+ of 159 rows"):
        session.pin(np.array([row]), "banned")
    assert (
        session.displayed is before
        and not session.pins.drop.any()
        and not (session.folder / "view").exists()
    )
    session.select(SelectionParams("random", {}, "10%", 0))
    session.pin(np.array([row]), "banned")  # a method without a model may
    with pytest.raises(NotStored):
        session.select(SelectionParams("clipper", {}, "30%", 0))
    assert session.displayed.params.method == "random"


def test_columns_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(tmp_path, "clipper")
    monkeypatch.setattr(session.store, "load", None)
    for budget in ("5%", "50%"):
        session.select(SelectionParams("clipper", {"prefer": "none"}, budget, 0))
    session.pin(spare_rows(session)[:1], "banned")  # other rows within: from what is in memory
    assert (
        session.displayed.outcome is not None and len(session.displayed.outcome.considered) == 159
    )
    session.select(
        SelectionParams("perplexity", {}, "50%", 0)
    )  # another method with a column of the first


def test_methods_share_stored_columns_and_report_missing_ones(tmp_path: Path) -> None:
    session = session_of(tmp_path, "clipper")
    displayed = session.select(SelectionParams("perplexity", {}, "20%", 0))
    assert displayed.outcome is not None
    same(displayed.outcome, by_run(session, "perplexity", "20%", {}))
    for params in (
        SelectionParams("mllm_selector", {}, "20%", 0),
        SelectionParams("mmssr", {}, "20%", 0),
    ):
        with pytest.raises(NeedsModel):
            session.select(params)
    with pytest.raises(NeedsModel, match="validation"):
        session.select(SelectionParams("error_driven", {}, "20%", 0))
    with pytest.raises(NotStored, match="one_shot"):
        session.select(
            SelectionParams("clipper", {}, "20%", 1)
        )  # other halves, other demonstrations
    assert session.displayed is displayed


def test_a_selection_without_a_model_names_none(tmp_path: Path) -> None:
    pool, store = pool_of(tmp_path / "pool"), Store(tmp_path / "store")
    output.write(
        run.select(pool, load("length"), Budget.parse("20%"), store=store),
        pool,
        None,
        tmp_path / "out",
    )
    session = Session(tmp_path / "out")
    with pytest.raises(NeedsModel, match="asks a model"):
        session.select(SelectionParams("perplexity", {}, "20%", 0))
    assert session.select(SelectionParams("random", {}, "20%", 3)).kept == 32


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (SelectionParams("length", {}, "0.3", 0), "30%"),
        (SelectionParams("length", {}, "0%", 0), "above 0%"),
        (SelectionParams("length", {"unit": "pages"}, "3%", 0), "unit"),
        (SelectionParams("length", {"size": "3"}, "3%", 0), "no setting"),
        (SelectionParams("no_such", {}, "3%", 0), "no such method"),
    ],
)
def test_invalid_change_is_explained_and_has_no_effect(
    tmp_path: Path, params: SelectionParams, says: str
) -> None:
    session = session_of(tmp_path, "length", rows=20)
    before = session.displayed
    with pytest.raises(ConfigError, match=says):
        session.select(params)
    assert session.displayed is before


def test_pins_survive_a_restart_and_are_undone(tmp_path: Path) -> None:
    session = session_of(tmp_path, "length")
    with pytest.raises(ConfigError, match="Nothing to undo"):
        session.undo()
    session.pin(np.array([3, 4]), "pinned")
    session.pin(np.array([4, 9]), "banned")
    again = Session(session.folder)
    assert np.flatnonzero(again.pins.keep).tolist() == [3] and np.flatnonzero(
        again.pins.drop
    ).tolist() == [4, 9]
    assert again.displayed.state[3] == 2 and again.displayed.state[9] == 0
    session.undo()
    assert np.flatnonzero(session.pins.keep).tolist() == [3, 4] and not session.pins.drop.any()
    session.undo()
    again = Session(session.folder)
    assert (
        not again.pins.keep.any()
        and not again.pins.drop.any()
        and again.displayed.kept == session.displayed.kept
    )


def test_the_pins_of_a_pool_in_another_order_are_the_same_rows(tmp_path: Path) -> None:
    session = session_of(tmp_path, "length", rows=30)
    session.pin(np.array([5]), "pinned")
    digest = session.pool.digest[5]
    pool = pool_of(tmp_path / "turned", 0, [record(i) for i in reversed(range(30))])
    outcome = run.select(
        pool,
        load("length"),
        Budget.parse("1"),
        store=session.store,
        keep=str(session.folder / "view" / "keep.jsonl"),
    )
    assert pool.digest[outcome.rows].tolist() == [digest]


def test_rows_that_the_run_kept_and_dropped_by_file_are_pins_from_the_start(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 40)
    (tmp_path / "must.txt").write_text("row:7\nr8\n")
    (tmp_path / "bad.txt").write_text("row:9\n")
    folder = selected(pool, "length", tmp_path / "out")
    request = RunRequest(
        pool=str(pool.path),
        method="length",
        budget="20%",
        keep=str(tmp_path / "must.txt"),
        drop=str(tmp_path / "bad.txt"),
    )
    first = Session(folder)
    outcome = run.select(
        pool, load("length"), Budget.parse("20%"), store=first.store, **request.mixture
    )
    output.write(outcome, pool, request, folder, overwrite=True)
    session = Session(folder)
    assert np.flatnonzero(session.pins.keep).tolist() == [7, 8] and np.flatnonzero(
        session.pins.drop
    ).tolist() == [9]
    assert session.displayed.outcome is not None
    same(session.displayed.outcome, outcome)
    session.pin(np.array([7, 8, 9]), "free")
    assert not Session(folder).pins.keep.any()  # what was taken back stays so


def test_filters_quotas_and_copies_of_the_run_stay_in_force(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 120, [record(i) for i in range(30)])
    folder = selected(pool, "length", tmp_path / "out")
    request = RunRequest(
        pool=str(pool.path), images=str(pool.images_folder), method="length", budget="20%",
        quota=("charts=5..8",), filter=("length < 4",), dedup="exact",
    )  # fmt: skip
    store = Session(folder).store
    outcome = run.select(pool, load("length"), Budget.parse("20%"), store=store, **request.mixture)
    output.write(outcome, pool, request, folder, overwrite=True)
    session = Session(folder)
    assert session.displayed.outcome is not None
    same(session.displayed.outcome, outcome)
    for budget in ("10%", "20"):
        displayed = session.select(SelectionParams("length", {}, budget, 0))
        assert displayed.outcome is not None
        same(displayed.outcome, by_run(session, "length", budget, {}, **request.mixture))
    session.pin(np.array([121]), "pinned")  # a copy, now the one that stays
    mixture = request.mixture | {"keep": str(session.folder / "view" / "keep.jsonl")}
    assert session.displayed.outcome is not None
    same(session.displayed.outcome, by_run(session, "length", "20", {}, **mixture))


def test_unchangeable_selection_can_be_browsed(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 60)
    folder = selected(pool, "unheard", tmp_path / "out")  # a plug-in that is not installed here
    session = Session(folder)
    assert "no such method" in session.fixed and session.displayed.kept == 18
    for change in (
        lambda: session.select(session.first),
        lambda: session.pin(np.array([1]), "pinned"),
    ):
        with pytest.raises(ThresherError, match="nothing can be changed"):
            change()
    folder = selected(pool, "clipper", tmp_path / "gone")
    for part in Session(folder).store.root.rglob("part-*.parquet"):
        part.unlink()
    session = Session(folder)
    assert "loss is not stored for 60 of 60 rows" in session.fixed and session.displayed.kept == 18
    assert session.displayed.explain(0).text and session.displayed.kinds


def test_replaced_pool_is_refused(tmp_path: Path) -> None:
    session = session_of(tmp_path, "length", rows=20)
    session.pool.path.write_text(json.dumps([record(i) for i in range(30)]))
    with pytest.raises(PoolError, match="30 rows now"):
        Session(session.folder)


def test_unscorable_rows_are_marked_and_can_be_pinned(tmp_path: Path) -> None:
    texts = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cube."}]
    broken = [{"id": "gone", "image": "gone.png", "conversations": texts}, {"id": "empty"}]
    pool = pool_of(tmp_path / "pool", 60, broken)
    session = Session(selected(pool, "clipper", tmp_path / "out"))
    displayed = session.displayed
    assert sorted(displayed.failed) == [60, 61] and (displayed.state[[60, 61]] == 3).all()
    cards = {item.card.row: item.card for item in items(displayed, np.array([60, 61]), str)}
    assert cards[60].state == cards[61].state == "failed" and "no such image" in cards[60].reason
    with pytest.raises(ConfigError, match="is not a record"):
        session.pin(np.array([61]), "pinned")
    displayed = session.pin(np.array([60]), "pinned")
    assert displayed.state[60] == 2 and 60 not in displayed.failed and displayed.outcome is not None
    mixture = {"keep": str(session.folder / "view" / "keep.jsonl")}
    same(displayed.outcome, by_run(session, "clipper", "30%", {}, **mixture))
    (item,) = items(displayed, np.array([60]), str)
    assert (
        item.mark == "pinned"
        and item.card.state == "kept"
        and item.card.reason.startswith("you pinned it")
    )
    session.pin(np.array([60]), "banned")
    (item,) = items(session.displayed, np.array([60]), str)
    assert item.mark == "banned" and item.card.state == "dropped"
