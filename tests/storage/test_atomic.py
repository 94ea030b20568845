"""A file is whole or as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thresher.errors import StoreError
from thresher.storage.atomic import write_bytes


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for data in (b"old", "neu: ü".encode(), b""):
        write_bytes(tmp_path / "file.json", data)
        assert (tmp_path / "file.json").read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as f:
            f.write(data[:2])
        raise OSError(28, "No space left on device")

    write_bytes(tmp_path / "file.json", b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"file\.json cannot be written: No space left on device\. Make room"):
        write_bytes(tmp_path / "file.json", b"new one")
    assert (tmp_path / "file.json").read_bytes() == b"old" and os.listdir(tmp_path) == ["file.json"]
