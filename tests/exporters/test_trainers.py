"""Exports are accepted by the `datasets` loader, TRL's message preparation, and documented
schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporters.pools_by_format import EMBED, make_images, start
from tests.exporters.trainer_rows import ROWS, qa
from thresher.exporters import export
from thresher.exporters.options import Options
from thresher.pools import Pool, open_pool

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


ODD: list[dict[str, Any]] = [
    {"id": "\ud800", "conversations": qa("\ud800", "lone surrogate")},
    {
        "id": [1],
        "conversations": [{"from": "gpt", "value": None}, {"from": 7, "value": "x"}, "text"],
    },
    {
        "id": 2**70,
        "image": "missing.png",
        "conversations": [*qa("<image>Q"), {"from": "gpt", "value": "x", "weight": 0.5}],
    },
]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return start(tmp_path / "start", ROWS + ODD, make_images(tmp_path / "images"))


def loaded(file: Path, tmp_path: Path) -> Any:
    kind = "parquet" if file.suffix == ".parquet" else "json"
    return datasets.load_dataset(
        kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )


@pytest.mark.parametrize("file", ["p.json", "p.jsonl"])
@pytest.mark.parametrize("format", ["sharegpt", "swift", "messages", "llamafactory"])
def test_datasets_loads_rows_of_every_kind(
    pool: Pool, tmp_path: Path, format: str, file: str
) -> None:
    """Mixed ids, fields of several types, text-only rows: what breaks Arrow's type inference in a
    plain dump."""
    export(pool, range(len(pool)), tmp_path / file, format)
    data = loaded(tmp_path / file, tmp_path)
    assert len(data) == len(pool)
    turns = data["conversations" if format == "sharegpt" else "messages"]
    assert [len(t) for t in turns] == [len(s.turns) for s in pool.samples(range(len(pool)))]


def test_datasets_decodes_the_images_of_a_parquet_file(pool: Pool, tmp_path: Path) -> None:
    export(pool, range(4), tmp_path / "p.parquet", "parquet", EMBED)
    data = loaded(tmp_path / "p.parquet", tmp_path)
    assert [[i.size for i in images] for images in data["images"]] == [
        [(3, 4)],
        [(3, 4), (4, 4)],
        [],
        [(6, 4)],
    ]
    assert data[2]["conversations"][3] == {"from": "human", "value": "again"}
    assert (
        data["id"] == ["1", "two", None, None]
        and data.features["images"].feature == datasets.Image()
    )


def test_trl_prepares_our_messages(pool: Pool, tmp_path: Path) -> None:
    """The rows go through `datasets` and then through what TRL's trainer and collator do with
    messages and images."""
    trl = pytest.importorskip("trl.data_utils")
    export(pool, range(4), tmp_path / "p.jsonl", "messages", Options(absolute=True))
    data = loaded(tmp_path / "p.jsonl", tmp_path).cast_column(
        "images", datasets.List(datasets.Image())
    )
    for row, sample in zip(data, pool.samples(range(4)), strict=True):
        assert trl.is_conversational(row)
        messages = trl.prepare_multimodal_messages(row["messages"], row["images"])
        images = [p["image"] for m in messages for p in m["content"] if p["type"] == "image"]
        assert [i.size for i in images] == [pool.load_image(r).size for r in sample.images]
        texts = [
            "".join(p["text"] if p["type"] == "text" else "<image>" for p in m["content"])
            for m in messages
        ]
        assert texts == [t.text for t in sample.turns]
        assert [m["role"] for m in messages] == [t.role for t in sample.turns]


def test_trl_collates_our_messages(pool: Pool, tmp_path: Path) -> None:
    """The collator of TRL's own vision trainer, with the processor of the built-in model."""
    sft = pytest.importorskip("trl.trainer.sft_trainer")
    from transformers import AutoProcessor

    import thresher

    processor = AutoProcessor.from_pretrained(str(Path(thresher.__file__).parent / "demo/model"))
    export(pool, [0, 3], tmp_path / "p.jsonl", "messages", Options(absolute=True))
    data = loaded(tmp_path / "p.jsonl", tmp_path).cast_column(
        "images", datasets.List(datasets.Image())
    )
    batch = sft.DataCollatorForVisionLanguageModeling(processor)([data[0], data[1]])
    assert len(batch["pixel_values"]) == 2 and batch["labels"].shape == batch["input_ids"].shape
    assert "no placeholder" in processor.tokenizer.decode(batch["input_ids"][1])


# ------------------------------------------------------------------------------- documented schemas


def test_llamafactory_schema(pool: Pool, tmp_path: Path) -> None:
    """What LLaMA-Factory's data/README.md requires: the entry, alternating turns, one placeholder
    an image."""
    (tmp_path / "lf").mkdir()
    (tmp_path / "lf/dataset_info.json").write_text('{"other": {"file_name": "x.json"}}')
    notes = export(pool, range(len(pool)), tmp_path / "lf", "llamafactory")
    unencodable = "invalid Unicode in the id is replaced by ?; extra_json has the original (1 row)"
    assert any(unencodable in n for n in notes)
    info = json.loads((tmp_path / "lf/dataset_info.json").read_text())
    assert list(info) == ["other", "lf"]
    entry = info["lf"]
    assert entry["formatting"] == "sharegpt" and entry["columns"] == {
        "messages": "messages",
        "images": "images",
    }
    rows = json.loads((tmp_path / "lf" / entry["file_name"]).read_bytes())
    tags = entry["tags"]
    for row in rows[:4]:
        texts = [m[tags["role_tag"]] for m in row["messages"]]
        texts = texts[1:] if texts[0] == tags["system_tag"] else texts
        assert texts[::2] == [tags["user_tag"]] * (len(texts) // 2) and texts[1::2] == [
            tags["assistant_tag"]
        ] * (len(texts) // 2)
        text = "".join(m[tags["content_tag"]] for m in row["messages"])
        assert isinstance(row["images"], list) and text.count("<image>") == len(row["images"])
        assert all((tmp_path / "images" / i).is_file() for i in row["images"])
    assert any("LLaMA-Factory skips the row (2 rows)" in n for n in notes) and any(
        "dataset=lf" in n for n in notes
    )
    again = open_pool(tmp_path / "lf/dataset_info.json", tmp_path / "images")
    assert again.samples(range(4)) == pool.samples(range(4))


def test_swift_schema(pool: Pool, tmp_path: Path) -> None:
    """What ms-swift's custom-dataset page requires: messages of role and content, images only where
    there are some."""
    export(pool, range(4), tmp_path / "p.jsonl", "swift", Options(absolute=True))
    rows = [
        json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [r.get("images") is None for r in rows] == [False, False, True, False]
    for row in rows:
        assert all(
            m["role"] in ("system", "user", "assistant") and isinstance(m["content"], str)
            for m in row["messages"]
        )
        assert all(Path(i).is_absolute() and Path(i).is_file() for i in row.get("images", []))
        assert sum(m["content"].count("<image>") for m in row["messages"]) == len(
            row.get("images", [])
        )


def test_openai_messages_with_embedded_images(pool: Pool, tmp_path: Path) -> None:
    export(pool, range(4), tmp_path / "p.jsonl", "messages", EMBED)
    first = json.loads((tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()[0])
    parts = first["messages"][0]["content"]
    assert [p["type"] for p in parts] == ["image_url", "text"]
    assert (
        parts[0]["image_url"]["url"].startswith("data:image/png;base64,") and "images" not in first
    )


# ------------------------------------------------------------------------- paths, embedding, losses


def test_path_options(pool: Pool, tmp_path: Path) -> None:
    def first(options: Options | None, format: str = "llava") -> str:
        export(pool, [0], tmp_path / "p.json", format, options)
        record = json.loads((tmp_path / "p.json").read_text())[0]
        return record["image"] if format == "llava" else record["images"][0]

    images = tmp_path / "images"
    assert first(None) == "a.png" and first(Options(absolute=True)) == str(images / "a.png")
    assert first(Options(relative_to=str(tmp_path))) == "images/a.png"
    assert first(Options(absolute=True), "sharegpt") == str(images / "a.png")
    # the same row by either path
    assert open_pool(tmp_path / "p.json", images).digest[0] == pool.digest[0]


def test_embedding_keeps_the_digest(pool: Pool, tmp_path: Path) -> None:
    from thresher.types import ImageRef, Sample

    export(pool, range(len(pool)), tmp_path / "p.parquet", "parquet", EMBED)
    again = open_pool(tmp_path / "p.parquet", tmp_path / "images")
    for row, before in enumerate(pool.samples(range(4))):
        images = tuple(ImageRef(data=pool.image_bytes(i)) for i in before.images)
        assert again.sample(row).digest == Sample(before.id, before.turns, images).digest
        assert again.digest[row] == pool.digest[row]


def test_embedded_images_are_written_once(pool: Pool, tmp_path: Path) -> None:
    export(pool, range(4), tmp_path / "p.parquet", "parquet", EMBED)
    packed = open_pool(tmp_path / "p.parquet")
    notes = export(packed, range(4), tmp_path / "out/x.json", "llava")
    assert len(list((tmp_path / "out/x_images").iterdir())) == 3
    assert notes == (
        f"3 embedded images are written to {tmp_path}/out/x_images; image paths start from "
        f"{tmp_path}/out.",
    )
    again = open_pool(tmp_path / "out/x.json")
    assert not again.facts["missing_images"].any() and len(again.index.image_path) == 3


def test_losses_are_reported_with_counts(tmp_path: Path) -> None:
    rows = [
        {"image": ["a.png", 7], "conversations": qa("<image>Q")},
        {"texts": "S", "images": [], "conversations": qa("Q")},
        {"image": "gone.png", "conversations": qa("<image>Q")},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pool = open_pool(tmp_path / "p.jsonl", make_images(tmp_path / "images"), format="llava")
    notes = export(pool, range(3), tmp_path / "p.tar", "webdataset")
    assert any(
        "the field 'texts' has another meaning there and is left out (1 row)" in n for n in notes
    )
    assert any("an image that is neither a path nor bytes is left out (1 row)" in n for n in notes)
    assert any("1 images could not be read" in n and "gone.png" in n for n in notes)


def test_shards(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.errors import ConfigError
    from thresher.exporters import webdataset

    monkeypatch.setattr(webdataset, "SHARD_ROWS", 3)
    export(pool, range(len(pool)), tmp_path / "shards", "webdataset")
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == [
        "000000.tar",
        "000001.tar",
        "000002.tar",
    ]
    again = open_pool(f"{tmp_path}/shards/*.tar", tmp_path / "images")
    assert again.ids(range(7)) == pool.ids(range(7)) and again.format == "webdataset"
    with pytest.raises(ConfigError, match=r"already contains tars \(000000\.tar\)"):
        export(pool, [0], tmp_path / "shards", "webdataset")
    with pytest.raises(ConfigError, match=r"neither a \.tar nor a folder"):
        export(pool, [0], tmp_path / "p.json", "webdataset")


@pytest.mark.parametrize("name", ["easy_vqa/test", "nlvr/dev"])
def test_public_data_through_every_format(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "data" / name.split("/")[0] / "images"
    pool = open_pool(shared / "data" / f"{name}.json", folder)
    rows = np.arange(0, len(pool), 97)
    expected = pool.samples(rows)
    for format, file in (
        ("sharegpt", "p.json"),
        ("llamafactory", "p.json"),
        ("swift", "p.jsonl"),
        ("messages", "p.jsonl"),
        ("parquet", "p.parquet"),
        ("llava", "p.json"),
        ("llava-jsonl", "p.jsonl"),
        ("sharegpt-jsonl", "p.jsonl"),
        ("messages-json", "p.json"),
    ):
        export(pool, rows, tmp_path / format / file, format)
        again = open_pool(tmp_path / format / file, folder)
        assert again.samples(range(len(rows))) == expected, format
        assert again.digest.tobytes() == np.ascontiguousarray(pool.digest[rows]).tobytes()
    for format, file in (
        ("parquet", "e.parquet"),
        ("webdataset", "e.tar"),
        ("messages", "e.jsonl"),
    ):
        export(pool, rows, tmp_path / file, format, EMBED)
        again = open_pool(tmp_path / file)
        assert [s.turns for s in again.samples(range(len(rows)))] == [s.turns for s in expected]
        assert (
            again.load_image(again.sample(5).images[0]).tobytes()
            == pool.load_image(expected[5].images[0]).tobytes()
        )
