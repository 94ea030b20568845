"""Cells of comparisons in one file: saved, restored, continued, and checked against new ones."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from benchmarks import cells

from thresher.compare import read_answers, read_cell
from thresher.compare.cell_files import Result, write_finished
from thresher.compare.cells import Cell
from thresher.training.recipe import Recipe

RESULT = Result("winnow", "10%", 2, 0, 0.5, 0.5, 1.25, 3.5, ("a note",))


def answered(*said: str, **more: list[bool | None]) -> pa.Table:
    right = [text == "red" for text in said]
    return pa.table(
        {"row": range(len(said)), "said": said, "correct": right, "image": [0] * len(said), **more}
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two finished cells, one of them scored by choice too, and a small JSON file."""
    folder = tmp_path / "out" / "pools" / "web" / "cells"
    write_finished(folder / "aa", RESULT, answered("red", "blue"), np.array([4, 2]))
    chosen = answered("red", "red", by_choice=[True, None])
    write_finished(folder / "bb", replace(RESULT, seed=1), chosen, np.array([7]))
    (tmp_path / "out" / "extras").mkdir()
    (tmp_path / "out" / "extras" / "signals-web.json").write_text('{"auc": 0.5}')
    os.utime(folder / "aa.json", (1_700_000_000, 1_700_000_000))  # 14 November 2023
    return tmp_path / "out"


def cell(name: str) -> Cell:
    return Cell("winnow", "10%", 2, 0, name, Recipe())


def test_restored_cells_are_those_that_were_saved(out: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "cells.parquet", tmp_path / "other"
    assert "3 cells, 3 of them new" in cells.save(file, out)
    assert cells.restore(file, other) == f"3 cells written below {other}."
    for name in ("aa", "bb"):
        there = other / "pools" / "web"
        mine, its = (read_cell(f, cell(name)) for f in (out / "pools" / "web", there))
        assert mine is not None and its is not None
        assert mine[0] == its[0]
        assert mine[1].tolist() == its[1].tolist() and mine[2].tolist() == its[2].tolist()
        assert read_answers(there, cell(name)).equals(read_answers(out / "pools/web", cell(name)))
        with np.load(there / "cells" / f"{name}.npz") as arrays:
            assert arrays["chosen"].tolist() == {"aa": [4, 2], "bb": [7]}[name]
    assert json.loads((other / "extras" / "signals-web.json").read_text()) == {"auc": 0.5}
    assert next(c.day.isoformat() for c in cells.cells_below(other)) == "2023-11-14"


def test_cells_that_are_there_stay(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "cells.parquet"
    cells.save(file, out)
    before = {f: f.read_bytes() for f in out.rglob("*.*")}
    assert cells.restore(file, out) == f"0 cells written below {out}."
    assert {f: f.read_bytes() for f in out.rglob("*.*")} == before


def test_the_same_cells_computed_again_add_nothing(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "cells.parquet"
    cells.save(file, out)
    saved = file.read_bytes()
    # other seconds: another machine
    there = out / "pools" / "web" / "cells"
    slower = replace(RESULT, seconds_training=99.0)
    write_finished(there / "aa", slower, answered("red", "blue"), np.array([4, 2]))
    assert "0 of them new; 3 that it had were computed again and are the same" in cells.save(
        file, out
    )
    assert file.read_bytes() == saved


@pytest.mark.parametrize(("said", "ranks"), [(("red", "green"), [4, 2]), (("red", "blue"), [4, 3])])
def test_a_cell_with_other_answers_or_rows_is_an_error(
    out: Path, tmp_path: Path, said: tuple[str, str], ranks: list[int]
) -> None:
    file = tmp_path / "cells.parquet"
    cells.save(file, out)
    saved = file.read_bytes()
    write_finished(out / "pools/web/cells/aa", RESULT, answered(*said), np.array(ranks))
    with pytest.raises(SystemExit, match=r"1 cells below .* differ .* pools/web/aa"):
        cells.save(file, out)
    assert file.read_bytes() == saved


def test_other_files_and_folders_are_refused(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "cells.parquet"
    with pytest.raises(SystemExit, match="no finished cells below"):
        cells.save(file, tmp_path / "absent")
    assert not file.exists()
    for other in ("pool.json", "aa.parquet"):
        wrong = tmp_path / other
        wrong.write_bytes(
            b"[]" if other == "pool.json" else (out / "pools/web/cells" / other).read_bytes()
        )
        with pytest.raises(SystemExit, match=f"{other} is not a file of cells"):
            cells.restore(wrong, tmp_path / "other")


def test_a_damaged_cell_is_named(out: Path, tmp_path: Path) -> None:
    cell_file = out / "pools" / "web" / "cells" / "aa.json"
    cell_file.write_text(cell_file.read_text().replace("0.5", "0.9"))
    with pytest.raises(SystemExit, match=r"aa\.json is damaged"):
        cells.save(tmp_path / "cells.parquet", out)
