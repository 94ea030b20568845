"""`--config run.yaml`, `thresher signals` and the viewer repeat what winnow decided, where
something else is installed or where it would be measured otherwise; or a message says that they
cannot."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import thresher.backends
import thresher.training.registry
from tests.cli.targeted_commands import Command
from tests.fake_training import FakeTraining
from tests.sighted_models import Blind, Sighted, with_images
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY
from thresher.extras import MODULES
from thresher.viewer.displayed import DisplayedSelection
from thresher.viewer.export import export
from thresher.viewer.session import Session

SELECT = ("select", "seen/pool.json", "--images", "seen/images", "-b", "30%", "--model", "m")


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> FakeTraining:
    """Every model of a command is `Sighted`; training is installed and fake."""
    made = FakeTraining(tmp_path / "trainings")
    monkeypatch.setattr(thresher.training.registry, "make_trainer", lambda **kwargs: made.trainer)
    see(monkeypatch, Sighted)
    (tmp_path / "seen").mkdir()
    with_images(tmp_path / "seen", 200)
    return made


def see(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    handle = ModelHandle("m", IDENTITY, backend)
    monkeypatch.setattr(thresher.backends, "resolve", lambda spec, **options: handle)
    monkeypatch.setattr("thresher.backends.identity.check_name", lambda *given: None)


def install_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "train", ("no_such_module",))


def config(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(folder, "run.yaml").read_text())["config"]
    return found


def rows(folder: str) -> list[int]:
    return list(pq.read_table(Path(folder, "selection.parquet"))["row"].to_pylist())


def test_decisions_are_in_run_yaml_and_a_repeated_run_trains_nothing(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*SELECT, "-o", "a")[0] == 0
    decided = config("a")["decided"]
    assert decided["columns"] == "loss skills judgement trust guard"
    assert decided["judgement.readable"] is True and decided["judgement.images"] > 30
    assert decided["guard.passed"] is True and decided["guard.rows"] == 40
    assert len(training.calls()) == 2  # the guard's
    install_nothing(monkeypatch)
    monkeypatch.setenv("THRESHER_STORE", "another")
    for words in (("plan",), ("select", "-o", "b")):
        code, out, err = command(words[0], "--config", "a/run.yaml", *words[1:])
        assert code == 0 and "decided is repeated: judgement, guard" in " ".join(err.split())
        assert "trained first" not in out + err
    assert rows("b") == rows("a") and len(training.calls()) == 2
    again = config("b")["decided"]
    assert again == decided | {"columns": "loss skills judgement guard"}
    assert "There is no guard" not in out


def test_a_verdict_for_random_rows_is_repeated(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(*SELECT, "-o", "a")
    text = Path("a/run.yaml").read_text()
    Path("a/run.yaml").write_text(text.replace("guard.passed: true", "guard.passed: false"))
    install_nothing(monkeypatch)
    assert command("select", "-c", "a/run.yaml", "-o", "b")[0] == 0
    command(*SELECT, "-m", "random", "-o", "random")
    assert rows("b") == rows("random") != rows("a")


def test_a_run_without_training_is_repeated_where_training_is_installed(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No guard then, so none now; and random rows, as the model reads no image."""
    usual = MODULES["train"]
    for backend, folder in ((Sighted, "sighted"), (Blind, "blind")):
        see(monkeypatch, backend)
        monkeypatch.setenv("THRESHER_STORE", f"store-{folder}")
        install_nothing(monkeypatch)
        assert command(*SELECT, "-o", folder)[0] == 0
        monkeypatch.setitem(MODULES, "train", usual)
        assert command("select", "-c", f"{folder}/run.yaml", "-o", f"{folder}-again")[0] == 0
        assert rows(f"{folder}-again") == rows(folder) and training.calls() == []
    command(*SELECT, "-m", "random", "-o", "random")
    assert rows("blind") == rows("random") != rows("sighted")


def test_trust_by_seed_models_cannot_be_repeated_without_training(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(monkeypatch, Blind)
    assert command(*SELECT, "-o", "a")[0] == 0
    assert config("a")["decided"]["judgement.readable"] is False and len(training.calls()) == 4
    code, _, err = command("select", "-c", "a/run.yaml", "-o", "b")
    assert code == 0 and rows("b") == rows("a") and len(training.calls()) == 4
    install_nothing(monkeypatch)
    code, _, err = command("select", "-c", "a/run.yaml", "-o", "c")
    text = " ".join(err.split())
    assert code != 0 and "takes trained models, which needs no_such_module" in text
    assert not Path("c/run.yaml").exists()


@pytest.mark.parametrize("change", [("-b", "20%"), ("--seed", "1"), ("--set", "keep=0.4")])
def test_another_request_decides_again(
    command: Command, training: FakeTraining, change: tuple[str, str]
) -> None:
    command(*SELECT, "-o", "a")
    _, _, err = command("select", "-c", "a/run.yaml", *change, "-o", "b")
    assert "was for another request, model or pool: it is decided again" in " ".join(err.split())
    assert config("b")["decided"]["for"] != config("a")["decided"]["for"]


def test_another_pool_decides_again_and_a_moved_folder_does_not(
    command: Command, training: FakeTraining
) -> None:
    command(*SELECT, "-o", "a")
    Path("moved").mkdir()
    Path("seen").rename("moved/seen")
    Path("a").rename("moved/a")
    _, _, err = command("select", "-c", "moved/a/run.yaml", "-o", "b")
    assert "is repeated" in err
    pool = Path("moved/seen/pool.json")
    pool.write_text(pool.read_text().replace("What is 3 plus", "What is three plus", 1))
    _, _, err = command("select", "-c", "moved/a/run.yaml", "-o", "c")
    assert "it is decided again" in " ".join(err.split())


def test_a_damaged_value_is_named(command: Command, training: FakeTraining) -> None:
    command(*SELECT, "-o", "a")
    text = Path("a/run.yaml").read_text()
    for before, after, says in (
        ("guard.passed: true", "guard.passed: perhaps", "expected true or false"),
        ("guard.rows: 40", "guard.rows: x", "expected a whole number"),
        ("  guard.rows: 40\n", "  \n", "guard.rows: nothing: expected a whole number"),
    ):
        assert before in text
        Path("a/run.yaml").write_text(text.replace(before, after))
        code, _, err = command("select", "-c", "a/run.yaml", "-o", "b")
        assert code == 2 and says in " ".join(err.split())


def test_a_method_that_decides_nothing_records_nothing(
    command: Command, training: FakeTraining
) -> None:
    command(*SELECT, "-m", "perplexity", "-o", "a")
    assert "decided" not in config("a")


# ------------------------------------------------------------------- `thresher signals`, the viewer


def columns(command: Command, folder: str) -> set[str]:
    """The names of the columns that `thresher signals` writes, without their fields."""
    code, _, err = command("signals", folder, "-o", f"{folder}.parquet")
    assert code == 0, err
    names = pq.read_schema(f"{folder}.parquet").names
    return {name.rpartition(".")[0] for name in names if "." in name}


def displayed(folder: str) -> tuple[Session, DisplayedSelection]:
    session = Session(folder)
    assert not session.fixed, session.fixed
    return session, session.select(session.first)


def kept(found: DisplayedSelection) -> list[int]:
    rows: list[int] = np.flatnonzero(found.state == 2).tolist()
    return rows


def test_a_run_without_training_has_the_same_columns_where_training_is_installed(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = MODULES["train"]
    install_nothing(monkeypatch)
    assert command(*SELECT, "-o", "a")[0] == 0
    before = columns(command, "a")
    assert {"loss", "skills", "judgement", "judgement.without_image"} < before
    assert not any(name.startswith(("trust", "guard")) for name in before)
    monkeypatch.setitem(MODULES, "train", usual)
    assert columns(command, "a") == before
    _, found = displayed("a")
    assert kept(found) == sorted(rows("a")) and "guard_passed" not in found.outcome.reason
    assert training.calls() == []


def test_a_run_with_a_guard_keeps_it_where_training_is_not_installed(
    command: Command, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*SELECT, "-o", "a")[0] == 0
    before = columns(command, "a")
    assert {"guard", "guard.selected", "guard.random", "judgement.without_image"} < before
    install_nothing(monkeypatch)
    after = columns(command, "a")
    assert before - after == {name for name in before if name.startswith("trust")}, (
        "the base model is trusted, so that the others were never asked"
    )
    session, found = displayed("a")
    assert kept(found) == sorted(rows("a")) and found.outcome.reason["guard_passed"].all()
    assert export(session, "exported").rows == len(rows("a")) and rows("exported") == rows("a")
    # a replay measured nothing, so there is nothing behind its decisions
    monkeypatch.setenv("THRESHER_STORE", "another")
    assert command("select", "-c", "a/run.yaml", "-o", "b")[0] == 0
    assert {"guard", "judgement"} < columns(command, "b")
    assert not any(name.startswith(("guard.", "judgement.")) for name in columns(command, "b"))
    assert kept(displayed("b")[1]) == sorted(rows("a"))


def test_a_verdict_for_random_rows_is_displayed(command: Command, training: FakeTraining) -> None:
    """The values of the file are used, whatever the store would give."""
    command(*SELECT, "-o", "a")
    command(*SELECT, "-m", "random", "-o", "random")
    text = Path("a/run.yaml").read_text()
    Path("a/run.yaml").write_text(text.replace("guard.passed: true", "guard.passed: false"))
    assert kept(displayed("a")[1]) == sorted(rows("random")) != sorted(rows("a"))
    columns(command, "a")
    assert not any(pq.read_table("a.parquet")["guard.passed"].to_pylist())


def test_another_seed_in_the_viewer_decides_again(command: Command, training: FakeTraining) -> None:
    command(*SELECT, "--set", "guard=off", "-o", "a")
    text = Path("a/run.yaml").read_text()
    text = re.sub("judgement.helped: .*", "judgement.helped: 0.991", text)
    Path("a/run.yaml").write_text(text)
    command(*SELECT, "--set", "guard=off", "--seed", "1", "-o", "b")
    session, same = displayed("a")
    other = session.select(replace(session.first, seed=1))
    assert kept(other) == sorted(rows("b"))

    def note(found: DisplayedSelection) -> str:
        return next(str(n) for n in found.outcome.notes if "trust=auto" in str(n))

    assert "in 99% of" in note(same) and "in 99% of" not in note(other)
