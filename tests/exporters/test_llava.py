"""LLaVA export: the records' own bytes, valid files, atomic writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from thresher.errors import ConfigError, PoolError, StoreError
from thresher.exporters import export
from thresher.exporters import target as target_module
from thresher.pools import open_pool
from thresher.types import digests_to_bytes

LINES = [
    '{"id":1,   "conversations":[{"from":"human","value":"caf\\u00e9 '
    '1.10"},{"from":"gpt","value":"A"}], "x": 1.100, "x": 2e400}',
    '{"id": "größe", "conversations": [{"from": "human", "value": "🎈 \\r\\n  \\u2028"}, {"from": '
    '"gpt", "value": "B"}], '
    '"deep": {"a": [null]}}',
    '{ "id":\t3, "conversations": [{"from": "human", "value": "\\ud800"}, {"from": "gpt", '
    '"value": "C"}] }',
]
PRETTY = [
    line.replace("{", "{\r\n\t  ").replace(", ", ",\n      ").replace("}", "\n }") for line in LINES
]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_bytes(
        "\r\n".join(LINES).encode()
        + (
            b'\n{"id": 4, "conversations": [{"from": "human", "value": "\xff"}, {"from": "gpt", '
            b'"value": "D"}]}\n'
        )
    )
    return file


@pytest.fixture
def pretty(tmp_path: Path) -> Path:
    file = tmp_path / "in.json"
    file.write_bytes(b"\xef\xbb\xbf[ \n" + " ,\n\n".join(PRETTY).encode() + b"\n]")
    return file


def test_jsonl_to_jsonl_keeps_every_byte(lines, tmp_path):
    (note,) = export(open_pool(lines), [0, 1, 2, 3], tmp_path / "out.jsonl")
    assert note.startswith(
        "1 row has text that is not valid UTF-8 (rows by field: 'conversations' 1)."
    )
    assert export(open_pool(lines), [0, 1, 2], tmp_path / "valid.jsonl") == ()
    assert (tmp_path / "out.jsonl").read_bytes() == lines.read_bytes().replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("format", "note"),
    [
        (
            "messages-jsonl",
            "invalid Unicode in the turns is replaced by ?; extra_json has the original",
        ),
        ("llava-json", "text that is not valid Unicode is written as escapes of lone surrogates"),
    ],
)
def test_invalid_unicode_is_noted_where_rows_are_rewritten(lines, tmp_path, format, note):
    """Row 2 has a lone surrogate, row 3 an invalid byte. A tar's rows are never copied."""
    pool = open_pool(lines)
    export(pool, [0, 1, 2, 3], tmp_path / "packed.tar", "webdataset")
    source = open_pool(tmp_path / "packed.tar") if format == "llava-json" else pool
    notes = export(source, [0, 1, 2, 3], tmp_path / "out", format)
    assert any(f"{note} (2 rows)" in each for each in notes), notes


def test_json_to_json_keeps_every_record(pretty, tmp_path):
    export(open_pool(pretty), np.array([2, 0]), tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == f"[\n{PRETTY[0]},\n{PRETTY[2]}\n]\n".encode()


def test_jsonl_to_json(lines, tmp_path):
    export(open_pool(lines), range(3), tmp_path / "out.json", "llava-json")
    assert (tmp_path / "out.json").read_bytes() == ("[\n" + ",\n".join(LINES) + "\n]\n").encode()


def test_json_to_jsonl_changes_only_the_layout(pretty, tmp_path):
    export(open_pool(pretty), range(3), tmp_path / "out.jsonl", "llava-jsonl")
    out = (tmp_path / "out.jsonl").read_bytes().decode()
    assert out.count("\n") == 3
    for written, original in zip(
        out.splitlines() if "\u2028" not in out else out.split("\n"), LINES, strict=False
    ):
        assert json.loads(written) == json.loads(original)
        for token in ("1.100", "2e400", "caf\\u00e9", "\\r\\n  \\u2028", '"x": 1', "🎈"):
            assert (token in written) == (token in original)


@pytest.mark.parametrize("source", ["lines", "pretty"])
@pytest.mark.parametrize("form", ["llava-json", "llava-jsonl"])
def test_reading_back_gives_the_same_samples(source, form, tmp_path, request):
    pool = open_pool(request.getfixturevalue(source))
    out = tmp_path / f"again.{form.partition('-')[2]}"
    export(pool, range(len(pool)), out, form)
    again = open_pool(out)
    assert again.format == form and digests_to_bytes(again.digest) == digests_to_bytes(pool.digest)
    assert (
        again.ids(range(len(again))) == pool.ids(range(len(pool)))
        and again.problems == pool.problems
    )


def test_rows_are_written_in_pool_order(tiny_pool, tmp_path):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    export(pool, [8, 2, 5], tmp_path / "new/folder/out.json")
    assert [r["id"] for r in json.loads((tmp_path / "new/folder/out.json").read_bytes())] == [
        "a2",
        5,
        "sys",
    ]


def test_no_rows_is_an_empty_list(tiny_pool, tmp_path):
    export(open_pool(tiny_pool, tiny_pool.parent / "images"), [], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_public_data_round_trip(shared, tmp_path):
    pool = open_pool(shared / "data/nlvr/dev.json", shared / "data/nlvr/images")
    rows = range(0, len(pool), 7)
    export(pool, rows, tmp_path / "out.json")
    records = json.loads((shared / "data/nlvr/dev.json").read_bytes())
    assert json.loads((tmp_path / "out.json").read_bytes()) == [records[r] for r in rows]


def test_unknown_format_suggests_the_nearest(tiny_pool, tmp_path):
    with pytest.raises(ConfigError, match=r"no format 'llava-jsn'.*Did you mean 'llava-json'"):
        export(open_pool(tiny_pool, tiny_pool.parent / "images"), [0], tmp_path / "x", "llava-jsn")


def test_pool_is_never_overwritten(tiny_pool, tmp_path):
    before = tiny_pool.read_bytes()
    (tmp_path / "link.json").symlink_to(tiny_pool)
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    for target in (tiny_pool, tmp_path / "link.json"):
        with pytest.raises(ConfigError, match="is the pool itself"):
            export(pool, [0], target)
    assert tiny_pool.read_bytes() == before


def test_unreadable_rows_are_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text(LINES[0] + "\nbroken\n")
    with pytest.raises(PoolError, match=r"1 of the rows to export .*row 1: unreadable: line 2"):
        export(open_pool(tmp_path / "p.jsonl"), [0, 1], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_outside_the_pool_are_refused(tiny_pool, tmp_path):
    for bad in ([-1], [10]):
        with pytest.raises(IndexError):
            export(open_pool(tiny_pool, tiny_pool.parent / "images"), bad, tmp_path / "out.json")


def test_unwritable_paths(tiny_pool, tmp_path):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    with pytest.raises(ConfigError, match="is a folder"):
        export(pool, [0], tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"pool\.json/x\.json cannot be written: .* is a file, "
        r"not a folder",
    ):
        export(pool, [0], tiny_pool / "x.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(pool, [0], Path("/proc/nowhere/x.json"))


def test_full_disk_keeps_the_old_file(tiny_pool, tmp_path, monkeypatch):
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    target = tmp_path / "out" / "subset.json"
    export(pool, [0], target)
    before = target.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(target_module.os, "fsync", full)
    with pytest.raises(
        StoreError,
        match=r"subset\.json could not be written: No space left on device\. Free "
        r"some space",
    ):
        export(pool, [1], target)
    assert target.read_bytes() == before and os.listdir(target.parent) == ["subset.json"]
