"""Inventory of a store and files that can be deleted, on stores written by `Store`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.small_stores import MODEL, filled
from thresher.fingerprint import fingerprint
from thresher.storage import inventory
from thresher.storage.claims import Claims

DAY = 86_400.0


def reasons(root: Path, **options: float) -> dict[str, str]:
    found = inventory.leftovers(root, {"test_score": 1}, **options)  # type: ignore[arg-type]
    return {str(item.path.relative_to(root)): item.reason for item in found}


def test_a_column_is_listed_with_its_signal_model_rows_and_size(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    (column,) = inventory.columns(tmp_path)
    assert (column.fingerprint, column.kind, column.version) == (fp, "test_score", 1)
    assert (column.rows, column.model) == (5, "llava float32 01234567")
    assert column.size == sum(p.stat().st_size for p in store.folder(fp).iterdir())
    assert inventory.sizes(tmp_path) == {
        "columns": column.size,
        "models": 0,
        "pools": 0,
        "other": 0,
    }


def test_a_column_without_a_readable_description_is_listed_as_unknown(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    (store.folder(fp) / "signal.json").write_bytes(b'{"kind": ')
    (column,) = inventory.columns(tmp_path)
    assert (column.kind, column.version, column.rows) == ("", None, 5)
    assert reasons(tmp_path) == {}


def test_an_empty_or_absent_store_has_nothing(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        assert inventory.columns(root) == [] and inventory.models(root) == []
        assert reasons(root, older_than=0.0) == {}


def test_columns_of_old_versions_can_be_deleted_and_unknown_kinds_stay(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    assert reasons(tmp_path) == {}
    found = inventory.leftovers(tmp_path, {"test_score": 2})
    assert [item.path for item in found] == [store.folder(fp)]
    assert found[0].reason == "version 1 of test_score; the current one is 2"
    assert inventory.leftovers(tmp_path, {}) == []


def test_columns_identified_by_class_can_be_deleted(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    path = store.folder(fp) / "signal.json"
    described = json.loads(path.read_bytes())
    described["class"] = "a.b.C"
    del described["kind"]
    path.write_text(json.dumps(described))
    assert list(reasons(tmp_path)) == [f"columns/{fp}"]


def test_damaged_parts_and_leftovers_can_be_deleted(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    (store.folder(fp) / "part-0.damaged").write_bytes(b"x" * 9)
    code = (
        "from thresher.storage.atomic import temporary_path; from pathlib import Path; import sys;"
        "temporary_path(Path(sys.argv[1])).write_bytes(b'half')"
    )
    subprocess.run([sys.executable, "-c", code, str(store.folder(fp))], check=True)
    found = reasons(tmp_path)
    assert sorted(found.values()) == [
        "a damaged part; its rows were scored again when they were needed",
        "a temporary file of a process that has ended",
    ]


def test_claim_of_a_dead_process_can_be_deleted(tmp_path: Path) -> None:
    with Claims(tmp_path, ["a" * 32]) as claims:
        assert reasons(tmp_path) == {}
        left = claims.file.read_bytes()
    (tmp_path / "claims" / "left.claim").write_bytes(left)
    found = reasons(tmp_path)
    assert found["claims/left.claim"] == "the claim of a process that has ended"


def test_older_than_uses_the_last_write(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    folders = {"done": ("w.bin",), "half": ("step.bin",), "cache": ("1.hashes", "2.hashes")}
    for name, files in folders.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_bytes(b"w" * 10)
    (tmp_path / "models" / "done.json").write_text('{"base": "demo", "rows": 3}')
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "p.pool").write_bytes(b"p")
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "k.json").write_bytes(b"{}")
    assert reasons(tmp_path, older_than=2) == {}
    past = os.stat(store.folder(fp)).st_mtime - 3 * DAY
    for path in tmp_path.rglob("*"):
        os.utime(path, (past, past))
    assert sorted(reasons(tmp_path, older_than=2)) == [
        f"columns/{fp}",
        "models/half",
        "plans/k.json",
        "pools/p.pool",
    ]
    assert reasons(tmp_path, older_than=4) == {}
    assert [(m.base, m.rows) for m in inventory.models(tmp_path)] == [("demo", 3), ("", None)]


def test_content_of_a_deleted_folder_is_listed_once(tmp_path: Path) -> None:
    store, fp = filled(tmp_path)
    (store.folder(fp) / "part-0.damaged").write_bytes(b"x")
    found = inventory.leftovers(tmp_path, {"test_score": 2})
    assert [item.path for item in found] == [store.folder(fp)]


def test_every_signal_of_thresher_has_a_version() -> None:
    from thresher.signals.answer_loss import AnswerLoss
    from thresher.signals.versions import versions

    known = versions()
    assert known["answer_loss"] == AnswerLoss.version and known["skills"] >= 1
    assert fingerprint(AnswerLoss(MODEL))  # the class whose version it is


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    from thresher.errors import StoreError

    filled(tmp_path)
    (tmp_path / "columns").chmod(0)
    with pytest.raises(StoreError, match="cannot be read"):
        inventory.columns(tmp_path)
    (tmp_path / "columns").chmod(0o700)
