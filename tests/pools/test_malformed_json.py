"""JSON in other layouts than a list or lines: read if unambiguous, else reported with a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thresher.doctor import diagnose
from thresher.errors import PoolError
from thresher.pools import open_pool

CASE = Path(__file__).resolve().parents[2] / "../shared/cases/29-json-shapes"


def record(i: int, **extra: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"Q{i}, [or] {{so}}"}, {"from": "gpt", "value": f"A{i}"}]
    return {"id": f"r{i}", "conversations": turns, **extra}


ROWS = [record(i) for i in range(3)]
MESSAGES = [
    {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": f"A{i}"}]}
    for i in range(2)
]
LONG = [record(i, note="x" * 400_000) for i in range(4)]  # more than one block

NAMED = {
    "CR": ("\r".join(map(json.dumps, ROWS)), "CR line endings.* tr "),
    "CR, messages": ("\r".join(map(json.dumps, MESSAGES)) + "\r", "CR line endings"),
    "repr": ("\n".join(map(repr, ROWS)), "Python dict literals?.*ast.literal_eval"),
    "repr list": (repr(MESSAGES), "Python dict literals?.*ast.literal_eval"),
    "pretty": ("\n".join(json.dumps(r, indent=2) for r in ROWS), "concatenated.*jq -c"),
    "pretty, tight": (
        "".join(json.dumps(r, indent=4) for r in MESSAGES),
        "concatenated.*jq -c",
    ),
    "pretty, long": ("\n".join(json.dumps(r, indent=1) for r in LONG), "concatenated.*jq -c"),
    "data": (json.dumps({"data": ROWS}), r"key 'data' holds a list of 3 objects.*jq '\.data'"),
    "data, pretty": (
        json.dumps({"info": {"version": 1}, "annotations": ROWS}, indent=2),
        r"jq '\.annotations'",
    ),
    "data, odd key": (json.dumps({"my rows": MESSAGES}), r"""jq '\.\["my rows"\]'"""),
    "data, long": (
        json.dumps({"rows": LONG}, indent=1),
        (
            r"key 'rows' holds a list of objects.*jq "
            r"'\.rows'"
        ),
    ),
    "by name": (
        json.dumps({f"k{i}": r for i, r in enumerate(ROWS)}),
        (
            r"3 records by name.*jq "
            r"'\[\.\[\]\]'"
        ),
    ),
    "by name, pretty": (
        json.dumps({"a": MESSAGES[0], "b": MESSAGES[1]}, indent=2),
        "2 records by name",
    ),
    "list a line": ("\n".join(json.dumps([r]) for r in ROWS), "one JSON list per line.*jq -c"),
    "empty list a line": ("[]\n" + json.dumps(MESSAGES), "one JSON list per line"),
    "NUL after the list": (json.dumps(ROWS) + "\0" * 500, "NUL bytes"),
    "InternVL": (
        json.dumps({"a": {"root": "img/", "annotation": "a.jsonl"}}),
        ("meta file of InternVL.*a=a.jsonl, images=.img/"),
    ),
    "InternVL, two": (
        json.dumps({"a": {"annotation": "a.jsonl"}, "b": {"annotation": "b.jsonl"}}),
        "names 2 annotation",
    ),
    "deep line": ('{"a":' * 2000, "nested more than 200 levels deep"),
    "deep list": ("[" + "[" * 2000, "nested more than 200 levels deep"),
}


@pytest.mark.parametrize(("text", "message"), NAMED.values(), ids=NAMED)
def test_message_names_the_layout_and_a_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.json").write_bytes(text.encode())
    with pytest.raises(PoolError, match=f"(?s){message}"):
        open_pool(tmp_path / "p.json")


@pytest.mark.parametrize("rows", [ROWS, MESSAGES], ids=["llava", "messages"])
@pytest.mark.parametrize("end", [",\n", " ,\r\n", ",  \n\n"])
@pytest.mark.parametrize("last", [True, False])
def test_comma_after_each_line_is_ignored(
    tmp_path: Path, rows: list[Any], end: str, last: bool
) -> None:
    text = end.join(map(json.dumps, rows)) + (end if last else "")
    (tmp_path / "commas.jsonl").write_bytes(text.encode())
    (tmp_path / "plain.jsonl").write_text("\n".join(map(json.dumps, rows)))
    commas, plain = open_pool(tmp_path / "commas.jsonl"), open_pool(tmp_path / "plain.jsonl")
    assert commas.digest.tolist() == plain.digest.tolist() and not commas.problems
    assert list(commas.raw(range(len(rows)))) == list(plain.raw(range(len(rows))))


BAD = {
    "huge id": ('{"id": ' + "9" * 5000 + ', "conversations": []}', "4,300 digits"),
    "huge number inside": ('{"id": 1, "x": [-' + "1" * 9000 + "]}", "4,300 digits"),
    "deep list": ('{"id": 1, "x": ' + "[" * 2000 + "]" * 2000 + "}", "nested more than 200 levels"),
    "deep objects": (
        '{"id": 1, "x": ' + '{"a":' * 300 + "1" + "}" * 300 + "}",
        "nested more than 200 levels",
    ),
    "very deep": ("[" * 200_000 + "]" * 200_000, "nested more than 200 levels"),
    "raw control character": ('{"id": "a\tb"}', "control character"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_unreadable_record_is_a_row_problem(
    tmp_path: Path, bad: str, reason: str, suffix: str, at: int
) -> None:
    if suffix == ".jsonl" and at == 0 and bad.startswith("["):
        pytest.skip("a file that starts with a bracket is a JSON list")
    pieces = [json.dumps(r) for r in ROWS]
    pieces.insert(at, bad)
    text = "[" + ",\n".join(pieces) + "]\n" if suffix == ".json" else "\n".join(pieces)
    (tmp_path / f"p{suffix}").write_text(text)
    pool = open_pool(tmp_path / f"p{suffix}")
    assert list(pool.problems) == [at] and reason.lower() in pool.problems[at].lower()
    assert len(pool) == 4 and next(iter(pool.raw([at]))) == bad.encode()
    assert {f.kind: f.rows for f in diagnose(pool).findings if f.severity == "error"} == {
        "unreadable": 1
    }


@pytest.mark.parametrize("line", [b"\0" * 64, b'{"id": "\0"}'])
def test_nul_bytes_in_a_line_are_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "p.jsonl").write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    assert "NUL bytes" in open_pool(tmp_path / "p.jsonl").problems[1]


@pytest.mark.parametrize(
    "name", ["h_repr.jsonl", "j_cr.jsonl", "k_pretty_objs.json", "l_data_first.json", "meta.json"]
)
def test_reported_files_are_refused(name: str) -> None:
    if not CASE.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    with pytest.raises(PoolError, match=r"jq|ast\.literal_eval|tr '|meta file of InternVL"):
        open_pool(CASE / name)


def test_reported_files_that_are_read() -> None:
    if not CASE.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    assert not open_pool(CASE / "a_commas.jsonl").problems
    assert len(open_pool(CASE / "d_hugeint.json").problems) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": [1, 2], "conversations": [[{}], [{}]]}', "a table of 2 rows by columns"),
        (
            '{"id": {"0": 1, "1": 2}, "messages": {"0": [], "1": []}}',
            "a table of 2 rows by columns",
        ),
        ('{"meta": {}, "data": {"items": [{"id": 1}]}}', "jq '.data.items'"),
        ('{"id": 1}{"id": 2}', "concatenated"),
        ('{"id": 1} {"id": 2}', "concatenated"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n", "git lfs pull"),
        ("<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    ],
)
def test_further_layouts_are_reported_with_a_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PoolError) as caught:
        open_pool(path)
    assert message in str(caught.value)
