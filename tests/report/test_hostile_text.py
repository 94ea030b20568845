"""Text invalid in UTF-8, terminals or HTML is escaped by selection, report, doctor, diff and
viewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.elements import Elements
from tests.viewer.sessions import Client
from tests.warm_process import WarmServer
from thresher.errors import PoolError
from thresher.html import printable
from thresher.report.folder import read_failures
from thresher.viewer.session import Session

TEXTS = {
    "lone surrogate": "a \ud800 b",
    "reversed surrogates": "\udc00\ud800",
    "line separator": "a \u2028 b \u2029 c \x85 d",
    "NUL": "a \x00 b",
    "markup": "<script>window.hacked=1</script><img src=x onerror=window.hacked=2>",
    "end of script": "]]></style></script><!--",
    "terminal": "\x1b[31mred\x1b[0m \u202e rtl",
}


def test_hostile_text_in_every_field(tmp_path: Path, warm: WarmServer) -> None:
    def run(folder: Path, *words: str, code: int = 0) -> str:
        done = warm.run(*words, cwd=folder)  # strictly UTF-8
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr and "could not be written" not in done.stderr
        return done.stdout

    rows: list[dict[str, Any]] = []
    for i in range(28):
        text = list(TEXTS.values())[i % len(TEXTS)]
        texts = [
            {"from": "human", "value": f"{i} {text}"},
            {"from": "gpt", "value": "w " * (i + 1) + text},
        ]
        rows.append({"id": f"{i} {text}", "data_source": f"source {text}", "conversations": texts})
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    for method in ("length", "stratified"):
        kept = run(
            tmp_path, "select", "pool.json", "-m", method, "-b", "50%", "--store", "s", "-o", method
        )
        assert "Kept 14 of 28 rows" in kept and "\x1b[31m" not in kept and "\u202e" not in kept
    page = (tmp_path / "length" / "report.html").read_text("utf-8")
    assert (
        Elements(page).text["text"]
        and "window.hacked=1</script>" not in page
        and "\x00" not in page
    )
    run(tmp_path, "report", "length")
    assert (tmp_path / "length" / "report.html").read_text("utf-8") == page
    assert (
        json.loads(run(tmp_path, "diff", "length", "stratified", "--json", "-o", "d.html"))["both"]
        >= 0
    )
    assert "window.hacked=1</script>" not in (tmp_path / "d.html").read_text("utf-8")
    found = run(tmp_path, "doctor", "pool.json", "--store", "s", code=1)
    assert "\x1b[31m" not in found and "\x00" not in found and "\u202e" not in found
    assert (
        json.loads(run(tmp_path, "doctor", "pool.json", "--store", "s", "--json", code=1))["rows"]
        == 28
    )
    client = Client(Session(tmp_path / "length"))
    for path in ("/page", "/plots", "/rows", "/row/0"):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.content.isascii(), path
    sources = client.session.pool.source_names
    assert {client.rows(source="=" + printable(name))["count"] for name in sources} == {"4 rows"}


def test_damaged_failures_file_is_reported_by_line(tmp_path: Path) -> None:
    for damage in ("[" * 3_000, '{"row": 1}', "nothing"):
        (tmp_path / "failures.jsonl").write_text(f"\n{damage}\n")
        with pytest.raises(PoolError, match=r"failures\.jsonl, line 2 is not in thresher's format"):
            read_failures(tmp_path)
