"""The Python API matches the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thresher
from thresher.errors import ConfigError


def test_select_and_write(tiny_pool: Path, tmp_path: Path) -> None:
    pool = thresher.open_pool(tiny_pool, tiny_pool.parent / "images")
    chosen = thresher.select(pool, "random", "3", store=tmp_path / "store")
    assert (
        isinstance(pool, thresher.Pool) and len(chosen) == 3 and len(set(chosen.rows.tolist())) == 3
    )
    out = chosen.write(tmp_path / "out")
    records = json.loads(tiny_pool.read_text())
    assert json.loads((out / "subset.json").read_text()) == [
        records[i] for i in sorted(chosen.rows)
    ]

    again = tmp_path / "again"
    command = [
        sys.executable,
        "-m",
        "thresher",
        "select",
        "--config",
        str(out / "run.yaml"),
        "--out",
        str(again),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (again / "subset.json").read_bytes() == (out / "subset.json").read_bytes()


def test_path_is_opened_and_errors_are_reported(tiny_pool: Path, tmp_path: Path) -> None:
    images = tiny_pool.parent / "images"
    assert len(thresher.select(tiny_pool, "length", "50%", images=images, store=tmp_path)) >= 1
    with pytest.raises(ConfigError, match="clipper"):
        thresher.select(tiny_pool, "cliper", images=images, store=tmp_path)
    with pytest.raises(AttributeError, match="open_pool"):
        _ = thresher.open_pol  # type: ignore[attr-defined]


def test_keyword_values_match_the_command(tiny_pool: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"images": tiny_pool.parent / "images", "store": tmp_path}
    three = thresher.select(tiny_pool, "random", 3, seed=np.int64(1), **given)
    text = thresher.select(tiny_pool, "random", "3", seed=1, **given)
    assert three.request == text.request and three.rows.tolist() == text.rows.tolist()
    one = thresher.select(tiny_pool, "random", "50%", filter="length > 0", **given)
    assert one.request.filter == ("length > 0",)
    with pytest.raises(ConfigError, match="seed='1': expected a whole number, not str"):
        thresher.select(tiny_pool, "random", "3", seed="1", **given)
    with pytest.raises(ConfigError, match="Did you mean 10%"):
        thresher.select(tiny_pool, "random", 0.1, **given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"budgett": "3"}, r"select\(\) .*'budgett'.* Did you mean 'budget'\?"),
        ({"set": ["a=1"]}, r"Did you mean 'settings'\?"),
        ({"out": "somewhere"}, r"\.write\(folder\)"),
    ],
)
def test_unknown_keywords_are_refused_with_a_hint(
    tiny_pool: Path, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        thresher.select(tiny_pool, "random", **given)
    with pytest.raises(TypeError, match="must be a path or what open_pool gave, not list"):
        thresher.select([], "random")  # type: ignore[arg-type]


def test_empty_selection_is_an_error(tiny_pool: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No row was chosen.*No row scores above 4\.9"):
        thresher.select(
            tiny_pool,
            "mmssr",
            "50%",
            store=tmp_path / "store",
            model="demo",
            settings={"threshold": "4.9", "capabilities": "ocr"},
            on_missing="exclude",
            force=True,  # the built-in model is not a judge
        )


@pytest.mark.parametrize("method", ["clipper", "perplexity"])
def test_there_is_no_default_model(tiny_pool: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(ConfigError, match="none was named"):
        thresher.select(tiny_pool, method, "3", images=tiny_pool.parent / "images", store=tmp_path)
