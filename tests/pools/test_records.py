"""Reading records: exact byte ranges, both layouts, and invalid files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thresher.errors import PoolError
from thresher.pools import records as reader
from thresher.pools.records import Record, iter_records, sniff

GOOD = {
    "id": 1,
    "conversations": [
        {"from": "human", "value": "größe 日本 🎈 \n"},
        {"from": "gpt", "value": "A"},
    ],
}


def read(file: Path) -> list[Record]:
    with open(file, "rb") as f:
        return list(iter_records(f, sniff(f, file.name), file.name))


def write(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "pool.json"
    file.write_bytes(content)
    return file


def line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


LAYOUTS = {
    "list on one line": b"[" + b", ".join([line(GOOD)] * 3) + b"]",
    "elements on lines": b"[\n" + b",\n".join([line(GOOD)] * 3) + b"\n]\n",
    "indented": json.dumps([GOOD] * 3, indent=2, ensure_ascii=False).encode(),
    "list, CRLF": json.dumps([GOOD] * 3, indent=2, ensure_ascii=False)
    .replace("\n", "\r\n")
    .encode(),
    "list, BOM": b"\xef\xbb\xbf \n[" + b",".join([line(GOOD)] * 3) + b"]",
    "lines": b"\n".join([line(GOOD)] * 3),
    "lines, closed": b"\n".join([line(GOOD)] * 3) + b"\n",
    "lines, CRLF": b"\r\n".join([line(GOOD)] * 3) + b"\r\n",
    "lines, BOM": b"\xef\xbb\xbf" + b"\n".join([line(GOOD)] * 3),
    "lines, blank ones and indents": b"\n\n  " + b" \n\n\t".join([line(GOOD)] * 3) + b"\n \n",
}


@pytest.mark.parametrize("block", [1 << 20, 1, 7, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_yields_records_and_exact_bytes(tmp_path, monkeypatch, layout, block):
    file = write(tmp_path, LAYOUTS[layout])
    with open(file, "rb") as f:
        kind = sniff(f, "x")
        # a record, a character, an escape may end at any block's edge
        monkeypatch.setattr(reader, "BLOCK", block)
        found = list(iter_records(f, kind, "x"))
    assert kind == ("jsonl" if layout.startswith("lines") else "json")
    assert [r.value for r in found] == [GOOD] * 3
    for r in found:
        piece = LAYOUTS[layout][r.offset : r.offset + r.length]
        assert json.loads(piece) == GOOD and piece == piece.strip()


def test_format_is_detected_from_content(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_bytes(LAYOUTS["lines"])
    assert len(read(file)) == 3


@pytest.mark.parametrize("block", [1 << 20, 3])
def test_invalid_utf8_survives_and_offsets_stay_exact(tmp_path, monkeypatch, block):
    broken = b'{"id": 0, "conversations": "caf\xe9 \xff\xfe ok"}'
    file = write(tmp_path, b"[" + line(GOOD) + b"," + broken + b"," + line(GOOD) + b"]")
    with open(file, "rb") as f:
        monkeypatch.setattr(reader, "BLOCK", block)
        found = list(iter_records(f, "json", "x"))
    content = file.read_bytes()
    assert [content[r.offset : r.offset + r.length] for r in found] == [
        line(GOOD),
        broken,
        line(GOOD),
    ]
    assert (
        found[1].value["conversations"].encode("utf-8", "surrogateescape") == b"caf\xe9 \xff\xfe ok"
    )


def test_number_at_a_block_boundary(tmp_path, monkeypatch):
    file = write(tmp_path, b"[12345, 678]")
    with open(file, "rb") as f:
        monkeypatch.setattr(reader, "BLOCK", 3)
        assert [r.value for r in iter_records(f, "json", "x")] == [12345, 678]


WRONG = {  # content -> words that the message must hold
    "empty": (b"", ["is empty"]),
    "only space": (b" \n\r\n\t", ["is empty"]),
    "only a BOM": (b"\xef\xbb\xbf", ["is empty"]),
    "top-level object": (
        b'{\n "data": [\n  {"id": 1}\n ]\n}',
        ["top-level object", "'data'", "list"],
    ),
    "top-level object, large": (
        b'{"rows": [\n' + b'{"id": 1},\n' * 200_000 + b'{"id": 1}\n]}',
        ["top-level object", "'rows'"],
    ),
    "top-level number": (b"42", ["single number"]),
    "top-level text": (b'"rows"', ["single text"]),
    "cut in a record": (b'[\n{"id": 1},\n{"id": 2, "conv', ["cut off", "1 complete", "byte 13"]),
    "cut in a string escape": (b'[{"id": 1}, {"id": "a\\', ["cut off"]),
    "cut before the bracket": (
        b'[{"id": 1},\n{"id": 2}\n',
        ["cut off", "2 complete", "does not end with ]"],
    ),
    "cut after a comma": (b'[{"id": 1},\n{"id": 2},\n', ["cut off", "2 complete"]),
    "cut after the bracket": (b"[ \n", ["cut off after its opening bracket"]),
    "missing comma": (b'[{"id": 1}\n{"id": 2}]', ["byte 11", "expected , or ] after record 1"]),
    "trailing comma": (b'[{"id": 1},\n]', ["comma after the last record", "byte 12"]),
    "two lists": (b'[{"id": 1}]\n[{"id": 2}]', ["continues after the end of its list", "byte 12"]),
    "broken in the middle": (
        b'[{"id": 1}, {"id": nope, "x": 1111}, {"id": 3}]',
        ["byte 19", "record 2", "JSONL"],
    ),
    "random bytes": (bytes(range(128, 256)) * 50, ["neither JSON nor JSONL"]),
    "text": (b"question,answer\nQ,A\n", ["neither JSON nor JSONL"]),
    "gzip": (b"\x1f\x8b\x08\x00abc", ["gzip", "unpack"]),
    "zip": (b"PK\x03\x04abc", ["zip file"]),
    "parquet": (b"PAR1abc", ["parquet"]),
    "UTF-16": ('[{"id": 1}]'.encode("utf-16"), ["UTF-16", "UTF-8"]),
    "one broken line": (b'{"id": 1, "conv', ["not valid JSON", "cut off?"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_file_is_reported_with_position_and_remedy(tmp_path, name):
    content, words = WRONG[name]
    with pytest.raises(PoolError) as caught:
        read(write(tmp_path, content))
    message = str(caught.value)
    assert message.startswith("pool.json")
    for word in words:
        assert word in message


def test_error_position_is_in_bytes(tmp_path):
    start = b'[{"id": "' + "größe🎈".encode() + b'"}, '
    with pytest.raises(PoolError, match=rf"byte {len(start) + 7}\b"):
        read(write(tmp_path, start + b'{"id": nope, "more": "text"}, {"id": 3}]'))


def test_invalid_lines_are_rows(tmp_path):
    lines = [
        line(GOOD),
        b'{"id": 2, "conv',
        b"garbage \xff\x00",
        b"[1, 2",
        line(GOOD),
        b'{"a": "raw \x01 control"}',
        b'{"a":' * 100_000,
    ]
    found = read(write(tmp_path, b"\n".join(lines)))
    assert len(found) == len(lines)
    assert [bool(r.problem) for r in found] == [False, True, True, True, False, True, True]
    assert found[1].problem.startswith("unreadable: line 2 is not valid JSON")
    content = b"\n".join(lines)
    assert [content[r.offset : r.offset + r.length] for r in found] == lines


def test_jsonl_with_an_invalid_first_line(tmp_path):
    for first in (b'{"id": 1, ', b"oops"):
        found = read(write(tmp_path, first + b"\n" + line(GOOD) + b"\n"))
        assert [bool(r.problem) for r in found] == [True, False]


def test_line_numbers_count_blank_lines(tmp_path):
    found = read(write(tmp_path, line(GOOD) + b"\n\n\nbad\n"))
    assert "line 4 " in found[1].problem


def test_control_character_invalidates_one_row_only(tmp_path):
    found = read(write(tmp_path, b"[" + line(GOOD) + b',{"id": "a\tb"},' + line(GOOD) + b"]"))
    assert [r.problem for r in found] == [
        "",
        ("unreadable: record 2 contains a raw control character inside a string"),
        "",
    ]


def test_record_size_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD", 3000)
    monkeypatch.setattr(reader, "BLOCK", 500)
    long = line({"id": "x" * 20_000})
    found = read(write(tmp_path, b"\n".join([line(GOOD), long, line(GOOD)])))
    assert [bool(r.problem) for r in found] == [False, True, False]
    assert found[2].value == GOOD and found[2].offset == len(line(GOOD)) + len(long) + 2
    with pytest.raises(PoolError, match=r"record 2, which starts at byte .* does not end within"):
        read(write(tmp_path, b"[" + line(GOOD) + b"," + long + b"]"))


def test_single_line_file_longer_than_a_block_is_jsonl(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK", 50)
    assert [r.value for r in read(write(tmp_path, line(GOOD)))] == [GOOD]


def test_duplicate_keys_and_special_numbers_are_read(tmp_path):
    assert len(read(write(tmp_path, b'[{"id": NaN, "id": 1e999, "a": -0}]'))) == 1


@pytest.mark.parametrize("block", range(1, 14))
def test_trailing_comma_is_reported_at_any_block_boundary(tmp_path, monkeypatch, block):
    with open(write(tmp_path, b'[{"id": 1},\n]'), "rb") as f:
        monkeypatch.setattr(reader, "BLOCK", block)
        with pytest.raises(PoolError, match="at byte 12: a comma after the last record"):
            list(iter_records(f, "json", "x"))


def test_messages_about_invalid_lines(tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_text('{"id": 1}\n{"id": "x\n{"id": 2}\n')
    with open(file, "rb") as opened:
        problems = [r.problem for r in iter_records(opened, "jsonl", str(file)) if r.problem]
    assert problems == [
        ("unreadable: line 2 is not valid JSON: Unterminated string starting at character 7")
    ]
