"""`thresher store` on the command line: after a selection, and with invalid arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.targeted_commands import Command

SELECT = ("select", "pool.json", "-m", "perplexity", "-b", "10", "--model", "demo")


def test_scores_can_be_listed_exported_and_imported(command: Command, tmp_path: Path) -> None:
    assert command(*SELECT, "-o", "one")[0] == 0
    code, listed, _ = command("store", "ls")
    assert code == 0 and "answer_loss" in listed, listed
    (column,) = json.loads(command("store", "ls", "--json", "--kind", "answer_loss")[1])
    assert column["rows"] == 60 and column["model"].startswith("llava float32 ")
    assert "columns" in command("store", "du")[1]
    code, output, _ = command("store", "export", "scores.tar")
    assert code == 0 and output.startswith("Written: scores.tar (1 column in ")
    code, output, _ = command("store", "import", "scores.tar", "--store", "other")
    assert code == 0 and " of 1 column, " in output
    code, output, _ = command(*SELECT, "-o", "two", "--store", "other")
    assert code == 0 and "60" in output, output
    assert Path("one/subset.json").read_bytes() == Path("two/subset.json").read_bytes()


def test_a_store_at_an_address_works_as_a_folder_does(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setenv("THRESHER_MIRRORS", str(tmp_path / "mirrors"))
    assert command(*SELECT, "-o", "one")[0] == 0
    monkeypatch.setenv("THRESHER_STORE", f"memory://{tmp_path.name}/scores")
    assert command("store", "ls")[0] == 2
    code, output, err = command(*SELECT, "-o", "two")
    assert code == 0, err
    for name in ("subset.json", "selection.parquet", "evidence.parquet"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert f"store: memory:///{tmp_path.name}/scores" in Path("two/run.yaml").read_text()
    monkeypatch.setenv("THRESHER_MIRRORS", str(tmp_path / "another machine"))
    code, output, _ = command("select", "--config", "two/run.yaml", "-o", "three")
    assert code == 0 and "0 scored" in output
    assert command("signals", "three", "--out", "columns.parquet")[0] == 0
    (column,) = json.loads(command("store", "ls", "--json")[1])
    assert column["rows"] == 60 and column["model"].startswith("llava float32 ")
    assert json.loads(command("store", "du", "--json")[1])["columns"] == column["size"]
    assert command("store", "gc")[1].startswith("Nothing to delete in memory://")
    assert command("store", "export", "scores.tar")[0] == 0
    code, output, _ = command("store", "gc", "--older-than", "0")
    assert code == 0 and "a column that nothing was written to for 0 days" in output
    assert command("store", "ls")[0] == 2  # nothing is left
    code, output, _ = command("store", "import", "scores.tar")
    assert code == 0 and " of 1 column, " in output
    assert "0 scored" in command("select", "--config", "two/run.yaml", "-o", "four")[1]


def test_gc_lists_and_then_deletes(command: Command, tmp_path: Path) -> None:
    assert command(*SELECT, "-o", "one")[0] == 0
    assert command("store", "gc")[1].startswith("Nothing to delete")
    (folder,) = (tmp_path / "store" / "columns").iterdir()
    damaged = folder / "part-0.damaged"
    damaged.write_bytes(b"x" * 2000)
    code, output, _ = command("store", "gc", "--dry-run")
    assert code == 0 and "1 item would be deleted, 2.0 kB" in output and damaged.exists()
    code, output, _ = command("store", "gc")
    assert code == 0 and "1 item deleted" in output and not damaged.exists()


def test_invalid_arguments_are_explained(command: Command, tmp_path: Path) -> None:
    assert command("store")[0] == 2
    code, _, output = command("store", "ls")
    assert code == 2 and "nothing has been stored there yet" in output
    assert command(*SELECT, "-o", "one")[0] == 0
    for words, expected in [
        (("ls", "--kind", "answer_los"), "Did you mean 'answer_loss'?"),
        (("export", "scores.zip"), "ends in .tar"),
        (("import", "absent.tar"), "absent.tar is not a file"),
        (("import", "pool.json"), "is not a file that `thresher store export` wrote"),
        (("gc", "--older-than", "-1"), "older-than"),
        (("gc", "--older-than", "0", "--store", ""), "--store '' is empty"),
        (("lss",), "No such command"),
    ]:
        code, _, output = command("store", *words)
        assert code == 2 and expected in output, (words, output)


def test_processes_of_several_devices_give_the_same_files(command: Command, tmp_path: Path) -> None:
    assert command(*SELECT, "-o", "one")[0] == 0
    several = (*SELECT, "-o", "two", "--store", "other", "--devices", "cpu,cpu")
    code, _, err = command(*several)
    assert code == 0 and "failed" not in err, err
    assert Path("one/subset.json").read_bytes() == Path("two/subset.json").read_bytes()
