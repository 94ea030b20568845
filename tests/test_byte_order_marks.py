"""A byte order mark at the start of a user's JSON or YAML file is skipped by every reader."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from thresher.evaluation.lmms import read_results as read_lmms
from thresher.exporters.llamafactory import read_dataset_info
from thresher.pools import open_pool
from thresher.selection.config import read as read_config
from thresher.signals.capabilities import read_capabilities

BOM = codecs.BOM_UTF8
ROWS = [
    {
        "id": str(i),
        "conversations": [{"from": "human", "value": f"Q{i}"}, {"from": "gpt", "value": f"A{i}"}],
    }
    for i in range(3)
]


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_bytes(BOM + text.encode())
    return file


@pytest.mark.parametrize(
    "known", [{"other": {"file_name": "x.json"}}, {"a": {"file_name": "é.json"}, "b": {}}]
)
def test_entries_of_a_dataset_info_are_kept_by_export(
    known: dict[str, Any], tmp_path: Path
) -> None:
    assert read_dataset_info(write(tmp_path / "dataset_info.json", known)) == known


def test_configs_lists_and_results(tmp_path: Path) -> None:
    assert read_config(write(tmp_path / "run.yaml", "method: random\nseed: 3\n")) == {
        "method": "random",
        "seed": 3,
    }
    (own,) = read_capabilities(write(tmp_path / "own.yaml", "dials: reading a dial\n"))
    assert own.name == "dials"
    assert read_lmms(write(tmp_path / "results.json", {"results": {"t": {"acc,none": 0.5}}}))["t"]


def test_pools_and_the_files_that_name_them(tmp_path: Path) -> None:
    write(tmp_path / "a.json", ROWS)
    write(
        tmp_path / "lf/dataset_info.json",
        {"mine": {"file_name": "../a.json", "formatting": "sharegpt"}},
    )
    write(tmp_path / "mix.yaml", "datasets:\n- json_path: a.json\n")
    for spec in ("a.json", "lf", "lf/dataset_info.json#mine", "mix.yaml"):
        assert open_pool(tmp_path / spec).ids(range(3)) == ["0", "1", "2"], spec


def test_folders_of_datasets(tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(
        str(tmp_path / "saved")
    )
    for file in (tmp_path / "saved/dataset_dict.json", tmp_path / "saved/train/state.json"):
        file.write_bytes(BOM + file.read_bytes())
    assert len(open_pool(tmp_path / "saved")) == 3
