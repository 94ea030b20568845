"""Atomic writes: a file is complete or unchanged."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.text_pools import record, write_pool
from tests.warm_process import COMMAND, WarmServer
from thresher.errors import StoreError
from thresher.storage.atomic import remove_stale, temporary_path, write_bytes


def test_new_file_replaces_the_old(tmp_path: Path) -> None:
    for data in (b"old", "neu: ü".encode(), b""):
        write_bytes(tmp_path / "file.json", data)
        assert (tmp_path / "file.json").read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_full_disk_keeps_the_old_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as f:
            f.write(data[:2])
        raise OSError(28, "No space left on device")

    write_bytes(tmp_path / "file.json", b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        StoreError,
        match=r"file\.json cannot be written: No space left on "
        r"device\. Free some space",
    ):
        write_bytes(tmp_path / "file.json", b"new one")
    assert (tmp_path / "file.json").read_bytes() == b"old" and os.listdir(tmp_path) == ["file.json"]


KILLED = """
import os, signal, sys
os.replace = lambda a, b: os.kill(os.getpid(), signal.SIGKILL)
from thresher.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "words",
    [
        ("export", "pool.json", "-f", "sharegpt", "-o", "out/x.json"),
        ("export", "pool.json", "-f", "webdataset", "-o", "out/x.tar"),
        ("doctor", "pool.json", "--no-near", "--fix", "out/fixed.jsonl"),
    ],
)
def test_leftovers_of_a_killed_writer_are_removed(
    tmp_path: Path, warm: WarmServer, words: tuple[str, ...]
) -> None:
    write_pool(tmp_path / "pool.json", [record(i) for i in range(10)])
    (tmp_path / "out").mkdir()
    env = {**os.environ, "THRESHER_STORE": str(tmp_path / "store")}

    def run(code: str = COMMAND) -> int:
        return warm.run(*words, code=code, cwd=tmp_path, env=env).returncode

    assert run() == 0  # fills the cache, so that the kill meets the export itself
    expected = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert run(KILLED) == -signal.SIGKILL
    assert [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".tmp-")]
    assert {n: (tmp_path / "out" / n).read_bytes() for n in expected} == expected
    assert run() == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == expected


def test_files_of_other_programs_and_living_writers_stay(tmp_path: Path) -> None:
    own, other = temporary_path(tmp_path), tmp_path / ".tmp-download"
    for path in (own, other):
        path.touch()
        os.utime(path, (0, 0))
    remove_stale(tmp_path, locked=True)
    assert own.exists() and other.exists()


def test_a_name_of_250_bytes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
