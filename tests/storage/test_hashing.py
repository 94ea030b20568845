"""Digests of files depend on content, not on file times; cached digests are verified."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from thresher.storage import hashing


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were hashed whole."""
    seen: list[int] = []
    whole = hashing.hash_descriptor

    def counted(descriptor: int) -> hashing.FileHash:
        made = whole(descriptor)
        seen.append(made.stamp.size)
        return made

    monkeypatch.setattr(hashing, "hash_descriptor", counted)
    return seen


def test_digests_are_those_of_the_bytes_and_of_nothing_else(tmp_path: Path) -> None:
    files = {"a": b"", "b": b"x", "c": os.urandom(3_000_000), "d": b"x"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in files]
    for _ in range(2):
        assert hashing.hash_files(paths, tmp_path / "cache") == [sha(d) for d in files.values()]
    assert hashing.hash_files(paths, None) == [sha(d) for d in files.values()]


@pytest.mark.parametrize("how", ["in place", "cp -p", "renamed over"])
def test_a_write_with_equal_size_and_restored_times_is_noticed(tmp_path: Path, how: str) -> None:
    file, other = tmp_path / "w.bin", tmp_path / "other.bin"
    file.write_bytes(b"1" * 100)
    assert hashing.hash_files([file], tmp_path / "m") == [sha(b"1" * 100)]
    about = file.stat()
    other.write_bytes(b"2" * 100)
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    if how == "in place":
        file.write_bytes(b"2" * 100)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif how == "cp -p":
        shutil.copy2(other, file)
    else:
        os.replace(other, file)
    assert file.stat().st_mtime_ns == about.st_mtime_ns and file.stat().st_size == 100
    assert hashing.hash_files([file], tmp_path / "m") == [sha(b"2" * 100)]


@pytest.mark.parametrize("size", [1000, 200_000])
def test_spot_check_finds_changes_hidden_by_all_stamps(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system whose change time cannot be relied on."""
    monkeypatch.setattr(hashing, "WHOLE", 100_000)
    honest = hashing.Stamp.of
    monkeypatch.setattr(
        hashing.Stamp, "of", lambda about: honest(about)._replace(mtime_ns=1, ctime_ns=1)
    )
    file = tmp_path / "w.bin"
    file.write_bytes(b"1" * size)
    assert hashing.hash_files([file], tmp_path / "m") == [sha(b"1" * size)]
    file.write_bytes(b"2" * size)
    assert hashing.hash_files([file], tmp_path / "m") == [sha(b"2" * size)]


def test_a_large_file_is_hashed_once(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "WHOLE", 100_000)
    file = tmp_path / "w.bin"
    file.write_bytes(os.urandom(500_000))
    for _ in range(3):
        hashing.hash_files([file], tmp_path / "m")
    assert reads == [500_000]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_cache_is_ignored(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"abc")
    hashing.hash_files([file], tmp_path / "m")
    (part,) = (tmp_path / "m").rglob("*.hashes")
    data = part.read_bytes()
    flipped = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    part.write_bytes({"cut": data[:-20], "flipped": flipped, "empty": b""}[damage])
    assert hashing.hash_files([file], tmp_path / "m") == [sha(b"abc")]


def test_cache_has_few_files_and_the_newest_entry_counts(tmp_path: Path) -> None:
    cache = hashing.HashCache(tmp_path, "root")
    for i in range(30):
        stamps = np.array([[1, i, i, 1]])
        cache.add([b"a"], stamps, np.array([bytes([i + 1]) * 32], "S32"), np.zeros(1, "S16"))
    assert len(list(tmp_path.rglob("*.hashes"))) <= hashing.PARTS
    _, _, old = cache.lookup([b"a"], np.array([[1, 3, 3, 1]]))
    digest, _, found = cache.lookup([b"a", b"b"], np.array([[1, 29, 29, 1]] * 2))
    assert found.tolist() == [True, False] and not old.any() and digest[0] == bytes([30]) * 32
    cache.clear()
    assert not cache.lookup([b"a"], np.array([[1, 29, 29, 1]]))[2].any()


def test_unwritable_cache_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file where the folder should be")
    (tmp_path / "w").write_bytes(b"abc")
    assert hashing.hash_files([tmp_path / "w"], tmp_path / "m") == [sha(b"abc")]
