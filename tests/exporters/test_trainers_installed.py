"""The loaders of LLaMA-Factory and ms-swift on our exports, if they are installed; otherwise see
`test_trainers.py` for documented schemas.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.exporters.pools_by_format import make_images, start
from tests.exporters.trainer_rows import ROWS
from thresher.exporters import export
from thresher.exporters.options import Options
from thresher.pools import Pool

datasets = pytest.importorskip("datasets")


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return start(tmp_path / "start", ROWS, make_images(tmp_path / "images"))


def loaded(file: Path, tmp_path: Path) -> Any:
    return datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )


def test_llamafactory_reads_the_entry_and_converts_the_rows(pool: Pool, tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser")
    converter = pytest.importorskip("llamafactory.data.converter")
    export(pool, range(4), tmp_path / "lf/mine.json", "llamafactory")
    (entry,) = parser.get_dataset_list(["mine"], str(tmp_path / "lf"))
    convert = converter.get_dataset_converter(
        entry.formatting, entry, SimpleNamespace(media_dir=str(tmp_path / "images"))
    )
    for row, sample in zip(
        loaded(tmp_path / "lf" / entry.dataset_name, tmp_path), pool.samples(range(4)), strict=True
    ):
        got = convert(row)
        texts = [m["content"] for m in (*got["_prompt"], *got["_response"])]
        system = [got["_system"]] if got["_system"] else []
        assert system + texts == [t.text for t in sample.turns]
        assert (got["_images"] or []) == [str(tmp_path / "images" / i.path) for i in sample.images]


def test_swift_prepares_the_rows(pool: Pool, tmp_path: Path) -> None:
    core = pytest.importorskip("swift.dataset.preprocessor.core")
    export(pool, range(4), tmp_path / "p.jsonl", "swift", Options(absolute=True))
    rows = core.AutoPreprocessor()(loaded(tmp_path / "p.jsonl", tmp_path), num_proc=1, strict=True)
    for row, sample in zip(rows, pool.samples(range(4)), strict=True):
        assert [m["content"] for m in row["messages"]] == [t.text for t in sample.turns]
        assert [i["path"] for i in row["images"] or []] == [
            str(tmp_path / "images" / i.path) for i in sample.images
        ]
