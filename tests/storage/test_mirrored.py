"""Stores at an address, on fsspec's memory file system: two machines are two mirrors."""

from __future__ import annotations

import importlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.storage.small_stores import Score, keys
from thresher.errors import ConfigError, MissingExtra, Notice, StoreError
from thresher.fingerprint import fingerprint
from thresher.storage import columns, contents, remote_claims, remote_lock, retries
from thresher.storage.claims import DEAD_AFTER, encode
from thresher.storage.columns import DamagedPart, Store
from thresher.storage.mirrored import MirroredStore
from thresher.storage.opening import mirror_of, open_existing, open_store, pool_cache
from thresher.storage.remote_folder import RemoteFolder
from thresher.storage.remote_lock import RemoteLock
from thresher.storage.transfer import export_columns, import_columns

fsspec = pytest.importorskip("fsspec")

FP = fingerprint(Score())  # type: ignore[arg-type]
Machine = Callable[[str], MirroredStore]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Opens one store as the machine of this name."""
    address = f"memory://{uuid.uuid4().hex}/team/scores"
    return lambda name: MirroredStore(RemoteFolder(address), tmp_path / name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "GIVE_UP", 0.3)
    monkeypatch.setattr(retries, "MAX_WAIT", 0.01)
    monkeypatch.setattr(remote_lock, "POLL_SECONDS", 0.01)


def add(store: Store, first: int, rows: int, publish: bool = True) -> None:
    store.register(Score())  # type: ignore[arg-type]
    values = {"x": np.arange(first, first + rows, dtype=np.float32)}
    store.append(FP, Score.fields, keys(first + rows)[first:], values, [""] * rows)
    if publish:
        store.publish()


def stored(store: Store, rows: int = 100) -> list[float]:
    values, _, found = store.load(FP, Score.fields, keys(rows))
    assert values["x"][found].tolist() == np.flatnonzero(found).tolist()
    return values["x"][found].tolist()


def objects(store: MirroredStore, ending: str = ".parquet") -> set[str]:
    return {name for name in store.remote.entries("") if name.endswith(ending)}


def away(monkeypatch: pytest.MonkeyPatch, store: MirroredStore, times: float = np.inf) -> list[str]:
    """The server does not answer the next requests; returns those."""
    asked: list[str] = []

    def refuse(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def request(*given: Any, **options: Any) -> Any:
            if len(asked) < times:
                asked.append(name)
                raise ConnectionError("connection refused")
            return work(*given, **options)

        return request

    for name in ("put_file", "pipe_file", "get_file", "cat_file", "find", "ls", "rm_file", "info"):
        work = getattr(store.remote._fs, name)
        monkeypatch.setattr(store.remote._fs, name, refuse(name, work))
    return asked


# ------------------------------------------------------------------------------ columns and parts


def test_scores_of_one_machine_are_read_by_another(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    assert not one.exists() and stored(two) == []
    add(one, 0, 5)
    add(two, 5, 3)
    assert stored(one) == stored(two) == list(range(8))
    assert len(objects(one)) == 2 and one.exists()
    one.record_cost(FP, 5, 10.0)
    one.publish()
    assert two.cost(FP) == 2.0
    assert [path.parent.name for path in machine("three").descriptions()] == [FP]


def test_rows_are_seen_by_others_once_they_are_published(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 5, publish=False)
    assert stored(one) == list(range(5)) and stored(two) == []
    one.publish()
    assert stored(two) == list(range(5)) and not list((one.root / "unsent").iterdir())


def test_merged_parts_vanish_everywhere_and_are_not_uploaded_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MERGE_ABOVE", 3)
    one, two = machine("one"), machine("two")
    add(one, 0, 2)
    add(two, 2, 2)
    add(one, 4, 2)
    before = objects(one)
    assert stored(one) == stored(two) == list(range(6)) and len(before) == 3
    add(two, 6, 2)  # merges four parts into one
    (merged,) = objects(one)
    assert merged not in before and not objects(one, ".lock")
    assert stored(one) == stored(two) == list(range(8))
    assert [path.name for path in one.parts(FP)] == [merged.rpartition("/")[2]]
    one.check()
    assert objects(two) == {merged}


def test_a_part_that_is_merged_while_it_is_downloaded_is_no_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 2)
    add(one, 2, 2)
    download, files = two.remote.download, one.remote

    def merged_meanwhile(name: str, target: Path, size: int) -> bool:
        monkeypatch.setattr(two.remote, "download", download)
        monkeypatch.setattr(columns, "MERGE_ABOVE", 2)
        add(one, 4, 2)
        return download(name, target, size)

    monkeypatch.setattr(two.remote, "download", merged_meanwhile)
    assert stored(two) == list(range(6)) and len(files.entries("columns")) == 2


def test_only_one_process_merges(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MERGE_ABOVE", 1)
    one, two = machine("one"), machine("two")
    with RemoteLock(one.remote, f"columns/{FP}/merge.lock", 60.0).held():
        add(two, 0, 2)
        add(two, 2, 2)
        assert len(objects(one)) == 2
    add(two, 4, 2)
    assert len(objects(one)) == 1 and stored(one) == list(range(6))


def test_a_damaged_part_is_set_aside_on_both_sides(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 2)
    (name,) = objects(one)
    one.remote.write(name, b"x" * 100)
    with pytest.warns(DamagedPart):
        assert stored(two) == []
    assert objects(one) == set() and len(objects(one, ".damaged")) == 1
    assert stored(one) == []  # one's copy goes with the remote part
    add(one, 0, 2)
    assert stored(two) == [0, 1]


def test_a_damaged_copy_is_downloaded_again(machine: Machine) -> None:
    one = machine("one")
    add(one, 0, 2)
    (name,) = objects(one)
    (one.root / name).write_bytes(b"x")
    assert stored(one) == [0, 1] and one.damaged == []
    assert objects(one) == {name} and not objects(one, ".damaged")


def test_a_part_that_arrives_incomplete_is_downloaded_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 2)
    get, calls = two.remote._fs.get_file, []

    def cut(name: str, target: str) -> None:
        get(name, target)
        calls.append(name)
        if len(calls) == 1:
            Path(target).write_bytes(Path(target).read_bytes()[:-5])

    monkeypatch.setattr(two.remote._fs, "get_file", cut)
    with pytest.warns(Notice, match="arrived with"):
        assert stored(two) == [0, 1]


def test_a_mirror_that_cannot_be_written_is_named(machine: Machine, tmp_path: Path) -> None:
    add(machine("one"), 0, 2)
    (tmp_path / "two").write_text("a file")
    two = machine("two")
    for work in (two.check, two.descriptions):
        with pytest.raises(StoreError, match=r"local copy of memory://.*two.*THRESHER_MIRRORS"):
            work()


def test_names_that_are_no_part_of_a_store_are_not_downloaded(machine: Machine) -> None:
    one = machine("one")
    add(one, 0, 2)
    one.remote.write(f"columns/{FP}/notes.txt", b"mine")
    one.remote.write(f"columns/{FP}/part-1.parquet/x", b"mine")
    assert stored(machine("two")) == [0, 1]
    assert len(list(machine("two").folder(FP).iterdir())) == 2


# ------------------------------------------------------------------------ a server that is away


def test_a_short_absence_is_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine("one")
    add(one, 0, 2, publish=False)
    with monkeypatch.context() as patch:
        away(patch, one, times=3)
        with pytest.warns(Notice, match="does not answer .connection refused.. Trying again"):
            one.publish()
    assert stored(machine("two")) == [0, 1]


def test_after_a_long_absence_scores_are_kept_and_uploaded_by_the_next_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    with monkeypatch.context() as patch:
        asked = away(patch, one)
        add(one, 0, 5, publish=False)
        with pytest.warns(Notice), pytest.raises(StoreError) as caught:
            one.publish()
        tries = len(asked)
        assert tries > 3
        text = str(caught.value)
        assert one.address in text and str(one.root) in text and "the next command" in text
        with pytest.raises(StoreError):  # does not wait again
            one.publish()
        assert len(asked) <= tries + 2  # two files, one try each
        with pytest.raises(StoreError, match="connection refused"):
            machine("one").check()
    assert stored(two) == []
    again = machine("one")
    with pytest.warns(Notice, match="2 files that an earlier command had not uploaded are in"):
        again.check()
    assert stored(two) == list(range(5)) == stored(again)


def test_a_process_that_is_about_to_write_keeps_its_mark(machine: Machine) -> None:
    one, other = machine("one"), machine("one")
    add(one, 0, 2, publish=False)
    (part,) = one.parts(FP)
    data = part.read_bytes()
    part.unlink()  # marked, not written yet
    with pytest.warns(Notice, match="1 file that"):  # the description
        other.check()
    part.write_bytes(data)
    assert stored(other) == [0, 1]
    one.publish()
    assert stored(machine("two")) == [0, 1]


def test_a_mistake_is_not_repeated(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, asked = machine("one"), []

    def refused(*given: Any, **options: Any) -> None:
        asked.append(given)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(one.remote._fs, "pipe_file", refused)
    with pytest.raises(StoreError, match=r"cannot be written to: Access Denied\. Check your cred"):
        one.check()
    with pytest.raises(StoreError, match="could not be written: Access Denied"):
        one.remote.write("x", b"")
    assert len(asked) == 2


# ------------------------------------------------------------------------------- claims and locks


def test_claims_are_seen_by_other_machines_and_end_with_their_process(machine: Machine) -> None:
    one, two, other = (machine(name) for name in ("one", "two", "three"))
    with one.claims(["a", "b"]) as mine, two.claims(["b"]) as theirs, other.claims(["c"]) as apart:
        mine.claim(keys(3))
        assert [len(k) for k in theirs.other_claims()] == [3]
        assert [len(k) for k in mine.other_claims()] == [0] and apart.other_claims() == []
        mine.claim(keys(1))
        assert [k.tolist() for k in theirs.other_claims()] == [keys(1).tolist()]
        assert two.has_claim(mine.name) and not two.has_claim("absent")
    assert not one.remote.entries("claims")


def test_claims_of_dead_processes_are_deleted(machine: Machine) -> None:
    one = machine("one")
    header = b'{"host": "far", "process": 1, "pids": "%s", "fingerprints": ["a"]}\n'
    with one.claims(["a"]) as mine:
        far = "claims/far.claim"
        one.remote.write(far, header % b"elsewhere" + keys(2).tobytes())
        assert [len(k) for k in mine.other_claims()] == [2]
        path = one.remote._path(far)
        written = one.remote._fs.store[path]
        written.modified = written.created = written.created - _seconds(DEAD_AFTER + 60)
        assert mine.other_claims() == [] and far not in one.remote.entries("claims")
        gone = encode(["a"], keys(2)).replace(
            b'"process": %d' % os.getpid(), b'"process": %d' % (1 << 22)
        )
        one.remote.write(far, gone)  # of this machine, and no such process runs
        assert mine.other_claims() == []
        elsewhere = gone.replace(b'"host": "', b'"host": "another boot of ')
        one.remote.write(far, elsewhere)  # perhaps it runs there
        assert [len(k) for k in mine.other_claims()] == [2]
        one.remote.write(far, b'{"host": "fa')  # being written
        assert [len(k) for k in mine.other_claims()] == [0]


def test_a_claim_that_others_deleted_is_written_again(machine: Machine) -> None:
    one = machine("one")
    with one.claims(["a"]) as mine:
        one.remote.delete(one.remote.entries("claims"))
        assert mine.other_claims() == [] and len(one.remote.entries("claims")) == 1


def test_a_claim_is_renewed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_claims, "HEARTBEAT", 0.01)
    one = machine("one")
    with one.claims(["a"]) as mine:
        mine.claim(keys(2))
        one.remote.delete(one.remote.entries("claims"))
        end = time.monotonic() + 10
        while not one.remote.entries("claims") and time.monotonic() < end:
            time.sleep(0.01)
        (name,) = one.remote.entries("claims")
        assert one.remote.read(name) == encode(["a"], keys(2))
    assert not one.remote.entries("claims")


def test_one_thread_at_a_time_holds_a_lock(machine: Machine) -> None:
    remote, inside, most = machine("one").remote, [], []

    def work() -> None:
        for _ in range(5):
            with RemoteLock(remote, "a.lock", 60.0).held() as held:
                assert held
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 15 and not remote.entries("")


def test_a_stale_lock_is_taken_over_and_a_held_one_is_not(machine: Machine) -> None:
    remote, said = machine("one").remote, []
    remote.write("a.lock", b"of a dead process")
    with RemoteLock(remote, "a.lock", 0.2).held(waiting=lambda: said.append(1)) as held:
        assert held and said == [1]
        with RemoteLock(remote, "a.lock", 60.0).held(timeout=0.05) as second:
            assert not second
    assert not remote.entries("")


# ------------------------------------------------------------------------------------------ models


def test_a_model_trained_on_one_machine_is_used_on_another(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    folder = one.root / "models" / FP
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights.bin").write_bytes(b"w" * 100)
    (folder / ".thresher.lock").touch()
    assert one.model_record(FP) is None and two.model_record(FP) is None
    one.share_model(FP)  # unfinished: nothing is uploaded
    assert not one.remote.entries("models")
    (one.root / "models" / f"{FP}.json").write_bytes(b'{"rows": 3}')
    with one.training_lock(FP, None):
        one.share_model(FP)
    assert set(one.remote.entries("models")) == {
        f"models/{FP}.json",
        f"models/{FP}/adapter/weights.bin",
    }
    assert two.model_record(FP) == b'{"rows": 3}' and not (two.root / "models" / FP).exists()
    two.share_model(FP)
    assert (two.root / "models" / FP / "adapter" / "weights.bin").read_bytes() == b"w" * 100
    assert not list((two.root / "models").glob(".tmp-*"))


def test_a_model_with_names_outside_its_folder_is_refused(machine: Machine) -> None:
    one = machine("one")
    one.remote.write(f"models/{FP}/..\\..\\x", b"evil")
    one.remote.write(f"models/{FP}.json", b"{}")
    with pytest.raises(StoreError, match="whose name is no path"):
        one.share_model(FP)


# --------------------------------------------------------------------------- what is in a store


def test_contents_are_those_of_the_address(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 5)
    add(one, 5, 2)
    (column,) = contents.columns(two)
    assert (column.kind, column.version, column.rows) == ("test_score", 1, 7)
    assert column.model == "llava float32 01234567" and abs(column.written - time.time()) < 60
    assert contents.columns(one) == [column]
    sizes = contents.sizes(two)
    assert sizes["columns"] == column.size and sizes["models"] == sizes["other"] == 0
    assert sizes["mirror"] < contents.sizes(one)["mirror"]  # only the description is here


def test_leftovers_are_found_and_deleted_on_both_sides(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 5)
    stored(two)
    assert contents.leftovers(two, {"test_score": 1}) == []
    assert contents.leftovers(two, {"test_score": 1}, older_than=1.0) == []
    one.remote.write(f"columns/{FP}/part-{'0' * 32}.damaged", b"x" * 50)
    header = b'{"host": "far", "process": 1, "fingerprints": ["a"]}\n'
    one.remote.write("claims/far.claim", header)
    written = one.remote._fs.store[one.remote._path("claims/far.claim")]
    written.modified = written.created = written.created - _seconds(DEAD_AFTER + 60)
    found = contents.leftovers(two, {"test_score": 1})
    assert [item.path.name for item in found] == [f"part-{'0' * 32}.damaged", "far.claim"]
    for item in found:
        contents.delete(two, item)
    assert contents.leftovers(two, {"test_score": 1}) == [] and not objects(one, ".claim")
    (old,) = contents.leftovers(two, {"test_score": 2})
    assert old.path == two.folder(FP) and "version 1 of test_score" in old.reason
    contents.delete(two, old)
    assert not one.remote.entries("columns") and not two.folder(FP).exists()
    assert stored(one) == [] and stored(two) == []


def test_columns_move_between_a_folder_and_an_address(machine: Machine, tmp_path: Path) -> None:
    one, two = machine("one"), machine("two")
    add(one, 0, 5)
    assert export_columns(two, tmp_path / "a.tar", [FP]).parts == 1
    local = Store(tmp_path / "local")
    assert import_columns(tmp_path / "a.tar", local).parts == 1
    add(local, 5, 2)
    assert export_columns(local, tmp_path / "b.tar", [FP]).parts == 2
    done = import_columns(tmp_path / "b.tar", two)
    assert (done.parts, done.known) == (1, 1)
    assert stored(one) == list(range(7))


# --------------------------------------------------------------------------------------- addresses


def test_spellings_of_one_address_are_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_MIRRORS", str(tmp_path))
    spellings = [
        "memory://b/a c",
        "memory://b/a c/",
        "memory:///b//a c",
        "Memory://b/a c",
        "memory://b/a c//",
    ]
    stores = [open_store(text) for text in spellings]
    assert len({store.address for store in stores}) == len({store.root for store in stores}) == 1
    assert stores[0].root.parent == tmp_path and stores[0].root.name.startswith("b-a-c-")
    assert type(open_store(f"file://{tmp_path}")) is Store
    assert open_store(f"file://{tmp_path}").root == tmp_path
    assert type(open_store(f"FILE://{tmp_path}")) is Store


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_server_that_variables_name_is_that_of_s3_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A bucket of the same name on another server has a mirror of its own; other protocols do not
    read these variables."""
    monkeypatch.setenv("THRESHER_MIRRORS", str(tmp_path))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    addresses = ["s3://b/a", "gs://b/a", "memory://b/a"]
    registry = importlib.import_module("fsspec.registry")._registry
    for name in ("s3", "gs"):  # their packages may not be installed
        named = type(name, (fsspec.AbstractFileSystem,), {"protocol": name, "cachable": False})
        monkeypatch.setitem(registry, name, named)
    before = [mirror_of(RemoteFolder(address)) for address in addresses]
    monkeypatch.setenv(variable, "http://localhost:1")
    after = [mirror_of(RemoteFolder(address)) for address in addresses]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]
    assert RemoteFolder("s3://b/a").endpoint == "http://localhost:1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("memory://", "names no folder"),
        ("memory://a/../b", "names no folder"),
        ("nosuch://bucket/a", "nosuch"),
        ("s3:/bucket/a", "neither a folder nor an address"),
        ("s3:bucket/a", "neither a folder nor an address"),
        ("S3//bucket/a", "neither a folder nor an address"),
        ("file:/folder", "neither a folder nor an address"),
        ("s3://user:secret@bucket/a", "^`store`: the address has a password in it"),
        ("", "is empty"),
        (" ", "is empty"),
        ("file://", "is empty"),
        (" s3://bucket/a", "store=. s3://bucket/a. begins or ends with white space"),
        ("s3://bucket/a\n", "begins or ends with white space"),
        ("https://example.com/a", "is a web address"),
        ("chain::memory://a", "neither a folder nor an address"),
    ],
)
def test_an_address_that_names_no_store_is_refused(address: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        open_store(address)


def test_a_folder_may_end_with_a_space(tmp_path: Path) -> None:
    assert open_store(f"{tmp_path}/scores ").root == tmp_path / "scores "


def test_memory_is_not_shared_by_processes(tmp_path: Path) -> None:
    assert not open_store("memory://a/b").shared
    assert open_store(f"local://{tmp_path}/a").shared and open_store(tmp_path).shared


def test_the_same_path_on_two_hosts_is_two_stores() -> None:
    """Where fsspec takes the host out of the path (sftp, hdfs, the account of abfs)."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Hosted(MemoryFileSystem):
        protocol = "hosted"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path

        @staticmethod
        def _get_kwargs_from_urls(path: str) -> dict[str, str]:
            return {"host": path.partition("://")[2].partition("/")[0]}

    fsspec.register_implementation("hosted", Hosted, clobber=True)
    one, two = open_store("hosted://one/a"), open_store("hosted://two//a/")
    assert (one.address, two.address) == ("hosted://one/a", "hosted://two/a")
    assert one.root != two.root


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(MissingExtra, match=r"needs s3fs, which is not installed.*thresher\[remote"):
        open_store("s3://bucket/a")
    with pytest.raises(MissingExtra, match="needs another package: Install"):
        open_store("gs://bucket/a")
    assert pool_cache("s3://bucket/a") is None and pool_cache("a") == Path("a/pools")


def test_a_store_that_cannot_be_read_now_does_not_exist_for_a_report(tmp_path: Path) -> None:
    assert open_existing("") is None and open_existing(str(tmp_path / "absent")) is None
    assert open_existing(f"memory://{uuid.uuid4().hex}") is None
    assert open_existing(str(tmp_path)) is not None


def _seconds(n: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=n)
