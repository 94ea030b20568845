"""Folders as pools: test and validation splits are skipped, and notes list what was skipped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from thresher.errors import PoolError
from thresher.pools import Pool, open_pool
from thresher.pools.splits import split_of

CASES = Path(__file__).parents[2].parent / "shared" / "cases"


def write(folder: Path, *names: str) -> Path:
    """Files of one row each, whose id is the file's path."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        turns = [{"from": "human", "value": f"Q {name}"}, {"from": "gpt", "value": "A"}]
        row = {"id": name, "conversations": turns}
        known = name.endswith((".json", ".jsonl"))
        (folder / name).write_text(
            (json.dumps(row) + "\n") if name.endswith("l") else json.dumps([row]) if known else "x"
        )
    return folder


def ids(pool: Pool) -> list[str]:
    return pool.ids(range(len(pool)))


@pytest.mark.parametrize(
    ("held_out", "taken"),
    [
        (
            ["data/test-00000-of-00001.jsonl", "data/validation-00000-of-00001.jsonl"],
            ["data/train-00000-of-00001.jsonl"],
        ),
        (["test/a.jsonl", "val/a.jsonl", "dev/a.jsonl", "eval/a.jsonl"], ["train/a.jsonl"]),
        (["test.jsonl"], ["a.jsonl", "b.json"]),
        (
            ["val2017.json", "x.test.jsonl", "ocr_eval.json"],
            ["train2017.json", "contest.json", "x.train.jsonl"],
        ),
        (["x/validation/0000.jsonl"], ["x/train/0000.jsonl", "y/train_val.jsonl"]),
    ],
)
def test_held_out_splits_are_skipped_with_a_note(
    held_out: list[str], taken: list[str], tmp_path: Path
) -> None:
    pool = open_pool(write(tmp_path / "d", *held_out, *taken))
    assert sorted(ids(pool)) == sorted(taken)
    assert (
        len(pool.notes) == 1
        and all(name in pool.notes[0] for name in held_out)
        and "not read" in pool.notes[0]
    )
    for name in held_out:
        alone = open_pool(tmp_path / "d" / name)
        assert ids(alone) == [name] and not alone.notes


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_splits_of_a_dataset_card(start: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "d",
        "data/one.jsonl",
        "data/two.jsonl",
        "data/dev-tools.jsonl",
        "data/other.jsonl",
    )
    card = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: [data/one.jsonl, "data/dev-*.jsonl"]}
  - {split: test, path: "data/two*"}
  - {split: test, path: "../*"}
---
# A data set
"""
    (folder / "README.md").write_text(start + card, encoding="utf-8")
    pool = open_pool(folder)
    assert ids(pool) == ["data/dev-tools.jsonl", "data/one.jsonl", "data/other.jsonl"]
    assert "data/two.jsonl is a test or validation split" in pool.notes[0]
    for broken in (
        "---\nconfigs: [[[\n---\n",
        "---\nconfigs: 3\n---\n",
        "---\n- a\n---\n",
        "# none",
    ):
        (folder / "README.md").write_text(broken)
        assert ids(open_pool(folder)) == ["data/one.jsonl", "data/other.jsonl", "data/two.jsonl"]


def test_names_that_resemble_splits() -> None:
    assert [
        split_of(n)
        for n in ("latest.json", "contest/a.json", "evaluate.json", "unit_test_cases.jsonl")
    ] == [""] * 4
    assert split_of("train_test.json") == "train"


def test_held_out_files_are_read_if_alone_or_matched_by_a_pattern(
    tmp_path: Path,
) -> None:
    write(tmp_path, "test/a.jsonl", "test/b.jsonl", "train/a.jsonl")
    assert len(open_pool(tmp_path / "test")) == 2
    only = open_pool(write(tmp_path / "only", "test-0.jsonl", "val.json"))
    assert len(only) == 2 and "only test or validation splits" in only.notes[0]
    everything = open_pool(f"{tmp_path}/*/a.jsonl")
    assert (
        len(everything) == 2
        and "because the pattern matches them: test/a.jsonl" in everything.notes[0]
    )
    assert not open_pool(f"{tmp_path}/test/*.jsonl").notes


def test_files_of_other_types_are_reported(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "d",
        "a.jsonl",
        "c.jsonl.zst",
        "d.csv",
        "e.json.zip",
        "README.md",
        "LICENSE",
        "x.png",
        ".x.csv",
    )
    pool = open_pool(folder)
    assert pool.notes == (
        (f"{folder}: ignored files of other kinds: c.jsonl.zst, d.csv, e.json.zip."),
    )
    many = write(
        tmp_path / "many",
        "in/a.jsonl",
        *(f"in/{i}.csv" for i in range(9)),
        *(f"in/{i}.npz" for i in range(2)),
    )
    assert "other kinds: .csv (9), .npz (2)" in open_pool(many).notes[0]
    with pytest.raises(PoolError, match=r"It contains a\.csv, b\.zip: unpack or convert them"):
        open_pool(write(tmp_path / "none", "a.csv", "b.zip", "README.md"))
    deep = open_pool(write(tmp_path / "deep", "a.jsonl", "more/b.jsonl", "images/x.png"))
    assert ids(deep) == ["a.jsonl"] and "files in its folders more/ are not read" in deep.notes[0]


def test_cyclic_links_do_not_hang(tmp_path: Path) -> None:
    write(tmp_path / "d", "in/a.jsonl")
    os.symlink(tmp_path / "d", tmp_path / "d/in/back")
    os.symlink(write(tmp_path / "elsewhere", "b.jsonl"), tmp_path / "d/linked")
    assert sorted(ids(open_pool(tmp_path / "d"))) == ["b.jsonl", "in/a.jsonl"]


def test_notes_are_cached(tmp_path: Path) -> None:
    write(tmp_path / "d", "train.json", "test.json")
    first, again = (open_pool(tmp_path / "d", cache=tmp_path / "cache") for _ in range(2))
    assert first.notes == again.notes and len(first.notes) == 1


def test_held_out_entries_of_a_dataset_info(tmp_path: Path) -> None:
    write(tmp_path, "a.json", "b.json")
    entries = {
        "mine": {"file_name": "a.json", "formatting": "sharegpt"},
        "mine_test": {"file_name": "b.json", "formatting": "sharegpt"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(entries))
    pool = open_pool(tmp_path)
    assert len(pool) == 2 and "mine_test look like test or validation splits" in pool.notes[0]
    assert not open_pool(f"{tmp_path}/dataset_info.json#mine_test").notes


# ---------------------------------------------------------------------------- folders of `datasets`


def rows(name: str, count: int) -> list[dict[str, object]]:
    turns = [{"from": "human", "value": f"Q {name}"}, {"from": "gpt", "value": "A"}]
    return [{"id": f"{name}{i}", "conversations": turns} for i in range(count)]


def test_skipped_splits_of_saved_datasets_are_reported(tmp_path: Path) -> None:
    import datasets

    both = datasets.DatasetDict(
        {s: datasets.Dataset.from_list(rows(s, 2)) for s in ("train", "validation", "test")}
    )
    both.save_to_disk(str(tmp_path / "saved"))
    pool = open_pool(tmp_path / "saved")
    assert (
        ids(pool) == ["train0", "train1"]
        and "train is read and validation, test not" in pool.notes[0]
    )
    assert not open_pool(tmp_path / "saved/test").notes
    assert ids(open_pool(tmp_path)) == ["train0", "train1"]  # found below, as one data set


def test_training_split_of_a_saved_dataset(tmp_path: Path) -> None:
    import datasets

    for number, names in enumerate((("train_sft", "test_sft"), ("training", "dev"))):
        folder = tmp_path / str(number)
        datasets.DatasetDict(
            {s: datasets.Dataset.from_list(rows(s, 1)) for s in names}
        ).save_to_disk(str(folder))
        assert ids(open_pool(folder)) == [f"{names[0]}0"]
    both = datasets.DatasetDict(
        {s: datasets.Dataset.from_list(rows(s, 1)) for s in ("train_a", "train_b")}
    )
    both.save_to_disk(str(tmp_path / "both"))
    with pytest.raises(PoolError, match=r"holds the splits train_a, train_b\. Give one of them"):
        open_pool(tmp_path / "both")


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("test",)])
def test_a_folder_of_the_datasets_cache(splits: tuple[str, ...], tmp_path: Path) -> None:
    import datasets

    for split in splits:
        (tmp_path / f"{split}.json").write_text(json.dumps(rows(split, 3)))
    files = {split: str(tmp_path / f"{split}.json") for split in splits}
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    folder = Path(loaded[splits[0]].cache_files[0]["filename"]).parent
    assert (folder / "dataset_info.json").exists()
    (folder / "cache-0123456789abcdef.arrow").write_bytes(
        (folder / f"json-{splits[0]}.arrow").read_bytes()
    )
    taken = "train" if "train" in splits else splits[0]
    for place in (folder, tmp_path / "cache"):
        pool = open_pool(place)
        assert ids(pool) == [f"{taken}{i}" for i in range(3)] and pool.format == "datasets"
        assert pool.source_names == ("json",)
        assert bool(pool.notes) == (splits != ("train",))


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not in this checkout")
def test_reported_cases() -> None:
    repo = open_pool(CASES / "11-folder-takes-test-split/repo")
    assert len(repo) == 12 and "data/test-00000-of-00001.parquet" in repo.notes[0]
    comp = open_pool(CASES / "11-folder-takes-test-split/comp")
    assert "c.jsonl.zst, d.csv, e.json.zip" in comp.notes[0]
    assert len(open_pool(CASES / "11-folder-takes-test-split/jsplit")) == 4
    assert len(open_pool(CASES / "30-hf-cache-folder")) == 8
    assert open_pool(CASES / "10-source-names/years").source_names == ("coco2014", "coco2017")
    assert open_pool(CASES / "10-source-names/hash").source_names == ("train",)
