"""Source names derived from file names: shard numbers are removed, other numbers are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thresher.pools import open_pool
from thresher.pools.source_names import source_names

UUID = "3f0e8c1a-1111-4222-8333-abcdefabcdef"


def numbered(pattern: str, count: int, start: int = 0) -> list[str]:
    return [pattern.format(i) for i in range(start, start + count)]


@pytest.mark.parametrize(
    "paths",
    [
        ["d/coco2014.parquet", "d/coco2017.parquet"],
        ["d/2014.parquet", "d/2017.parquet"],
        ["d/vqa_v1.parquet", "d/vqa_v2.parquet"],
        ["d/llava_v1.5.tar", "d/llava_v1.6.tar"],
        ["d/set_v01.tar", "d/set_v02.tar"],
        ["d/qwen2.5-7.arrow", "d/qwen2.5-32.arrow"],
        ["d/crawl-2024-05.tar", "d/crawl-2024-10.tar"],
        ["d/crawl-2024-05-01.tar", "d/crawl-2024-05-02.tar"],
        ["d/crawl-20240501.tar", "d/crawl-20240502.tar"],
        ["d/gpt-4.jsonl", "d/gpt-5.jsonl"],
        ["d/mix665k.json", "d/mix624k.json"],
        ["d/ocr-1.parquet", "d/ocr-2.parquet"],
        ["d/batch_2023.json", "d/batch_2024.json"],
    ],
)
def test_numbers_in_names_are_kept(paths: list[str]) -> None:
    stems = [p[2 : p.rindex(".")] for p in paths]
    assert source_names(paths) == stems
    assert [source_names([p])[0] for p in paths] == stems  # alone as in company


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (numbered("d/train-{:05d}-of-00003.parquet", 3), "train"),
        (numbered("d/train-{:05d}-of-00003-2ce340398c113b79.parquet", 3), "train"),
        (numbered("d/ocr_{:04d}_of_0003.jsonl", 3), "ocr"),
        (numbered("d/coco2014-{:05d}.tar", 3), "coco2014"),
        (numbered("d/cc12m_{:04d}.tar", 5, 1999), "cc12m_"[:-1]),
        (numbered("d/ocr-{}.parquet", 3), "ocr"),
        (numbered("d/ocr-{}.parquet", 12, 1), "ocr"),
        (numbered("d/ocr{:03d}.tar", 4), "ocr"),
        (numbered("d/ocr-part-{}.jsonl", 2, 3), "ocr"),
        (numbered("d/ocr_shard_{}.tar", 2, 12), "ocr"),
        (numbered("d/part-{:05d}-" + UUID + "-c000.snappy.parquet", 3), "part"),
        (numbered("d/part-{:04d}.parquet", 3), "part"),
        (numbered("d/shard_{}.tar", 2, 12), "shard"),
        (numbered("laion/{:05d}.tar", 3), "laion"),
        (numbered("laion/{}.tar", 3, 7), "laion"),
        (numbered("laion/{:04d}.tar", 2100), "laion"),
        (numbered("s3://bucket/laion/{:03d}.tar.gz", 2), "laion"),
        (numbered("laion/{:06d}_0.parquet", 2), "laion"),
        (numbered("laion/shard-{:04d}/data.parquet", 2), "laion"),
        (numbered("d/ocr.{}of3.jsonl", 3, 1), "ocr"),
        (numbered("repo/ocr/train/{:04d}.parquet", 2), "ocr"),
    ],
)
def test_shards_share_a_name(paths: list[str], name: str) -> None:
    if "1999" in paths[0]:
        paths = ["d/cc12m_0000.tar", *paths]
    assert set(source_names(paths)) == {name}


def test_source_from_the_folder() -> None:
    hive = [
        "/x/source=coco/part-0.parquet",
        "/x/source=visual%20genome/part-0.parquet",
        "/x/source=coco/data.parquet",
    ]
    assert source_names(hive) == ["coco", "visual genome", "coco"]
    assert source_names(["/laion/year=2014/part-0.parquet", "/laion/year=2017/part-0.parquet"]) == [
        "laion",
        "laion",
    ]
    assert source_names(
        ["/r/ocr/train-00000-of-00001.parquet", "/r/vqa/train-00000-of-00001.parquet"]
    ) == [
        "ocr",
        "vqa",
    ]
    assert source_names(["/r/ocr/part-0.parquet", "/r/vqa/part-0.parquet"]) == ["ocr", "vqa"]


def test_pools_with_numbered_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    for name in (
        "years/coco2014.json",
        "years/coco2017.json",
        "hive/source=a/part-0.json",
        "hive/source=b/part-0.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps([{"id": name, "conversations": turns}]))
    assert open_pool(tmp_path / "years").source_names == ("coco2014", "coco2017")
    assert open_pool(tmp_path / "hive").source_names == ("a", "b")
    monkeypatch.chdir(tmp_path / "hive")
    assert open_pool("source=*/part-0.json").source_names == ("a", "b")
    assert open_pool("source=a/part-0.json").source_names == ("a",)
    assert open_pool("mine=source=a/part-0.json").source_names == ("mine",)
    assert open_pool(["source=a/part-0.json", "source=b/part-0.json"]).source_names == ("a", "b")
