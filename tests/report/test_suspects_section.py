"""The section on likely wrong rows: what it lists, what it says where columns are missing, and that
no model runs and nothing of a pool becomes markup."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.report.elements import Elements
from tests.report.image_pools import (
    ANSWERS,
    HOSTILE,
    hostile_records,
    picture_pool,
    record,
    selected,
)
from tests.report.planted_suspects import MODEL, SKILLS, plant, wrong_rows
from tests.text_pools import IDENTITY
from thresher import cli, report
from thresher.doctor.stored_suspects import stored_suspects
from thresher.pools import Pool
from thresher.report.folder import load
from thresher.report.suspects_section import (
    OF_A_SKILL,
    SHOWN,
    first_of_skills,
    suspects_of_run,
    suspects_section,
)
from thresher.signals.answer_loss import AnswerLoss
from thresher.storage.columns import Store
from thresher.storage.described import described
from thresher.types import ModelIdentity

ROWS = 160
OTHER = ModelIdentity("sha256:" + "7" * 64, "llava", "float32", "pil")
SERVED = ModelIdentity("api:vectors", "openai", "", "", engine="embeddings")
LIST = re.compile(r'<section id="suspects".*?<section id="rows"', re.S)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return picture_pool(tmp_path_factory.mktemp("pool"), [record(i) for i in range(ROWS)])


def store_of(out: Path) -> Store:
    """The store of a selection that `selected` writes to `out`."""
    return Store(out.parent / f"work-{out.name}" / "store")


def section_of(folder: Path, pool: Pool) -> str:
    page = report.write(folder, pool).read_text(encoding="utf-8")
    found = LIST.search(page)
    assert found
    return found[0]


def shown_rows(section: str) -> list[int]:
    return [int(n) for n in re.findall(r'<h4 id="suspect-(\d+)-', section)]


@pytest.mark.parametrize("method", ["length", "random"])
def test_without_columns_one_line_names_the_command(
    pool: Pool, tmp_path: Path, method: str
) -> None:
    folder = selected(pool, method, tmp_path / "out")
    section = section_of(folder, pool)
    assert "Not known: the store holds no model" in section and "<li" not in section
    line = re.search(r"<code>(thresher suspects [^<]+)</code>", section)
    assert line
    words = shlex.split(line[1].replace("&#39;", "'"))
    assert words[2] == str(pool.path) and words[words.index("--model") + 1] == "fake"
    assert words[words.index("--store") + 1] == str(store_of(folder).root)
    assert f"thresher report {folder}" in section


@pytest.mark.parametrize(("method", "model"), [("length", MODEL), ("perplexity", IDENTITY)])
def test_wrong_rows_are_listed_by_skill_with_all_that_is_known(
    pool: Pool, tmp_path: Path, method: str, model: object
) -> None:
    """A selection that asked no model shows what another command stored."""
    store = store_of(tmp_path / "out")
    wrong = plant(pool, store, model, answers=wrong_rows(pool)[:20])
    folder = selected(pool, method, tmp_path / "out")
    before = sorted(p for p in store.root.rglob("*") if p.is_file())
    made, section = load(folder, pool), section_of(folder, pool)
    assert sorted(p for p in store.root.rglob("*") if p.is_file()) == before
    kept = int(made.in_pool[wrong].sum())
    assert f"{len(wrong)} of 160 rows ({100 * len(wrong) / ROWS:.1f}%) are likely wrong" in section
    assert f"About {len(wrong)} of them are wrong. {kept} of them " in section
    rows = shown_rows(section)
    assert len(rows) == min(SHOWN, len(wrong)) and set(rows) <= set(wrong.tolist())
    titles = re.findall(r'<h3 id="skill-\d+"><bdi>([^<]+)</bdi>', section)
    assert titles == [f"words of skill {s}" for s in dict.fromkeys(r % SKILLS for r in rows)]
    for skill in {r % SKILLS for r in rows}:
        of_skill = wrong[wrong % SKILLS == skill]
        counted = f"{len(of_skill)} of 40 rows suspected, {made.in_pool[of_skill].sum()} of them"
        assert counted in section
    row = rows[0]
    card = re.search(rf'<h4 id="suspect-{row}-.*?</li>', section, re.S)
    assert card
    text = " ".join(re.sub("<[^>]+>", " ", card[0]).split())
    assert f"Row {row}" in text and "suspicion 1.00" in text and "visual gain -1.50 nats" in text
    assert re.search(rf"loss {8 + row % 11 / 100:.2f} nats rank in its skill \d+ of 40", text)
    given = ANSWERS[row % len(ANSWERS)].split("\n")[0]
    assert f"Answer {given}" in text and ("not kept:" in text) != made.in_pool[row]
    assert section.count("Blue.") == len(set(rows) & set(wrong[:20].tolist()))
    left = len(wrong) - 20
    assert f"the model&#39;s own answers to {left} rows. This command computes" in section
    name = "the model sha256:55555" if model is MODEL else "by the loss of fake"
    assert name in section


def test_rows_that_images_did_not_check_are_not_called_wrong(pool: Pool, tmp_path: Path) -> None:
    wrong = plant(pool, store_of(tmp_path / "out"), gain=False)
    section = section_of(selected(pool, "length", tmp_path / "out"), pool)
    assert f"{len(wrong)} of 160 rows" in section and "are likely wrong" not in section
    assert "may be hard instead of wrong, and no suspicion is above 0.4" in section
    assert "the visual gain that checks these rows and the model&#39;s own answers" in section
    assert section.count("not known") == len(shown_rows(section)) > 0


def test_checked_suspicions_come_before_others(pool: Pool, tmp_path: Path) -> None:
    """Also where they are of another model than the selection's."""
    store = store_of(tmp_path / "out")
    plant(pool, store, IDENTITY, gain=False)
    plant(pool, store, MODEL, wrong=(wrong := wrong_rows(pool)[::2]), answers=wrong)
    section = section_of(selected(pool, "perplexity", tmp_path / "out"), pool)
    assert f"{len(wrong)} of 160 rows" in section and "which is not the one of this" in section
    assert "thresher suspects" not in section  # nothing is missing


@pytest.mark.parametrize("leaves", [7, 40])
def test_skills_of_other_settings_are_found(pool: Pool, tmp_path: Path, leaves: int) -> None:
    wrong = plant(pool, store_of(tmp_path / "out"), leaves=leaves)
    made = load(selected(pool, "length", tmp_path / "out"), pool)
    found = suspects_of_run(made)
    assert found is not None and found.model == MODEL
    assert sorted(found.rows[found.suspected].tolist()) == wrong.tolist()


@pytest.mark.parametrize("leaves", [None, 7])
@pytest.mark.parametrize(
    ("embedder", "named"),
    [
        (SERVED, "the model &#39;vectors&#39; behind a server, which is not the one"),
        (OTHER, "the model sha256:77777777777777777…, which is not the one"),
    ],
)
@pytest.mark.parametrize("method", ["length", "perplexity"])
def test_skills_of_another_embedder_are_found(
    pool: Pool,
    tmp_path: Path,
    method: str,
    embedder: ModelIdentity,
    named: str,
    leaves: int | None,
) -> None:
    """As `thresher suspects --embedder` leaves them, whether or not the selection asked a model."""
    store = store_of(tmp_path / "out")
    wrong = plant(pool, store, IDENTITY, embedder=embedder, leaves=leaves, answers=wrong_rows(pool))
    folder = selected(pool, method, tmp_path / "out")
    found = suspects_of_run(load(folder, pool))
    assert found is not None and (found.model, found.embedder) == (IDENTITY, embedder)
    assert sorted(found.rows[found.suspected].tolist()) == wrong.tolist()
    section = section_of(folder, pool)
    assert f"in skills of the embeddings of {named} of this selection" in section
    assert "thresher suspects" not in section  # nothing is missing


def test_the_selections_own_embedder_comes_first(pool: Pool, tmp_path: Path) -> None:
    """Before the model's own skills, and those before the skills of others."""
    store = Store(tmp_path / "store")
    for embedder in (OTHER, SERVED, IDENTITY):
        plant(pool, store, IDENTITY, embedder=embedder)
    every = np.arange(ROWS)
    for named, expected in ((None, IDENTITY), (SERVED, SERVED), (OTHER, OTHER)):
        found = stored_suspects(pool, store, IDENTITY, every, named)
        assert found is not None and found.embedder == expected
    found = stored_suspects(pool, store, None, every)
    assert found is not None and (found.model, found.embedder) == (IDENTITY, IDENTITY)


def test_an_embedder_without_losses_suspects_nothing(pool: Pool, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plant(pool, store, IDENTITY, embedder=SERVED)
    assert stored_suspects(pool, store, SERVED, np.arange(ROWS)) is not None  # by IDENTITY
    alone = Store(tmp_path / "alone")
    shutil.copytree(store.root, alone.root)
    for column in described(alone, AnswerLoss.kind):
        shutil.rmtree(next(alone.root.rglob(column[0])))
    assert stored_suspects(pool, alone, SERVED, np.arange(ROWS)) is None


@pytest.mark.parametrize("rows", [50, 90])
def test_skills_of_the_considered_rows_are_found(pool: Pool, tmp_path: Path, rows: int) -> None:
    """A selection with a filter makes skills of the rows that it considers."""
    store, seen = Store(tmp_path / "store"), np.arange(rows)
    wrong = plant(pool, store, skilled=seen)
    assert stored_suspects(pool, store, MODEL, np.arange(ROWS)) is None
    found = stored_suspects(pool, store, None, seen)
    assert found is not None and sorted(found.rows.tolist()) == seen.tolist()
    assert sorted(found.rows[found.suspected].tolist()) == wrong[wrong < rows].tolist()


@pytest.mark.parametrize("method", ["perplexity", "length"])
def test_nothing_is_loaded_where_no_model_has_skills(
    pool: Pool, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of a large pool must not wait for losses that it cannot use."""
    selection = load(selected(pool, method, tmp_path / "out"), pool)
    monkeypatch.setattr(Store, "load", lambda *_: pytest.fail("a column was loaded"))
    assert suspects_of_run(selection) is None


def test_a_pool_without_wrong_rows(pool: Pool, tmp_path: Path) -> None:
    plant(pool, store_of(tmp_path / "out"), wrong=np.zeros(0, np.int64))
    section = section_of(selected(pool, "length", tmp_path / "out"), pool)
    assert "0 of 160 rows (0.0%) are likely wrong" in section and not shown_rows(section)


def test_every_skill_has_its_turn(pool: Pool, tmp_path: Path) -> None:
    """Of a skill with many suspected rows four are shown as long as others have some."""
    rows = np.arange(ROWS)
    images = pool.facts["images"] > 0
    wrong = rows[images & ((rows % SKILLS == 0) & (rows % 8 == 0) | (rows % 32 == 1))]
    plant(pool, store_of(tmp_path / "out"), wrong=wrong)
    found = suspects_of_run(load(selected(pool, "length", tmp_path / "out"), pool))
    assert found is not None
    suspected = found.order[found.suspected[found.order]]
    shown = found.rows[first_of_skills(found, suspected)]
    assert len(shown) == min(len(wrong), SHOWN)
    assert (shown % SKILLS == 1).sum() == (wrong % SKILLS == 1).sum()
    assert (first_of_skills(found, suspected[:OF_A_SKILL]) == suspected[:OF_A_SKILL]).all()


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    """As question, answer, id, source, words of a skill and answer of the model."""
    rows = [*(record(i) for i in range(60)), *hostile_records()]
    pool = picture_pool(tmp_path / "pool", rows)
    hostile = np.arange(60, len(rows))
    for name in ("script", "img", "svg", "template"):
        out = tmp_path / name
        marks = HOSTILE[name]
        plant(pool, store_of(out), wrong=hostile, answers=hostile, words=marks, said=marks)
        section = section_of(selected(pool, "length", out), pool)
        tags = Elements(section)
        assert len(shown_rows(section)) == len(hostile)
        assert not {"script", "iframe", "style", "svg"} & tags.tags.keys()
        assert not [a for a in tags.attributes if a[1].startswith("on") or "http" in a[2]]
        assert all(v.startswith("data:image/jpeg") for t, n, v in tags.attributes if n == "src")
        assert tags.text["text"].count(marks) > len(hostile)


def test_the_command_is_right_as_it_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the demo model: after the command of the section, the report lists the rows."""
    pool = picture_pool(tmp_path / "a pool", [record(i) for i in range(40)])
    store, out = str(tmp_path / "a store"), str(tmp_path / "out")
    words = ["--method", "random", "--budget", "10%", "--store", store, "--out", out]
    with pytest.raises(SystemExit) as ended:
        cli.main(["select", str(pool.path), "--images", str(pool.images_folder), *words])
    assert not ended.value.code
    command = suspects_section(load(out)).command
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(command.replace("MODEL", "demo"))[1:])
    assert not ended.value.code
    section = suspects_section(load(out))
    assert "of 40 rows" in section.lead and section.missing == ""
    capsys.readouterr()
