"""Methods with a validation set and role models in the viewer: changed from stored columns, or
refused with a message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bm25s")
pytest.importorskip("rensa")

from tests import runs as run
from tests.text_pools import record, write_pool
from tests.validation_sets import Rules, validation
from tests.viewer.sessions import cannot_open
from thresher.backends import ModelHandle
from thresher.methods import load
from thresher.pools import open_pool
from thresher.report.method_section import method_section
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.storage.columns import Store
from thresher.types import Budget
from thresher.viewer import render
from thresher.viewer.export import export
from thresher.viewer.recall import NeedsModel
from thresher.viewer.session import Session

SETTINGS = {"teacher": "teacher"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A selection by error_driven: a student, a teacher, a validation set."""
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(90)]))
    target = open_pool(write_pool(tmp_path / "validation.json", validation(24)))
    student, teacher = Rules("student", knows=(0, 3)), Rules("teacher")
    outcome = run.select(
        pool,
        load("error_driven", SETTINGS),
        Budget.parse("12"),
        store=Store(tmp_path / "store"),
        model=student.handle,
        roles={"teacher": teacher.handle},
        target=target,
    )
    request = RunRequest(
        pool=str(pool.path),
        method="error_driven",
        budget="12",
        settings=SETTINGS,
        model="student",
        validation=str(tmp_path / "validation.json"),
        store=str(tmp_path / "store"),
    )
    output.write(outcome, pool, request, tmp_path / "out")
    return tmp_path / "out"


def test_selection_with_a_validation_set_can_be_changed(folder: Path) -> None:
    session = Session(folder)
    assert session.fixed == "" and session.displayed.kept == 12
    displayed = session.select(replace(session.first, budget="30"))
    assert displayed.kept == 30 and displayed.outcome is not None
    handle = ModelHandle(
        "student", Rules("student", knows=(0, 3)).handle.identity, open=cannot_open
    )
    teacher = ModelHandle("teacher", Rules("teacher").handle.identity, open=cannot_open)
    target = open_pool(folder.parent / "validation.json")
    again = run.select(
        session.pool,
        load("error_driven", SETTINGS),
        Budget.parse("30"),
        store=Store(folder.parent / "store"),
        model=handle,
        roles={"teacher": teacher},
        target=target,
    )
    assert (
        displayed.outcome.rows.tolist() == again.rows.tolist()
        and displayed.outcome.notes == again.notes
    )
    assert displayed.outcome.findings == again.findings
    panels = {p.title: p for p in method_section(displayed.made).panels}
    # those of now, not of the folder
    assert sum(p.kept for p in panels["Missing skills"].parts) == 30
    assert "Missing skills" in render.plots(displayed)
    session.pin(np.flatnonzero(displayed.state == 1)[:2], "pinned")
    assert session.displayed.kept == 30
    made = export(session, "more")
    assert made.rows == 30 and (folder.parent / "more" / "errors.jsonl").is_file()


def test_other_models_and_questions_than_were_asked_are_refused(folder: Path) -> None:
    session = Session(folder)
    before = sorted(p.name for p in (folder.parent / "store" / "columns").iterdir())
    with pytest.raises(NeedsModel, match="teacher: nothing is stored of the model 'other'"):
        session.select(
            replace(session.first, settings={**session.first.settings, "teacher": "other"})
        )
    with pytest.raises(NeedsModel, match=r"validation .* is not stored"):
        session.select(replace(session.first, settings={**session.first.settings, "ask": "plain"}))
    assert session.displayed.kept == 12
    assert before == sorted(p.name for p in (folder.parent / "store" / "columns").iterdir())


def test_selections_with_rounds_can_be_browsed(folder: Path) -> None:
    text = (folder / "run.yaml").read_text()
    (folder / "run.yaml").write_text(text.replace("config:\n", "config:\n  rounds: 2\n", 1))
    session = Session(folder)
    assert "2 rounds" in session.fixed and session.displayed.kept == 12
    assert "rounds 2" in session.command(session.first)
