"""Pools in every supported format, built from LLaVA records, and hypothesis strategies for
rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from PIL import Image

from thresher.exporters import export
from thresher.exporters.options import Options
from thresher.pools import Pool, open_pool

NAMES = ("a.png", "sub/b.jpg", "größe 日本.png", "c.gif")
EMBED = Options(embed=True)


def make_images(folder: Path) -> Path:
    """An image folder with NAMES."""
    for i, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3 + i, 4), (10 * i, 99, 7)).save(folder / name)
    return folder


# --------------------------------------------------------------------------------------------- rows

TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(["\ud800", "\0", "\r", "\n", "<", "\u2028", "🎈", "é"]),
    ),
    max_size=30,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
IDS = (
    TEXT
    | st.integers()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.integers(), max_size=2)
)
TAKEN = (
    "conversations",
    "messages",
    "texts",
    "image",
    "images",
    "system",
    "tools",
    "extra_json",
    "id",
    "video",
    "videos",
)
FIELDS = st.dictionaries(
    (
        TEXT
        | st.sampled_from(["meta", "score", "idx", "objects", "url", "__key__", "path", "bytes"])
    ).filter(
        lambda k: k not in TAKEN and k not in ("data_source", "source", "image_source", "dataset")
    ),
    JSON,
    max_size=3,
)
ODD_TURN = st.sampled_from(
    [
        {"from": "narrator", "value": "x"},
        {"from": "developer", "value": "x"},
        {"from": "gpt", "value": None},
        {"from": None, "value": "x"},
        {"value": "x"},
        {"from": "human", "value": 7},
        {"from": "human", "value": ["x"]},
        {"from": "gpt", "value": "x", "weight": 0.5},
        {"from": "gpt", "value": "x", "role": "user", "content": "y"},
        {"from": "user", "value": "x"},
        {"from": "assistant", "value": "x"},
        "text",
        7,
        None,
    ]
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """One LLaVA record: mostly well-formed, with odd ids, fields and sometimes odd turns."""
    images = draw(st.lists(st.sampled_from([*NAMES, "missing.png"]), max_size=3))
    turns: list[Any] = []
    if draw(st.booleans()):
        turns.append({"from": "system", "value": draw(TEXT)})
    for i in range(draw(st.integers(1, 3))):
        question = draw(TEXT)
        if i == 0 and draw(st.integers(0, 3)):
            question = "<image>" * len(images) + question
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": draw(TEXT)}]
    if draw(st.integers(0, 4)) == 0:
        turns.insert(draw(st.integers(0, len(turns))), draw(ODD_TURN))
    record: dict[str, Any] = {}
    if draw(st.integers(0, 5)):
        record["id"] = draw(IDS)
    if images:
        record["image"] = images[0] if len(images) == 1 and draw(st.booleans()) else images
    if draw(st.booleans()):
        record["data_source"] = draw(st.sampled_from(["one", "two"]))
    return {**record, **draw(FIELDS), "conversations": turns}


PLAIN = {
    "id": "plain",
    "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
}
# one that is surely usable
POOLS = st.lists(records(), min_size=1, max_size=6).map(lambda rows: [PLAIN, *rows])


# ---------------------------------------------------------------------------- pools of every format


def start(folder: Path, rows: list[dict[str, Any]], images: Path) -> Pool:
    """The rows as a LLaVA JSONL pool."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return open_pool(folder / "pool.jsonl", images)


def _exported(
    format: str, name: str, options: Options | None = None
) -> Callable[[Path, Pool], Path]:
    def make(folder: Path, pool: Pool) -> Path:
        export(pool, range(len(pool)), folder / name, format, options)
        return folder / name

    return make


def _gzip_tar(folder: Path, pool: Pool) -> Path:
    export(pool, range(len(pool)), folder / "plain.tar", "webdataset")
    (folder / "pool.tar.gz").write_bytes(gzip.compress((folder / "plain.tar").read_bytes()))
    return folder / "pool.tar.gz"


def _saved(folder: Path, pool: Pool) -> Path:
    import datasets

    export(pool, range(len(pool)), folder / "pool.parquet", "parquet", EMBED)
    data = datasets.Dataset.from_parquet(
        str(folder / "pool.parquet"), cache_dir=str(folder / "cache")
    )
    data.save_to_disk(str(folder / "saved"))
    return folder / "saved"


def _mixture(folder: Path, pool: Pool) -> Path:
    export(pool, range(0, len(pool), 2), folder / "even.json", "llava")
    export(pool, range(1, len(pool), 2), folder / "odd.jsonl", "swift")
    entries = [{"json_path": name} for name in ("even.json", "odd.jsonl")]
    (folder / "mix.yaml").write_text(
        yaml.safe_dump({"datasets": entries[: 2 if len(pool) > 1 else 1]})
    )
    return folder / "mix.yaml"


def _llamafactory(folder: Path, pool: Pool) -> Path:
    _exported("llamafactory", "pool.json")(folder, pool)
    return folder / "dataset_info.json"


def _well_formed(pool: Pool) -> list[tuple[dict[str, Any], str, list[list[str]], list[str]]]:
    """(other fields, system, pairs of question and answer, images) of the rows that the
    layouts alpaca and texts can represent."""
    out = []
    for row in range(len(pool)):
        record = dict(pool.record(row))
        turns, images = record.pop("conversations"), record.pop("image", [])
        system = ""
        if all(
            isinstance(t, dict) and isinstance(t.get("value"), str) and set(t) == {"from", "value"}
            for t in turns
        ):
            if turns[0]["from"] == "system" and turns[0]["value"]:
                system = turns.pop(0)["value"]
            texts = [t["value"] for t in turns]
            if turns and [t["from"] for t in turns] == ["human", "gpt"] * (len(turns) // 2):
                pairs = [texts[i : i + 2] for i in range(0, len(texts), 2)]
                out.append((record, system, pairs, [images] if isinstance(images, str) else images))
    return out


def _alpaca(folder: Path, pool: Pool) -> Path:
    rows = []
    for record, system, pairs, images in _well_formed(pool):
        (question, answer), history = pairs[-1], pairs[:-1]
        row = {
            **record,
            "instruction": question,
            "input": "",
            "output": answer,
            "history": history,
            "images": images,
        }
        rows.append({**row, **({"system": system} if system else {})})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.json").write_text(json.dumps(rows))
    return folder / "pool.json"


def _texts(folder: Path, pool: Pool) -> Path:
    rows = [
        {**record, "texts": [{"user": q, "assistant": a} for q, a in pairs], "images": images}
        for record, system, pairs, images in _well_formed(pool)
        if not system
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "pool.jsonl"


def _gzip_lines(folder: Path, pool: Pool) -> Path:
    export(pool, range(len(pool)), folder / "plain.jsonl", "swift")
    (folder / "pool.jsonl.gz").write_bytes(gzip.compress((folder / "plain.jsonl").read_bytes()))
    return folder / "pool.jsonl.gz"


READERS: dict[str, Callable[[Path, Pool], Path]] = {
    "llava-json": _exported("llava", "pool.json"),
    "llava-jsonl": _exported("llava", "pool.jsonl"),
    "sharegpt-json": _exported("sharegpt", "pool.json"),
    "sharegpt-jsonl": _exported("sharegpt", "pool.jsonl"),
    "llamafactory": _llamafactory,
    "swift": _exported("swift", "pool.jsonl"),
    "messages": _exported("messages", "pool.jsonl"),
    "messages, data URIs": _exported("messages", "pool.json", EMBED),
    "parquet": _exported("parquet", "pool.parquet"),
    "parquet, bytes": _exported("parquet", "pool.parquet", EMBED),
    "datasets folder": _saved,
    "webdataset": _exported("webdataset", "pool.tar"),
    "webdataset, shards": _exported("webdataset", "shards"),
    "webdataset, gzip": _gzip_tar,
    "mixture": _mixture,
    "alpaca": _alpaca,
    "texts": _texts,
    "swift, gzip": _gzip_lines,
}
# hold other rows than they were made of: in another order, or some
NOT_ALL = ("mixture", "alpaca", "texts")
EXPORTERS: dict[str, tuple[str, str, Options | None]] = {
    "llava": ("llava", "pool.json", None),
    "llava-jsonl": ("llava-jsonl", "pool.jsonl", None),
    "sharegpt": ("sharegpt", "pool.json", None),
    "sharegpt-jsonl": ("sharegpt-jsonl", "pool.jsonl", None),
    "llamafactory": ("llamafactory", "pool.json", None),
    "swift": ("swift", "pool.jsonl", None),
    "messages": ("messages", "pool.jsonl", None),
    "messages-json": ("messages-json", "pool.json", None),
    "messages, data URIs": ("messages", "pool.jsonl", EMBED),
    "parquet": ("parquet", "pool.parquet", None),
    "parquet, bytes": ("parquet", "pool.parquet", EMBED),
    "webdataset": ("webdataset", "pool.tar", None),
    "webdataset, shards": ("webdataset", "shards", None),
    "llava, absolute": ("llava", "pool.json", Options(absolute=True)),
    "swift, absolute": ("swift", "pool.jsonl", Options(absolute=True)),
}
