"""Mutated files of every format: an answer or a PoolError, never a traceback, and bad rows are
counted, not lost."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exporters.pools_by_format import EMBED, make_images
from thresher.errors import ImageError, PoolError
from thresher.exporters import export
from thresher.pools import open_pool
from thresher.types import digests_to_bytes

_count = itertools.count()
TURNS = [{"from": "human", "value": "<image>Q\n"}, {"from": "gpt", "value": "größe 🎈"}]
FILES = {
    "p.json": ("llava", None),
    "p.jsonl": ("sharegpt", None),
    "swift.jsonl": ("swift", None),
    "m.jsonl": ("messages", EMBED),
    "p.parquet": ("parquet", EMBED),
    "p.tar": ("webdataset", None),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    images = make_images(folder / "images")
    rows = [
        {"id": i, "image": "a.png", "meta": {"x": [i]}, "conversations": TURNS} for i in range(4)
    ]
    (folder / "start.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pool = open_pool(folder / "start.jsonl", images)
    for name, (format, options) in FILES.items():
        export(pool, range(4), folder / name, format, options)
    (folder / "mix.yaml").write_text(
        "datasets:\n  - {json_path: p.json, sampling_strategy: 'first:50%'}\n"
    )
    (folder / "dataset_info.json").write_text(
        '{"mine": {"file_name": "p.json", "formatting": "sharegpt"}}'
    )
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "insert", "repeat"]),
        st.integers(0, 2**30),
        st.binary(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for what, at, data in mutations:
        at %= len(content) + 1
        if what == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 + at % 255)]) + content[at + 1 :]
        elif what == "cut":
            content = content[:at]
        elif what == "drop":
            content = content[:at] + content[at + 20 :]
        elif what == "insert":
            content = content[:at] + data + content[at:]
        elif what == "repeat":
            content = content[:at] + content[max(at - 40, 0) : at] + content[at:]
    return content


def use(path: Path) -> None:
    """Open and read all of it."""
    try:
        pool = open_pool(path)
        samples = pool.samples(range(len(pool)))
        list(pool.raw(range(len(pool))))
    except PoolError:
        return
    assert [s.digest for s in samples] == digests_to_bytes(pool.digest)
    assert [s.problem for s in samples] == [pool.problems.get(r, "") for r in range(len(pool))]
    for image in [i for s in samples for i in s.images]:
        try:
            pool.load_image(image)
        except ImageError:
            continue


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*FILES, "mix.yaml", "dataset_info.json"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mutations=MUTATIONS)
def test_damaged_files(
    name: str, originals: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, mutations: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"fuzz{next(_count)}"
    folder.mkdir()
    for other, content in originals.items():
        if other == "p.json" or other == name:
            (folder / other).write_bytes(content)
    (folder / name).write_bytes(mutated(originals[name], mutations))
    use(folder / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "image",
                    "images",
                    "conversations",
                    "messages",
                    "texts",
                    "from",
                    "value",
                    "role",
                    "content",
                    "type",
                    "text",
                    "image_url",
                    "url",
                    "bytes",
                    "path",
                    "user",
                    "assistant",
                    "instruction",
                    "input",
                    "output",
                    "history",
                    "system",
                    "tools",
                    "videos",
                    "extra_json",
                    "source",
                    "data",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    records=st.lists(JSON, min_size=1, max_size=5),
    format=st.sampled_from([None, "llava", "sharegpt", "swift", "messages", "texts", "alpaca"]),
)
def test_any_json_under_any_format(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], format: str | None
) -> None:
    file = tmp_path_factory.getbasetemp() / f"any{next(_count)}.jsonl"
    good = {"id": 1, "conversations": TURNS, "messages": [{"role": "user", "content": "Q"}]}
    file.write_text("\n".join(map(json.dumps, [*records, good])))
    try:
        pool = open_pool(file, format=format)
    except PoolError:
        return
    samples = pool.samples(range(len(pool)))
    assert len(samples) == len(records) + 1 and [s.digest for s in samples] == digests_to_bytes(
        pool.digest
    )
    readable = [r for r in range(len(pool)) if not pool.unreadable[r]]
    out = file.with_suffix(".out.jsonl")
    export(pool, readable, out, "swift")
