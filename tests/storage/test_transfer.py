"""Export and import of columns between stores, and invalid archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.storage.small_stores import Score, filled, keys
from thresher.errors import ConfigError, StoreError
from thresher.storage.columns import Store
from thresher.storage.transfer import export_columns, import_columns


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    _, fp = filled(tmp_path / "a")
    done = export_columns(Store(tmp_path / "a"), tmp_path / "a.tar", [fp])
    assert (done.columns, done.parts) == (1, 1)
    return tmp_path / "a.tar"


def test_scores_are_found_after_import(exported: Path, tmp_path: Path) -> None:
    done = import_columns(exported, Store(tmp_path / "b"))
    assert (done.columns, done.parts, done.known) == (1, 1, 0)
    other = Store(tmp_path / "b")
    values, errors, found = other.load(other.register(Score()), Score.fields, keys(6))  # type: ignore[arg-type]
    assert found.tolist() == [True] * 5 + [False] and set(errors) == {""}
    assert np.array_equal(values["x"][:5], np.arange(5, dtype=np.float32))


def test_a_second_import_changes_nothing_and_rows_of_both_are_kept(
    exported: Path, tmp_path: Path
) -> None:
    store, fp = filled(tmp_path / "b", rows=8)
    assert import_columns(exported, Store(tmp_path / "b")).known == 0
    before = sorted(p.name for p in store.folder(fp).iterdir())
    assert import_columns(exported, Store(tmp_path / "b")).known == 1
    assert sorted(p.name for p in store.folder(fp).iterdir()) == before
    assert store.load(fp, Score.fields, keys(8))[2].all()


def test_damaged_parts_and_leftovers_are_not_exported(tmp_path: Path) -> None:
    store, fp = filled(tmp_path / "a")
    for name in ("part-0.damaged", ".tmp-1", "part-xyz.parquet", "notes.txt"):
        (store.folder(fp) / name).write_bytes(b"x")
    export_columns(Store(tmp_path / "a"), tmp_path / "a.tar", [fp])
    assert len(members(tmp_path / "a.tar")) == 2


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/columns/x", "columns/" + "0" * 32 + "/../x", "models/a/w.safetensors"],
)
def test_archive_with_other_files_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "b.tar", {**members(exported), name: b"x"})
    with pytest.raises(ConfigError, match="not a file that `thresher store export` wrote"):
        import_columns(path, Store(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_a_link_in_an_archive_is_refused(exported: Path, tmp_path: Path) -> None:
    fp = next(iter(members(exported))).split("/")[1]
    with tarfile.open(exported, "a") as tar:
        info = tarfile.TarInfo(f"columns/{fp}/part-{'0' * 32}.parquet")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ConfigError, match="it holds"):
        import_columns(exported, Store(tmp_path / "b"))


def test_damaged_or_foreign_content_is_refused(exported: Path, tmp_path: Path) -> None:
    given = members(exported)
    part = next(name for name in given if name.endswith(".parquet"))
    described = next(name for name in given if name.endswith("signal.json"))
    other = described.replace(described.split("/")[1], "f" * 32)
    cases = {
        "damaged": {**given, part: given[part][:-20]},
        "no signal.json": {part: given[part]},
        "fingerprint differs": {other: given[described]},
        "is damaged: ": {**given, described: b"{"},
    }
    for expected, content in cases.items():
        path = archive(tmp_path / "c.tar", content)
        with pytest.raises(StoreError, match=expected):
            import_columns(path, Store(tmp_path / "c"))
        assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\x00" * 10240])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ConfigError, match=r"wrote|holds no columns"):
        import_columns(tmp_path / "x.tar", Store(tmp_path / "b"))
