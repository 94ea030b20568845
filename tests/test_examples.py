"""The example notebooks run completely and show the expected output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WIDGETS = "IProgress not found"  # tqdm, of other packages, where ipywidgets are not installed
LONGEST = 300  # seconds for a cell, on a machine that is busy with other things


def run(name: str) -> list[Any]:
    """The cells of a notebook after running all of them in a separate kernel. Raises
    CellExecutionError."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    return list(NotebookClient(notebook, timeout=LONGEST, kernel_name="python3").execute().cells)


def shown(cell: Any, kind: str = "text/html") -> str:
    """What a cell shows, of one kind."""
    return "".join(output["data"].get(kind, "") for output in cell.outputs if "data" in output)


def test_first_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    code = [cell for cell in run("first_selection.ipynb") if cell.cell_type == "code"]
    texts = [
        output.text for cell in code for output in cell.outputs if output.output_type == "stream"
    ]
    assert [text for text in texts if WIDGETS not in text] == [], (
        "no warnings, no progress: only what cells show"
    )
    _, pool, random, clipper, smaller, difference, files, export = code

    assert "<Pool " in shown(pool, "text/plain") and "300 rows" in shown(pool, "text/plain")
    assert (
        re.search(r"Sources</dt><dd><b>9</b>", shown(pool)) and shown(pool).count("<img src=") >= 3
    )
    assert "90 of 300 rows" in shown(
        random
    ) and "random sample: 90 of 300 rows were drawn" in shown(random)
    assert "90 of 300 rows kept by clipper" in shown(clipper, "text/plain")
    assert re.search(r"kept:</b> <bdi>(random sample of )?bin \d+ of the answers", shown(clipper))
    assert re.search(r"Scored now</dt><dd><b>[1-9]", shown(clipper))
    assert re.search(r"Scored now</dt><dd><b>0</b>", shown(smaller)) and "30 of 300 rows" in shown(
        smaller
    )
    both = int(re.search(r"In both</dt><dd><b>(\d+)</b>", shown(difference))[1])  # type: ignore[index]
    assert 0 < both < 90 and "would share about 27" in shown(difference)
    assert f"{90 - both:,} only in A" in shown(difference, "text/plain")
    assert {"report.html", "run.yaml", "selection.parquet", "subset.json"} <= set(
        re.findall(r"'([\w.]+)'", shown(files, "text/plain"))
    )
    assert shown(export, "text/plain").startswith("(90,") and "messages" in shown(
        export, "text/plain"
    )
    assert all("<script" not in shown(cell) and len(shown(cell)) < 200_000 for cell in code)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(file: Path) -> None:
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, (
                "clear all outputs before committing"
            )
