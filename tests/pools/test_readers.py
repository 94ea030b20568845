"""Files of other tools are recognised by content; invalid files are reported."""

from __future__ import annotations

import base64
import datetime
import decimal
import gzip
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from thresher.doctor import find_problems, repair
from thresher.errors import ConfigError, PoolError
from thresher.exporters import export
from thresher.pools import open_pool
from thresher.types import Sample


def png(colour: tuple[int, int, int] = (9, 8, 7)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(out, "PNG")
    return out.getvalue()


def only(file: Path, **options: Any) -> Sample:
    pool = open_pool(file, **options)
    assert len(pool) == 1 and not pool.problems, dict(pool.problems)
    return pool.sample(0)


def said(sample: Sample) -> list[tuple[str, str]]:
    return [(t.role, t.text) for t in sample.turns]


def write(file: Path, *records: Any, lines: bool = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "\n".join(map(json.dumps, records)) if lines else json.dumps(list(records)),
        encoding="utf-8",
    )
    return file


# ------------------------------------------------------------------------------------------ layouts

URI = "data:image/png;base64," + base64.b64encode(png()).decode()
ONE_IMAGE = [("user", "<image>Q"), ("assistant", "A")]

RECORDS: dict[str, tuple[dict[str, Any], str, list[tuple[str, str]], list[str | bytes]]] = {
    "LLaMA-Factory, messages": (
        {
            "messages": [
                {"role": "user", "content": "<image>Q"},
                {"role": "assistant", "content": "A"},
            ],
            "images": ["p.png"],
        },
        "sharegpt-json",
        ONE_IMAGE,
        ["p.png"],
    ),
    "ShareGPT with a system text and tools": (
        {
            "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
            "system": "Be brief.",
            "tools": "[]",
        },
        "sharegpt-json",
        [("system", "Be brief."), ("user", "Q"), ("assistant", "A")],
        [],
    ),
    "OpenAI, image_url": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": URI}},
                        {"type": "text", "text": "Q"},
                    ],
                },
                {"role": "assistant", "content": "A"},
            ]
        },
        "messages-json",
        ONE_IMAGE,
        [png()],
    ),
    "OpenAI, developer": (
        {
            "messages": [
                {"role": "developer", "content": "D"},
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A"},
            ]
        },
        "messages-json",
        [("system", "D"), ("user", "Q"), ("assistant", "A")],
        [],
    ),
    "Qwen, image path": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": "p.png", "min_pixels": 4},
                        {"type": "text", "text": "Q1"},
                        {"type": "image", "image": "sub/q.png"},
                        {"type": "text", "text": "Q2"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
            ]
        },
        "messages-json",
        [("user", "<image>Q1<image>Q2"), ("assistant", "A")],
        ["p.png", "sub/q.png"],
    ),
    "TRL, bare image parts": (
        {
            "images": ["p.png", "sub/q.png"],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image"},
                        {"type": "image"},
                        {"type": "text", "text": "Q"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
            ],
        },
        "messages-json",
        [("user", "<image><image>Q"), ("assistant", "A")],
        ["p.png", "sub/q.png"],
    ),
    "bare and named image parts in one turn": (
        {
            "images": ["p.png"],
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "image", "image": "sub/q.png"}],
                },
                {"role": "assistant", "content": "A"},
            ],
        },
        "messages-json",
        [("user", "<image><image>"), ("assistant", "A")],
        ["p.png", "sub/q.png"],
    ),
    "Anthropic, source": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": URI.partition(",")[2],
                            },
                        },
                        {"type": "text", "text": "Q"},
                    ],
                },
                {"role": "assistant", "content": "A"},
            ]
        },
        "messages-json",
        ONE_IMAGE,
        [png()],
    ),
    "pairs, as the Cauldron has them": (
        {
            "images": ["p.png"],
            "texts": [
                {"user": "Q", "assistant": "A", "source": "ai2d"},
                {"user": "R", "assistant": "B", "source": "ai2d"},
            ],
        },
        "texts-json",
        [("user", "<image>\nQ"), ("assistant", "A"), ("user", "R"), ("assistant", "B")],
        ["p.png"],
    ),
    "Alpaca": (
        {
            "instruction": "Add.",
            "input": "1 2",
            "output": "3",
            "history": [["H", "I"]],
            "system": "S",
            "images": [],
        },
        "alpaca-json",
        [
            ("system", "S"),
            ("user", "H"),
            ("assistant", "I"),
            ("user", "Add.\n1 2"),
            ("assistant", "3"),
        ],
        [],
    ),
    "LLaVA with an embedded image": (
        {
            "image": URI,
            "conversations": [
                {"from": "human", "value": "<image>Q"},
                {"from": "gpt", "value": "A"},
            ],
        },
        "llava-json",
        ONE_IMAGE,
        [png()],
    ),
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images/sub").mkdir(parents=True)
    for name in ("p.png", "sub/q.png"):
        (tmp_path / "images" / name).write_bytes(png())
    return tmp_path / "images"


@pytest.mark.parametrize("what", RECORDS)
def test_every_format_is_recognised_and_read(what: str, tmp_path: Path, images: Path) -> None:
    record, format, turns, displayed = RECORDS[what]
    file = write(tmp_path / "pool.json", record)
    assert open_pool(file, images).format == format
    sample = only(file, images=images)
    assert said(sample) == turns
    assert [i.data or i.path for i in sample.images] == displayed
    assert all(i.size == len(png()) for i in sample.images)
    lines = open_pool(write(tmp_path / "lines.jsonl", record, record, lines=True), images)
    assert lines.samples([0, 1])[1].turns == sample.turns and lines.format.endswith("-jsonl")


def test_swift_lines(tmp_path: Path, images: Path) -> None:
    turns = [{"role": "user", "content": "<image>Q"}, {"role": "assistant", "content": "A"}]
    rows = [
        {
            "messages": turns,
            "images": [str(images / "p.png")],
            "objects": {"ref": ["x"], "bbox": [[1, 2, 3, 4]]},
        },
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "T"},
                turns[1],
            ]
        },
        {"messages": turns, "images": [{"bytes": None, "path": "p.png"}]},
        {"messages": [{"role": "user", "content": "<video>Q"}, turns[1]], "videos": ["v.mp4"]},
        {"messages": turns, "images": ["/elsewhere/p.png"]},
    ]
    pool = open_pool(write(tmp_path / "s.jsonl", *rows, lines=True), images)
    assert pool.format == "swift-jsonl"
    assert [i.path for s in pool.samples([0, 2]) for i in s.images] == ["p.png", "p.png"]
    # an absolute path inside the image folder is the relative one
    assert pool.digest[0] == pool.digest[2]
    assert {r: p.partition(":")[0] for r, p in pool.problems.items()} == {3: "video"}
    assert pool.facts["missing_images"].tolist() == [False] * 4 + [True]
    assert "absolute path" in pool.missing_image_reasons([4])[0]


def test_invalid_messages_rows_are_counted(tmp_path: Path) -> None:
    good = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    rows: list[Any] = [
        {"messages": good},
        {"messages": "text"},
        {"messages": None},
        {"messages": [7, None, "x"]},
        {"messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}, good[1]]},
        {"messages": [{"role": "user", "content": [7]}, good[1]]},
        {"messages": [{"role": "tool", "content": "x"}, good[1]]},
        {"messages": [{"role": "user", "content": None}, good[1]]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": 7}]}, good[1]]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, good[1]]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": "data:image/png;base64,%%%"}],
                },
                good[1],
            ]
        },
        {"messages": {"role": ["user", "assistant"], "content": ["Q", "A"]}},
        [1],
        7,
    ]
    pool = open_pool(write(tmp_path / "m.jsonl", *rows, lines=True))
    kinds = {r: p.partition(":")[0] for r, p in pool.problems.items()}
    assert kinds == {
        1: "unreadable",
        2: "unreadable",
        3: "bad-turn",
        4: "audio",
        5: "bad-value",
        6: "unknown-role",
        7: "bad-value",
        8: "bad-image",
        9: "placeholder-mismatch",
        10: "bad-image",
        12: "unreadable",
        13: "unreadable",
    }
    assert [s.problem for s in pool.samples(range(len(rows)))] == [
        pool.problems.get(r, "") for r in range(len(rows))
    ]
    # a struct of lists, as older `datasets` had it
    assert said(pool.sample(11)) == [("user", "Q"), ("assistant", "A")]


def test_ambiguous_and_unknown_records_are_refused_with_their_keys(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    llava = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "B"}]
    both = write(tmp_path / "both.json", {"messages": turns, "conversations": llava})
    with pytest.raises(
        PoolError,
        match=r"ambiguous: .*\(llava, messages\); keys found: messages, "
        r"conversations\..*`format`",
    ):
        open_pool(both)
    assert (
        said(only(both, format="llava"))[1][1] == "B"
        and said(only(both, format="messages"))[1][1] == "A"
    )
    with pytest.raises(
        PoolError,
        match=r"Keys of the first record: question, answer\..*Formats considered: "
        r"llava.*alpaca",
    ):
        open_pool(write(tmp_path / "qa.json", {"question": "Q", "answer": "A"}))
    with pytest.raises(ConfigError, match=r"no format 'swfit'.*Did you mean 'swift'"):
        open_pool(both, format="swfit")


# ------------------------------------------------------------------------------------ LLaMA-Factory


def test_dataset_info_with_columns_and_tags(tmp_path: Path, images: Path) -> None:
    write(
        images / "mine.json",
        {
            "talk": [{"who": "U", "what": "<image>Q"}, {"who": "B", "what": "A"}],
            "pics": ["p.png"],
            "sys": "S",
            "x": 1,
        },
    )
    write(images / "other.jsonl", {"instruction": "Q2", "input": "", "output": "A2"}, lines=True)
    info = {
        "mine": {
            "file_name": "mine.json",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "images": "pics", "system": "sys"},
            "tags": {
                "role_tag": "who",
                "content_tag": "what",
                "user_tag": "U",
                "assistant_tag": "B",
            },
        },
        "other": {"file_name": "other.jsonl"},
        "far": {"hf_hub_url": "org/far"},
        "absent": {"file_name": "absent.json"},
        "ranked": {"file_name": "mine.json", "ranking": True},
    }
    (images / "dataset_info.json").write_text(json.dumps(info))
    for path in (images / "dataset_info.json", images):
        pool = open_pool(path)
        assert len(pool) == 2 and pool.source_names == ("mine", "other") and not pool.problems
        assert said(pool.sample(0)) == [("system", "S"), ("user", "<image>Q"), ("assistant", "A")]
        assert pool.sample(0).images[0].size == len(png()) and pool.record(0)["x"] == 1
        assert said(pool.sample(1)) == [("user", "Q2"), ("assistant", "A2")]
    assert len(open_pool(f"{images}/dataset_info.json#other")) == 1
    with pytest.raises(PoolError, match=r"no entry 'othr'.*Did you mean 'other'"):
        open_pool(f"{images}/dataset_info.json#othr")
    with pytest.raises(PoolError, match="ranks answers"):
        open_pool(f"{images}/dataset_info.json#ranked")
    with pytest.raises(PoolError, match="no local file_name"):
        open_pool(f"{images}/dataset_info.json#far")


# -------------------------------------------------------------------------------- parquet, datasets

TURNS = [{"from": "human", "value": "<image>Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    "images",
    [
        {"image": [{"bytes": png(), "path": "x.png"}]},
        {"images": [[{"bytes": png(), "path": None}]]},
        {"image": [png()]},
        {"images": [[png()]]},
    ],
)
def test_parquet_with_bytes(tmp_path: Path, images: dict[str, Any]) -> None:
    table = pa.table({"id": ["a"], "conversations": [TURNS], "data_source": ["s"], **images})
    pq.write_table(table, tmp_path / "p.parquet")
    pool = open_pool(tmp_path / "p.parquet")
    sample = only(tmp_path / "p.parquet")
    assert (
        pool.format == "parquet"
        and sample.images[0].data == png()
        and sample.source == "s"
        and sample.id == '"a"'
    )
    assert pool.load_image(sample.images[0]).getpixel((0, 0)) == (9, 8, 7)
    assert (
        pool.image(0) == sample.images[0] and json.loads(next(pool.raw([0])))["data_source"] == "s"
    )


def test_parquet_with_paths_messages_and_pairs(tmp_path: Path, images: Path) -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]
    answer = [{"type": "text", "text": "A"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    pq.write_table(
        pa.table({"messages": [messages], "images": [["p.png"]]}), tmp_path / "m.parquet"
    )
    sample = only(tmp_path / "m.parquet", images=images)
    assert (
        said(sample) == ONE_IMAGE and sample.images[0].path == "p.png" and sample.images[0].size > 0
    )
    pairs = [{"user": "Q", "assistant": "A", "source": "s"}]
    pq.write_table(
        pa.table({"texts": [pairs], "images": [[{"bytes": png(), "path": None}]]}),
        tmp_path / "t.parquet",
    )
    sample = only(tmp_path / "t.parquet")
    assert said(sample) == [("user", "<image>\nQ"), ("assistant", "A")] and sample.source == "s"


def test_parquet_columns_without_a_json_form(tmp_path: Path) -> None:
    day = datetime.datetime(2026, 1, 2)
    good = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    for id_, named in ((b"\xff", "sha256:"), (day, "2026-01-02"), (decimal.Decimal("1.5"), "1.5")):
        pq.write_table(
            pa.table({"id": [id_] * 2, "conversations": [good, good]}), tmp_path / "p.parquet"
        )
        pool = open_pool(tmp_path / "p.parquet")
        assert pool.ids([0])[0].startswith(named)
        export(pool, [0, 1], tmp_path / "out.jsonl", "swift")
        assert open_pool(tmp_path / "out.jsonl").ids([0]) == pool.ids([0])
        bad = pa.array([[{"from": id_, "value": id_}], [{"from": id_, "value": id_}]])
        pq.write_table(pa.table({"conversations": bad}), tmp_path / "bad.parquet")
        assert "unknown-role" in open_pool(tmp_path / "bad.parquet").sample(0).problem
        repair(pool, find_problems(pool, near=False), tmp_path / "fixed.jsonl")
        assert len(open_pool(tmp_path / "fixed.jsonl")) == 2


def test_rows_of_many_row_groups(tmp_path: Path) -> None:
    rows = [
        [{"from": "human", "value": f"Q{i}"}, {"from": "gpt", "value": "A"}] for i in range(300)
    ]
    pq.write_table(
        pa.table({"conversations": rows}),
        tmp_path / "train-00000-of-00001.parquet",
        row_group_size=7,
    )
    pool = open_pool(tmp_path / "train-00000-of-00001.parquet")
    assert [s.turns[0].text for s in pool.samples([299, 0, 6, 7, 150])] == [
        "Q299",
        "Q0",
        "Q6",
        "Q7",
        "Q150",
    ]
    assert pool.source_names == ("train",)


def test_arrow_with_offsets_outside_the_file_is_damaged(tmp_path: Path) -> None:
    """pyarrow would read there, and the process would end."""
    table = pa.table({"id": ["aa", "bb"], "conversations": [[{"from": "human", "value": "Q"}]] * 2})
    with (
        pa.OSFile(str(tmp_path / "p.arrow"), "wb") as out,
        pa.ipc.new_stream(out, table.schema) as writer,
    ):
        writer.write_table(table)
    content = (tmp_path / "p.arrow").read_bytes()
    offsets = struct.pack("<3i", 0, 2, 4)
    assert content.count(offsets) == 1 and len(open_pool(tmp_path / "p.arrow")) == 2
    (tmp_path / "p.arrow").write_bytes(
        content.replace(offsets, struct.pack("<3i", 0, 2, 2**31 - 1))
    )
    with pytest.raises(PoolError, match="cannot be read beyond row 0"):
        open_pool(tmp_path / "p.arrow")


def test_bad_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["Q"], "answer": ["A"]}), tmp_path / "wrong.parquet")
    with pytest.raises(
        PoolError,
        match=r"Keys of the first record: question, answer\..*Formats "
        r"considered",
    ):
        open_pool(tmp_path / "wrong.parquet")
    pq.write_table(pa.table({"conversations": [TURNS] * 9}), tmp_path / "p.parquet")
    content = (tmp_path / "p.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(PoolError, match="damaged or not a parquet file"):
        open_pool(tmp_path / "cut.parquet")
    flipped = content[:40] + bytes(b ^ 0x55 for b in content[40:80]) + content[80:]
    (tmp_path / "flip.parquet").write_bytes(flipped)
    with pytest.raises(PoolError):
        open_pool(tmp_path / "flip.parquet")


def test_invalid_column_names_are_a_damaged_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"größe": ["Q"], "conversations": [TURNS]}), tmp_path / "p.parquet")
    content = (tmp_path / "p.parquet").read_bytes()
    (tmp_path / "p.parquet").write_bytes(content.replace("größe".encode(), b"gr\xff\xfe\xff\xfee"))
    with pytest.raises(PoolError, match="damaged or not a parquet file"):
        open_pool(tmp_path / "p.parquet")


def test_save_to_disk_folders(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_list(
        [
            {
                "messages": [
                    {"role": "user", "content": f"Q{i}"},
                    {"role": "assistant", "content": "A"},
                ]
            }
            for i in range(5)
        ]
    )
    data.select([4, 2]).save_to_disk(str(tmp_path / "picked"))
    pool = open_pool(tmp_path / "picked")
    assert pool.format == "datasets" and [s.turns[0].text for s in pool.samples([1, 0])] == [
        "Q2",
        "Q4",
    ]
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(
        str(tmp_path / "both")
    )
    assert len(open_pool(tmp_path / "both")) == 5 and len(open_pool(tmp_path / "both/test")) == 1
    assert open_pool(tmp_path / "both").source_names == ("both",)
    (tmp_path / "picked/state.json").write_text("{}")
    with pytest.raises(PoolError, match="names no Arrow files"):
        open_pool(tmp_path / "picked")


def test_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    write(tmp_path / "d.jsonl", {"conversations": TURNS[1:] + TURNS}, lines=True)
    data = datasets.Dataset.from_json(str(tmp_path / "d.jsonl"), cache_dir=str(tmp_path / "cache"))
    asked: list[tuple[str, str]] = []

    def fetched(name: str, split: str) -> Any:
        asked.append((name, split))
        return data

    monkeypatch.setattr(datasets, "load_dataset", fetched)
    monkeypatch.chdir(tmp_path)
    assert len(open_pool("org/name")) == 1 and len(open_pool("hub:org/name@test")) == 1
    assert asked == [("org/name", "train"), ("org/name", "test")]
    assert open_pool("org/name").source_names == ("name",)

    def offline(name: str, split: str) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        PoolError,
        match=r"no file or folder org/name, and .* from the hub: no network\. Give a "
        r"local path",
    ):
        open_pool("org/name")


# --------------------------------------------------------------------------------------- WebDataset


def tar(file: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(file, "w") as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return file


def record(question: str, **fields: Any) -> bytes:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return json.dumps({**fields, "conversations": turns}).encode()


MEMBERS = [
    ("d/", b""),
    ("d/000.jpg", png((1, 1, 1))),
    ("d/000.json", record("<image>Q", id=1, image="coco/x.jpg")),
    ("d/001.json", record("<image><image>Q", id=2)),
    ("d/001.0.png", png((2, 2, 2))),
    ("d/001.1.png", png((3, 3, 3))),
    ("d/._002.png", b"resource fork"),
    ("d/002.png", png((4, 4, 4))),
    ("d/002.txt", b"a caption\n"),
    ("e/002.json", record("text only", id=4)),
    ("e/" + "long" * 60 + ".json", b"{broken"),
    ("e/" + "long" * 60 + ".png", png()),
    (
        "f.json",
        json.dumps(
            {"messages": [{"role": "user", "content": [{"type": "image"}]}], "images": ["x"]}
        ).encode(),
    ),
    ("f.png", png()),
]


@pytest.mark.parametrize("packed", [False, True])
def test_webdataset(tmp_path: Path, packed: bool) -> None:
    file = tar(tmp_path / "shard-000.tar", MEMBERS[1:])
    if packed:
        (tmp_path / "shard-000.tar.gz").write_bytes(gzip.compress(file.read_bytes()))
        file = tmp_path / "shard-000.tar.gz"
    pool = open_pool(file, cache=tmp_path / "cache")
    assert pool.format == "webdataset" and len(pool) == 6 and pool.source_names == ("shard",)
    samples = pool.samples(range(6))
    assert [s.id for s in samples[:4]] == ["1", "2", '"002"', "4"]
    assert [[i.data for i in s.images] for s in samples[:4]] == [
        [png((1, 1, 1))],
        [png((2, 2, 2)), png((3, 3, 3))],
        [png((4, 4, 4))],
        [],
    ]
    assert said(samples[2]) == [("user", "<image>"), ("assistant", "a caption")]
    assert (
        pool.problems[4].startswith("unreadable: the json of sample longlong")
        and pool.unreadable.tolist().count(True) == 1
    )
    assert pool.load_image(pool.image(2)).getpixel((0, 0)) == (3, 3, 3)
    again = open_pool(file, cache=tmp_path / "cache")
    assert again.samples(range(6)) == samples and [s.digest for s in samples] == [
        s.digest for s in again.samples(range(6))
    ]


def test_truncated_tars(tmp_path: Path) -> None:
    content = tar(tmp_path / "whole.tar", MEMBERS[1:6]).read_bytes()
    for cut in (700, 1500, 4000, 5000):
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        with pytest.raises(PoolError, match="is cut off"):
            open_pool(tmp_path / "cut.tar")
    garbled = bytearray(content)
    garbled[2048 : 2048 + 512] = b"x" * 512
    (tmp_path / "bad.tar").write_bytes(garbled)
    with pytest.raises(PoolError, match="damaged"):
        open_pool(tmp_path / "bad.tar")
    end = len(content.rstrip(b"\0"))
    (tmp_path / "open.tar").write_bytes(content[: -(-end // 512) * 512])
    assert "no end-of-archive mark" in open_pool(tmp_path / "open.tar").notes[0]
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(content)[:-40])
    with pytest.raises(PoolError, match="gzip"):
        open_pool(tmp_path / "cut.tar.gz")


def test_both_turn_formats_in_one_file(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "<image>Q"}, {"role": "assistant", "content": "A"}]
    pool = open_pool(
        write(
            tmp_path / "p.jsonl",
            {"image": "p.png", "conversations": TURNS},
            {"images": ["p.png"], "messages": messages},
            lines=True,
        )
    )
    assert not pool.problems and pool.digest[0] == pool.digest[1]


def test_data_uris_that_are_not_base64(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>Q"}, {"from": "gpt", "value": "A"}]
    uris = [
        "data:image/svg+xml,%3Csvg%3E",
        "data:text/plain,\ud800",
        "data:,",
        "data:x",
        "DATA:;base64,QUI=",
    ]
    pool = open_pool(
        write(tmp_path / "p.json", *({"image": u, "conversations": turns} for u in uris))
    )
    assert [[i.data for i in s.images] for s in pool.samples(range(5))] == [
        [b"<svg>"],
        ["\ud800".encode("utf-8", "surrogatepass")],
        [],
        [],
        [b"AB"],
    ]
    assert {r: p.partition(":")[0] for r, p in pool.problems.items()} == {
        2: "bad-image",
        3: "bad-image",
    }


def test_other_formats_are_not_detected_as_alpaca(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    }
    (tmp_path / "llava.json").write_text(json.dumps([row, row]))
    with pytest.raises(
        PoolError,
        match=r"none of its 2 records is a row when read as alpaca.*Omit format=.alpaca",
    ):
        open_pool(tmp_path / "llava.json", format="alpaca")
    (tmp_path / "half.json").write_text(
        json.dumps([{"instruction": "Q", "output": "A"}, row, {"instruction": "Q"}])
    )
    pool = open_pool(tmp_path / "half.json", format="alpaca")
    assert [p.partition(":")[0] for p in pool.problems.values()] == ["unreadable", "bad-value"]
